// Now: the sentence, what it asks of a person, four answers, the evidence of an hour, what happened.
import { h, fill, get, of, at, sup, when, lasting, asTable, clock, Refused } from "./core.js";
import { dots, lines, scale, spark } from "./charts.js";
import { buttonOf, demo } from "./actions.js";

const EVERY = 8000;
export const headline = (head, side, loading) => [
  h("div", {}, h("h1", {}, head.title), head.lead ? h("p", { class: "lead" }, sup(head.lead)) : null, loading ? training(loading) : null,
    head.commands.length ? h("pre", {}, head.commands.join("\n")) : null, head.note ? h("p", { class: "note" }, sup(head.note)) : null),
  h("div", {}, side)];
const training = (of) => [h("progress", { max: of.total || 1, value: of.total ? of.done : null, "aria-label": `${of.stage}, ${of.words}` }),
  h("p", { class: "small" }, `${of.stage}${of.total ? ` ${Math.round(100 * of.done / of.total)}%` : ""}, ${of.words}${of.seconds_left === null ? "" : `, about ${lasting(of.seconds_left)} left`}`)];

export const asks = (state) => (state.asks.length
  ? state.asks.map((each) => h("div", { class: `ask ${each.tone}` }, h("div", {}, h("h3", {}, each.title), h("p", {}, each.text)),
    h("div", { class: "row" }, each.acts.map((act) => buttonOf(act, { job: each.job, challenger: each.challenger }, act === "rollback" && state.previous === null ? "There is no version before." : "")))))
  : h("div", { class: "ask good" }, h("div", {}, h("h3", {}, "It asks nothing of you."), h("p", {}, state.watcher === "here" ? "Nothing waits for approval, and nothing failed." : "As far as is known; the watcher does not say."))));

const answer = (each, points) => h("a", { href: `#${each.view}`, "data-k": each.question }, h("div", { class: "q" }, each.question), h("div", { class: `word ${each.tone}` }, each.word),
  each.scale ? scale(each.scale, each.text) : each.view === "now" ? spark(points.map((p) => p.answered / (p.seconds || 1)), "Requests a second, of the last ten minutes") : null, h("p", { class: "small" }, sup(each.text)));

export const evidence = (picture, bound, more) => {
  const index = Object.fromEntries(picture.fields.map((name, k) => [name, k])), points = picture.points.filter((p) => p[index.evidence].length);
  const names = picture.channels.map((name, k) => [name, points.map((p) => [p[index[more.x === "requests" ? "requests" : "at"]], p[index.evidence][k]])]);
  names.sort((a, b) => (b[1].at(-1)?.[1] ?? 0) - (a[1].at(-1)?.[1] ?? 0));
  const marks = [];
  picture.points.forEach((p, k) => { if (k && p[index.version] !== picture.points[k - 1][index.version]) marks.push([p[index.at], `version ${p[index.version]} takes over`]); });
  return [lines(names, { bound, x: "time", marks: more.x === "requests" ? [] : marks, label: `Evidence of drift by channel; the alarm is at ${bound}`, ...more }),
    names[0]?.[1].length > 1 ? asTable(more.k || "evidence", ["channel", "evidence now, power of ten"], names.map(([name, each]) => [name, each.at(-1)[1].toFixed(2)])) : null];
};
export const objects = (picture) => picture.points.map((p) => Object.fromEntries(picture.fields.map((name, k) => [name, p[k]])));

