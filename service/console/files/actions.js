// What a person changes: each asks first, says what happens and what does not, and needs a reason.
import { h, call, at, mayCall, setToken, poll, Refused } from "./core.js";

export const button = (act) => (act.href ? h("a.button", { href: act.href, "data-k": act.href }, act.label)
  : [h("button", { class: act.kind, "data-k": act.go, disabled: Boolean(act.off), onclick: () => ask(act) }, act.label), act.off ? h("span.small", act.off) : null]);

// Ask in a dialog, send, and show who acted.
const ask = (act) => {
  const dialog = document.getElementById("dialog"), close = (words, main) => h("button", { class: main, onclick: () => dialog.close() }, words);
  const reason = h("input", { id: "why", required: true, maxlength: 500, autocomplete: "off" });
  const secret = mayCall() ? null : h("input", { id: "secret", type: "password", autocomplete: "off", required: true });
  const said = h("p", { role: "alert", class: "bad" }), go = h("button", { class: act.kind || "main", submit: true }, act.go);
  const send = async (event) => {
    event.preventDefault();
    if (secret?.value) setToken(secret.value);
    go.disabled = true; said.textContent = "";
    try {
      const { data } = await call(act.path, { body: { ...act.body, reason: reason.value } });
      const who = data.actor || data.hold?.actor || data.accepted?.actor;
      form.replaceChildren(h("h2", { id: "dialog-title" }, "Done."), h("p", `${act.go}${who ? `, by ${who}` : ""}: “${reason.value}”.`), h("p.small", data.note || "It stands in the audit, with the name of the token."), h("div.row", close("Close", "main")));
      form.querySelector("button").focus();
      poll();
    } catch (error) {
      go.disabled = false;
      said.textContent = error instanceof Refused ? `Refused (${error.status}): ${error.message}` : "No answer came; see how it stands first.";
      if (error.status === 401 || error.status === 403) setToken("");
    }
  };
  const form = h("form", { onsubmit: send }, h("h2", { id: "dialog-title" }, act.title), h("p", act.does), h("p.small", act.stays),
    h("label.f", { for: "why" }, "Reason (goes into the audit)"), reason, secret && [h("label.f", { for: "secret" }, "Token of scope admin"), secret], said, h("div.row", close("Cancel"), go));
  dialog.replaceChildren(form);
  dialog.showModal();
  reason.focus();
};

// The demonstration is stopped by its button, by leaving, or by time.
let running = false;
export const demo = async (run) => {
  running = (await call("/console/demo", { body: { run, model: at.state.model } })).data.running;
  poll();
};
addEventListener("pagehide", () => {
  if (running) fetch("/console/demo", { method: "POST", keepalive: true, credentials: "omit", headers: { "Content-Type": "application/json" }, body: '{"run":false}' });
});
