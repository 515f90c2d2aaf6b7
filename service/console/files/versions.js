// Versions: what there is, where each came from, two side by side, and the way back.
import { h, fill, get, of, at, mayCall, table, pct, clock, call } from "./core.js";
import { buttonOf } from "./actions.js";

const share = (of3) => (of3 && of3.value !== null ? [pct(of3.value), h("div", { class: "small" }, `${(100 * of3.low).toFixed(1)} to ${(100 * of3.high).toFixed(1)}, n = ${of3.n}`)] : "not measured");
const ROWS = [["made", (v) => (v.made ? clock(Date.parse(v.made) / 1000) : "")], ["because", (v) => v.because], ["from", (v) => (v.parent === null ? "scratch" : `version ${v.parent}`)], ["clean", (v) => share(v.clean)], ["under attack", (v) => [share(v.robust), v.attack ? h("div", { class: "small" }, `${v.attack.slice(0, 40)} at ${v.eps}`) : null]], ["on its window", (v) => share(v.window)], ["certificates", (v) => (v.certificates ? "yes" : "no")], ["size", (v) => `${(v.bytes / 1e6).toFixed(1)} MB`]];
export const build = (main) => {
  const lead = h("p", { class: "lead" }), all = h("section"), two = h("section"), picked = new Set();
  main.append(h("div", { class: "top" }, h("div", {}, h("h1", {}, "What there is, and which one answers."), lead)), all, two);
  let list = null, asked = 0, key = "", problem = "";
  const load = async (state) => {
    const want = JSON.stringify([state.model, state.champion, state.previous, state.challenger, state.version]);
    if (want === key && Date.now() - asked < 20000) return;
    key = want; asked = Date.now();
    try { list = await get(of("/console/versions")); problem = ""; } catch (error) { problem = error.message; }
    update(at.state);
  };
  const report = (v) => {
    const path = `/console/report/${encodeURIComponent(list.model)}/${v.version}`;
    if (!v.report) return "none";
    if (at.state.free) return h("a", { href: path, target: "_blank", rel: "noopener", "data-k": `r${v.version}` }, "Report");
    return h("button", { type: "button", class: "link", disabled: !mayCall(), title: mayCall() ? null : "Needs a token: use Try it or Label first", onclick: async () => { const text = (await call(path)).data; return text; } }, "Report");
  };
  const update = (state) => {
    if (!state) return;
    load(state);
    lead.textContent = problem || (state.version === null ? "No version answers." : `Version ${state.version} answers. A version never changes once it has its number, and each file of it is checked against its digest.`);
    if (!list) return;
    fill(all, [list, state.champion, state.previous, [...picked], state.free], () => [table(["", "version", "is", ...ROWS.slice(0, 6).map(([name]) => name), "report", ""], list.versions.map((v) => [h("input", { type: "checkbox", "aria-label": `Compare version ${v.version}`, "data-k": `c${v.version}`, checked: picked.has(v.version), onchange: (e) => { if (e.target.checked) picked.add(v.version); else picked.delete(v.version); if (picked.size > 2) picked.delete([...picked][0]); update(at.state); } }), h("b", {}, v.version), v.fault ? h("span", { class: "bad" }, `damaged: ${v.fault}`) : v.aliases.join(", "), ...ROWS.slice(0, 6).map(([, make]) => (v.fault ? "" : make(v))), report(v),
      v.fault || v.version === state.champion ? "" : v.version === state.previous ? buttonOf("rollback", { version: v.version }) : buttonOf("promote", { version: v.version })]), "Versions"), h("p", { class: "small" }, list.total > list.versions.length ? `The newest ${list.versions.length} of ${list.total}.` : "Tick two to compare them.")]);
    const pair = list.versions.filter((v) => picked.has(v.version));
    two.hidden = pair.length !== 2;
    fill(two, pair, () => (pair.length === 2 ? [h("h2", {}, `Version ${pair[1].version} and version ${pair[0].version}`), table(["", `version ${pair[1].version}`, `version ${pair[0].version}`], ROWS.map(([name, make]) => [name, make(pair[1]), make(pair[0])]), "Two versions side by side")] : null));
  };
  return { update };
};
