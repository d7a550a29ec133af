// What is chosen: in the page's address, so that it outlives a reload and can be passed on

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
  $("rung").onchange = () => { Object.assign(state, {rung: $("rung").value, rows: ROWS}); changed(); };
  $("reset").onclick = () => {
    for (const name in FILTERS) state[name].clear();
    state.hidden.clear();
    Object.assign(state, {rung: "lowest", sort: null, falling: true, run: data.strongest, rows: ROWS});
    view.scene = null;
    drawFilters();
    changed();
  };
  for (const details of document.querySelectorAll("[data-filter]")) {
    const name = details.dataset.filter;
    details.addEventListener("change", event => {
      const value = values[name][event.target.value];
      event.target.checked ? state[name].add(value) : state[name].delete(value);
      state.rows = ROWS;
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
  const set = Object.keys(FILTERS).filter(name => state[name].size).map(name => `${FILTERS[name].toLowerCase()} ${[...state[name]].join(" or ")}`);
  const loss = state.rung === "lowest" ? "the lowest train loss of each run" : state.rung === "all" ? "all train losses" : `a train loss of ${state.rung}`;
  $("printed").textContent = `Printed with ${$("count").textContent}: ${[...set, loss].join("; ")}.` + (state.hidden.size ? ` Not in the plots: ${[...state.hidden].join(", ")}.` : "");
}
