// What all views share: elements, calls, the state and how it is polled. Text goes through text nodes only.
const SVG = "http://www.w3.org/2000/svg";
const POLL = 2000, PAUSES = [2000, 4000, 8000, 15000];
let token = ""; // kept until the page is left or reloaded, nowhere else
const listeners = new Set();
export const at = { state: null, model: null, view: "now", etag: "", fails: 0, seen: 0 };

const put = (node, kids) => {
  for (const kid of kids.flat(9)) if (kid !== null && kid !== undefined && kid !== false) node.append(kid);
  return node;
};
// `h("p.small", { title: "t" }, "words")`: an element with its classes; attributes may be left out.
export const h = (name, ...kids) => {
  const [tag, ...classes] = name.split("."), node = document.createElement(tag), plain = kids[0]?.constructor === Object, props = plain ? kids.shift() : {};
  if (tag === "button" && !props.submit) node.type = "button";
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(props)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  return put(node, kids);
};
export const s = (tag, attrs, ...kids) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attrs || {})) node.setAttribute(name, value);
  return put(node, kids);
};
// Fill a part of a view anew where what it shows has changed; the focus stays where it was.
export const fill = (node, key, make) => {
  const text = JSON.stringify(key);
  if (node.shown === text) return;
  node.shown = text;
  const held = node.contains(document.activeElement) ? document.activeElement.dataset.k : null;
  const open = [...node.querySelectorAll("details[open]")].map((each) => each.dataset.k);
  node.replaceChildren();
  put(node, [make()]);
  for (const k of open) if (k) { const d = node.querySelector(`details[data-k="${k}"]`); if (d) d.open = true; }
  if (held) { const again = [...node.querySelectorAll("[data-k]")].find((n) => n.dataset.k === held); if (again) again.focus(); }
};

export class Refused extends Error {
  constructor(status, detail) { super(detail); this.status = status; }
}
export const call = async (path, { body, etag, type } = {}) => {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (etag) headers["If-None-Match"] = etag;
  if (body !== undefined) headers["Content-Type"] = type || "application/json";
  const answer = await fetch(path, {
    method: body === undefined ? "GET" : "POST", headers, cache: "no-store", redirect: "error", credentials: "omit",
    body: body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(15000),
  });
  if (answer.status === 304) return { status: 304 };
  const text = await answer.text();
  let data = null;
  try { data = JSON.parse(text); } catch { data = { detail: `status ${answer.status}` }; }
  if (!answer.ok) throw new Refused(answer.status, data.detail || data.error || `status ${answer.status}`);
  return { status: answer.status, data, text, etag: answer.headers.get("ETag") || "" };
};
export const get = async (path) => (await call(path)).data;
export const of = (path, more = "") => `${path}?model=${encodeURIComponent(at.state ? at.state.model : "")}${more}`;

export const mayCall = () => token !== "" || Boolean(at.state && at.state.free);
export const setToken = (text) => { token = text.trim(); };
export const onState = (listener) => { listeners.add(listener); };
const tell = () => { for (const listener of listeners) listener(at.state); };

let timer = 0;
export const poll = async () => {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    const query = at.model ? `?model=${encodeURIComponent(at.model)}` : "";
    const answer = await call(`/console/state${query}`, { etag: at.etag });
    if (answer.status !== 304) { at.state = answer.data; at.etag = answer.etag; }
    at.seen = Date.now(); at.fails = 0;
  } catch { at.fails += 1; }
  tell();
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(poll, at.fails ? PAUSES[Math.min(at.fails, 4) - 1] : POLL);
};
document.addEventListener("visibilitychange", () => { if (document.hidden) clearTimeout(timer); else poll(); });

// Words for numbers and times.
export const limit = (value, least, most) => Math.min(most, Math.max(least, value));
export const n0 = (x) => Math.round(x).toLocaleString("en");
export const pct = (x, digits = 1) => (x === null || x === undefined ? "not known" : `${+(100 * x).toFixed(digits)}%`);
export const clock = (seconds) => {
  const then = new Date(1000 * seconds), day = 864e5, age = Date.now() - then;
  if (age < day / 2 && age > -day / 2) return then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (age < 6 * day && age > 0) return then.toLocaleString("en-GB", { weekday: "short", hour: "2-digit", minute: "2-digit" });
  return then.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
};
export const lasting = (seconds) => {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))}\u00a0s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)}\u00a0min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)}\u00a0h` : `${Math.round(seconds / 86400)}\u00a0d`;
};
export const when = (seconds) => h("time", { datetime: new Date(1000 * seconds).toISOString(), title: new Date(1000 * seconds).toLocaleString() }, clock(seconds));
// Texts of the service: 10^6.85 gets an exponent, @{seconds} a time, `words` are code.
export const rich = (text) => text.split(/(10\^-?[\d.]*\d|@\{\d+\}|`[^`]+`)/).map((part) => (/^10\^/.test(part) ? ["10", h("sup", part.slice(3))] : /^@\{\d+\}$/.test(part) ? when(+part.slice(2, -1)) : /^`.+`$/.test(part) ? h("code", part.slice(1, -1)) : part));
export const table = (head, rows, label) => h("div.wide", { tabindex: "0", role: "region", "aria-label": label }, h("table",
  h("thead", h("tr", head.map((name) => h("th", { scope: "col" }, name)))),
  h("tbody", rows.map((cells) => h("tr", cells.map((cell) => h("td", cell)))))));
export const pairs = (lines) => h("table", h("tbody", lines.map((line) => h("tr", line.map((cell, k) => (k ? h("td", cell) : h("th", { scope: "row" }, cell)))))));
// A card that asks for a token where one is missing; `then` is called once there is one.
export const tokenCard = (then, why = "Names and figures are open, rows of your users are not.") => {
  const field = h("input", { type: "password", autocomplete: "off", placeholder: "holdfast_…", id: "token-field", "data-k": "token" });
  return h("form.card", { onsubmit: (e) => { e.preventDefault(); setToken(field.value); field.value = ""; then(); } },
    h("h3", "Inputs need a token."), h("p", `${why} It is kept until this page is left or reloaded, nowhere else.`),
    h("label.f", { for: "token-field" }, "Token of scope feedback or admin"), field, h("button.main", { submit: true }, "Use it"));
};
