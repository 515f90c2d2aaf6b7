// Try it: an input drawn, taken from a file or filled in; its answer with all scores; an attack on it.
import { h, fill, get, of, call, at, mayCall, tokenCard, pct, pairs, limit } from "./core.js";
import { draw } from "./blocks.js";
import { svg, rect, dot, text, cut } from "./charts.js";
import { MOST, shape, flat, nest, isPaper, picture, pad, fromFile } from "./pixels.js";
import { QUERIES, askRows, square } from "./attack.js";

// Before there is a model, the demo's: so that one can draw at second 0.
const DEMO = { version: null, input: { kind: "image", shape: [1, 8, 8], low: 0, high: 16, columns: [] }, rows: [] };
const figure = (x) => (x === null ? "" : typeof x === "number" ? `${+x.toPrecision(6)}` : x);
const flag = (on) => (on ? h("b.bad", "flagged") : "not flagged");

// A form with a field for each column, and below a number the range that the model was trained on.
const form = (columns, first) => {
  const x = first ? first.slice() : columns.map((c) => (c.kind === "categorical" ? c.categories[0] : (c.low + c.high) / 2));
  const field = (c, k) => {
    const id = `c${k}`, names = c.kind === "categorical", mark = h("span");
    const input = names ? h("select", { id }, c.missing && h("option", { value: "" }, "missing"), c.categories.map((name) => h("option", { value: name }, name))) : h("input", { id, type: "number", step: "any", placeholder: c.missing ? "missing" : null });
    input.value = figure(x[k]);
    const show = () => {
      const place = 60 + 80 * (x[k] - c.low) / (c.high - c.low || 1);
      mark.replaceChildren(names || x[k] === null ? "" : svg(200, 16, `trained on ${figure(c.low)} to ${figure(c.high)}`, rect(60, 7, 80, 3, "track"), text(54, 13, cut(`${+c.low.toPrecision(4)}`, 7), "end"), text(146, 13, cut(`${+c.high.toPrecision(4)}`, 7)), dot(limit(place, 58, 142), 8.5, 5, place < 60 || place > 140 ? "hot" : "bar")));
    };
    input.addEventListener("input", () => { x[k] = input.value === "" ? null : names ? input.value : +input.value; show(); });
    show();
    return h("div", h("label", { for: id }, h("bdi", c.name)), input, mark);
  };
  return { node: h("div.fields", columns.map(field)), get: () => x.slice() };
};

