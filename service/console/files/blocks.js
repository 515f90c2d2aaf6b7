// Draws the parts of a view that the service has put into words.
import { h, rich, when, table, pct, at, call, mayCall } from "./core.js";
import { bars, histogram, gate, svg, rect, line, dot, text } from "./charts.js";
import { button } from "./actions.js";

export const headline = (of, side) => [h("div", h("h1", of.title), of.lead && h("p.lead", rich(of.lead)), of.commands?.length ? h("pre", of.commands.join("\n")) : null, of.note && h("p.note", rich(of.note))), h("div", side)];
export const box = (of) => h("div", { class: `ask ${of.tone || "plain"}` }, h("div", h("h3", of.title), h("p", rich(of.text))), of.acts?.length ? h("div.row", of.acts.map(button)) : null);
export const feed = (items) => (items.length ? h("ol.feed", items.map((each) => h("li", when(each.at), h("span", rich(each.text), each.href ? [" ", h("a", { href: each.href, "data-k": each.href }, "The run")] : null)))) : h("p.small", "Nothing yet."));
// A tab of its own would not send the token: the file is fetched with it, and saved.
const save = (href) => async ({ target }) => {
  try {
    const url = URL.createObjectURL(new Blob([(await call(href)).text], { type: "text/html" }));
    h("a", { href: url, download: `${href.split("/").slice(2).join("-")}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 6e4);
  } catch (error) { target.replaceWith(error.message); }
};
const beside = (of) => (mayCall() ? h("button.link", { "data-k": of.href, onclick: save(of.href) }, `Save ${of.text.toLowerCase()}`) : h("span.small", "needs a token: give it on Try it"));
const cell = (of) => {
  if (typeof of === "string") return rich(of);
  const words = of.new && !at.state?.free ? beside(of) : of.href ? h("a", { href: of.href, "data-k": of.href, target: of.new ? "_blank" : null, rel: of.new ? "noopener" : null }, rich(of.text)) : h("span", { class: of.tone }, rich(of.text || ""));
  return [of.strong ? h("b", words) : words, of.sub ? h("div.small", of.sub) : null, of.gate ? gate(of.gate) : null, of.act ? button(of.act) : null];
};
const strip = ({ p, alpha }) => {
  const w = innerWidth < 600 ? 360 : 540, x = (value) => 4 + (w - 8) * Math.max(0, 3 + Math.log10(Math.max(value, 0.001))) / 3, bound = x(alpha);
  return svg(w, 36, `p-value ${p.toFixed(3)}, flagged at ${alpha} or less`, rect(4, 6, w - 8, 6, "track"), rect(4, 6, bound - 4, 6, "hot"), line(bound, 1, bound, 17, "bound"), dot(x(p), 9, 6, p <= alpha ? "no" : "bar"), text(4, 32, `flagged at ${alpha} or less`), text(w - 4, 32, "as ordinary as can be", "end"));
};
const shares = ({ parts }) => {
  const sum = parts.reduce((all, [, v]) => all + v, 0) || 1, words = parts.map(([name, v]) => `${name} ${pct(v / sum, 0)}`);
  let x = 0;
  return [svg(540, 12, words.join(", "), parts.map(([, v, colour]) => { const width = 540 * v / sum; x += width; return rect(x - width + 1, 0, Math.max(1, width - 2), 12, colour); })),
    h("ul.legend", { "aria-hidden": "true" }, parts.map(([,, colour], k) => h("li", svg(12, 12, "", rect(0, 0, 12, 12, colour)), words[k])))];
};
const KINDS = {
  strip, shares,
  said: (of) => h("div.said", h("div", { class: `class${of.label.length > 3 ? " long" : ""}` }, h("bdi", of.label)), h("div", h("p", h("b", of.sure), " ", of.text), h("p.small", rich(of.meta)))),
  h: (of) => h("h2", rich(of.text)),
  p: (of) => h("p", { class: `${of.small ? "small" : ""} ${of.tone || ""}` }, rich(of.text), of.href ? [" ", h("a", { href: of.href, "data-k": of.href }, of.link)] : null),
  table: (of) => { const made = table(of.head, of.rows.map((row) => row.map(cell)), of.label); return of.fold ? h("details", { "data-k": of.label + of.head }, h("summary", "As a table"), made) : made; },
  bars: (of) => bars(of.rows, { ...of, show: of.share ? pct : undefined }), hist: (of) => histogram(of.bins, of.label),
  stages: (of) => h("ol.stages", { tabindex: "0", "aria-label": "Stages of the run" }, of.items.map((each) => h("li", { class: each.state, "aria-current": each.state === "now" ? "step" : null }, h("b", each.name), each.lasted, each.more ? h("div", each.more) : null))),
  feed: (of) => feed(of.items), ol: (of) => h("ol", of.items.map((text) => h("li", rich(text)))), acts: (of) => h("div.row", of.acts.map(button)), box,
};
export const draw = (blocks, own) => blocks.map((of) => (of.t === "own" ? own(of.name) : KINDS[of.t]?.(of)));
