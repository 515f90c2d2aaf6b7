// The page plays the attacker: Square (Andriushchenko et al. 2020), which sees nothing but answers.
import { call, of } from "./core.js";
import { shape, nest } from "./pixels.js";

export const QUERIES = 1000, TRIES = 16;
const TAB = Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => (b % 36).toString(36)).join("");
export const askRows = async (input, rows, more = "") => (await call(of("/console/predict", `&tab=${TAB}${more}`), { body: { instances: rows.map((x) => (input.kind === "image" ? nest(input, x) : x)) } })).data;
const margin = (p, index) => Math.log(Math.max(p[index], 1e-12)) - Math.log(Math.max(...p.filter((_, k) => k !== index), 1e-12));
const share = (done) => 0.3 * (done < 20 ? 1 : done < 100 ? 0.5 : done < 200 ? 0.25 : done < 500 ? 0.125 : 0.0625);
const any = (n) => Math.floor(Math.random() * n);

// `eps` in units of the range, of which a column moves by its share (down, up); tells `report` after each batch; ends at the first other answer.
export const square = async ({ input, shares }, x, eps, index, report, stopped) => {
  const image = input.kind === "image", { c, rows, columns } = image ? shape(input) : {};
  const movable = image ? [] : input.columns.flatMap((column, k) => (column.kind === "numeric" && x[k] !== null && shares[k][0] + shares[k][1] > 0 ? [k] : []));
  const span = (k) => (image ? input.high - input.low : input.columns[k].high - input.columns[k].low || 1), sign = () => (any(2) ? 1 : -1);
  const move = (y, k, to) => {
    let value = x[k] + to * eps * span(k) * (image ? 1 : shares[k][+(to > 0)]);
    if (image) value = Math.min(input.high, Math.max(input.low, value));
    y[k] = image && input.dtype === "uint8" ? (to > 0 ? Math.floor(value) : Math.ceil(value)) : value;
  };
  const patch = (y, top, left, high, wide) => { for (let k = 0; k < c; k += 1) { const to = sign(); for (let row = top; row < top + high; row += 1) for (let column = left; column < left + wide; column += 1) move(y, (k * rows + row) * columns + column, to); } };
  if (!image && !movable.length) throw new Error("Every column is held: nothing may move.");
  const change = (best, done) => {
    const y = best.slice();
    if (image && !done) for (let column = 0; column < columns; column += 1) patch(y, 0, column, rows, 1); // stripes first
    else if (image) { const side = Math.max(1, Math.min(rows, columns, Math.round(Math.sqrt(share(done) * rows * columns)))); patch(y, any(rows - side + 1), any(columns - side + 1), side, side); }
    else for (let k = done ? Math.max(1, Math.round(share(done) * movable.length)) : movable.length; k > 0; k -= 1) move(y, done ? movable[any(movable.length)] : movable[k - 1], sign());
    return y;
  };
  let best = x, least = Infinity, done = 0, row = null, probing = 0;
  while (done < QUERIES && !stopped()) {
    const tries = Array.from({ length: Math.min(TRIES, QUERIES - done) }, () => change(best, done)), { predictions } = await askRows(input, tries);
    for (const [k, each] of predictions.entries()) {
      done += 1;
      if (!probing && each.query?.flagged) probing = done;
      const left = margin(each.probabilities, index), flipped = each.index !== index;
      if (left < least || flipped) { least = left; best = tries[k]; row = each; }
      if (flipped) { report({ done, x: best, row, flipped, probing }); return; }
    }
    report({ done, x: best, row, flipped: false, probing });
  }
};
