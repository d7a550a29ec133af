"use strict";
// The records of the page, and how they are written. Everything is drawn from the records in `data`: one a cell, that is, one run at one train loss.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const cells = data.cells;
cells.forEach((cell, place) => {
  Object.assign(cell, data.scenes[cell.scene], {place});
  for (const group of [cell.members, cell.others]) group.recovered = data.shares[group.recovered];
});

const FILTERS = {dataset: "Dataset", architecture: "Architecture", autoencoder: "Autoencoder", method: "Method", degradation: "Degradation"};
const SYMBOLS = {circle: "●", square: "■", diamond: "◆", "triangle-up": "▲", cross: "✚", star: "★"};
const ROWS = 100;   // of the table, until asked for more
const FACETS = 4;   // of a kind of plot, until asked for more
const distinct = (list, get) => [...new Set(list.map(get))];
const values = Object.fromEntries(Object.keys(FILTERS).map(name => [name, distinct(cells, cell => cell[name])]));
const rungs = distinct(cells, cell => cell.rung).sort((a, b) => a - b);
const recoveries = distinct(cells, cell => cell.recovery), variants = distinct(cells, cell => cell.variant);
const colourOf = cell => recoveries.indexOf(cell.recovery) % 8;
const symbolOf = cell => Object.keys(SYMBOLS)[variants.indexOf(cell.variant) % 6];
const keyOf = cell => `${cell.signature}@${cell.rung}`;

// ---- text

const esc = text => String(text).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`);
// An estimate is [value, low, high, value as text, interval as text]; a share is in percent.
const withInterval = ([value, , , text, span], unit = "") => value === null ? text : `${text}${unit} <small>(${span})</small>`;
const shares = estimate => withInterval(estimate, " %");
const pText = cell => cell.p.map(text => `<span class="p">${text}</span>`).join("; ");

// ---- the images of a cell: members first, each kind from the best to the worst

const KINDS = {1: Uint8Array, 2: Uint16Array, 4: Uint32Array};  // by the bytes of a number
const unpacked = text => [...new KINDS[text[0]](Uint8Array.from(atob(text.slice(1)), c => c.charCodeAt(0)).buffer)];
const STATES = {r: "recovered", f: "not recovered", d: "diverged"};
function imagesOf(cell) {
  if (!cell.list) {
    const psnr = cell.psnr.split(" "), numbers = data.numbers[cell.numbers];
    cell.list = unpacked(cell.order).map((place, at) => ({at, number: numbers[place], member: at < cell.members.count, psnr: psnr[at], status: STATES[cell.states[at]]}));
  }
  return cell.list;
}
const ranked = (cell, member) => imagesOf(cell).filter(image => image.member === member);
const imageName = image => `${image.member ? "member" : "non-member"} ${image.number}`;
const pictureCache = new Map();
function picturesOf(scene) {
  if (!pictureCache.has(scene)) pictureCache.set(scene, JSON.parse($(`scene-${scene}`).textContent));
  return pictureCache.get(scene);
}
const source = text => `data:image/webp;base64,${text}`;
// The answers on the way: at the start, and after so many iterations.
const pathFigure = (path, name) => `<figure class="path" style="--n: ${path.steps.length}"><img src="${source(path.pixels)}" alt="${name}: the answers at the start and after ${path.steps.slice(1).join(", ")} iterations"><figcaption class="caption">${path.steps.map(step => `<span>${step || "start"}</span>`).join("")}</figcaption></figure>`;
