// Begins: views by the address after #, keys, the live mark, and what is spoken.
import { at, h, fill, poll, onState, lasting } from "./core.js";
import { svg, rect, dot } from "./charts.js";
import { buildNow } from "./now.js";
import { buildTry } from "./tryit.js";
import { buildLabel } from "./label.js";
import { buildView } from "./views.js";

const VIEWS = { now: buildNow, try: buildTry, drift: buildView("drift"), loop: buildView("loop"), versions: buildView("versions"), label: buildLabel };
const KEYS = { n: "now", t: "try", d: "drift", l: "loop", v: "versions", b: "label" };
const $ = (id) => document.getElementById(id);
const main = $("main");
let view = null, spoken = "", shown = "";

const read = () => {
  const [name, query = ""] = location.hash.slice(1).split("?");
  return [VIEWS[name] ? name : "now", new URLSearchParams(query)];
};
const show = (focus) => {
  const [name, query] = read(), model = query.get("model");
  if (model && model !== at.model) { at.model = model; at.etag = ""; at.state = null; poll(); }
  const target = `${name}?${query}`;
  if (target === shown) return;
  shown = target; at.view = name;
  if (view?.leave) view.leave();
  main.replaceChildren();
  view = VIEWS[name](main, query);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  document.title = `${document.querySelector("nav a[aria-current]").textContent} · Holdfast`;
  view.update(at.state);
  if (focus) { main.focus(); scrollTo(0, 0); }
};

const live = () => {
  const state = at.state, away = at.fails > 1 ? Math.round((Date.now() - at.seen) / 1000) : 0;
  const words = away ? "no answer" : !state ? "asking" : state.version === null ? "no model" : "live";
  fill($("live"), words, () => [svg(10, 10, "", away ? rect(1, 1, 8, 8, "no") : dot(5, 5, 5, words === "live" ? "ok" : "grey")), words]);
  const old = $("old");
  old.hidden = !away;
  document.body.classList.toggle("stale", Boolean(away));
  fill(old, away, () => [h("b", `The service has not answered for ${lasting(away)}.`), " Tried again every 2, 4, 8, then 15 s. What is below is old. ", h("button.link", { "data-k": "again", onclick: poll }, "Try now")]);
};

const update = (state) => {
  live();
  if (!state) return;
  const pick = $("model"), several = state.models.length > 1;
  pick.hidden = !several; $("only").hidden = several;
  $("only").textContent = state.model ? `${state.model}${state.version === null ? "" : `, version ${state.version}`}` : "";
  fill(pick, state.models, () => state.models.map((each) => h("option", { value: each.model }, `${each.model}${each.version === null ? "" : `, version ${each.version}`}`)));
  if (several && pick.value !== state.model) pick.value = state.model;
  $("program").textContent = `Holdfast ${state.program}`;
  $("json").href = `/console/state?model=${encodeURIComponent(state.model)}`;
  document.querySelector("footer").dataset.print = `${location.href}, ${new Date().toLocaleString()}`;
  // The screen reader hears the headline and what is asked, and only when they change.
  const words = [state.headline.title, ...state.asks.map((each) => each.title)].join(" ");
  if (words !== spoken) { spoken = words; $("speak").textContent = words; }
  view.update(state);
};

const help = () => {
  const dialog = $("dialog");
  dialog.replaceChildren(h("h2", { id: "dialog-title" }, "Keys"), h("p", "G, then N now, T try it, D drift, L loop, V versions, B label. On the canvas arrows move, space paints, delete erases. On Label the digit or letter beside a class chooses it, S skips, U undoes; what follows G is never a label."),
    h("div.row", h("button.main", { onclick: () => dialog.close() }, "Close")));
  dialog.showModal();
};
let going = 0;
addEventListener("keydown", (event) => {
  if (event.target.closest("input,textarea,select,dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === "?") { help(); event.preventDefault(); } else if (going > Date.now() && key.length < 2) { // only the jump takes what follows G
    going = 0; event.stopImmediatePropagation();
    if (KEYS[key]) location.hash = KEYS[key];
  } else if (key === "g") going = Date.now() + 1500;
}, true);
$("skip").addEventListener("click", () => main.focus());
$("keys").addEventListener("click", help);
$("model").addEventListener("change", () => { location.hash = `${at.view}?model=${encodeURIComponent($("model").value)}`; });
addEventListener("hashchange", () => show(true));
setInterval(() => { if (!document.hidden && at.fails > 1) live(); }, 1000);
onState(update);
show(false);
poll();