export const build = (main) => {
  const part = (tag = "div", props = {}) => main.appendChild(h(tag, props));
  const top = part("div", { class: "top" }), several = part("section", { hidden: true }), ask = part("div", { class: "asks" }), four = part("div", { class: "four" });
  const pair = part("section", { class: "two" }), drawn = pair.appendChild(h("div")), feed = pair.appendChild(h("div")), work = part("section", { hidden: true });
  let picture = null, recent = [], asked = 0, problem = "";
  const draw = async () => {
    if (Date.now() - asked < EVERY || !at.state?.model) return;
    asked = Date.now();
    try {
      const fine = await get(of("/console/history", "&span=10m")), first = fine.points[0];
      recent = objects(fine);
      picture = first && Date.now() / 1000 - first[0] > 560 ? await get(of("/console/history", "&span=6h")) : fine;
      if (picture !== fine) { const hour = Date.now() / 1000 - 3600; picture = { ...picture, points: picture.points.filter((p) => p[0] > hour) }; }
      problem = "";
    } catch (error) { problem = error instanceof Refused ? error.message : "no answer"; }
    update(at.state);
  };
  const update = (state) => {
    if (!state) return;
    draw();
    const loading = state.version === null ? state.loading : null;
    fill(top, [state.headline, state.last, loading], () => headline(state.headline, dots(state.last), loading));
    several.hidden = state.models.length < 2;
    fill(several, state.models, () => [h("h2", {}, "All models, the worst first"), h("ul", { class: "feed" }, state.models.map((each) => h("li", {},
      h("a", { href: `#now?model=${each.model}` }, each.model), h("span", { class: each.tone }, `${each.version === null ? "" : `version ${each.version}: `}${each.word}`))))]);
    const none = state.version === null;
    ask.hidden = none && !state.asks.length; four.hidden = pair.hidden = none;
    fill(ask, [state.asks, state.previous, state.champion, state.watcher], () => asks(state));
    fill(four, [state.answers, recent.length && recent.at(-1).at], () => state.answers.map((each) => answer(each, recent)));
    fill(drawn, [picture?.points.at(-1), state.evidence?.threshold, problem], () => [h("h2", {}, "How strong is the evidence of drift?"),
      picture && state.evidence ? evidence(picture, state.evidence.threshold, { names: false }) : h("p", { class: "small" }, problem || "The first points come within seconds."),
      h("p", { class: "small" }, "Powers of ten, a line for each channel. A new champion starts again from its own reference. ", h("a", { href: "#drift", "data-k": "closer" }, "Look closer"))]);
    fill(feed, state.happened, () => [h("h2", {}, "What happened"), h("ol", { class: "feed" }, state.happened.map((each) => h("li", {}, when(each.at), h("span", {}, each.text, each.job ? [" ", h("a", { href: `#loop?job=${each.job}`, "data-k": each.job }, "The run")] : null)))), state.happened.length ? null : h("p", { class: "small" }, "Nothing yet.")]);
    work.hidden = !state.demo_possible || none;
    fill(work, [state.demo, state.kind, state.previous, state.champion], () => [h("h2", {}, "See it work"), h("div", { class: "cards" }, card("Ask it", state.kind === "image" ? "Draw one: its class, how unlike the training data it is, and how likely it was tampered with." : "Fill a row in: its class, how unlike the training data it is, and how likely it was tampered with.", h("a", { class: "button", href: "#try" }, state.kind === "image" ? "Draw" : "Fill in")),
      card("Attack it", "This page turns attacker. It sees only answers, and may change each value by as much as you allow.", h("a", { class: "button", href: "#try?attack" }, "Attack")), rotate(state))]);
  };
  return { update };
};
const card = (title, text, ...more) => h("div", { class: "card" }, h("h3", {}, title), h("p", {}, text), ...more);
export const rotate = (state) => {
  const turned = state.kind === "image" ? "turned by 25°" : "in other units", said = h("p", { role: "alert", class: "small bad" });
  const go = (run) => async (event) => { event.target.disabled = true; try { await demo(run); } catch (error) { said.textContent = error.message; } event.target.disabled = false; };
  if (state.demo.running) return h("div", { class: "card" }, h("h3", {}, "The world is being moved."), h("p", {}, `Rows ${state.demo.words} are sent until ${clock(state.demo.until)}, or until you stop it or leave this page.`), h("button", { type: "button", "data-k": "demo", onclick: go(false) }, "Stop"), said);
  return h("div", { class: "card" }, h("h3", {}, "Move the world"), h("p", {}, `Send held-out rows ${turned}, with labels, 20 a second for three minutes. It is ordinary traffic: counted, recorded, and the loop acts on it.`),
    h("div", { class: "row" }, h("button", { type: "button", "data-k": "demo", onclick: go(true) }, state.kind === "image" ? "Rotate by 25°" : "Change the units"), state.previous !== null ? buttonOf("rollback") : null), said);
};
