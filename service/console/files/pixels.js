// Pictures in the model's own pixels: shown, drawn with pointer or keys, and taken from files.
import { h } from "./core.js";

export const MOST = 64; // pixels a side that can be drawn by hand
// A picture is a flat list by channel, row, column. Ink on paper where the background is low.
export const shape = (input) => { const [c, rows, columns] = input.shape.length === 3 ? input.shape : [1, ...input.shape]; return { c, rows, columns, size: c * rows * columns }; };
export const flat = (x) => x.flat(9);
export const nest = (input, x) => { const { c, rows, columns } = shape(input); const planes = Array.from({ length: c }, (_, k) => Array.from({ length: rows }, (_, y) => x.slice((k * rows + y) * columns, (k * rows + y + 1) * columns))); return input.shape.length === 3 ? planes : planes[0]; };
export const isPaper = (input, rows) => shape(input).c === 1 && (!rows.length || rows.reduce((sum, row) => sum + row[0] + row[row.length - 1], 0) / (2 * rows.length) < (input.low + input.high) / 2);

export const paint = (canvas, input, x, paper, difference = false) => {
  const { c, rows, columns } = shape(input), span = input.high - input.low || 1;
  canvas.width = columns; canvas.height = rows;
  const image = new ImageData(columns, rows);
  for (let k = 0; k < rows * columns; k += 1) for (let channel = 0; channel < 3; channel += 1) {
    const value = x[(c === 1 ? 0 : channel) * rows * columns + k];
    const unit = difference ? 0.5 + value / span : (value - input.low) / span;
    image.data[4 * k + channel] = 255 * (paper ? 1 - unit : unit);
    image.data[4 * k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
};
export const picture = (input, x, paper, words, difference) => paint(h("canvas", { role: "img", "aria-label": words }), input, x, paper, difference);

// A canvas to draw on; `changed` is called after a stroke.
export const pad = (input, paper, changed) => {
  const { c, rows, columns, size } = shape(input), background = paper || c > 1 ? (paper ? input.low : input.high) : input.low, ink = paper || c === 1 ? input.high : input.low;
  let x = new Array(size).fill(background), colour = new Array(c).fill(ink), down = false, cursor = null;
  const canvas = h("canvas", { class: "pad", tabindex: "0", role: "application", "aria-roledescription": "drawing", "aria-label": `${columns} by ${rows} pixels to draw on. Arrows move, space paints, delete erases.` });
  const said = h("span", { class: "unseen", "aria-live": "polite" });
  const show = () => {
    paint(canvas, input, x, paper);
    if (cursor) { const ctx = canvas.getContext("2d"); ctx.fillStyle = "rgba(220,90,20,.55)"; ctx.fillRect(cursor[0], cursor[1], 1, 1); }
  };
  const dab = (px, py, radius = 0.75, erase = false) => {
    for (let row = 0; row < rows; row += 1) for (let column = 0; column < columns; column += 1) {
      const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(column + 0.5 - px, row + 0.5 - py)));
      if (!cover) continue;
      for (let k = 0; k < c; k += 1) {
        const at = (k * rows + row) * columns + column, to = erase ? background : colour[k];
        const mixed = background + (to - background) * cover;
        x[at] = erase ? x[at] + (background - x[at]) * cover : Math.abs(mixed - background) > Math.abs(x[at] - background) || c > 1 ? (c > 1 ? x[at] + (to - x[at]) * cover : mixed) : x[at];
        if (input.dtype === "uint8") x[at] = Math.round(x[at]);
      }
    }
  };
  const at = (event) => { const box = canvas.getBoundingClientRect(); return [columns * (event.clientX - box.left) / box.width, rows * (event.clientY - box.top) / box.height]; };
  let last = null;
  const stroke = (event) => {
    const here = at(event), from = last || here, steps = Math.max(1, Math.ceil(2 * Math.hypot(here[0] - from[0], here[1] - from[1])));
    for (let k = 1; k <= steps; k += 1) dab(from[0] + (here[0] - from[0]) * k / steps, from[1] + (here[1] - from[1]) * k / steps, Math.max(0.75, columns / 22));
    last = here; show();
  };
  canvas.addEventListener("pointerdown", (event) => { down = true; last = null; cursor = null; canvas.setPointerCapture(event.pointerId); stroke(event); event.preventDefault(); canvas.focus(); });
  canvas.addEventListener("pointermove", (event) => { if (down) stroke(event); });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { if (down) { down = false; changed(); } });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, move = moves[event.key];
    if (!move && event.key !== " " && event.key !== "Delete" && event.key !== "Backspace") return;
    event.preventDefault();
    cursor = cursor || [Math.floor(columns / 2), Math.floor(rows / 2)];
    if (move) cursor = [Math.min(columns - 1, Math.max(0, cursor[0] + move[0])), Math.min(rows - 1, Math.max(0, cursor[1] + move[1]))];
    else { for (let k = 0; k < c; k += 1) x[(k * rows + cursor[1]) * columns + cursor[0]] = event.key === " " ? colour[k] : background; changed(); }
    said.textContent = `column ${cursor[0] + 1}, row ${cursor[1] + 1}, ${x[cursor[1] * columns + cursor[0]] === background ? "empty" : "painted"}`;
    show();
  });
  canvas.addEventListener("blur", () => { cursor = null; show(); });
  show();
  return { canvas, said, get: () => x.slice(), set: (to) => { x = to.slice(); show(); }, clear: () => { x = new Array(size).fill(background); show(); },
    colour: (hex) => { colour = [1, 3, 5].map((k) => input.low + (input.high - input.low) * parseInt(hex.slice(k, k + 2), 16) / 255); } };
};

// A picture file in the model's pixels.
export const fromFile = async (file, input, fit) => {
  const image = await createImageBitmap(file), { c, rows, columns } = shape(input), canvas = h("canvas", { width: columns, height: rows });
  canvas.width = columns; canvas.height = rows;
  const ctx = canvas.getContext("2d"), k = fit === "crop" ? Math.max(columns / image.width, rows / image.height) : Math.min(columns / image.width, rows / image.height);
  ctx.fillStyle = "#000"; ctx.fillRect(0, 0, columns, rows);
  const w = fit === "stretch" ? columns : image.width * k, t = fit === "stretch" ? rows : image.height * k;
  ctx.imageSmoothingQuality = "high";
  ctx.drawImage(image, (columns - w) / 2, (rows - t) / 2, w, t);
  const data = ctx.getImageData(0, 0, columns, rows).data, span = input.high - input.low, x = new Array(c * rows * columns);
  for (let p = 0; p < rows * columns; p += 1) for (let channel = 0; channel < c; channel += 1) {
    const byte = c === 1 ? 0.299 * data[4 * p] + 0.587 * data[4 * p + 1] + 0.114 * data[4 * p + 2] : data[4 * p + channel];
    const value = input.low + span * byte / 255;
    x[channel * rows * columns + p] = input.dtype === "uint8" ? Math.round(value) : value;
  }
  return x;
};
