// Try it: an input drawn, taken from a file or filled in; its answer with all scores; an attack on it.
import { h, s, fill, get, of, call, at, mayCall, tokenCard, pct, Refused, sup } from "./core.js";
import { bars } from "./charts.js";
import { MOST, shape, flat, nest, isPaper, picture, pad, fromFile } from "./pixels.js";
import { QUERIES, askRows, square } from "./attack.js";

// Before there is a model, the demo's: so that one can draw at second 0.
const DEMO = { model: "", version: null, input: { kind: "image", shape: [1, 8, 8], low: 0, high: 16, dtype: "float32", columns: [] }, classes: [], alpha: 0.01, eps: 0.15, norm: "linf", sure: [], rows: [], left_out: false };
const number = (x) => (x === null ? "" : `${+(+x).toPrecision(6)}`);
const sureness = (given, p) => {
  const bin = given.sure.find(([low, high]) => p >= low && p <= high) || [...given.sure].reverse().find(([low]) => p >= low);
  return bin && bin[3] >= 10 ? `On held-out rows, answers about this sure were right in ${+(100 * bin[2]).toFixed(1)} of 100 (${bin[3]} rows).` : "How often answers this sure are right was not measured.";
};
const strip = (p, alpha) => {
  const x = (value) => 4 + 532 * Math.max(0, 3 + Math.log10(Math.max(value, 0.001))) / 3, bound = x(alpha);
  return s("svg", { viewBox: "0 0 540 36", role: "img", "aria-label": `p-value ${p.toFixed(3)}, flagged at ${alpha} or less` }, s("rect", { x: 4, y: 6, width: 532, height: 6, rx: 3, class: "track" }), s("rect", { x: 4, y: 6, width: bound - 4, height: 6, rx: 3, class: "hot" }),
    s("line", { x1: bound, x2: bound, y1: 1, y2: 17, class: "bound" }), s("circle", { cx: x(p), cy: 9, r: 6, class: p <= alpha ? "no" : "bar" }), s("text", { x: 4, y: 32 }, `flagged at ${alpha} or less`), s("text", { x: 536, y: 32, "text-anchor": "end" }, "as ordinary as can be"));
};
const three = (of3) => {
  const parts = [["clean", Math.max(0, 1 - of3.likelihood - of3.corruption), "bar"], ["blur, noise, light", of3.corruption, "grey"], ["tampered", of3.likelihood, "hot"]], sum = parts.reduce((a, [, v]) => a + v, 0) || 1;
  let left = 0;
  return [s("svg", { viewBox: "0 0 540 12", role: "img", "aria-label": parts.map(([name, v]) => `${name} ${pct(v / sum, 0)}`).join(", ") }, parts.map(([, v, colour]) => { const x = left; left += 540 * v / sum; return s("rect", { x: x + 1, y: 0, width: Math.max(1, 540 * v / sum - 2), height: 12, rx: 2, class: colour }); })),
    h("ul", { class: "legend" }, parts.map(([name, v, colour]) => h("li", {}, s("svg", { viewBox: "0 0 12 12" }, s("rect", { width: 12, height: 12, class: colour })), `${name} ${pct(v / sum, 0)}`)))];
};
const flag = (on) => (on ? h("b", { class: "bad" }, "flagged") : "not flagged");
const verdict = (of3) => (of3.verdict === "attack" ? "It looks like an attack. " : of3.verdict === "corruption" ? "It looks corrupted, not attacked. " : of3.suspicious ? "Suspicious: it is hardly a clean input, whatever else it is. " : "");
const certificate = (row) => (row.certificate ? h("p", { class: "note" }, row.certificate.certified ? ["Certified: no change of each value by ", h("b", {}, `±${row.certificate.eps}`), " of the range or less alters this answer."] : "Not certified: nothing is promised about changes of this input.") : null);

