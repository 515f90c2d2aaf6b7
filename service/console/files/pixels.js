// Pictures in the model's own pixels: shown, drawn with pointer or keys, and taken from files.
import { h, limit } from "./core.js";

export const MOST = 64; // pixels a side that can be drawn by hand
// A picture is a flat list by channel, row, column. Ink on paper where the background is low.
export const shape = ({ shape: sides }) => { const [rows, columns] = sides.slice(-2), c = sides.length === 3 ? sides[0] : 1; return { c, rows, columns, size: c * rows * columns }; };
export const flat = (x) => x.flat(9);
export const nest = (input, x) => { const { c, rows, columns } = shape(input), planes = Array.from({ length: c }, (_, k) => Array.from({ length: rows }, (__, y) => x.slice((k * rows + y) * columns, (k * rows + y + 1) * columns))); return input.shape.length === 3 ? planes : planes[0]; };
export const isPaper = (input, rows) => shape(input).c === 1 && (!rows.length || rows.reduce((sum, row) => sum + row[0] + row.at(-1), 0) / (2 * rows.length) < (input.low + input.high) / 2);

const paint = (canvas, input, x, paper, difference) => {
  const { c, rows, columns } = shape(input), span = input.high - input.low || 1, image = new ImageData(columns, rows);
  canvas.width = columns; canvas.height = rows;
  for (let k = 0; k < rows * columns; k += 1) for (let channel = 0; channel < 4; channel += 1) {
    const value = x[(c === 1 ? 0 : channel) * rows * columns + k], unit = difference ? 0.5 + value / span : (value - input.low) / span;
    image.data[4 * k + channel] = channel === 3 ? 255 : 255 * (paper ? 1 - unit : unit);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
};
export const picture = (input, x, paper, words, difference) => paint(h("canvas", { role: "img", "aria-label": words }), input, x, paper, difference);

// A canvas to draw on; `changed` is called after a stroke.
export const pad = (input, paper, changed) => {
  const { c, rows, columns, size } = shape(input), empty = paper || c === 1 ? input.low : input.high, blank = () => new Array(size).fill(empty);
  const canvas = h("canvas.pad", { tabindex: "0", role: "application", "aria-label": `${columns} by ${rows} pixels to draw on. Arrows move, space paints, delete erases.` }), said = h("span.unseen", { "aria-live": "polite" });
  let x = blank(), colour = new Array(c).fill(c === 1 ? input.high : input.low), down = false, cursor = null, last = null;
  const show = () => { paint(canvas, input, x, paper); if (cursor) { const ctx = canvas.getContext("2d"); ctx.fillStyle = "rgba(220,90,20,.55)"; ctx.fillRect(...cursor, 1, 1); } };
  const set = (k, pixel, cover, erase) => {
    const place = k * rows * columns + pixel, to = x[place] + ((erase ? empty : colour[k]) - x[place]) * cover;
    const most = c === 1 && !erase ? Math.max(x[place], empty + (colour[k] - empty) * cover) : to; // ink does not run
    x[place] = input.dtype === "uint8" ? Math.round(most) : most;
  };
  const dab = (px, py, radius) => { for (let p = 0; p < rows * columns; p += 1) { const cover = limit(radius + 0.5 - Math.hypot(p % columns + 0.5 - px, Math.floor(p / columns) + 0.5 - py), 0, 1); if (cover) for (let k = 0; k < c; k += 1) set(k, p, cover); } };
  const stroke = (event) => {
    const box = canvas.getBoundingClientRect(), here = [columns * (event.clientX - box.left) / box.width, rows * (event.clientY - box.top) / box.height], from = last || here;
    const steps = Math.max(1, Math.ceil(2 * Math.hypot(here[0] - from[0], here[1] - from[1])));
    for (let k = 1; k <= steps; k += 1) dab(from[0] + (here[0] - from[0]) * k / steps, from[1] + (here[1] - from[1]) * k / steps, Math.max(0.75, columns / 22));
    last = here; show();
  };
  const up = () => { if (down) { down = false; changed(); } };
  const hear = { pointerdown: (event) => { event.preventDefault(); canvas.focus(); down = true; last = cursor = null; canvas.setPointerCapture(event.pointerId); stroke(event); }, pointermove: (event) => { if (down) stroke(event); }, pointerup: up, pointercancel: up, blur: () => { cursor = null; show(); },
    keydown: (event) => {
      const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key], inks = [" ", "Delete", "Backspace"].includes(event.key);
      if (!move && !inks) return;
      event.preventDefault();
      const [column, row] = cursor || [columns >> 1, rows >> 1];
      cursor = move ? [limit(column + move[0], 0, columns - 1), limit(row + move[1], 0, rows - 1)] : [column, row];
      const pixel = cursor[1] * columns + cursor[0];
      if (inks) { for (let k = 0; k < c; k += 1) set(k, pixel, 1, event.key !== " "); changed(); }
      said.textContent = `column ${cursor[0] + 1}, row ${cursor[1] + 1}, ${x[pixel] === empty ? "empty" : "painted"}`;
      show();
    } };
  for (const [name, act] of Object.entries(hear)) canvas.addEventListener(name, act);
  show();
  return { canvas, said, get: () => x.slice(), set: (to) => { x = to.slice(); show(); }, clear: () => { x = blank(); show(); }, colour: (hex) => { colour = [1, 3, 5].map((k) => input.low + (input.high - input.low) * parseInt(hex.slice(k, k + 2), 16) / 255); } };
};

// A picture file in the model's pixels.
export const fromFile = async (file, input, fit) => {
  const image = await createImageBitmap(file), { c, rows, columns } = shape(input), ctx = h("canvas", { width: columns, height: rows }).getContext("2d");
  const k = Math[fit === "crop" ? "max" : "min"](columns / image.width, rows / image.height), [w, t] = fit === "stretch" ? [columns, rows] : [image.width * k, image.height * k];
  ctx.fillRect(0, 0, columns, rows);
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(image, (columns - w) / 2, (rows - t) / 2, w, t);
  const { data } = ctx.getImageData(0, 0, columns, rows), n = rows * columns;
  return Array.from({ length: c * n }, (_, place) => {
    const p = 4 * (place % n), byte = c === 1 ? 0.299 * data[p] + 0.587 * data[p + 1] + 0.114 * data[p + 2] : data[p + Math.floor(place / n)], value = input.low + (input.high - input.low) * byte / 255;
    return input.dtype === "uint8" ? Math.round(value) : value;
  });
};
