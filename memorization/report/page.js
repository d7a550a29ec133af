"use strict";
// Everything below is drawn from the records in `data`: one a cell, that is, one run at one train loss.
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
const judged = cells.some(cell => cell.controls);
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
  const text = fixed(100 * fraction, 0);
  return ["0", "100"].includes(text) && ![0, 1].includes(fraction) ? fixed(100 * fraction, 1) : text;
}
const pValue = p => p < 0.001 && p > 0 ? p.toExponential(0) : p.toPrecision(1);
const pText = cell => `p = ${pValue(cell.p)}${cell.holm > cell.p ? `; Holm: ${pValue(cell.holm)}` : ""}`;
const decibel = value => value === null ? "–" : fixed(value, 1);
const shares = estimate => estimate[0] === null ? "–" : `${percent(estimate[0])} % <small>(${percent(estimate[1])} to ${percent(estimate[2])})</small>`;
const decibels = estimate => estimate[0] === null ? "–" : `${decibel(estimate[0])} <small>(${decibel(estimate[1])} to ${decibel(estimate[2])})</small>`;
const areas = estimate => estimate[0] === null ? "–" : `${fixed(estimate[0], 3)} <small>(${fixed(estimate[1], 3)} to ${fixed(estimate[2], 3)})</small>`;
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

// ---- what is chosen: in the page's address, so that it outlives a reload and can be passed on

const state = {rung: "lowest", run: data.strongest, sort: null, falling: true, rows: ROWS, all: new Set(), hidden: new Set()};
const view = {scene: null, rung: "lowest", order: null, show: "all"};
function readAddress() {
  const query = new URLSearchParams(location.hash.slice(1));
  for (const name in FILTERS) state[name] = new Set(query.getAll(name).filter(value => values[name].includes(value)));
  state.rung = [...rungs, "all"].includes(query.get("rung")) ? query.get("rung") : "lowest";
  const run = cells.findIndex(cell => keyOf(cell) === query.get("run"));
  state.run = run < 0 ? data.strongest : run;
  const sort = query.get("sort") ?? "", column = sort.replace("-", "");
  state.sort = Object.hasOwn(SORTS, column) ? column : null;
  state.falling = sort.startsWith("-") || !state.sort;
  state.rows = query.has("rows") ? Infinity : ROWS;
  state.hidden = new Set(query.getAll("hide"));
  state.all = new Set(query.getAll("more"));
  const scene = data.scenes.findIndex(scene => sceneName(scene) === query.get("scene"));
  Object.assign(view, {scene: scene < 0 ? null : scene, rung: query.get("pictures") ?? "lowest", order: query.get("order"), show: query.get("show") ?? "all"});
}
const sceneName = scene => `${scene.autoencoder}; ${scene.degradation}`;
function writeAddress() {
  const query = new URLSearchParams();
  for (const name in FILTERS) for (const value of state[name]) query.append(name, value);
  if (state.rung !== "lowest") query.set("rung", state.rung);
  if (state.run !== data.strongest) query.set("run", keyOf(cells[state.run]));
  if (state.sort) query.set("sort", (state.falling ? "-" : "") + state.sort);
  if (state.rows > ROWS) query.set("rows", "all");
  for (const method of state.hidden) query.append("hide", method);
  for (const heading of state.all) query.append("more", heading);
  if (view.scene !== null && view.scene !== cells[state.run].scene) query.set("scene", sceneName(data.scenes[view.scene]));
  if (view.rung !== "lowest") query.set("pictures", view.rung);
  if (view.order && view.order !== cells[state.run].method) query.set("order", view.order);
  if (view.show !== "all") query.set("show", view.show);
  history.replaceState(null, "", `#${query}`);
}
const passes = (cell, except) => Object.keys(FILTERS).every(name => name === except || !state[name].size || state[name].has(cell[name]));
const atRung = cell => state.rung === "all" || (state.rung === "lowest" ? cell.last : cell.rung === state.rung);
const chosen = () => cells.filter(cell => passes(cell) && atRung(cell));

function drawFilters() {
  const shown = Object.keys(FILTERS).filter(name => values[name].length > 1 && (name !== "autoencoder" || values[name].length > distinct(cells, cell => `${cell.dataset}/${cell.architecture}`).length));
  $("filters").innerHTML = shown.map(name =>
    `<details data-filter="${name}"><summary></summary><fieldset><legend>${FILTERS[name]}</legend>${values[name].map((value, at) =>
      `<label><input type="checkbox" value="${at}"${state[name].has(value) ? " checked" : ""}> ${esc(value)}</label>`).join("")}</fieldset></details>`).join("") +
    `<label>Train loss <select id="rung"><option value="lowest">lowest of each run</option>${rungs.map(rung => `<option>${rung}</option>`).join("")}<option value="all">all</option></select></label>` +
    `<button type="button" id="reset">Reset</button><output id="count" aria-live="polite"></output>`;
  $("rung").value = state.rung;
  $("rung").onchange = () => { state.rung = $("rung").value; changed(); };
  $("reset").onclick = () => { for (const name in FILTERS) state[name].clear(); state.rung = "lowest"; drawFilters(); changed(); };
  for (const details of document.querySelectorAll("[data-filter]")) {
    const name = details.dataset.filter;
    details.addEventListener("change", event => {
      const value = values[name][event.target.value];
      event.target.checked ? state[name].add(value) : state[name].delete(value);
      changed();
    });
    details.addEventListener("toggle", () => {
      if (details.open) for (const other of document.querySelectorAll("[data-filter]")) other.open = other === details;
    });
    details.addEventListener("keydown", event => {
      if (event.key === "Escape") { details.open = false; details.querySelector("summary").focus(); }
    });
  }
  nameFilters();
}
document.addEventListener("click", event => {
  for (const details of document.querySelectorAll("[data-filter][open]")) if (!details.contains(event.target)) details.open = false;
});
function nameFilters() {
  for (const details of document.querySelectorAll("[data-filter]")) {
    const name = details.dataset.filter, set = state[name];
    const left = new Set(cells.filter(cell => passes(cell, name)).map(cell => cell[name]));
    details.classList.toggle("set", set.size > 0);
    details.querySelector("summary").textContent = `${FILTERS[name]}: ${set.size === 0 ? "all" : set.size === 1 ? [...set][0] : `${set.size} chosen`}`;
    for (const label of details.querySelectorAll("label")) label.classList.toggle("none", !left.has(values[name][label.firstChild.value]));
  }
  const count = chosen().length;
  $("count").textContent = `${count} of ${cells.length} results shown`;
  $("count").title = "A result is one run at one train loss.";
}

