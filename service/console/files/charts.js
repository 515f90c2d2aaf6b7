// Pictures as SVG: geometry in attributes, colours by class, and shapes beside colours.
import { s, h, clock, n0, limit } from "./core.js";

const one = (x) => +x.toFixed(1);
export const svg = (wide, high, label, ...kids) => s("svg", { viewBox: `0 0 ${wide} ${high}`, ...(label ? { role: "img", "aria-label": label } : {}) }, kids);
export const rect = (x, y, width, height, kind) => s("rect", { x: one(x), y: one(y), width: one(Math.max(0, width)), height: one(Math.max(0, height)), class: kind });
export const line = (x1, y1, x2, y2, kind) => s("line", { x1: one(x1), y1: one(y1), x2: one(x2), y2: one(y2), class: kind });
export const dot = (x, y, r, kind) => s("circle", { cx: one(x), cy: one(y), r, class: kind });
export const text = (x, y, words, anchor = "start", kind = "") => s("text", { x: one(x), y: one(y), "text-anchor": anchor, class: kind }, words);
const path = (points, kind) => s("path", { d: points.map(([x, y], k) => `${k ? "L" : "M"}${one(x)} ${one(y)}`).join(""), class: kind });
export const cut = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);
const wide = (most) => (innerWidth < 600 ? 366 : most);
// Where the lines of a scale from 0 stand, and its top.
const grid = (most) => { const p = 10 ** Math.floor(Math.log10(most)), step = [1, 2, 2.5, 5, 10].map((k) => k * p).find((k) => most / k <= 5), n = Math.ceil(most / step); return [Array.from({ length: n + 1 }, (_, k) => k * step), n * step]; };

