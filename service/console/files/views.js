// Drift, Loop and Versions: the service puts them into words, the page adds history, inputs and the demo.
import { h, fill, get, of, at, mayCall, tokenCard } from "./core.js";
import { draw, headline } from "./blocks.js";
import { history, move } from "./history.js";
import { picture, flat, isPaper } from "./pixels.js";

const VIEW_EVERY = 3000;
export const buildView = (name) => (main, query) => {
  const top = main.appendChild(h("div.top")), rest = main.appendChild(h("div")), drawn = name === "drift" ? history({ size: 1128, high: 300 }) : null;
  const movers = h("div"), demo = h("div.cards");
  let doc = null, asked = 0, shown = "";
  const more = ["job", "compare"].filter((each) => query.has(each)).map((each) => `&${each}=${encodeURIComponent(query.get(each))}`).join("");
  const load = async () => {
    const state = at.state, key = JSON.stringify([state.model, state.version, state.champion, state.jobs]);
    if (!state || (key === shown && Date.now() - asked < VIEW_EVERY)) return;
    shown = key; asked = Date.now();
    try { doc = await get(of(`/console/view/${name}`, more)); } catch (error) { doc = doc || { top: { title: "No answer.", lead: error.message }, side: [], parts: [] }; }
    update(at.state);
  };
  const own = (part) => ({ history: () => drawn.node, movers: () => movers, demo: () => demo })[part]();
  const update = (state) => {
    if (!state) return;
    load();
    if (!doc) return;
    fill(top, [doc.top, doc.side], () => headline(doc.top, draw(doc.side, own)));
    fill(rest, doc.parts, () => doc.parts.map((part) => h("section", { class: part.columns.length > 1 ? "half" : "" }, part.columns.map((column) => h("div", draw(column, own))))));
    if (drawn) drawn.update(state);
    if (movers.isConnected) loadMovers(movers);
    fill(demo, [state.demo, state.kind, state.demo_possible, state.version], () => (state.demo_possible && state.version !== null ? move(state) : null));
  };
  return { update };
};

let moversOf = "";
const loadMovers = async (node) => {
  const alarm = at.state.evidence?.alarm_since, key = `${at.state.model} ${alarm} ${mayCall()}`;
  if (key === moversOf && node.childNodes.length) return;
  moversOf = key;
  if (!mayCall()) { node.replaceChildren(tokenCard(() => loadMovers(node))); return; }
  try {
    const { input } = await get(of("/console/examples")), { rows } = await get(of("/console/rows", "&want=movers"));
    const show = (x) => (input.kind === "image" ? picture(input, flat(x), isPaper(input, [flat(x)]), "A recorded request") : h("code", x.slice(0, 6).join(", ")));
    node.replaceChildren(rows.length ? h("div.strip", rows.map((each) => h("figure.thumb", show(each.x), h("figcaption", `${each.gain} nats`)))) : "",
      h("p.small", rows.length ? "Nats: what each added to the evidence. " : "None of them is recorded any more. ", h("a", { href: "#label" }, "Label rows like these")));
  } catch (error) { node.replaceChildren(h("p.bad", error.message)); }
};
