// Loop: what waits, how it came here, every gate by name, the shadow, earlier runs, who changed what.
import { h, fill, get, of, at, when, lasting, clock, table, pct, sup } from "./core.js";
import { gate } from "./charts.js";
import { asks, headline } from "./now.js";
import { buttonOf } from "./actions.js";

const STAGES = [["collecting", "Collect"], ["evaluating", "Evaluate"], ["awaiting labels", "Labels"], ["refereeing", "Referee"], ["training", "Train"], ["gating", "Gates"], ["approval", "Your word"], ["shadowing", "Shadow"], ["canary", "Canary"], ["promoting", "Promote"], ["probation", "Probation"]];
const SHAPES = { pass: "✓ pass", fail: "✗ fail", unknown: "? unknown" };
const titleOf = (job) => {
  if (!job) return "The loop has not run yet.";
  const passed = job.checks.length - job.checks.filter((c) => c.verdict !== "pass").length;
  if (job.state === "waiting") return passed === job.checks.length ? `Version ${job.challenger} passed every gate and waits for your word.` : `Version ${job.challenger} passed ${passed} of ${job.checks.length} gates and waits for your word.`;
  if (job.state !== "done") return `A run is under way: ${job.stage}.`;
  return `The last run ended: ${job.outcome.replace("_", " ")}.`;
};
export const build = (main, query) => {
  const part = (props, tag = "section") => main.appendChild(h(tag, props));
  const top = part({ class: "top" }, "div"), ask = part({ class: "asks" }, "div"), came = part(), gates = part(), shadow = part(), pair = part({ class: "half" }), runs = pair.appendChild(h("div")), audit = pair.appendChild(h("div"));
  let jobs = [], job = null, changes = [], asked = 0, problem = "", chosen = query.get("job");
  const load = async () => {
    if (Date.now() - asked < 3000 || !at.state?.model) return;
    asked = Date.now();
    try {
      const [all, log] = await Promise.all([get(of("/console/jobs")), get(of("/console/audit"))]);
      jobs = all.filter((each) => each.model === at.state.model); changes = log; problem = "";
      const id = chosen || (jobs.find((each) => each.state !== "done") || jobs[0])?.id;
      job = id ? await get(`/console/jobs/${encodeURIComponent(id)}`) : null;
    } catch (error) { problem = error.message; }
    update(at.state);
  };
  const stage = (of, k) => {
    const [name, word] = STAGES[k], began = of.stages?.[name], now = of.state !== "done" && of.stage.endsWith(name), later = Object.values(of.stages || {}).filter((t) => t > began), ended = later.length ? Math.min(...later) : of.ended_at ?? Date.now() / 1000;
    const more = name === "approval" && now ? "now" : name === "gating" && of.checks.length ? `${of.checks.filter((c) => c.verdict === "pass").length} of ${of.checks.length} passed` : name === "evaluating" && of.evaluation ? of.evaluation.words : name === "probation" && !began ? "falls back if worse" : of.uncompared?.[name] ? `not compared: ${of.uncompared[name]}` : "";
    return h("li", { class: now ? "now" : began ? "done" : "", "aria-current": now ? "step" : null }, h("b", {}, word), began ? `${lasting(ended - began)}` : of.state === "done" ? "not reached" : "", more ? h("div", {}, more) : null);
  };
  const gateRow = (check) => [h("span", { class: `mark3 ${check.verdict === "pass" ? "good" : check.verdict === "fail" ? "bad" : "warn"}` }, SHAPES[check.verdict]), [h("code", {}, check.name), check.n === null ? null : h("div", { class: "small" }, `${check.n} rows`)], check.detail, gate(check), check.bound === null ? "" : `bound ${+check.bound.toPrecision(3)}`];
  const update = (state) => {
    if (!state) return;
    load();
    const head = { title: problem || titleOf(job), lead: job ? `Because of ${job.source}: ${job.reason}` : `It runs by itself when the world moves and labels do not call that harmless, or when answers get worse. Mode: ${state.mode}.`, note: job?.state === "done" ? job.detail : "", commands: [] };
    fill(top, [head, job?.id, state.hold, state.champion], () => headline(head, h("div", { class: "row" }, buttonOf("evaluate", {}, state.version === null ? "There is no version." : state.jobs.some((j) => j.state === "running") ? "A run is under way." : ""), state.hold ? null : buttonOf("hold", {}, state.champion === null ? "There is no champion." : ""), buttonOf("rollback", {}, state.previous === null ? "There is no version before." : ""))));
    fill(ask, [state.asks, state.champion, state.previous], () => asks(state));
    came.hidden = gates.hidden = !job;
    if (job) {
      fill(came, [job.stages, job.stage, job.state, job.evaluation], () => [h("h2", {}, "How it came here"), h("ol", { class: "stages", tabindex: "0", "aria-label": "Stages of the run" }, STAGES.map((_, k) => (STAGES[k][0] === "canary" && !job.stages?.canary ? null : stage(job, k))))]);
      fill(gates, job.checks, () => [h("h2", {}, "Which gates, and by how much?"), job.checks.length ? [h("div", { class: "gates" }, table(["", "gate", "what was found", "shaded: passes", "needed"], job.checks.map(gateRow), "Gates of the run")), h("p", { class: "small" }, "Unknown is no pass: it waits for a person. Judged on rows that nothing was trained on. ", h("a", { href: `/console/jobs/${encodeURIComponent(job.id)}`, "data-k": "json" }, "This run as JSON"))] : h("p", { class: "small" }, "This run did not come to the gates.")]);
      const c = job.shadow?.comparison;
      shadow.hidden = !job.shadow;
      fill(shadow, job.shadow, () => [h("h2", {}, "Both on the same requests"), c ? h("dl", {}, Object.entries({ ...c, ...job.shadow.agreement }).filter(([, v]) => typeof v !== "object").map(([name, v]) => [h("dt", { class: "small" }, name.replaceAll("_", " ")), h("dd", {}, typeof v === "number" && !Number.isInteger(v) ? v.toPrecision(3) : String(v))])) : null]);
    } else shadow.hidden = true;
    fill(runs, [jobs, job?.id], () => [h("h2", {}, "Earlier runs"), jobs.length ? table(["when", "why", "outcome", "took"], jobs.map((each) => [h("a", { href: `#loop?job=${each.id}`, "data-k": each.id, "aria-current": each.id === job?.id ? "true" : null }, clock(each.created_at)), each.source, [h("b", { class: ["refused", "failed", "rolled_back"].includes(each.outcome) ? "bad" : "" }, (each.outcome || each.stage).replace("_", " ")), each.detail ? `: ${each.detail.slice(0, 110)}` : ""], each.ended_at ? lasting(each.ended_at - each.created_at) : "…"]), "Runs of the loop") : h("p", { class: "small" }, "None yet.")]);
    fill(audit, changes, () => [h("h2", {}, "Who changed what"), h("ol", { class: "feed" }, changes.slice(0, 20).map((each) => h("li", {}, when(each.at), h("span", {}, each.text))))]);
  };
  return { update };
};
