// Now: the sentence, what it asks of a person, four answers, the evidence of an hour, what happened.
import { h, fill, rich, lasting } from "./core.js";
import { dots, scale, spark } from "./charts.js";
import { box, feed, headline } from "./blocks.js";
import { history, move } from "./history.js";

const training = (of) => [h("progress", { max: of.total || 1, value: of.total ? of.done : null, "aria-label": of.stage }), h("p.small", `${of.stage}${of.total ? ` ${Math.round(100 * of.done / of.total)}%` : ""}, ${of.words}${of.seconds_left === null ? "" : `, about ${lasting(of.seconds_left)} left`}`)];
const answer = (of, rates) => h("a", { href: `#${of.view}`, "data-k": of.question }, h("div.q", of.question), h("div", { class: `word ${of.tone}` }, of.word), of.scale ? scale(of.scale, of.text) : of.view === "now" ? spark(rates, "Requests a second, of the last ten minutes") : null, h("p.small", rich(of.text)));
const card = (title, text, href, words) => h("div.card", h("h3", title), h("p", text), h("a.button", { href }, words));

export const buildNow = (main) => {
  const part = (kind, tag = "section") => main.appendChild(h(tag, { class: kind }));
  const top = part("top", "div"), several = part(""), asks = part("asks", "div"), four = part("four", "div"), pair = part("two"), drawn = history({}, true), happened = h("div"), work = part("");
  pair.append(h("div", h("h2", "How strong is the evidence of drift?"), drawn.node, h("p.small", "Powers of ten, a line for each channel. A new champion starts again from its own reference. ", h("a", { href: "#drift" }, "Look closer"))), h("div", h("h2", "What happened"), happened));
  const update = (state) => {
    if (!state) return;
    const here = state.watcher === "here";
    const none = state.version === null, loading = none ? state.loading : null;
    several.hidden = state.models.length < 2; work.hidden = none || !state.demo_possible; four.hidden = pair.hidden = none; asks.hidden = none && !state.asks.length;
    fill(top, [state.headline, state.last, loading], () => headline(state.headline, loading ? training(loading) : dots(state.last)));
    fill(several, state.models, () => [h("h2", "All models, the worst first"), h("ul.feed", state.models.map((each) => h("li", h("a", { href: `#now?model=${each.model}` }, each.model), h("span", { class: each.tone }, `${each.version === null ? "" : `version ${each.version}: `}${each.word}`))))]);
    fill(asks, [state.asks, state.watcher], () => (state.asks.length ? state.asks.map(box) : box(here ? { title: "It asks nothing of you.", tone: "good", text: "Nothing waits for approval, and nothing failed." } : { title: "What waits for you is not known.", tone: "unknown", text: "The watcher would say." })));
    const rates = drawn.points.map((p) => p.answered / (p.seconds || 1));
    fill(four, [state.answers, drawn.points.at(-1)?.at], () => state.answers.map((each) => answer(each, rates)));
    fill(happened, state.happened, () => feed(state.happened));
    if (!none) drawn.update(state);
    const image = state.kind === "image", does = image ? "Draw one" : "Fill a row in";
    fill(work, [state.demo, state.kind, state.back], () => [h("h2", "See it work"), h("div.cards", card("Ask it", `${does}: its class, how unlike the training data it is, and how likely it was tampered with.`, "#try", image ? "Draw" : "Fill in"),
      card("Attack it", "This page turns attacker. It sees only answers, and may change each value by as much as you allow.", "#try?attack", "Attack"), move(state))]);
  };
  return { update };
};