// ---- the table

const SORTS = {
  loss: cell => cell.loss, members: cell => cell.members.recovered[0], others: cell => cell.others.recovered[0], excess: cell => cell.excess[0],
  auc: cell => cell.auc[0], membersPsnr: cell => cell.members.psnr[0], othersPsnr: cell => cell.others.psnr[0],
  diverged: cell => cell.members.diverged + cell.others.diverged,
};
function forest(cell) {
  const mark = (name, group, y) => `<g class="${name}"><path d="M${fixed(140 * group[1], 1)} ${y}H${fixed(140 * group[2], 1)}"/><circle cx="${fixed(140 * group[0], 1)}" cy="${y}" r="3.5"/></g>`;
  return `<svg class="forest" width="150" height="22" viewBox="-5 0 150 22" role="img" aria-label="${percent(cell.members.recovered[0])} % of members, ${percent(cell.others.recovered[0])} % of non-members"><path class="axis" d="M0 0V22M35 0V22M70 0V22M105 0V22M140 0V22"/>${mark("others", cell.others.recovered, 16)}${mark("members", cell.members.recovered, 6)}</svg>`;
}
const groupName = cell => (values.autoencoder.length > 1 ? `${cell.autoencoder}; ` : "") + cell.degradation;
function drawTable(list) {
  const width = judged ? 11 : 10;
  if (state.sort) {
    const get = SORTS[state.sort], sign = state.falling ? -1 : 1;
    list = [...list].sort((a, b) => sign * ((get(a) ?? -Infinity) - (get(b) ?? -Infinity)) || a.place - b.place);
  }
  const out = [];
  let group = null;
  for (const cell of list.slice(0, state.rows)) {
    if (!state.sort && groupName(cell) !== group) {
      group = groupName(cell);
      out.push(`<tr class="group"><th class="left" colspan="${width}" scope="rowgroup">${esc(group)}</th></tr>`);
    }
    const under = state.sort ? `<br><span class="soft">${esc(groupName(cell))}</span>` : "";
    const verdict = judged ? `<td class="left verdicts" title="${esc(cell.controls)}">${cell.verdict ? `${esc(cell.verdict)}<br><small>${pText(cell)}</small>` : ""}</td>` : "";
    out.push(`<tr data-cell="${cell.place}"${cell.place === state.run ? ' aria-current="true"' : ""}><th class="left" scope="row"><button title="Show this run in detail">${esc(cell.method)}</button>${under}</th>${verdict}` +
      `<td>${lossText(cell)}</td><td class="left">${forest(cell)}</td><td>${shares(cell.members.recovered)}</td><td>${shares(cell.others.recovered)}</td><td>${shares(cell.excess)}</td><td>${areas(cell.auc)}</td>` +
      `<td class="wide">${decibels(cell.members.psnr)}</td><td class="wide">${decibels(cell.others.psnr)}</td><td>${SORTS.diverged(cell)}</td></tr>`);
  }
  $("rows").innerHTML = out.join("") || `<tr class="group"><th class="left" colspan="${width}">No result passes these filters.</th></tr>`;
  const more = list.length - state.rows;
  $("rows-more").innerHTML = more > 0 ? `<button class="plain">Show ${more} more</button>` : "";
  for (const button of document.querySelectorAll(".numbers thead button")) {
    const head = button.closest("th");
    if (button.dataset.sort === state.sort) head.setAttribute("aria-sort", state.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}
for (const head of document.querySelectorAll(".numbers thead .verdicts")) head.hidden = !judged;
$("rows-more").addEventListener("click", () => { state.rows = Infinity; writeAddress(); drawTable(chosen()); });
for (const button of document.querySelectorAll(".numbers thead button")) {
  button.addEventListener("click", () => {
    state.falling = state.sort !== button.dataset.sort || !state.falling;
    state.sort = button.dataset.sort;
    writeAddress();
    drawTable(chosen());
  });
}
$("rows").addEventListener("click", event => {
  const row = event.target.closest("[data-cell]");
  if (row) select(Number(row.dataset.cell));
});
function select(place) {
  state.run = place;
  view.scene = null;
  writeAddress();
  for (const row of document.querySelectorAll("[data-cell]")) Number(row.dataset.cell) === place ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current");
  drawRun();
  drawGallery();
}

// ---- plots: built when they come near the window, in the tones of its light or dark ground

const tone = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = cell => tone(`--c${colourOf(cell)}`);
const axis = more => ({gridcolor: tone("--grid"), linecolor: tone("--line"), color: tone("--soft"), zeroline: false, ...more});
const layout = more => ({paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: tone("--soft"), size: 12, family: "system-ui, sans-serif"}, showlegend: false, hovermode: "closest", margin: {l: 52, r: 10, t: 8, b: 42}, ...more});
const narrow = () => innerWidth < 600;  // a phone
const builders = new Map();  // of each plot on the page
const near = new IntersectionObserver(entries => entries.forEach(entry => { if (entry.isIntersecting) draw(entry.target); }), {rootMargin: "300px"});
function draw(plot) {
  near.unobserve(plot);
  const build = builders.get(plot);
  if (!build) return;
  const figure = build();
  Plotly.react(plot, figure.data, figure.layout, {responsive: true, displaylogo: false, displayModeBar: false});
  if (!plot.wired && figure.click) plot.on("plotly_click", event => builders.get(plot) && figure.click(event.points[0].customdata));
  plot.wired = true;
}
function later(plot, build) {
  builders.set(plot, build);
  near.observe(plot);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { for (const plot of builders.keys()) if (plot.data) draw(plot); });
addEventListener("beforeprint", () => { for (const details of document.querySelectorAll("#compared details")) details.open = true; for (const plot of builders.keys()) draw(plot); });

const GROUPS = [["others", "non-members"], ["members", "members"]];
function bounds(list) {
  const ends = list.flatMap(cell => [...cell.members.psnr, ...cell.others.psnr, cell.threshold]).filter(value => value !== null);
  return [Math.max(-20, Math.min(0, ...ends)), 1.06 * Math.max(1, ...ends)];
}
// The recovered share above, the median PSNR below, against something; one line a method.
function curves(list, all, xOf, xaxis, shifted) {
  const traces = [], methods = Map.groupBy(list, cell => cell.method);
  let at = 0;
  for (const [method, part] of methods) {
    const place = (methods.size - 1) / 2 - at++;
    for (const [row, get, scale] of [["", group => group.recovered, 100], ["2", group => group.psnr, 1]]) {
      for (const [key, name] of GROUPS) {
        const estimates = part.map(cell => get(cell[key]).map(value => value === null ? null : scale * value)), solid = key === "members";
        traces.push({
          type: "scatter", mode: "lines+markers", name: `${method}, ${name}`, legendgroup: method, visible: !state.hidden.has(method), yaxis: `y${row}`,
          x: part.map(cell => shifted(xOf(cell), place)), y: estimates.map(e => e[0]), customdata: part.map(cell => cell.place),
          error_y: {type: "data", symmetric: false, array: estimates.map(e => e[2] - e[0]), arrayminus: estimates.map(e => e[0] - e[1]), thickness: 1, width: 2, color: colour(part[0])},
          line: {color: colour(part[0]), dash: solid ? "solid" : "dot", width: solid ? 2 : 1.5},
          marker: {symbol: symbolOf(part[0]) + (solid ? "" : "-open"), size: 7, color: colour(part[0])},
          text: part.map(cell => `${esc(method)}, ${name}<br>train loss ${lossText(cell)}<br>${Math.round(cell[key].recovered[0] * cell[key].count)} of ${cell[key].count} recovered (${percent(cell[key].recovered[0])} %, ${percent(cell[key].recovered[1])} to ${percent(cell[key].recovered[2])})<br>median erased PSNR ${decibel(cell[key].psnr[0])} dB (${decibel(cell[key].psnr[1])} to ${decibel(cell[key].psnr[2])})`),
          hovertemplate: "%{text}<extra></extra>",
        });
      }
    }
  }
  const lines = distinct(list, cell => cell.threshold).map(y => ({type: "line", xref: "paper", x0: 0, x1: 1, yref: "y2", y0: y, y1: y, line: {dash: "dash", width: 1, color: tone("--soft")}}));
  return {
    data: traces, click: select,
    layout: layout({
      shapes: lines, xaxis: axis({...xaxis, anchor: "y2"}),
      yaxis: axis({domain: [0.53, 1], title: {text: "recovered (%)"}, range: [-4, 104], dtick: 25}),
      yaxis2: axis({domain: [0, 0.47], title: {text: "median erased PSNR (dB)"}, range: bounds(all)}),
    }),
  };
}
function againstLoss(list, all) {
  const decades = all.map(cell => Math.log10(Math.max(cell.loss, 1e-16)));
  const range = [Math.max(...decades) + 0.3, Math.min(...decades) - 0.3];
  const xaxis = {type: "log", range, dtick: Math.ceil((range[0] - range[1]) / 4.5), exponentformat: "power", tickangle: 0, title: {text: "train loss"}};
  return curves(list, all, cell => cell.loss, xaxis, (x, place) => x * 10 ** (0.03 * place));
}
function against(name, title, list, all) {
  const xs = list.map(cell => cell[name]), span = Math.max(...xs) - Math.min(...xs);
  const xaxis = {title: {text: title}, range: [Math.min(...xs) - 0.06 * span, Math.max(...xs) + 0.06 * span]};
  const sorted = [...list].sort((a, b) => a[name] - b[name]);
  return curves(sorted, all, cell => cell[name], xaxis, (x, place) => x - 0.006 * span * place);
}
function rates(cell) {  // (fpr, tpr) at each score, for logarithmic axes: a rate of 0 stands at half of the least that shows
  const scores = imagesOf(cell), count = [scores.filter(i => !i.member).length, scores.filter(i => i.member).length];
  const least = count.map(n => 0.5 / n), passed = [0, 0], points = [[...least]];
  const sorted = [...scores].sort((a, b) => (score(b) > score(a)) - (score(b) < score(a)));
  sorted.forEach((image, i) => {
    passed[Number(image.member)] += 1;
    if (i + 1 === sorted.length || score(sorted[i + 1]) !== score(image)) points.push(passed.map((n, k) => Math.max(n / count[k], least[k])));
  });
  return points;
}
function roc(list) {
  const several = distinct(list, cell => cell.rung).length > 1;
  const low = Math.min(...list.flatMap(cell => [0.5 / cell.others.count, 0.5 / cell.members.count]));
  const traces = list.map(cell => {
    const points = rates(cell), name = cell.method + (several ? `, ${cell.rung}` : "");
    return {
      type: "scatter", mode: "lines", name, legendgroup: cell.method, visible: !state.hidden.has(cell.method), x: points.map(p => p[0]), y: points.map(p => p[1]), customdata: points.map(() => cell.place),
      line: {color: colour(cell), width: 2, dash: ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"][variants.indexOf(cell.variant) % 6]},
      hovertemplate: `${esc(name)}<br>AUC ${fixed(cell.auc[0] ?? NaN, 3)}<br>FPR %{x:.3g}, TPR %{y:.3g}<extra></extra>`,
    };
  });
  traces.push({type: "scatter", mode: "lines", x: [low, 1], y: [low, 1], line: {color: tone("--soft"), width: 1, dash: "dot"}, hoverinfo: "skip", name: "chance"});
  const range = [Math.log10(low), 0.03], ticks = {type: "log", range, dtick: 1, exponentformat: "power"};
  return {data: traces, click: select, layout: layout({xaxis: axis({...ticks, title: {text: "false positive rate (non-members)"}}), yaxis: axis({...ticks, title: {text: "true positive rate (members)"}})})};
}
const LIMITS = Array.from({length: 51}, (_, i) => 10 + i);  // dB
function sensitivity(list) {  // the recovered share at each threshold; what diverged or is closer to another member never counts
  const several = distinct(list, cell => cell.rung).length > 1;
  const traces = list.flatMap(cell => GROUPS.map(([key, name]) => {
    const own = imagesOf(cell).filter(image => image.member === (key === "members")), solid = key === "members";
    const right = own.filter(image => image.nearest && !image.diverged);
    const method = cell.method + (several ? `, ${cell.rung}` : "");
    return {
      type: "scatter", mode: "lines", name: `${method}, ${name}`, legendgroup: cell.method, visible: !state.hidden.has(cell.method), x: LIMITS, y: LIMITS.map(limit => 100 * right.filter(image => image.psnr >= limit).length / own.length), customdata: LIMITS.map(() => cell.place),
      line: {color: colour(cell), dash: solid ? "solid" : "dot", width: solid ? 2 : 1.5, shape: "hv"}, hovertemplate: `${esc(method)}, ${name}<br>%{y:.0f} % at %{x} dB<extra></extra>`,
    };
  }));
  const lines = distinct(list, cell => cell.threshold).map(x => ({type: "line", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: {dash: "dash", width: 1, color: tone("--soft")}}));
  return {data: traces, click: select, layout: layout({shapes: lines, xaxis: axis({title: {text: "threshold of “recovered” (dB)"}}), yaxis: axis({title: {text: "recovered (%)"}, range: [-4, 104], dtick: 25})})};
}
function heat(list) {
  const lowest = new Map();
  for (const cell of list) lowest.set(`${cell.degradation}\n${cell.method}`, cell);
  const x = distinct(list, cell => cell.method), y = distinct(list, cell => cell.degradation);
  const grid = y.map(degradation => x.map(method => lowest.get(`${degradation}\n${method}`)));
  const map = get => grid.map(row => row.map(cell => cell ? get(cell) : null));
  return {
    data: [{
      type: "heatmap", x: x.map(esc), y: y.map(name => narrow() ? esc(name).replaceAll(", ", "<br>") : esc(name)), z: map(cell => 100 * cell.members.recovered[0]), zmin: 0, zmax: 100, xgap: 2, ygap: 2, customdata: map(cell => cell.place),
      colorscale: [[0, tone("--grid")], [1, tone("--accent")]], showscale: false, text: map(cell => percent(cell.members.recovered[0]) + (cell.others.recovered[0] ? ` (${percent(cell.others.recovered[0])})` : "")),
      texttemplate: "%{text}", hovertemplate: "%{x}<br>%{y}<br>members (non-members) recovered: %{text} %<extra></extra>",
    }],
    click: select,
    layout: layout({xaxis: axis({side: "top", automargin: true, showgrid: false, tickangle: x.length > 5 || narrow() ? -45 : 0}), yaxis: axis({autorange: "reversed", automargin: true, showgrid: false}), margin: {l: 8, r: 8, t: 8, b: 8}}),
  };
}

// Sections of plots with their facets; that of the strongest run comes first.
function plotSections(list) {
  const strongest = cells[data.strongest], any = cells.filter(cell => passes(cell));
  const facets = (part, key) => [...Map.groupBy(part, key)].sort((a, b) => (b[0] === key(strongest)) - (a[0] === key(strongest)));
  const level = cell => state.rung === "all" ? `${cell.rung}` : "";
  const swept = (name, title, heading) => ({
    heading, text: `Each at ${state.rung === "all" ? "every train loss" : state.rung === "lowest" ? "the lowest train loss of each run" : `a train loss of ${state.rung}`}.`,
    facets: facets(list.filter(cell => cell[name] !== null), cell => [cell.autoencoder, cell.alike[name], level(cell)].filter(Boolean).join("; "))
      .filter(([, part]) => distinct(part, cell => cell[name]).length > 1)
      .map(([key, part]) => ({title: key, label: `Recovered share and median PSNR ${heading.toLowerCase()}, ${key}`, build: () => against(name, title, part, list)})),
  });
  return [
    {
      heading: "Methods and degradations", text: `Members recovered, in percent (in brackets: non-members, where any were)${state.rung === "all" ? ", at the lowest train loss of each run" : ""}. A click shows the run.`,
      facets: facets(list, cell => cell.autoencoder).filter(([, part]) => part.length > 1)
        .map(([key, part]) => ({title: key, label: `Members recovered by each method under each degradation, ${key}`, build: () => heat(part), height: (narrow() ? 150 : 90) + (narrow() ? 46 : 30) * distinct(part, cell => cell.degradation).length, wide: true})),
    },
    {
      heading: "As training proceeds", text: "All train losses, falling to the right.",
      facets: facets(any, groupName).map(([key, part]) => ({title: key, label: `Recovered share and median PSNR against train loss, ${key}`, build: () => againstLoss(part, any)})),
    },
    swept("fraction", "share of pixels erased", "Against the share of pixels erased"),
    swept("noise", "standard deviation of the noise", "Against noise"),
    {
      heading: "Members told from non-members", text: "ROC of the erased PSNR; both axes are logarithmic, and a rate of 0 stands at half of the least that the images can show. Dotted: chance.",
      facets: facets(list.filter(cell => cell.members.count && cell.others.count), groupName).map(([key, part]) => ({title: key, label: `ROC curves, ${key}`, build: () => roc(part), height: 380})),
    },
    {
      heading: "If the threshold were another", text: "The share recovered, had the threshold been another; it was the dashed line. Right image and no divergence are asked for at each.",
      facets: facets(list, groupName).map(([key, part]) => ({title: key, label: `Recovered share against the threshold, ${key}`, build: () => sensitivity(part), height: 380})),
    },
  ].filter(section => section.facets.length);
}
function drawPlots(list) {
  near.disconnect();
  for (const plot of document.querySelectorAll("#figures .plot")) { builders.delete(plot); if (plot.data) Plotly.purge(plot); }
  const methods = new Map(cells.filter(cell => passes(cell)).map(cell => [cell.method, cell]));
  $("legend").innerHTML = [...methods].map(([method, cell]) => `<button class="toggle" aria-pressed="${!state.hidden.has(method)}" data-method="${esc(method)}"><span style="color: var(--c${colourOf(cell)})">${SYMBOLS[symbolOf(cell)]}</span> ${esc(method)}</button>`).join("");
  $("figures").replaceChildren();
  for (const section of plotSections(list)) {
    const part = document.createElement("div");
    const limit = state.all.has(section.heading) ? Infinity : FACETS;
    part.innerHTML = `<h3>${section.heading}</h3><p class="soft">${section.text}</p><div class="facets"${section.facets[0].wide ? ' style="grid-template-columns: repeat(auto-fit, minmax(min(520px, 100%), 1fr))"' : ""}></div>`;
    for (const facet of section.facets.slice(0, limit)) {
      const figure = document.createElement("figure");
      figure.className = "facet";
      if (facet.wide) figure.style.maxWidth = "none";
      figure.innerHTML = `<figcaption>${esc(facet.title)}</figcaption><div class="plot" role="img" aria-label="${esc(facet.label)}; the numbers are in the table above"${facet.height ? ` style="height: ${facet.height}px"` : ""}></div>`;
      part.querySelector(".facets").append(figure);
      later(figure.querySelector(".plot"), facet.build);
    }
    if (section.facets.length > limit) {
      const button = document.createElement("button");
      button.className = "plain more";
      button.textContent = `Show ${section.facets.length - limit} more`;
      button.onclick = () => { state.all.add(section.heading); writeAddress(); drawPlots(chosen()); };
      part.append(button);
    }
    $("figures").append(part);
  }
  for (const plot of builders.keys()) if (!plot.data) near.observe(plot);
}
$("legend").addEventListener("click", event => {
  const button = event.target.closest("[data-method]");
  if (!button) return;
  const method = button.dataset.method;
  if (!state.hidden.delete(method)) state.hidden.add(method);
  button.setAttribute("aria-pressed", !state.hidden.has(method));
  writeAddress();
  for (const plot of document.querySelectorAll("#figures .plot")) if (plot.data) draw(plot);
});
for (const script of document.querySelectorAll("#probes script")) {
  const figure = JSON.parse(script.textContent);
  later(script.previousElementSibling, () => ({
    data: figure.data.map(trace => { const c = tone(`--c${trace.meta.colour}`); return {...trace, line: {...trace.line, color: c}, marker: {...trace.marker, color: c}, error_y: {...trace.error_y, color: c}}; }),
    layout: layout({...figure.layout, xaxis: axis(figure.layout.xaxis), yaxis: axis(figure.layout.yaxis)}),
  }));
}

// ---- one run

function scatter(cell) {
  const traces = [false, true].map(member => {
    const list = ranked(cell, member), tint = tone(member ? "--accent" : "--soft");
    return {
      type: "scatter", mode: "markers", name: member ? "members" : "non-members", x: list.map((image, i) => i + 1), y: list.map(image => image.psnr), customdata: list.map(image => image.at),
      marker: {size: 8, color: tint, symbol: list.map(image => image.diverged ? "x" : image.recovered ? "circle" : "circle-open"), line: {color: tint, width: 1.5}},
      text: list.map(image => `${imageName(image)}<br>${fixed(image.psnr, 1)} dB, ${statusOf(image)}`), hovertemplate: "%{text}<extra></extra>",
    };
  });
  return {
    data: traces, click: at => openImage(cells[state.run], at),
    layout: layout({
      showlegend: true, legend: {orientation: "h", y: 1.08}, xaxis: axis({title: {text: "rank (filled: recovered, cross: diverged)"}}), yaxis: axis({title: {text: "erased PSNR (dB)"}}),
      shapes: [{type: "line", xref: "paper", x0: 0, x1: 1, y0: cell.threshold, y1: cell.threshold, line: {dash: "dash", width: 1, color: tone("--soft")}}],
    }),
  };
}
function drawRun() {
  const cell = cells[state.run], run = data.runs[cell.signature], card = data.cards[cell.recovery];
  $("run-name").innerHTML = `<b>${esc(cell.method)}</b>, ${esc(cell.degradation)}, ${esc(cell.autoencoder)}, train loss ${lossText(cell)}. Choose another in the table or a plot.`;
  const rate = ([fpr, point]) => `<dt>TPR at FPR ${fixed(100 * fpr, 1).replace(/\.0$/, "")} %</dt><dd>${point ? `${percent(point[1])} % <small>(${percent(point[2])} to ${percent(point[3])}; FPR achieved ${percent(point[0])} %)</small>` : `not resolvable with ${cell.others.count} non-members (${Math.ceil(1 / fpr)} would do)`}</dd>`;
  const group = (name, key) => `<dt>${name}</dt><dd>${Math.round(cell[key].recovered[0] * cell[key].count)} of ${cell[key].count}: ${shares(cell[key].recovered)}; median ${decibels(cell[key].psnr)} dB</dd>`;
  const verdict = cell.controls ? `<dt>Verdict</dt><dd><span class="verdict">${esc(cell.verdict || "none")}</span>${cell.p === null ? "" : ` (${pText(cell)})`}; members by controls: ${esc(cell.controls)}</dd>` : "";
  const calibrated = cell.calibrated ? `<dt>Above the reference</dt><dd>Members by ${decibels(cell.calibrated[0])} dB in the median; AUC of that difference ${areas(cell.calibrated[1])}</dd>` : "";
  const threat = card ? `<h3>Threat model of ${esc(cell.recovery)}</h3><p>${inCode(card.text)}</p><dl><dt>Access</dt><dd>${esc(card.access)}</dd><dt>Knows</dt><dd>${inCode(card.knows)}</dd><dt>Queries</dt><dd>${fixed(cell.queries, 0)} an image, on average</dd></dl>` : "";
  $("card").innerHTML = `<h3>Results</h3><dl>${group("Members", "members")}${group("Non-members", "others")}<dt>Excess</dt><dd>${shares(cell.excess)}</dd><dt>AUC</dt><dd>${areas(cell.auc)}</dd>${cell.operating.map(rate).join("")}${verdict}${calibrated}</dl>${threat}`;
  $("command").textContent = run.command;
  $("provenance").innerHTML = `Signature <code>${esc(cell.signature)}</code>, in <code>${esc(run.folder)}</code>; made with ${esc(run.versions)}.`;
  $("pick").innerHTML = [true, false].map(member => `<optgroup label="${member ? "Members" : "Non-members"}, best first">${ranked(cell, member).map(image => `<option value="${image.at}">${imageName(image)}: ${fixed(image.psnr, 1)} dB, ${statusOf(image)}</option>`).join("")}</optgroup>`).join("");
  later($("scatter"), () => scatter(cells[state.run]));
}
$("open").onclick = () => openImage(cells[state.run], Number($("pick").value));

// ---- one image

let opened = null;
async function openImage(cell, at) {
  const image = imagesOf(cell)[at], order = ranked(cell, image.member), pictures = picturesOf(cell.scene);
  opened = {cell, order, rank: order.findIndex(other => other.at === at)};
  $("image-name").textContent = `${imageName(image)}: ${fixed(image.psnr, 1)} dB, ${statusOf(image)}`;
  $("image-facts").textContent = `${cell.method}; ${cell.degradation}; ${cell.autoencoder}; train loss ${lossText(cell)}. Number ${opened.rank + 1} of ${order.length} ${image.member ? "members" : "non-members"}, from the best.`;
  const row = pictures.images.findIndex(other => other.member === image.member && other.image === image.number);
  const answer = row < 0 ? "" : (pictures.answers[cell.place] ?? [])[row];
  $("image-pictures").innerHTML = answer
    ? [["original", pictures.images[row].original], ["degraded", pictures.images[row].degraded], ["answer", answer]].map(([name, text]) => `<figure><img src="${source(text)}" alt="${imageName(image)}, ${name}"><figcaption class="caption">${name}</figcaption></figure>`).join("") +
      `<figure><canvas role="img" aria-label="Map of the error"></canvas><figcaption class="caption">error, white: 0.25 or more</figcaption></figure>`
    : "<p>The pictures of this image are not in this report: a run keeps those of the first images of each kind (<code>gallery=6</code>), and a large report shows some of them.</p>";
  const path = (pictures.paths[cell.place] ?? [])[row];
  $("image-path").innerHTML = path ? `<p class="soft">On the way: after so many iterations. The answer took ${path.iterations}.</p>${pathFigure(path, imageName(image))}` : "";
  for (const button of document.querySelectorAll("[data-step]")) button.disabled = !order[opened.rank + Number(button.dataset.step)];
  if (!$("image").open) $("image").showModal();
  if (!answer) return;
  const shown = [...$("image-pictures").querySelectorAll("img")];
  await Promise.all(shown.map(each => each.decode()));
  const [width, height] = data.scenes[cell.scene].size, canvas = $("image-pictures").querySelector("canvas");
  if (!canvas) return;
  const pixels = [shown[0], shown[2]].map(each => {
    const own = Object.assign(document.createElement("canvas"), {width, height}).getContext("2d");
    own.drawImage(each, 0, 0);
    return own.getImageData(0, 0, width, height).data;
  });
  Object.assign(canvas, {width, height});
  const map = new ImageData(width, height);
  for (let i = 0; i < map.data.length; i += 4) {  // the mean over channels, black to red to yellow to white
    const error = Math.min(1, [0, 1, 2].reduce((sum, c) => sum + Math.abs(pixels[0][i + c] - pixels[1][i + c]), 0) / 3 / 255 / 0.25);
    for (let c = 0; c < 3; c++) map.data[i + c] = 255 * Math.max(0, Math.min(1, 3 * error - c));
    map.data[i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(map, 0, 0);
  canvas.dataset.drawn = "true";
}
for (const button of document.querySelectorAll("[data-step]")) button.onclick = () => openImage(opened.cell, opened.order[opened.rank + Number(button.dataset.step)].at);
$("image").addEventListener("click", event => { if (event.target === $("image")) $("image").close(); });

// ---- the gallery of a scene: one autoencoder and degradation

function options(select, list, value) {
  select.innerHTML = list.map(([key, text]) => `<option value="${esc(key)}">${esc(text)}</option>`).join("");
  select.value = value;
}
function drawGallery() {
  const passing = cells.filter(cell => passes(cell)), scenes = distinct(passing, cell => cell.scene);
  const run = cells[state.run];
  if (!scenes.includes(view.scene)) view.scene = scenes.includes(run.scene) ? run.scene : scenes[0];
  $("gallery").replaceChildren();
  if (view.scene === undefined) return;
  const pictures = picturesOf(view.scene), kept = passing.filter(cell => cell.scene === view.scene && pictures.answers[cell.place]?.some(Boolean));
  const levels = distinct(kept, cell => cell.rung).sort((a, b) => a - b);
  if (!levels.includes(view.rung)) view.rung = "lowest";
  const columns = kept.filter(cell => view.rung === "lowest" ? cell.last || !kept.some(other => other.signature === cell.signature && other.last) : cell.rung === view.rung);
  if (!columns.some(cell => cell.method === view.order)) view.order = (columns.find(cell => cell.place === state.run) ?? columns.find(cell => cell.method === run.method) ?? columns.at(-1))?.method;
  options($("scene"), scenes.map(scene => [scene, (values.autoencoder.length > 1 ? `${data.scenes[scene].autoencoder}; ` : "") + data.scenes[scene].degradation]), view.scene);
  options($("scene-rung"), [["lowest", "lowest of each run"], ...levels.map(level => [level, level])], view.rung);
  options($("scene-order"), columns.map(cell => [cell.method, cell.method]), view.order);
  $("scene-show").value = view.show;
  if (!columns.length) { $("gallery").innerHTML = "<p>No pictures were kept of these runs.</p>"; return; }
  const by = columns.find(cell => cell.method === view.order), small = data.scenes[view.scene].size[0] < 78;
  for (const [heading, member] of [["Members", true], ["Non-members", false]]) {
    const numbers = new Map(pictures.images.map((image, row) => [`${image.member}${image.image}`, row]));
    const rows = ranked(by, member).filter(image => numbers.has(`${member}${image.number}`));
    const names = new Map(rows.length > 2 ? [[0, "best"], [rows.length >> 1, "median"], [rows.length - 1, "worst"]] : []);
    const fits = image => view.show === "all" || (view.show === "failed" ? !image.recovered : statusOf(image) === view.show);
    const body = rows.map((image, rank) => {
      if (!fits(image)) return "";
      const row = numbers.get(`${member}${image.number}`), own = pictures.images[row];
      const fixedPicture = name => `<td><img src="${source(own[name])}" alt="${imageName(image)}, ${name}"></td>`;
      const answers = columns.map(cell => {
        const text = pictures.answers[cell.place][row], found = imagesOf(cell).find(other => other.member === member && other.number === image.number);
        if (!text || !found) return "<td></td>";
        return `<td${found.recovered ? ' class="recovered"' : ""}><button data-place="${cell.place}" data-at="${found.at}"><img src="${source(text)}" alt="${imageName(image)}, ${esc(cell.method)}, ${statusOf(found)}"><span class="caption">${found.recovered ? "✓ " : ""}${fixed(found.psnr, 1)}${found.diverged ? " diverged" : ""}</span></button></td>`;
      });
      return `<tr><th scope="row">${names.has(rank) ? `<b>${names.get(rank)}</b><br>` : ""}${imageName(image)}</th>${fixedPicture("original")}${fixedPicture("degraded")}${answers.join("")}</tr>`;
    }).join("");
    const failed = rows.some(image => image.recovered) && rows.find(image => !image.recovered), paths = pictures.paths[by.place] ?? [];
    const way = rows.map((image, rank) => {
      const row = numbers.get(`${member}${image.number}`), path = paths[row];
      const name = [names.get(rank), image === failed && "best of the failed"].filter(Boolean).join(", ");
      if (!path || names.size && !name) return "";
      return `<tr><th scope="row">${name ? `<b>${name}</b><br>` : ""}${imageName(image)}</th><td>${pathFigure(path, imageName(image))}</td><td${image.recovered ? ' class="recovered"' : ""}><img src="${source(pictures.answers[by.place][row])}" alt="${imageName(image)}, answer after ${path.iterations} iterations"><span class="caption">${path.iterations}</span></td></tr>`;
    }).join("");
    const part = document.createElement("div");
    part.className = `gallery${small ? " pixels" : ""}`;
    part.innerHTML = `<h3>${heading}</h3>` + (body ? `<div class="scroll" tabindex="0" role="region" aria-label="${heading}, ${esc(data.scenes[view.scene].degradation)}"><table><thead><tr><td></td><th scope="col">original</th><th scope="col">degraded</th>${columns.map(cell => `<th scope="col">${esc(cell.method).replaceAll("_", "_<wbr>")}</th>`).join("")}</tr></thead><tbody>${body}</tbody></table></div>` : "<p>None of the kept images.</p>") +
      (way ? `<h3>On the way, ${esc(by.method)}</h3><div class="scroll" tabindex="0" role="region" aria-label="The path of iterates of ${heading.toLowerCase()}"><table class="way"><thead><tr><td></td><th scope="col">the answer after so many iterations</th><th scope="col">the last</th></tr></thead><tbody>${way}</tbody></table></div>` : "");
    $("gallery").append(part);
  }
}
$("gallery").addEventListener("click", event => {
  const button = event.target.closest("[data-place]");
  if (button) openImage(cells[button.dataset.place], Number(button.dataset.at));
});
for (const [id, name] of [["scene", "scene"], ["scene-rung", "rung"], ["scene-order", "order"], ["scene-show", "show"]]) {
  $(id).onchange = () => { view[name] = name === "scene" ? Number($(id).value) : $(id).value; drawGallery(); writeAddress(); };
}
function drawStrip() {  // of the answer
  const cell = cells[data.strongest], pictures = picturesOf(cell.scene), answers = pictures.answers[cell.place] ?? [];
  $("strip").classList.toggle("pixels", data.scenes[cell.scene].size[0] < 58);
  $("strip").innerHTML = [["Members", true], ["Non-members", false]].map(([heading, member]) => {
    const rows = pictures.images.map((image, row) => row).filter(row => pictures.images[row].member === member && answers[row]).slice(0, 6);
    const line = (name, get) => `<tr><th scope="row">${name}</th>${rows.map(row => `<td><img src="${source(get(row))}" alt="${member ? "member" : "non-member"} ${pictures.images[row].image}, ${name}"></td>`).join("")}</tr>`;
    return rows.length ? `<table><caption>${heading}</caption>${line("original", row => pictures.images[row].original)}${line("degraded", row => pictures.images[row].degraded)}${line("answer", row => answers[row])}</table>` : "";
  }).join("");
}

for (const link of document.querySelectorAll('a[href^="#"]')) {  // the address holds the filters, not a place
  link.addEventListener("click", event => { event.preventDefault(); document.querySelector(link.getAttribute("href")).scrollIntoView(); });
}
function changed() {
  state.rows = ROWS;
  writeAddress();
  nameFilters();
  const list = chosen();
  if (list.length && !list.includes(cells[state.run])) {
    state.run = list.reduce((best, cell) => (cell.excess[0] ?? -1) > (best.excess[0] ?? -1) ? cell : best).place;
    view.scene = null;
    writeAddress();
  }
  drawTable(list);
  drawRun();
  drawGallery();
  requestAnimationFrame(() => drawPlots(list));
}
readAddress();
drawFilters();
drawStrip();
drawTable(chosen());
drawRun();
drawGallery();
drawPlots(chosen());
addEventListener("hashchange", () => { readAddress(); drawFilters(); changed(); });
