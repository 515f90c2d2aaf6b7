// The page plays the attacker: Square (Andriushchenko et al. 2020), which sees nothing but answers.
import { call, of } from "./core.js";
import { shape, nest } from "./pixels.js";

export const QUERIES = 1000, BATCH = 16;
const tab = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => (b % 36).toString(36)).join("");
export const askRows = async (input, rows) => {
  const instances = rows.map((x) => (input.kind === "image" ? nest(input, x) : x));
  const began = performance.now(), { data } = await call(of("/console/predict", `&tab=${tab}`), { body: { instances } });
  return { ...data, ms: performance.now() - began };
};
const margin = (p, index) => { let most = 0; p.forEach((each, k) => { if (k !== index && each > most) most = each; }); return Math.log(Math.max(p[index], 1e-12)) - Math.log(Math.max(most, 1e-12)); };
const share = (done) => { const k = 0.3 * (done < 20 ? 1 : done < 100 ? 0.5 : done < 200 ? 0.25 : done < 500 ? 0.125 : 0.0625); return k; };

// `eps` in units of the range; tells `report` after each batch; ends at the first other answer.
export const square = async (input, x, eps, index, report, stopped) => {
  const image = input.kind === "image", columns = input.columns || [];
  const movable = image ? null : columns.map((column, k) => (column.kind === "numeric" && x[k] !== null ? k : -1)).filter((k) => k >= 0);
  const span = (k) => (image ? input.high - input.low : columns[k].high - columns[k].low || 1);
  const clip = (value, k) => {
    const d = eps * span(k), near = Math.min(x[k] + d, Math.max(x[k] - d, value)), inside = image ? Math.min(input.high, Math.max(input.low, near)) : near;
    return image && input.dtype === "uint8" ? Math.round(inside) : inside;
  };
  const sign = () => (Math.random() < 0.5 ? -1 : 1), sides = image ? shape(input) : null;
  const start = () => {
    const y = x.slice();
    if (image) for (let c = 0; c < sides.c; c += 1) for (let col = 0; col < sides.columns; col += 1) { const to = sign(); for (let row = 0; row < sides.rows; row += 1) { const k = (c * sides.rows + row) * sides.columns + col; y[k] = clip(x[k] + to * eps * span(k), k); } }
    else for (const k of movable) y[k] = clip(x[k] + sign() * eps * span(k), k);
    return y;
  };
  const change = (best, done) => {
    const y = best.slice();
    if (image) {
      const side = Math.max(1, Math.min(sides.rows, Math.round(Math.sqrt(share(done) * sides.rows * sides.columns))));
      const top = Math.floor(Math.random() * (sides.rows - side + 1)), left = Math.floor(Math.random() * (sides.columns - Math.min(side, sides.columns) + 1));
      for (let c = 0; c < sides.c; c += 1) { const to = sign(); for (let row = top; row < top + side; row += 1) for (let col = left; col < Math.min(left + side, sides.columns); col += 1) { const k = (c * sides.rows + row) * sides.columns + col; y[k] = clip(x[k] + to * eps * span(k), k); } }
    } else { const many = Math.max(1, Math.round(share(done) * movable.length)); for (let k = 0; k < many; k += 1) { const at = movable[Math.floor(Math.random() * movable.length)]; y[at] = clip(x[at] + sign() * eps * span(at), at); } }
    return y;
  };
  let best = x, least = Infinity, done = 0, row = null, probing = 0, flagged = { drift: 0, perturbation: 0, query: 0 };
  while (done < QUERIES && !stopped()) {
    const tries = Array.from({ length: Math.min(BATCH, QUERIES - done) }, () => (done === 0 ? start() : change(best, done)));
    const { predictions } = await askRows(input, tries);
    for (let k = 0; k < tries.length; k += 1) {
      const each = predictions[k];
      done += 1;
      for (const name of Object.keys(flagged)) if (each[name]?.flagged) { flagged[name] += 1; if (name === "query" && !probing) probing = done; }
      const worse = margin(each.probabilities, index);
      if (worse < least) { least = worse; best = tries[k]; row = each; }
      if (each.index !== index) { report({ done, x: tries[k], row: each, flipped: true, probing, flagged }); return; }
    }
    report({ done, x: best, row, flipped: false, probing, flagged });
  }
};