export const buildTry = (main, query) => {
  const lead = h("p.lead"), left = h("div"), right = h("div", { "aria-live": "polite" }), below = h("section");
  main.append(h("h1.unseen", "Try it"), lead, h("div.tryit", left, right), below);
  let given = DEMO, key = "", take = null, put = null, waits = false, asked = null, stop = false, busy = false, tab = "";
  const row0 = () => asked.said.predictions[0], image = () => given.input.kind === "image";
  const inks = () => (image() ? given.rows.map((row) => flat(row.x)) : []), paper = () => image() && (given.version === null || isPaper(given.input, inks()));
  const raw = (x, digits) => (image() ? nest(given.input, x.map((v) => +v.toFixed(digits))) : x);
  const fault = (error) => h("p.bad", { role: "alert" }, error.message);
  const token = (error) => { key = ""; fill(left, [key, error?.message], () => tokenCard(load, "Answers that leave no trace are for people who may act.")); right.replaceChildren(); };
  const ask = async () => {
    if (given.version === null) { waits = true; fill(right, "waits", () => h("p.lead", "It is asked as soon as the model is there.")); return; }
    try {
      const x = take();
      asked = { x, said: await askRows(given.input, [x], "&told=1") };
      fill(right, asked.said, () => draw(asked.said.blocks));
      showAttack();
    } catch (error) { if ([401, 403].includes(error.status)) token(error); else fill(right, `${error}`, () => fault(error)); }
  };
  const hint = () => h("p.lead", `${tab === "Draw" ? "Draw" : "Fill in, and ask"}${given.rows.length ? ", or take one below" : ""}.`);

  const TABS = {
    Draw: (node, x) => {
      const { input } = given, board = pad(input, paper(), ask), colour = shape(input).c === 3 && h("input", { type: "color", "aria-label": "Colour", value: "#202020", oninput: (e) => board.colour(e.target.value) });
      if (x) board.set(x);
      take = board.get; put = board.set;
      node.append(board.canvas, board.said, h("div.row", h("button", { onclick: () => { board.clear(); asked = null; fill(right, 0, hint); below.replaceChildren(); } }, "Clear"), colour || "", h("span.small", `${input.shape.at(-1)} × ${input.shape.at(-2)} pixels, ${input.low} to ${input.high}`)));
    },
    Upload: (node, x) => {
      const { input } = given, shown = h("div.big"), fit = h("select", { "aria-label": "Size" }, [["fit", "fit inside"], ["crop", "fill, cut off"], ["stretch", "stretch"]].map(([value, words]) => h("option", { value }, words)));
      const invert = h("input", { type: "checkbox", id: "invert", checked: paper() });
      take = () => x || new Array(shape(input).size).fill(input.low);
      put = (to) => { x = to; shown.replaceChildren(picture(input, x, paper(), "The picture as the model gets it")); };
      const read = async (e) => { try { const got = await fromFile(e.target.files[0], input, fit.value); put(invert.checked ? got.map((v) => input.low + input.high - v) : got); ask(); } catch { shown.replaceChildren(h("p.bad", "This browser cannot read that as a picture.")); } };
      node.append(h("div.row", h("input", { type: "file", accept: "image/*", "aria-label": "A picture", onchange: read }), fit, invert, h("label.f", { for: "invert" }, "invert")), shown);
      if (x) put(x);
    },
    Form: (node, x) => { put = (to) => { const made = form(given.input.columns, to); take = made.get; node.replaceChildren(made.node); }; put(x || given.rows[0]?.x); },
    JSON: (node, x) => {
      const area = h("textarea", { "aria-label": "One row as JSON", spellcheck: "false" });
      take = () => { const row = JSON.parse(area.value); return image() ? flat(row) : row; };
      put = (to) => { area.value = JSON.stringify(raw(to, 3)); };
      if (x) put(x);
      node.append(area);
    },
  };
  const drawer = () => {
    const body = h("div"), small = image() && Math.max(...given.input.shape.slice(-2)) <= MOST;
    const names = [...(image() ? (small ? ["Draw", "Upload"] : ["Upload"]) : ["Form"]), "JSON"];
    const show = (name) => {
      let x = null;
      try { x = take && take(); } catch { /* what stood there was no JSON */ }
      tab = name; body.replaceChildren();
      for (const each of bar.children) each.setAttribute("aria-selected", `${each.textContent === name}`);
      TABS[name](body, x);
    };
    const bar = h("div.tabs", { role: "tablist" }, names.map((name) => h("button", { role: "tab", onclick: () => show(name) }, name)));
    show(names.includes(tab) ? tab : names[0]);
    return [bar, body, h("p", h("button.main", { onclick: ask }, "Ask")), given.rows.length ? [h("p.small", "Or take a held-out row it was never trained on:"),
      h("div.strip", given.rows.map((row, k) => h("button", { "aria-label": `Held-out row ${k + 1}, class ${row.label}`, onclick: () => example(row) }, image() ? picture(given.input, flat(row.x), paper(), "") : row.label)))] : h("p.small", given.left_out ? "This version was made without held-out rows to try." : "")];
  };
  const example = (row) => { put(image() ? flat(row.x) : row.x); ask(); };

  const showAttack = () => {
    const { input } = given, most = 2 * (given.eps || 0.15), thing = image() ? "pixel" : "number", before = row0(), promised = before.certificate?.eps;
    const told = h("p.small"), outcome = h("div", { "aria-live": "polite" }), radius = h("p.small");
    const words = () => { const e = +eps.value; told.textContent = `±${e.toFixed(3)} of the range${image() ? ` (${(e * (input.high - input.low)).toFixed(2)} of ${input.low} to ${input.high})` : ""}. ${given.judged}${promised ? ` Proven up to ${promised}${e <= promised ? ": no such change turns the answer" : " only"}.` : ""} ${given.box}`; };
    const eps = h("input", { type: "range", id: "eps", min: 0, max: most, step: most / 40, value: given.eps || 0.15, oninput: words });
    const name = `Attack with ${QUERIES.toLocaleString("en")} queries`;
    const go = h("button.main", { onclick: async () => {
      if (busy) { stop = true; return; }
      busy = true; stop = false; go.textContent = "Stop";
      try { await square(given, asked.x, +eps.value, before.index, (step) => fill(outcome, step.done, () => show(step)), () => stop); } catch (error) { outcome.append(fault(error)); }
      busy = false; go.textContent = name;
    } }, name);
    const show = ({ done, x, row, flipped, probing }) => [h("p.small", `${done} of ${QUERIES} queries`), pairs([
      ["answer", [`${before.label} → `, h("b", row.label), flipped ? h("b.bad", ", flipped") : ", holds"], `${pct(before.probability)} → ${pct(row.probability)}`],
      ["unlike training", `p = ${before.drift.p_value.toFixed(3)} → ${row.drift.p_value.toFixed(3)}`, flag(row.drift.flagged)],
      ["tampered", `${pct(before.perturbation.likelihood, 0)} → ${pct(row.perturbation.likelihood, 0)}`, [flag(row.perturbation.flagged), row.perturbation.suspicious ? ", suspicious" : ""]],
      ["probing client", probing ? `from query ${probing} on` : "not seen", flag(probing)]]),
    image() ? h("div.shots", [["before", asked.x], ["what it changed (grey: nothing)", x.map((v, k) => v - asked.x[k]), true], ["after", x]].map(([caption, each, difference]) => h("figure", picture(input, each, paper(), caption, difference), h("figcaption", caption))))
      : pairs(input.columns.map((c, k) => (x[k] === asked.x[k] ? null : [h("bdi", c.name), `${figure(asked.x[k])} → ${figure(x[k])}`])).filter(Boolean))];
    const certify = async (e) => {
      e.target.disabled = true; radius.textContent = "Thousands of noisy copies are asked …";
      try { const { data } = await call(of("/certify"), { body: { instances: [raw(asked.x, 6)] } }), c = data.certificates[0]; radius.textContent = c.abstained ? "The smoothed classifier abstains: nothing is certified." : `No change shorter than ${c.radius.toFixed(3)} in all (L2, in units of the range) alters the smoothed answer ${c.label}; wrong once in ${Math.round(1 / data.alpha).toLocaleString("en")} at most.`; } catch (error) { radius.textContent = error.message; }
      e.target.disabled = false;
    };
    words();
    below.replaceChildren(h("h2", "Attack it"), h("p", "This page now plays the attacker: Square, which sees nothing but answers. Its queries are no traffic: nothing is counted or recorded. Flags are a tripwire; the training is the defence."),
      h("div.half", h("div", h("label.f", { for: "eps" }, `How far may each ${thing} move?`), eps, told, h("div.row", go, h("button", { onclick: certify }, "How far is it certified?")), radius), outcome),
      h("h3", "The same from a terminal"), h("p.small", "This one is traffic: it is counted and recorded."),
      h("pre", { tabindex: "0" }, `curl -H 'Content-Type: application/json' --data '${JSON.stringify({ instances: [raw(asked.x, 2)] })}' ${location.origin}${of("/predict")}`));
    if (query.has("attack")) { query.delete("attack"); below.scrollIntoView(); }
  };

  const load = async () => {
    const state = at.state, want = state ? `${state.model} ${state.version} ${mayCall()} ${Boolean(state.loading)}` : "";
    if (!state || want === key) return;
    key = want;
    if (state.version !== null && !mayCall()) { token(); key = want; return; }
    const kept = waits && take ? take() : null;
    try { given = state.version === null ? DEMO : await get(of("/console/examples")); } catch (error) {
      if ([401, 403].includes(error.status)) token(error); else lead.replaceChildren(fault(error));
      return;
    }
    lead.textContent = state.version !== null ? "" : state.loading ? "The model is being trained; draw meanwhile." : "There is no model to ask.";
    asked = null; below.replaceChildren();
    if (!kept) take = null;
    fill(left, want, drawer); fill(right, want, hint);
    if (kept && state.version !== null && kept.length === shape(given.input).size) { waits = false; put(kept); ask(); } else if (query.has("attack") && given.rows.length) example(given.rows[0]);
  };
  return { update: () => { load(); }, leave: () => { stop = true; } };
};
