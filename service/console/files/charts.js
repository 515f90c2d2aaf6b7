// Pictures as SVG: geometry in attributes, colours by class, and shapes beside colours.
import { s, h, clock, n0 } from "./core.js";

const nice = (most) => { const p = 10 ** Math.floor(Math.log10(Math.max(most, 1e-9))); return [1, 2, 2.5, 5, 10].map((k) => k * p).find((k) => most / k <= 5) || p; };
const fixed = (x) => +x.toFixed(1);
const narrow = () => innerWidth < 600;

const shapes = { r: (x, y) => s("circle", { cx: x, cy: y, r: 6.4, class: "bar" }), n: (x, y) => s("circle", { cx: x, cy: y, r: 5.6, class: "ring" }),
  u: (x, y) => [s("circle", { cx: x, cy: y, r: 5.6, class: "ring hotring" }), s("circle", { cx: x, cy: y, r: 1.9, class: "hot" })],
  w: (x, y) => s("path", { d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10`, class: "cross" }) };
const LETTERS = { r: "right", n: "no label yet", u: "unlike the training data", w: "wrong" };
export const dots = (last) => {
  if (!last) return null;
  const many = (letter) => [...last].filter((each) => each === letter).length;
  const words = Object.entries(LETTERS).filter(([letter]) => many(letter)).map(([letter, name]) => `${many(letter)} ${name}`);
  return h("figure", {},
    s("svg", { viewBox: `0 0 340 ${17 * Math.ceil(last.length / 20)}`, role: "img", "aria-label": `The last ${last.length} answers: ${words.join(", ")}` },
      [...last].map((letter, k) => shapes[letter](8 + 17 * (k % 20), 8 + 17 * Math.floor(k / 20)))),
    h("ul", { class: "legend", "aria-hidden": "true" }, Object.entries(LETTERS).filter(([letter]) => many(letter)).map(([letter, name]) =>
      h("li", {}, s("svg", { viewBox: "0 0 16 16" }, shapes[letter](8, 8)), `${many(letter)} ${name}`))));
};

// A value on a line from `least` to `most`, its interval, and marks with words.
export const scale = (of, word) => {
  const x = (value) => fixed(4 + 212 * Math.min(1, Math.max(0, (value - of.least) / (of.most - of.least))));
  const label = (at) => (at < 40 ? "start" : at > 180 ? "end" : "middle");
  const share = of.low !== null;
  const kids = [s("rect", { x: 4, y: 8, width: 212, height: share ? 2 : 6, rx: 2, class: "track" })];
  if (!share && of.value > 0) kids.push(s("rect", { x: 4, y: 8, width: Math.max(2, x(of.value) - 4), height: 6, rx: 2, class: of.marks[0] && of.value >= of.marks[0][0] ? "hot" : "bar" }));
  if (share) kids.push(s("rect", { x: x(of.low), y: 5, width: Math.max(2, x(of.high) - x(of.low)), height: 8, rx: 4, class: of.grey ? "grey" : "halo" }), s("circle", { cx: x(of.value), cy: 9, r: 4.5, class: of.grey ? "grey" : "bar" }));
  for (const [value, name] of of.marks) kids.push(s("line", { x1: x(value), x2: x(value), y1: 1, y2: 19, class: name === "alarm" ? "bound" : "mark" }), s("text", { x: x(value), y: 33, "text-anchor": label(x(value)) }, name));
  return s("svg", { viewBox: "0 0 220 38", role: "img", "aria-label": word }, kids);
};

// Lines over time or requests; `lines` are [name, [[x, y], ...]], the first is the strong one.
export const lines = (all, { bound, wide = 640, high = 260, x: name, marks = [], label, names = true, unit = "" }) => {
  if (narrow()) { wide = 370; high = Math.min(high, 220); names = false; }
  const points = all.flatMap(([, each]) => each);
  if (points.length < 2) return h("p", { class: "small" }, "Too little is known for a picture yet.");
  const xs = points.map(([x]) => x), least = Math.min(...xs), span = Math.max(...xs) - least || 1;
  const most = Math.max(...points.map(([, y]) => y), bound ? bound * 1.16 : 0, 0.001), step = nice(most), top = step * Math.ceil(most / step);
  const room = names ? 132 : 12, left = 40, right = wide - room, foot = high - 26;
  const px = (x) => fixed(left + (right - left) * (x - least) / span), py = (y) => fixed(foot - (foot - 12) * Math.max(0, y) / top);
  const kids = [];
  if (bound) kids.push(s("rect", { x: left, y: 12, width: right - left, height: Math.max(0, py(bound) - 12), class: "warmth" }));
  for (let y = 0; y <= top + 1e-9; y += step) kids.push(s("line", { x1: left, x2: right, y1: py(y), y2: py(y), class: "axis" }), s("text", { x: left - 7, y: py(y) + 4, "text-anchor": "end" }, `${+y.toFixed(2)}${unit}`));
  const parts = narrow() ? 2 : 3;
  for (let k = 0; k <= parts; k += 1) {
    const at = least + span * k / parts;
    kids.push(s("text", { x: px(at), y: high - 8, "text-anchor": k === 0 ? "start" : k === parts ? "end" : "middle" }, name === "at" ? clock(at) : n0(at) + (k === parts ? " requests" : "")));
  }
  for (const [x, words] of marks) if (x >= least && x <= least + span) kids.push(s("line", { x1: px(x), x2: px(x), y1: 12, y2: foot, class: "mark" }), s("text", { x: px(x) + (px(x) > right - 150 ? -5 : 5), y: 24, "text-anchor": px(x) > right - 150 ? "end" : "start" }, words));
  const path = (each) => each.map(([x, y], k) => `${k ? "L" : "M"}${px(x)} ${py(y)}`).join("");
  [...all].reverse().forEach(([, each], k) => kids.push(s("path", { d: path(each), class: k === all.length - 1 ? "line first" : "line" })));
  if (bound) kids.push(s("line", { x1: left, x2: right, y1: py(bound), y2: py(bound), class: "bound" }), s("text", { x: left + 6, y: py(bound) - 6, class: "alarm" }, `alarm at ${bound.toFixed(2)}`));
  if (names) {
    let last = -9;
    const ends = all.map(([line, each], k) => [py(each.length ? each[each.length - 1][1] : 0), line, k]).sort((a, b) => a[0] - b[0]);
    for (const [y, line, k] of ends) { const free = Math.max(y, last + 15); last = free; if (free < high) kids.push(s("text", { x: right + 8, y: free + 4, class: k ? "" : "strong" }, line.length > 18 ? `${line.slice(0, 17)}…` : line)); }
  }
  return s("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label }, kids);
};

export const spark = (values, label) => {
  if (values.length < 2) return null;
  const most = Math.max(...values, 1e-9);
  const d = values.map((y, k) => `${k ? "L" : "M"}${fixed(220 * k / (values.length - 1))} ${fixed(26 - 20 * y / most)}`).join("");
  return s("svg", { viewBox: "0 0 220 38", role: "img", "aria-label": label }, s("line", { x1: 0, x2: 220, y1: 34, y2: 34, class: "axis" }), s("path", { d, class: "line first" }));
};

// Named bars with a bound; rows are [name, value].
export const bars = (rows, { bound, label, show = (x) => x.toFixed(1) }) => {
  const most = Math.max(...rows.map(([, value]) => value), bound ? bound * 1.25 : 0, 1e-9), high = 26 * rows.length + (bound ? 26 : 4);
  const x = (value) => fixed(150 + 300 * Math.max(0, value) / most);
  return s("svg", { viewBox: `0 0 500 ${high}`, role: "img", "aria-label": label },
    rows.map(([name, value], k) => [s("rect", { x: 150, y: 26 * k + 5, width: 300, height: 10, rx: 2, class: "track" }),
      s("rect", { x: 150, y: 26 * k + 5, width: Math.max(1, x(value) - 150), height: 10, rx: 2, class: bound && value >= bound ? "hot" : "bar" }),
      s("text", { x: 0, y: 26 * k + 15, class: bound && value >= bound ? "strong" : "" }, name.length > 20 ? `${name.slice(0, 19)}…` : name), s("text", { x: 498, y: 26 * k + 15, "text-anchor": "end", class: k ? "" : "strong" }, show(value))]),
    bound ? [s("line", { x1: x(bound), x2: x(bound), y1: 0, y2: high - 22, class: "bound" }), s("text", { x: x(bound), y: high - 6, "text-anchor": "middle", class: "alarm" }, `alarm at ${bound.toFixed(2)}`)] : null);
};

// Shares before (a line) and after (a bar), by bin.
export const histogram = (rows, label) => {
  const bins = rows.map(([name, then, now]) => ({ label: name, before: then, after: now }));
  const most = Math.max(...bins.flatMap((b) => [b.before, b.after]), 0.01), step = nice(most), top = step * Math.ceil(most / step), wide = 500, high = 200;
  const each = (wide - 44) / bins.length, y = (v) => fixed(166 - 154 * v / top), kids = [];
  for (let v = 0; v <= top + 1e-9; v += step) kids.push(s("line", { x1: 40, x2: wide, y1: y(v), y2: y(v), class: "axis" }), s("text", { x: 34, y: y(v) + 4, "text-anchor": "end" }, `${Math.round(100 * v)}%`));
  bins.forEach((b, k) => { const x = fixed(44 + each * k);
    kids.push(s("rect", { x: x + 2, y: y(b.after), width: fixed(each - 4), height: fixed(166 - y(b.after)), class: "bar" }, s("title", {}, `${b.label}: before ${(100 * b.before).toFixed(1)}%, since ${(100 * b.after).toFixed(1)}%`)),
      s("line", { x1: x, x2: fixed(x + each), y1: y(b.before), y2: y(b.before), class: "mark", "stroke-width": 2.5 })); });
  if (bins.length) kids.push(s("text", { x: 44, y: 186 }, bins[0].label), s("text", { x: wide, y: 186, "text-anchor": "end" }, bins[bins.length - 1].label));
  return s("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": label }, kids);
};

// A gate: its value against its bound; the shaded side passes.
export const gate = (check) => {
  const spread = Math.abs(check.value - check.bound) || Math.abs(check.bound) || 1, middle = (check.value + check.bound) / 2;
  const x = (v) => fixed(85 + 60 * (v - middle) / spread), up = (check.value >= check.bound) === (check.verdict === "pass"), at = x(check.bound);
  return s("svg", { viewBox: "0 0 170 26", role: "img", "aria-label": `${check.value} against ${check.bound}` },
    check.verdict === "unknown" ? null : s("rect", { x: up ? at : 4, y: 5, width: up ? 166 - at : at - 4, height: 16, class: "tint" }),
    s("line", { x1: 4, x2: 166, y1: 13, y2: 13, class: "axis" }), s("line", { x1: at, x2: at, y1: 3, y2: 23, class: "bound" }), s("circle", { cx: x(check.value), cy: 13, r: 5, class: check.verdict === "fail" ? "no" : "bar" }));
};
