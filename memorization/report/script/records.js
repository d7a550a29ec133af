"use strict";
// The records of the page, and how they are written. Everything is drawn from the records in `data`: one a cell, that is, one run at one train loss.
const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const cells = data.cells;
cells.forEach((cell, place) => { cell.place = place; });

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
const inCode = text => esc(text).replace(/`([^`]*)`/g, "<code>$1</code>");
function fixed(value, digits) {  // halves to even, as the table on the terminal has them
  const scaled = value * 10 ** digits;
  const whole = Math.abs(scaled % 1) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  return (whole / 10 ** digits + 0).toFixed(digits);
}
function percent(fraction) {
  if (fraction === null) return "–";
  const text = fixed(100 * fraction, 0);
  return ["0", "100"].includes(text) && ![0, 1].includes(fraction) ? fixed(100 * fraction, 1) : text;
}
const pValue = p => p < 0.001 && p > 0 ? p.toExponential(0) : p.toPrecision(1);
const pText = cell => `<span class="p">p = ${pValue(cell.p)}</span>${cell.holm > cell.p ? `; <span class="p">Holm: ${pValue(cell.holm)}</span>` : ""}`;
const decibel = value => value === null ? "–" : fixed(value, 1);
const interval = (estimate, text) => estimate[1] === null ? "–" : `${text(estimate[1])} to ${text(estimate[2])}`;
const withInterval = (estimate, text, unit) => estimate[0] === null ? "–" : `${text(estimate[0])}${unit} <small>(${interval(estimate, text)})</small>`;
const shares = estimate => withInterval(estimate, percent, " %");
const decibels = estimate => withInterval(estimate, decibel, "");
const areas = estimate => withInterval(estimate, value => fixed(value, 3), "");
function wilson(successes, trials) {  // [share, low, high], as `statistics.proportion_interval`
  const z = 1.959963984540054, centre = successes + z * z / 2, half = z * Math.sqrt(successes * (trials - successes) / trials + z * z / 4);
  return [successes / trials, successes === 0 ? 0 : (centre - half) / (trials + z * z), successes === trials ? 1 : (centre + half) / (trials + z * z)];
}
const lossText = cell => cell.loss === null ? "–" : cell.loss.toExponential(1).replace(/e([+-])(\d)$/, "e$10$2");

// ---- the images of a cell: members first

const unpacked = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
function imagesOf(cell) {
  if (!cell.list) {
    const {members, numbers} = data.images[cell.images];
    const psnr = new Float32Array(unpacked(cell.psnr).buffer), state = unpacked(cell.state);
    cell.list = numbers.map((number, at) => ({at, number, member: at < members, psnr: psnr[at], recovered: !!(state[at] & 1), diverged: !!(state[at] & 2), nearest: !!(state[at] & 4)}));
  }
  return cell.list;
}
const score = image => image.diverged || Number.isNaN(image.psnr) ? -Infinity : image.psnr;
const ranked = (cell, member) => imagesOf(cell).filter(image => image.member === member).sort((a, b) => (score(b) > score(a)) - (score(b) < score(a)) || a.at - b.at);
const imageName = image => `${image.member ? "member" : "non-member"} ${image.number}`;
const statusOf = image => image.diverged ? "diverged" : image.recovered ? "recovered" : "not recovered";
const pictureCache = new Map();
function picturesOf(scene) {
  if (!pictureCache.has(scene)) pictureCache.set(scene, JSON.parse($(`scene-${scene}`).textContent));
  return pictureCache.get(scene);
}
const source = text => `data:image/webp;base64,${text}`;
// The answers on the way: at the start, and after so many iterations.
const pathFigure = (path, name) => `<figure class="path" style="--n: ${path.steps.length}"><img src="${source(path.pixels)}" alt="${name}: the answers at the start and after ${path.steps.slice(1).join(", ")} iterations"><figcaption class="caption">${path.steps.map(step => `<span>${step || "start"}</span>`).join("")}</figcaption></figure>`;