const SHAPES = { r: (x, y) => dot(x, y, 6.4, "bar"), n: (x, y) => dot(x, y, 5.6, "ring"), u: (x, y) => [dot(x, y, 5.6, "ring hotring"), dot(x, y, 1.9, "hot")], w: (x, y) => s("path", { d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10`, class: "cross" }) };
const MEANINGS = { r: "right", n: "no label yet", u: "unlike the training data", w: "wrong" };
export const dots = (last) => {
  const told = Object.keys(MEANINGS).flatMap((letter) => { const many = last.split(letter).length - 1; return many ? [[letter, `${many} ${MEANINGS[letter]}`]] : []; });
  return last && h("figure", svg(340, 17 * Math.ceil(last.length / 20), `The last ${last.length} answers: ${told.map(([, words]) => words).join(", ")}`, [...last].map((letter, k) => SHAPES[letter](8 + 17 * (k % 20), 8 + 17 * Math.floor(k / 20)))),
    h("ul.legend", { "aria-hidden": "true" }, told.map(([letter, words]) => h("li", svg(16, 16, "", SHAPES[letter](8, 8)), words))));
};

// A value on a line from `least` to `most`, its interval, and marks with words.
export const scale = (of, words) => {
  const x = (value) => 4 + 212 * limit((value - of.least) / (of.most - of.least), 0, 1), share = of.low !== null;
  return svg(220, 38, words, rect(4, 8, 212, share ? 2 : 6, "track"), share ? [rect(x(of.low), 5, Math.max(2, x(of.high) - x(of.low)), 8, of.grey ? "grey" : "halo"), dot(x(of.value), 9, 4.5, of.grey ? "grey" : "bar")] : rect(4, 8, x(of.value) - 4, 6, of.value >= of.marks[0]?.[0] ? "hot" : "bar"),
    of.marks.map(([value, name]) => [line(x(value), 1, x(value), 19, name === "alarm" ? "bound" : "mark"), text(x(value), 33, name, x(value) < 40 ? "start" : x(value) > 180 ? "end" : "middle")]));
};

// Lines over time or requests; `all` are [name, [[x, y], ...]], the first is the strong one.
export const lines = (all, { bound, size = 640, high = 260, x: axis, marks = [], label, names }) => {
  const w = wide(size);
  if (w < 400) { high = 220; names = false; }
  const points = all.flatMap(([, each]) => each), xs = points.map(([x]) => x), least = Math.min(...xs), span = Math.max(...xs) - least;
  if (!(span > 0)) return h("p.small", "Too little is known for a picture yet.");
  const [steps, top] = grid(Math.max(...points.map(([, y]) => y), bound * 1.16)), left = 40, right = w - (names ? 132 : 12), foot = high - 26, parts = w < 400 ? 2 : 3;
  const px = (x) => left + (right - left) * (x - least) / span, py = (y) => foot - (foot - 12) * Math.max(0, y) / top;
  let last = -9;
  const ends = all.map(([name, each], k) => [py(each.at(-1)[1]), name, k]).sort((a, b) => a[0] - b[0]).map(([y, name, k]) => { last = Math.max(y, last + 15); return text(right + 8, last + 4, cut(name, 18), "start", k ? "" : "strong"); });
  return svg(w, high, label, rect(left, 12, right - left, py(bound) - 12, "warmth"), steps.map((y) => [line(left, py(y), right, py(y), "axis"), text(left - 7, py(y) + 4, `${+y.toFixed(2)}`, "end")]),
    Array.from({ length: parts + 1 }, (_, k) => { const at = least + span * k / parts; return text(px(at), high - 8, axis === "at" ? clock(at) : n0(at) + (k === parts ? " requests" : ""), k === 0 ? "start" : k === parts ? "end" : "middle"); }),
    marks.map(([x, words]) => [line(px(x), 12, px(x), foot, "mark"), text(px(x) + (px(x) > right - 150 ? -5 : 5), 24, words, px(x) > right - 150 ? "end" : "start")]),
    all.map(([, each], k) => path(each.map(([x, y]) => [px(x), py(y)]), k ? "line" : "line first")).reverse(), line(left, py(bound), right, py(bound), "bound"), text(left + 6, py(bound) - 6, `alarm at ${bound.toFixed(2)}`, "start", "alarm"), names && ends);
};
export const spark = (values, label) => (values.length < 2 ? null : svg(220, 38, label, line(0, 34, 220, 34, "axis"), path(values.map((y, k) => [220 * k / (values.length - 1), 26 - 20 * y / Math.max(...values, 1e-9)]), "line first")));

// Named bars with a bound; rows are [name, value].
export const bars = (rows, { bound, label, show = (x) => x.toFixed(1) }) => {
  const most = Math.max(...rows.map(([, value]) => value), bound ? bound * 1.25 : 0, 1e-9), high = 26 * rows.length + (bound ? 26 : 4), w = wide(500), from = 0.3 * w, long = w - from - 50, x = (value) => from + long * limit(value / most, 0, 1), over = (value) => bound && value >= bound;
  return svg(w, high, label, rows.map(([name, value], k) => [rect(from, 26 * k + 5, long, 10, "track"), rect(from, 26 * k + 5, Math.max(1, x(value) - from), 10, over(value) ? "hot" : "bar"), text(0, 26 * k + 15, cut(name, w / 25), "start", over(value) ? "strong" : ""), text(w - 2, 26 * k + 15, show(value), "end", k ? "" : "strong")]),
    bound && [line(x(bound), 0, x(bound), high - 22, "bound"), text(x(bound), high - 6, `alarm at ${bound.toFixed(2)}`, "middle", "alarm")]);
};
// Shares before (a line) and after (a bar); bins are [name, before, after].
export const histogram = (bins, label) => {
  const [steps, top] = grid(Math.max(...bins.flatMap(([, a, b]) => [a, b]), 0.01)), w = wide(500), each = (w - 44) / bins.length, y = (v) => 166 - 154 * v / top;
  return svg(w, 200, label, steps.map((v) => [line(40, y(v), w, y(v), "axis"), text(34, y(v) + 4, `${Math.round(100 * v)}%`, "end")]), bins.map(([, then, now], k) => [rect(46 + each * k, y(now), each - 4, 166 - y(now), "bar"), line(44 + each * k, y(then), 44 + each * (k + 1), y(then), "mark thick")]),
    bins.length && [text(44, 186, bins[0][0]), text(w, 186, bins.at(-1)[0], "end")]);
};
// A gate: its value against its bound; the shaded side passes.
export const gate = ({ verdict, value, bound }) => {
  const spread = Math.abs(value - bound) || Math.abs(bound) || 1, x = (v) => 85 + 60 * (v - (value + bound) / 2) / spread, up = (value >= bound) === (verdict === "pass");
  return svg(170, 26, `${value} against ${bound}`, verdict !== "unknown" && (up ? rect(x(bound), 5, 166 - x(bound), 16, "tint") : rect(4, 5, x(bound) - 4, 16, "tint")), line(4, 13, 166, 13, "axis"), line(x(bound), 3, x(bound), 23, "bound"), dot(x(value), 13, 5, verdict === "fail" ? "no" : "bar"));
};