const result = (given, said) => {
  const row = said.predictions[0], order = row.probabilities.map((p, k) => [given.classes[k] ?? `${k}`, p]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  return [h("div", { class: "said" }, h("div", { class: `class${row.label.length > 3 ? " long" : ""}` }, h("bdi", {}, row.label)), h("div", {}, h("p", {}, h("b", {}, `${pct(row.probability)} sure. `), sureness(given, row.probability)),
    h("p", { class: "small" }, `version ${said.version}, ${said.ms.toFixed(1)} ms, request `, h("code", {}, said.id), ", not counted as traffic"))),
  row.set ? h("p", {}, "The promise: the true class is one of ", row.set.map((name, k) => [k ? ", " : "", h("b", {}, h("bdi", {}, name))]), ".") : null,
  h("h3", {}, "What else could it be?"), bars(order, { label: order.map(([name, p]) => `${name} ${pct(p)}`).join(", "), show: (p) => pct(p) }),
  h("h3", {}, "Is it like what the model was trained on?"), strip(row.drift.p_value, given.alpha), h("p", {}, row.drift.flagged ? "No: " : "Yes: ", `${Math.round(100 * row.drift.p_value)} of 100 held-out rows are at least as strange (p = ${row.drift.p_value.toFixed(3)}); `, flag(row.drift.flagged), "."),
  h("h3", {}, "Was it tampered with?"), three(row.perturbation), h("p", {}, verdict(row.perturbation), flag(row.perturbation.flagged), `. Even odds before looking; a flag needs ${pct(given.perturbation_threshold ?? 1, 0)}.`), certificate(row)];
};

const drawTable = (input, first) => {
  const values = first ? first.slice() : input.columns.map((column) => (column.kind === "categorical" ? column.categories[0] : (column.low + column.high) / 2));
  const label = (column, k) => {
    const id = `c${k}`, missing = column.missing ? h("option", { value: "" }, "missing") : null;
    let field;
    if (column.kind === "categorical") { field = h("select", { id }, missing, column.categories.map((name) => h("option", { value: name }, name))); field.value = values[k] ?? ""; } else field = h("input", { id, type: "number", step: "any", value: number(values[k]), placeholder: column.missing ? "missing" : null, required: !column.missing });
    const range = h("span"), show = () => { if (column.kind === "categorical" || values[k] === null) return range.replaceChildren(); const wide = column.high - column.low || 1, x = 100 + 150 * (values[k] - column.low) / wide;
      return range.replaceChildren(s("svg", { viewBox: "0 0 350 14", role: "img", "aria-label": `trained on ${number(column.low)} to ${number(column.high)}` }, s("rect", { x: 100, y: 5, width: 150, height: 3, class: "track" }), s("circle", { cx: Math.min(344, Math.max(6, x)), cy: 6.5, r: 5, class: x < 100 || x > 250 ? "hot" : "bar" }))); };
    field.addEventListener("input", () => { values[k] = field.value === "" ? null : column.kind === "categorical" ? field.value : Number(field.value); show(); });
    show();
    return h("div", {}, h("label", { for: id }, h("bdi", {}, column.name)), field, range);
  };
  return { node: h("div", { class: "fields" }, input.columns.map(label)), get: () => values.slice() };
};

export const build = (main, query) => {
  const lead = h("p", { class: "lead" }), left = h("div"), right = h("div", { "aria-live": "polite" }), below = h("section", { id: "attack" });
  main.append(h("h1", { class: "unseen" }, "Try it"), lead, h("div", { class: "tryit" }, left, right), below);
  let given = null, key = "", take = null, put = null, waits = false, asked = null, stop = false, busy = false, tabNow = "Draw";
  const gone = () => { stop = true; };
  const explain = (error) => (error instanceof Refused ? error.message : "No answer came.");
  const ask = async () => {
    if (!given || given.version === null) { waits = true; fill(right, "waits", () => h("p", { class: "lead" }, "It is asked as soon as the model is there.")); return; }
    try {
      const x = take();
      asked = { x, said: await askRows(given.input, [x]) };
      fill(right, asked.said, () => result(given, asked.said));
      attackPart();
    } catch (error) { if ([401, 403].includes(error.status)) { key = ""; load(); } else fill(right, String(error), () => h("p", { class: "bad", role: "alert" }, explain(error))); }
  };
  const example = (row) => { put(given.input.kind === "image" ? flat(row.x) : row.x); ask(); };
  const drawer = () => {
    const { input } = given, image = input.kind === "image", inks = given.rows.map((row) => (image ? flat(row.x) : row.x)), paper = image && isPaper(input, inks), small = image && Math.max(...input.shape.slice(-2)) <= MOST;
    if (image && !small && tabNow === "Draw") tabNow = "Upload";
    const body = h("div"), area = h("textarea", { "aria-label": "One row as JSON", spellcheck: "false" });
    const tabs = { ...(image ? small ? { Draw: 1, Upload: 1 } : { Upload: 1 } : { Form: 1 }), JSON: 1 };
    if (!tabs[tabNow]) tabNow = Object.keys(tabs)[0];
    const show = (name) => {
      const before = take ? take() : null;
      tabNow = name;
      for (const each of bar.children) each.setAttribute("aria-selected", String(each.textContent === name));
      if (name === "JSON") {
        area.value = JSON.stringify(before ? (image ? nest(input, before.map((v) => +v.toFixed(3))) : before) : [], null, 0);
        take = () => { const row = JSON.parse(area.value); return image ? flat(row) : row; };
        put = (x) => { area.value = JSON.stringify(image ? nest(input, x) : x); };
        body.replaceChildren(area);
      } else if (name === "Form") {
        const make = (first) => { const form = drawTable(input, first); take = form.get; body.replaceChildren(form.node); };
        put = make; make(before || (given.rows[0] && given.rows[0].x));
      } else {
        const board = small ? pad(input, paper, () => ask()) : null, held = { x: before };
        const preview = h("div", { class: "big" });
        take = () => (board ? board.get() : held.x || new Array(shape(input).size).fill(input.low));
        put = (x) => { held.x = x; if (board) board.set(x); preview.replaceChildren(picture(input, x, paper, "The picture as the model gets it")); };
        if (before && before.length === shape(input).size) put(before);
        if (name === "Upload") {
          const fit = h("select", { id: "fit" }, h("option", { value: "fit" }, "fit inside"), h("option", { value: "crop" }, "fill, cut off"), h("option", { value: "stretch" }, "stretch"));
          const invert = h("input", { type: "checkbox", id: "invert", checked: paper });
          const file = h("input", { type: "file", accept: "image/*", "aria-label": "A picture" });
          file.addEventListener("change", async () => { try { let x = await fromFile(file.files[0], input, fit.value); if (invert.checked) x = x.map((v) => input.low + input.high - v); put(x); ask(); } catch { preview.replaceChildren(h("p", { class: "bad" }, "That is no picture this browser can read.")); } });
          body.replaceChildren(h("div", { class: "row" }, file, h("label", { class: "f", for: "fit" }, "Size "), fit, paper ? [invert, h("label", { class: "f", for: "invert" }, "dark on light")] : null), preview);
          if (board) preview.append(board.canvas);
        } else {
          const colour = shape(input).c === 3 ? h("input", { type: "color", "aria-label": "Colour", value: "#202020" }) : null;
          if (colour) { board.colour(colour.value); colour.addEventListener("input", () => board.colour(colour.value)); }
          body.replaceChildren(board.canvas, board.said, h("div", { class: "row" }, h("button", { type: "button", onclick: () => { board.clear(); asked = null; fill(right, "", () => hint()); below.replaceChildren(); } }, "Clear"), colour, h("span", { class: "small" }, `${input.shape.at(-1)} × ${input.shape.at(-2)} pixels, ${input.low} to ${input.high}`)));
        }
      }
    };
    const bar = h("div", { class: "tabs", role: "tablist" }, Object.keys(tabs).map((name) => h("button", { type: "button", role: "tab", onclick: () => show(name) }, name)));
    show(tabNow);
    const offered = given.rows.length ? [h("p", { class: "small" }, "Or take a held-out row it was never trained on:"), h("div", { class: "strip" }, given.rows.map((row, k) => h("button", { type: "button", "aria-label": `Held-out row ${k + 1}, class ${row.label}`, onclick: () => example(row) }, image ? picture(input, inks[k], paper, "") : row.label)))]
      : h("p", { class: "small" }, given.version === null ? "" : given.left_out ? "This version was made without held-out rows to try." : "");
    return [bar, body, h("p", {}), h("button", { type: "button", class: "main", onclick: ask }, "Ask"), offered];
  };
  const hint = () => h("p", { class: "lead" }, given.input.kind !== "image" ? "Fill in, and ask." : tabNow === "Draw" ? "Draw, or take one below. The answer comes here, with its scores." : "Take a picture. The answer comes here, with its scores.");

  const attackPart = () => {
    const { input } = given, most = 2 * (given.eps || 0.15), row = asked.said.predictions[0], paper = input.kind === "image" && isPaper(input, given.rows.map((each) => flat(each.x)));
    const eps = h("input", { type: "range", id: "eps", min: 0, max: most, step: most / 40, value: given.eps || 0.15 }), told = h("p", { class: "small" }), outcome = h("div", { "aria-live": "polite" });
    const promised = row.certificate?.certified ? row.certificate.eps : null;
    const words = () => { const e = +eps.value; told.textContent = `±${e.toFixed(3)} of the range${input.kind === "image" ? ` (${(e * (input.high - input.low)).toFixed(2)} in values of ${input.low} to ${input.high})` : ""}. ${given.eps === null ? "It was not judged under attack." : `It was trained against ${given.eps}.`}${promised === null ? "" : e <= promised ? ` Certified up to ${promised}: no attack of this size can succeed.` : ` Certified up to ${promised} only.`}`; };
    eps.addEventListener("input", words); words();
    const go = h("button", { type: "button", class: "main" }, `Attack with ${QUERIES.toLocaleString("en")} queries`);
    go.addEventListener("click", async () => {
      if (busy) { stop = true; return; }
      busy = true; stop = false; go.textContent = "Stop";
      try { await square(input, asked.x, +eps.value, row.index, (step) => fill(outcome, step.done, () => show(step)), () => stop); } catch (error) { outcome.append(h("p", { class: "bad", role: "alert" }, explain(error))); }
      busy = false; go.textContent = `Attack with ${QUERIES.toLocaleString("en")} queries`;
    });
    const show = (step) => {
      const after = step.row, cells = (name, a, b, c) => [name, a, c === undefined ? b : [b, " ", c]];
      const body = [h("p", { class: "small" }, `${step.done} of ${QUERIES} queries`), h("table", {}, h("tbody", {}, [
        ["answer", [`${row.label} → `, h("b", {}, after.label), step.flipped ? h("b", { class: "bad" }, ", flipped") : ", holds"], `${pct(row.probability)} → ${pct(after.probability)}`],
        ["unlike training", `p = ${row.drift.p_value.toFixed(3)} → ${after.drift.p_value.toFixed(3)}`, flag(after.drift.flagged)],
        ["tampered", `${pct(row.perturbation.likelihood, 0)} → ${pct(after.perturbation.likelihood, 0)}`, [verdict(after.perturbation), flag(after.perturbation.flagged)]],
        ["probing client", step.probing ? `from query ${step.probing} on` : "not seen", flag(step.probing)]].map((line) => h("tr", {}, line.map((cell, k) => h(k ? "td" : "th", k ? {} : { scope: "row" }, cell))))))];
      if (input.kind === "image") body.push(h("div", { class: "shots" }, [["before", asked.x, false], ["what it changed (grey: nothing)", step.x.map((v, k) => v - asked.x[k]), true], ["after", step.x, false]].map(([words2, x, difference]) => h("figure", {}, picture(input, x, paper, words2, difference), h("figcaption", {}, words2)))));
      else body.push(h("table", {}, h("tbody", {}, input.columns.map((column, k) => (step.x[k] === asked.x[k] ? null : h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, column.name)), h("td", {}, `${number(asked.x[k])} → ${number(step.x[k])}`)))))));
      return body;
    };
    const radius = h("p", { class: "small" });
    const certify = h("button", { type: "button", onclick: async () => {
      certify.disabled = true; radius.textContent = "thousands of noisy copies are asked …";
      try { const { data } = await call(of("/certify"), { body: { instances: [input.kind === "image" ? nest(input, asked.x) : asked.x] } }); const c = (data.certificates || data.predictions)[0]; radius.replaceChildren(...sup(c.radius > 0 ? `No change shorter than ${c.radius.toFixed(3)} in all (L2, in units of the range) alters the smoothed answer ${c.label ?? ""}; wrong once in ${Math.round(1 / (data.alpha || 0.001)).toLocaleString("en")} at most.` : "The smoothed classifier abstains: nothing is certified.").flat()); } catch (error) { radius.textContent = explain(error); }
      certify.disabled = false;
    } }, "How far is it certified?");
    const curl = `curl -H 'Content-Type: application/json' --data '${JSON.stringify({ instances: [input.kind === "image" ? nest(input, asked.x.map((v) => +v.toFixed(2))) : asked.x] })}' ${location.origin}/predict${at.state.models.length > 1 ? `?model=${given.model}` : ""}`;
    below.replaceChildren(h("h2", {}, "Attack it"), h("p", {}, `This page now plays the attacker: Square, which sees nothing but answers. How far may each ${input.kind === "image" ? "pixel" : "number"} move? Its queries are no traffic: nothing is counted or recorded.`),
      h("div", { class: "half" }, h("div", {}, h("label", { class: "f", for: "eps" }, `How far may each ${input.kind === "image" ? "pixel" : "number"} move?`), eps, told, h("div", { class: "row" }, go, input.kind === "image" ? certify : null), radius, h("p", { class: "small" }, "Flags are a tripwire; the training is the defence.")), outcome),
      h("h3", {}, "The same from a terminal"), h("p", { class: "small" }, "This one is traffic: it is counted and recorded."), h("pre", { tabindex: "0" }, curl));
    if (query.has("attack")) { query.delete("attack"); below.scrollIntoView(); }
  };

  const load = async () => {
    const state = at.state, want = state ? `${state.model} ${state.version} ${mayCall()}` : "";
    if (!state || want === key) return;
    key = want;
    if (state.version === null) {
      given = DEMO;
      lead.textContent = state.loading ? "The model is being trained; draw meanwhile." : "There is no model to ask.";
    } else if (!mayCall()) {
      lead.textContent = ""; fill(left, "token", () => tokenCard(() => { key = ""; load(); }, "Answers that leave no trace are for people who may act.")); right.replaceChildren(); return;
    } else {
      const kept = take && given?.version === null ? take() : null;
      try { given = await get(of("/console/examples")); } catch (error) {
        key = error.status ? want : ""; lead.textContent = explain(error);
        if ([401, 403].includes(error.status)) fill(left, error.message, () => tokenCard(() => { key = ""; load(); }, error.message));
        return;
      }
      lead.textContent = "";
      if (kept && waits && kept.length === shape(given.input).size) { left.shown = ""; take = null; fill(left, want, drawer); put(kept); waits = false; ask(); return; }
    }
    asked = null; below.replaceChildren(); take = null;
    fill(left, want, drawer);
    fill(right, want, hint);
    if (query.has("attack") && given.rows.length) example(given.rows[0]);
  };
  return { update: () => { load(); }, leave: gone };
};
