// The evidence over requests or time, and the demonstration that moves it.
import { h, fill, get, of, at, clock, table, Refused } from "./core.js";
import { lines } from "./charts.js";
import { button, demo } from "./actions.js";

const HISTORY_EVERY = 6000, HOUR = 3600, FINE = 560;
export const history = (size, brief) => {
  const node = h("div"), chart = { node, points: [], update: () => {} };
  let got = null, asked = 0, span = brief ? "" : "10m", by = brief ? "at" : "requests", problem = "";
  const load = async () => {
    if (Date.now() - asked < HISTORY_EVERY) return;
    asked = Date.now();
    const now = asked / 1000;
    try {
      let read = await get(of("/console/history", `&span=${span || "10m"}`));
      const all = (from) => from.points.map((p) => Object.fromEntries(from.fields.map((name, k) => [name, p[k]])));
      chart.points = all(read);
      if (brief && chart.points.length && now - chart.points[0].at > FINE) read = await get(of("/console/history", "&span=6h"));
      got = { ...read, all: all(read).filter((p) => p.evidence.length && (!brief || now - p.at < HOUR)) }; problem = "";
    } catch (error) { problem = error instanceof Refused ? error.message : "No answer came."; }
    if (at.state) chart.update(at.state);
  };
  const pick = (words, mine, set) => h("button.link", { "data-k": words, "aria-pressed": String(mine), onclick: () => { set(); asked = 0; node.shown = ""; load(); } }, mine ? h("b", words) : words);
  const draw = (bound) => {
    const named = got.channels.map((name, k) => [name, got.all.map((p) => [p[by], p.evidence[k]])]).sort((a, b) => b[1].at(-1)[1] - a[1].at(-1)[1]);
    const marks = by === "at" ? got.all.filter((p, k) => k && p.version !== got.all[k - 1].version).map((p) => [p.at, `version ${p.version} takes over`]) : [];
    return [lines(named, { bound, x: by, marks, names: !brief, label: `Evidence of drift by channel; strongest ${named[0][0]}, ${named[0][1].at(-1)[1]}; alarm at ${bound.toFixed(2)}`, ...size }),
      h("details", { "data-k": "lines" }, h("summary", "As a table"), table(["channel", "evidence now, power of ten"], named.map(([name, each]) => [name, each.at(-1)[1].toFixed(2)]), "Evidence now"))];
  };
  chart.update = (state) => {
    load();
    const bound = state.evidence?.threshold;
    fill(node, [got?.points.at(-1), bound, by, span, problem], () => [got?.all.length && bound ? draw(bound) : h("p.small", problem || "The first points come within seconds."),
      brief ? null : h("p.small", "Powers of ten, by ", pick("requests", by === "requests", () => { by = "requests"; }), " or ", pick("time", by === "at", () => { by = "at"; }), ", of the last ", pick("10 minutes", span === "10m", () => { span = "10m"; }), ", ", pick("6 hours", span === "6h", () => { span = "6h"; }), ", ", pick("7 days", span === "7d", () => { span = "7d"; }), ". The watcher looks every few seconds: one look may jump over the threshold.")]);
  };
  return chart;
};

export const move = (state) => {
  const said = h("p", { role: "alert", class: "small bad" }), image = state.kind === "image", on = state.demo.running;
  const go = async (event) => { event.target.disabled = true; try { await demo(!on); } catch (error) { said.textContent = error.message; } event.target.disabled = false; };
  return h("div.card", h("h3", on ? "The world is being moved." : "Move the world"),
    h("p", on ? `Rows ${state.demo.words} are sent until ${clock(state.demo.until)}, or until you stop it or leave this page.` : `Send held-out rows ${image ? "turned by 25°" : "in other units"}, with labels, 20 a second for three minutes. It is ordinary traffic: counted, recorded, and the loop acts on it.`),
    h("div.row", h("button", { "data-k": "demo", onclick: go }, on ? "Stop" : image ? "Rotate by 25°" : "Change the units"), !on && state.back ? button(state.back) : null), said);
};
