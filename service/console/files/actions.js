// What a person changes: each asks first, says what happens and what does not, and needs a reason.
import { h, call, at, mayCall, setToken, poll, Refused } from "./core.js";

const box = () => document.getElementById("dialog");
const HOLD_HOURS = 24;
export const ACTS = {
  approve: { label: "Approve …", main: true, title: (c) => `Promote version ${c.challenger} of ${c.model}?`, does: "After its time in the shadow it answers all requests. If it turns out worse within its probation, it falls back by itself.",
    not: "No request is dropped, and the version before stays one step away.", go: (c) => `Approve version ${c.challenger} of ${c.model}`, path: (c) => `/console/jobs/${encodeURIComponent(c.job)}/approve` },
  reject: { label: "Reject …", danger: true, title: (c) => `Reject version ${c.challenger} of ${c.model}?`, does: "The run ends, and the challenger is withdrawn.", not: "The version that answers now goes on; the bundle of the other stays on disk.",
    go: (c) => `Reject version ${c.challenger} of ${c.model}`, path: (c) => `/console/jobs/${encodeURIComponent(c.job)}/reject` },
  hold: { label: "Hold the loop …", title: (c) => `Hold the loop of ${c.model}?`, does: `For ${HOLD_HOURS} hours the loop starts nothing and promotes nothing by itself.`, not: "Watching goes on, and what is on probation still falls back if it is worse.",
    go: (c) => `Hold ${c.model}, version ${c.champion} stays`, path: (c) => `/console/models/${encodeURIComponent(c.model)}/hold`, body: () => ({ hours: HOLD_HOURS }) },
  release: { label: "Release …", title: (c) => `Release the loop of ${c.model}?`, does: "The loop acts by itself again.", not: "Nothing is promoted by this alone.", go: (c) => `Release ${c.model}, version ${c.champion} answers`, path: (c) => `/console/models/${encodeURIComponent(c.model)}/release` },
  accept: { label: "This is normal now …", title: (c) => `Is what ${c.model} gets since the alarm normal?`, does: "From the next look on, traffic is compared with what came since the drift began. The alarm ends.",
    not: "The model is not trained, and its accuracy is still held against its promise. You can take it back.", go: (c) => `Accept for version ${c.champion} of ${c.model}`, path: (c) => `/console/models/${encodeURIComponent(c.model)}/accept-drift` },
  unaccept: { label: "Take that back …", title: (c) => `Compare ${c.model} with its training data again?`, does: "What was accepted as normal no longer is.", not: "No model is changed.", go: (c) => `Take it back for version ${c.champion} of ${c.model}`,
    path: (c) => `/console/models/${encodeURIComponent(c.model)}/accept-drift`, body: () => ({ undo: true }) },
  rollback: { label: "Roll back …", danger: true, title: (c) => `Put version ${c.previous ?? "before"} of ${c.model} back?`, does: "It answers again within a second. From then on the loop only reports, until it is released.",
    not: "No request is dropped; the version that goes stays on disk.", go: (c) => `Roll ${c.model} back from version ${c.champion} to ${c.previous ?? "the one before"}`, path: (c) => `/console/models/${encodeURIComponent(c.model)}/rollback` },
  promote: { label: "Make it champion …", title: (c) => `Make version ${c.version} of ${c.model} the champion?`, does: "It answers all requests within a second, whatever its gates said.", not: "No request is dropped; the version before stays one step away.",
    go: (c) => `Promote version ${c.version} of ${c.model}`, path: (c) => `/console/models/${encodeURIComponent(c.model)}/promote`, body: (c) => ({ version: c.version }) },
  evaluate: { label: "Evaluate now …", title: (c) => `Evaluate version ${c.champion} of ${c.model} now?`, does: "A run looks at the labels since the alarm. If it fails, a challenger is trained.", not: "Nothing is promoted without its gates.",
    go: (c) => `Evaluate version ${c.champion} of ${c.model}`, path: () => "/console/jobs", body: (c) => ({ model: c.model, kind: "evaluate" }), bare: true },
};

const LINKS = { label: ["#label", "Label rows"], loop: ["#loop", "Watch the loop"], drift: ["#drift", "What moved"] };
export const buttonOf = (act, context = {}, off = "") => {
  if (LINKS[act]) return h("a", { class: "button", href: LINKS[act][0] }, LINKS[act][1]);
  const of = ACTS[act];
  return [h("button", { type: "button", class: of.main ? "main" : of.danger ? "danger" : "", "data-k": `${act}-${context.version || context.job || ""}`, disabled: Boolean(off), title: off || null,
    onclick: () => ask(act, context) }, of.label), off ? h("span", { class: "small" }, off) : null];
};

// Ask in a dialog, send, and show who acted; resolves once the dialog is closed.
export const ask = (act, more) => {
  const of = ACTS[act], state = at.state, dialog = box();
  const seen = { model: state.model, champion: state.champion, previous: state.previous, ...more };
  const reason = h("input", { id: "why", required: true, maxlength: 500, autocomplete: "off" });
  const secret = mayCall() ? null : h("input", { id: "secret", type: "password", autocomplete: "off", required: true });
  const said = h("p", { role: "alert", class: "bad" }), close = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
  const go = h("button", { type: "submit", class: of.danger ? "danger" : "main" }, of.go(seen));
  const send = async (event) => {
    event.preventDefault();
    if (secret && secret.value) setToken(secret.value);
    go.disabled = true; said.textContent = "";
    const body = { ...(of.body ? of.body(seen) : {}), reason: reason.value };
    if (!of.bare && seen.champion !== null) body.expected = seen.champion;
    try {
      const { data } = await call(of.path(seen), { body });
      form.replaceChildren(h("h2", { id: "dialog-title" }, "Done."), h("p", {}, data.note || `${of.go(seen)}: ${data.actor ? `by ${data.actor}, ` : ""}“${reason.value}”. It stands in the audit with your name.`),
        h("div", { class: "row" }, h("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close")));
      form.querySelector("button").focus();
      poll();
    } catch (error) {
      go.disabled = false;
      said.textContent = error instanceof Refused ? `Refused (${error.status}): ${error.message}` : "No answer came; look how it stands before you try again.";
      if (error.status === 401 || error.status === 403) setToken("");
    }
  };
  const form = h("form", { onsubmit: send }, h("h2", { id: "dialog-title" }, of.title(seen)), h("p", {}, of.does), h("p", { class: "small" }, of.not),
    h("label", { class: "f", for: "why" }, "Reason (goes into the audit)"), reason,
    secret ? [h("label", { class: "f", for: "secret" }, "Token of scope admin"), secret] : null, said, h("div", { class: "row" }, close, go));
  dialog.replaceChildren(form);
  dialog.showModal();
  reason.focus();
};

// The demonstration: ordinary traffic of shifted data, stopped by its button, by leaving, or by time.
let running = false;
export const demo = async (run) => {
  const { data } = await call("/console/demo", { body: { run, model: at.state.model } });
  running = data.running;
  poll();
};
addEventListener("pagehide", () => {
  if (running) fetch("/console/demo", { method: "POST", keepalive: true, credentials: "omit", headers: { "Content-Type": "application/json" }, body: '{"run":false}' });
});
