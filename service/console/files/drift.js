// Drift: since when, the promise, the evidence, what moved, the requests that moved it, what to check.
import { h, fill, get, of, at, mayCall, tokenCard, sup, asTable, clock, pct } from "./core.js";
import { bars, before } from "./charts.js";
import { evidence, headline, rotate } from "./now.js";
import { buttonOf } from "./actions.js";
import { picture, flat, isPaper } from "./pixels.js";

const EVERY = 5000;
export const build = (main) => {
  const part = (props) => main.appendChild(h("section", props));
  const top = main.appendChild(h("div", { class: "top" })), began = part(), pair = part({ class: "half" }), low = part({ class: "half" }), end = part({ hidden: true });
  const what = pair.appendChild(h("div")), how = pair.appendChild(h("div")), moved = low.appendChild(h("div")), check = low.appendChild(h("div"));
  let row = null, drawn = null, asked = 0, span = "10m", by = "requests", input = null, movers = null, moversOf = "", problem = "";
  const load = async () => {
    if (Date.now() - asked < EVERY || !at.state?.model) return;
    asked = Date.now();
    try { [row, drawn] = await Promise.all([get(of("/console/drift")), get(of("/console/history", `&span=${span}`))]); problem = ""; } catch (error) { problem = error.message; }
    update(at.state);
  };
  const loadMovers = async () => {
    const alarm = row?.last_alarm, key = alarm ? `${alarm.raised_at} ${mayCall()}` : "";
    if (!alarm || key === moversOf || !mayCall()) return;
    moversOf = key;
    try { if (!input) input = (await get(of("/console/examples"))).input; movers = (await get(of("/console/rows", "&want=movers"))).rows; } catch (error) { movers = error.message; }
    update(at.state);
  };
  const pick = (name, value, set) => h("button", { type: "button", class: "link", "data-k": `p${value}`, "aria-pressed": String(set), onclick: () => { if (["requests", "time"].includes(value)) by = value; else span = value; asked = 0; load(); } }, set ? h("b", {}, name) : name);
  const update = (state) => {
    if (!state) return;
    load(); loadMovers();
    const alarm = row?.last_alarm, on = row?.alarm, bound = row?.threshold_log10;
    const side = on ? h("div", { class: "ask warn" }, h("div", {}, h("h3", {}, "What it does about it"), h("p", {}, state.asks.find((each) => each.id === "moved")?.text || ""), h("div", { class: "row" }, buttonOf("loop"), buttonOf("accept"), buttonOf("evaluate"))))
      : row?.accepted ? h("div", { class: "ask plain" }, h("div", {}, h("h3", {}, "Compared with what was accepted"), h("p", {}, `${row.accepted.actor} took the traffic from ${clock(row.accepted.since)} to ${clock(row.accepted.until)} for normal: ${row.accepted.reason}`), h("div", { class: "row" }, buttonOf("unaccept")))) : null;
    const moves = state.headline.title.startsWith("The world moved") ? state.headline : null;
    const calm = { title: !row ? problem || "The watcher is asked." : on ? "The world moved." : "No drift is seen.", lead: on?.words || (row ? `${row.requests?.toLocaleString("en") ?? 0} requests of version ${row.version} were weighed.` : ""), note: row?.promise || "", commands: [] };
    fill(top, [moves || calm, Boolean(on), row?.accepted, state.asks, state.champion], () => headline(moves || calm, side));
    fill(began, [drawn?.points.at(-1), bound, by, span, problem], () => [h("h2", {}, "When did it begin?"), drawn && bound ? evidence(drawn, bound, { wide: 1128, high: 300, x: by, k: "drift" }) : h("p", { class: "small" }, problem || "…"),
      h("p", { class: "small" }, "Powers of ten, by ", pick("requests", "requests", by === "requests"), " or ", pick("time", "time", by === "time"), ", of the last ", pick("10 minutes", "10m", span === "10m"), ", ", pick("6 hours", "6h", span === "6h"), ", ", pick("7 days", "7d", span === "7d"), ". The watcher looks every few seconds: one look may jump over the threshold.")]);
    const channels = Object.entries(row?.evidence_log10 || {}).sort((a, b) => b[1] - a[1]);
    pair.hidden = !channels.length;
    fill(what, [channels, bound], () => [h("h2", {}, "What moved?"), bars(channels.slice(0, 16), { bound, label: "Evidence by channel" }), h("p", { class: "small" }, "Strongest first. A channel beyond the dashed line raises the alarm by itself."), asTable("channels", ["channel", "evidence"], channels.map(([name, v]) => [name, v.toFixed(2)]))]);
    fill(how, alarm, () => (alarm ? [h("h2", {}, "How did ", h("code", {}, alarm.channel), " change?"), before(alarm.histogram, `Shares of ${alarm.channel} before and since`), h("p", { class: "small" }, `Bars: requests since the drift began. Lines: before. ${alarm.words}. Raised ${clock(alarm.raised_at)}, after ${alarm.requests.toLocaleString("en")} requests${alarm.first_at ? `; it began between ${clock(alarm.first_at)} and ${clock(alarm.last_at)} (${pct(alarm.confidence, 0)})` : ""}.`), asTable("bins", ["bin", "before", "since"], alarm.histogram.map((b) => [b.label, pct(b.before), pct(b.after)]))]
      : [h("h2", {}, "How did it change?"), h("p", { class: "small" }, "There was no alarm of this version, so there is nothing to compare.")]));
    low.hidden = !alarm;
    fill(moved, [movers, alarm?.raised_at, mayCall()], () => [h("h2", {}, "Which requests moved it most?"), !mayCall() ? tokenCard(() => { asked = 0; update(at.state); }) : typeof movers === "string" ? h("p", { class: "bad" }, movers) : !movers?.length ? h("p", { class: "small" }, alarm?.note || "None of them is recorded any more.")
      : [h("div", { class: "strip big2" }, movers.map((each) => h("figure", {}, input.kind === "image" ? thumb(each) : h("code", {}, each.x.slice(0, 6).join(", ")), h("figcaption", {}, `${each.gain} nats`)))), h("p", { class: "small" }, "Nats: what each added to the evidence. ", h("a", { href: "#label", "data-k": "like" }, "Label rows since the alarm"))]]);
    fill(check, 1, () => [h("h2", {}, "What to check first"), h("ol", {}, ["A release of a client: a changed preprocessing step is the most frequent cause.", "One client or all? Requests per client stand in the access log of the proxy in front.", "Is it meant to be so? Then say that this is normal now.", "Nothing wrong at the clients: the world did change. Label some rows and let the loop run."].map((text) => h("li", {}, text)))]);
    end.hidden = !state.demo_possible;
    fill(end, [state.demo, state.previous, state.champion], () => h("div", { class: "cards" }, rotate(state)));
  };
  const thumb = (each) => { const canvas = picture(input, flat(each.x), isPaper(input, [flat(each.x)]), `Recorded request, ${each.cell}`); canvas.classList.add("thumb"); return canvas; };
  return { update };
};
