// Label: what a person sees in a row. The model's answer comes afterwards, so that it does not sway.
import { h, fill, get, of, at, call, mayCall, tokenCard, pairs, Refused } from "./core.js";
import { picture, flat, isPaper } from "./pixels.js";

const BATCH = 20;
const LETTERS = "abcdefhijklmnopqrtvwxyz"; // G goes to a view, S skips, U undoes
export const buildLabel = (main) => {
  const top = main.appendChild(h("div.top")), body = main.appendChild(h("div.tryit"));
  let batch = null, given = null, k = 0, last = null, done = 0, key = "", problem = "", busy = false;
  const load = async (force) => {
    const state = at.state, want = state ? `${state.model} ${state.version} ${mayCall()}` : "";
    if (!state || state.version === null || (!force && want === key)) return;
    key = want; problem = "";
    if (!mayCall()) { draw(); return; }
    try { given = await get(of("/console/examples")); batch = await get(of("/console/rows", `&want=label&n=${BATCH}`)); k = 0; } catch (error) { batch = null; problem = error.message; }
    draw();
  };
  const say = async (name) => {
    const row = batch?.rows[k];
    if (!row || busy) return;
    if (name === null) { k += 1; draw(); return; }
    busy = true;
    try {
      const { data } = await call("/feedback", { body: { id: `${row.id}/${row.row}`, label: name } });
      last = { ...data.results[0], k }; done += 1; k += 1; problem = "";
    } catch (error) { problem = error instanceof Refused ? error.message : "No answer came; the label may not be kept."; if (error.status === 404 || error.status === 409) k += 1; }
    busy = false;
    if (k >= batch.rows.length) await load(true); else draw();
  };
  const undo = () => { if (last && batch) { k = Math.max(0, k - 1); draw(); } };
  const keyOf = (names, i) => (names.length <= 10 && names.every((name) => /^\d$/.test(name)) ? names[i] : i < LETTERS.length ? LETTERS[i] : "");
  const pressed = (event) => {
    if (!batch || event.target.closest("input,textarea,select,dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
    const typed = event.key.toLowerCase();
    if (typed === "s") say(null); else if (typed === "u") undo();
    else { const i = given.classes.findIndex((_, j) => keyOf(given.classes, j) === typed); if (i >= 0) { say(given.classes[i]); event.preventDefault(); } }
  };
  addEventListener("keydown", pressed);
  const draw = () => {
    const state = at.state, row = batch?.rows[k];
    if (!state) return;
    const head = state.version === null ? ["There is nothing to label yet.", "No model answers."] : !mayCall() ? ["What do you see?", ""] : !batch ? [problem ? "No rows can be shown." : "Rows are being chosen.", problem] : !row ? ["There is nothing to label now.", batch.surveyed ? "Every recorded request that is looked at has a label, or was skipped." : "No request was recorded yet."] : ["What do you see?", batch.why];
    fill(top, [head, k, batch?.rows.length], () => [h("div", h("h1", head[0]), h("p.lead", head[1])), row ? h("div", h("p.small", `${k + 1} of ${batch.rows.length}`), h("progress", { max: batch.rows.length, value: k, "aria-label": "Progress" })) : h("div", state.version !== null && mayCall() ? h("button", { onclick: () => load(true) }, "Look again") : null)]);
    fill(body, [row, last, problem, done, mayCall(), state.version], () => (state.version === null ? null : !mayCall() ? tokenCard(() => load(true)) : !row ? null : [
      given.input.kind === "image" ? h("div.big", picture(given.input, flat(row.x), isPaper(given.input, [flat(row.x)]), "The row to label")) : pairs(given.input.columns.map((column, i) => [h("bdi", column.name), h("bdi", `${row.x[i] ?? "missing"}`)])),
      h("div", h("div", { class: `digits${given.classes.some((name) => name.length > 6) ? " words" : ""}` }, given.classes.map((name, i) => h("button", { "data-k": `l${i}`, "aria-keyshortcuts": keyOf(given.classes, i) || null, onclick: () => say(name) }, h("bdi", name), keyOf(given.classes, i) && keyOf(given.classes, i) !== name ? h("kbd.small", ` ${keyOf(given.classes, i)}`) : null))),
        h("div.row", h("button", { "data-k": "skip", onclick: () => say(null) }, "I cannot tell (S)"), h("button", { "data-k": "undo", disabled: !last, onclick: undo }, "Undo (U)")),
        h("p.small", "Press the key of a class. The model's answer is shown after yours. A label is on disk once it is counted, and steers retraining; U shows the row again."),
        problem ? h("p.bad", { role: "alert" }, problem) : null,
        h("h3", "So far"), pairs([["by you", `${done} row${done === 1 ? "" : "s"}`], ["of these requests", batch.words], ["needed", `${batch.needed[0]} to judge version ${batch.version}, ${batch.needed[1]} to retrain`],
          ["last", last ? ["you said ", h("b", h("bdi", last.label)), ", the model said ", h("bdi", last.predicted), last.counts ? "" : "; another client's label counts"] : "nothing yet"]]))]));
  };
  return { update: () => { load(); draw(); }, leave: () => removeEventListener("keydown", pressed) };
};
