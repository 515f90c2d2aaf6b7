// Draws the parts of a view that the service has put into words.
import { h, s, rich, when, table, pct } from "./core.js";
import { bars, histogram, gate } from "./charts.js";
import { button } from "./actions.js";

export const headline = (of, side) => [h("div", {}, h("h1", {}, of.title), of.lead && h("p", { class: "lead" }, rich(of.lead)), of.commands?.length ? h("pre", {}, of.commands.join("\n")) : null, of.note && h("p", { class: "note" }, rich(of.note))), h("div", {}, side)];
export const box = (of) => h("div", { class: `ask ${of.tone || "plain"}` }, h("div", {}, h("h3", {}, of.title), h("p", {}, rich(of.text))), of.acts?.length ? h("div", { class: "row" }, of.acts.map(button)) : null);
export const feed = (items) => (items.length ? h("ol", { class: "feed" }, items.map((each) => h("li", {}, when(each.at), h("span", {}, rich(each.text), each.href ? [" ", h("a", { href: each.href, "data-k": each.href }, "The run")] : null)))) : h("p", { class: "small" }, "Nothing yet."));
const cell = (of) => {
  if (typeof of === "string") return rich(of);
  const text = of.href ? h("a", { href: of.href, "data-k": of.href, target: of.new ? "_blank" : null, rel: of.new ? "noopener" : null }, rich(of.text)) : h("span", { class: of.tone }, rich(of.text || ""));
  return [of.strong ? h("b", {}, text) : text, of.sub ? h("div", { class: "small" }, of.sub) : null, of.gate ? gate(of.gate) : null, of.act ? button(of.act) : null];
};
const strip = ({ p, alpha }) => {
  const x = (value) => 4 + 532 * Math.max(0, 3 + Math.log10(Math.max(value, 0.001))) / 3, bound = x(alpha);
  return s("svg", { viewBox: "0 0 540 36", role: "img", "aria-label": `p-value ${p.toFixed(3)}, flagged at ${alpha} or less` }, s("rect", { x: 4, y: 6, width: 532, height: 6, rx: 3, class: "track" }), s("rect", { x: 4, y: 6, width: bound - 4, height: 6, rx: 3, class: "hot" }),
    s("line", { x1: bound, x2: bound, y1: 1, y2: 17, class: "bound" }), s("circle", { cx: x(p), cy: 9, r: 6, class: p <= alpha ? "no" : "bar" }), s("text", { x: 4, y: 32 }, `flagged at ${alpha} or less`), s("text", { x: 536, y: 32, "text-anchor": "end" }, "as ordinary as can be"));
};
const shares = ({ parts }) => {
  const sum = parts.reduce((all, [, v]) => all + v, 0) || 1, words = parts.map(([name, v]) => `${name} ${pct(v / sum, 0)}`);
  let x = 0;
  return [s("svg", { viewBox: "0 0 540 12", role: "img", "aria-label": words.join(", ") }, parts.map(([, v, colour]) => { const width = 540 * v / sum; x += width; return s("rect", { x: x - width + 1, y: 0, width: Math.max(1, width - 2), height: 12, rx: 2, class: colour }); })),
    h("ul", { class: "legend", "aria-hidden": "true" }, parts.map(([,, colour], k) => h("li", {}, s("svg", { viewBox: "0 0 12 12" }, s("rect", { width: 12, height: 12, class: colour })), words[k])))];
};
const KINDS = {
  strip, shares,
  said: (of) => h("div", { class: "said" }, h("div", { class: `class${of.label.length > 3 ? " long" : ""}` }, h("bdi", {}, of.label)), h("div", {}, h("p", {}, h("b", {}, of.sure), " ", of.text), h("p", { class: "small" }, rich(of.meta)))),
  h: (of) => h("h2", {}, rich(of.text)),
  p: (of) => h("p", { class: `${of.small ? "small" : ""} ${of.tone || ""}` }, rich(of.text), of.href ? [" ", h("a", { href: of.href, "data-k": of.href }, of.link)] : null),
  table: (of) => { const made = table(of.head, of.rows.map((row) => row.map(cell)), of.label); return of.fold ? h("details", { "data-k": of.label + of.head }, h("summary", {}, "As a table"), made) : made; },
  bars: (of) => bars(of.rows, { ...of, show: of.share ? pct : undefined }), hist: (of) => histogram(of.bins, of.label),
  stages: (of) => h("ol", { class: "stages", tabindex: "0", "aria-label": "Stages of the run" }, of.items.map((each) => h("li", { class: each.state, "aria-current": each.state === "now" ? "step" : null }, h("b", {}, each.name), each.lasted, each.more ? h("div", {}, each.more) : null))),
  feed: (of) => feed(of.items), ol: (of) => h("ol", {}, of.items.map((text) => h("li", {}, rich(text)))), acts: (of) => h("div", { class: "row" }, of.acts.map(button)), box,
};
export const draw = (blocks, own) => blocks.map((of) => (of.t === "own" ? own(of.name) : KINDS[of.t]?.(of)));
