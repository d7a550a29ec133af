// The table of results, and the choice of the one that is shown in detail.

const SORTS = {
  loss: cell => cell.loss, members: cell => cell.members.recovered[0], others: cell => cell.others.recovered[0], excess: cell => cell.excess[0],
  auc: cell => cell.auc[0], membersPsnr: cell => cell.members.psnr[0], othersPsnr: cell => cell.others.psnr[0],
  diverged: cell => cell.members.diverged + cell.others.diverged,
};
function forest(cell) {
  const mark = (name, group, y) => group[0] === null ? "" : `<g class="${name}"><path d="M${1.4 * group[1]} ${y}H${1.4 * group[2]}"/><circle cx="${1.4 * group[0]}" cy="${y}" r="3.5"/></g>`;
  return `<svg class="forest" width="150" height="22" viewBox="-5 0 150 22" role="img" aria-label="${cell.members.recovered[3]} % of members, ${cell.others.recovered[3]} % of non-members"><path class="axis" d="M0 0V22M35 0V22M70 0V22M105 0V22M140 0V22"/>${mark("others", cell.others.recovered, 16)}${mark("members", cell.members.recovered, 6)}</svg>`;
}
const groupName = cell => (values.autoencoder.length > 1 ? `${cell.autoencoder}; ` : "") + cell.degradation;
function drawTable(list) {
  const width = 10;
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
    const verdict = cell.verdict ? `<br><span class="soft" title="${esc(cell.controls)}">${esc(cell.verdict)} <small>(${pText(cell)})</small></span>` : "";
    out.push(`<tr data-cell="${cell.place}"${cell.place === state.run ? ' aria-current="true"' : ""}><th class="left" scope="row"><button title="Show this run in detail">${esc(cell.method)}</button>${under}${verdict}</th>` +
      `<td>${shares(cell.members.recovered)}</td><td>${shares(cell.others.recovered)}</td><td>${shares(cell.excess)}</td><td class="left roomy">${forest(cell)}</td><td class="roomy">${withInterval(cell.auc)}</td>` +
      `<td class="wide roomy">${withInterval(cell.members.psnr)}</td><td class="wide roomy">${withInterval(cell.others.psnr)}</td><td class="p">${cell.lossText}</td><td class="roomy">${SORTS.diverged(cell)}</td></tr>`);
  }
  $("rows").innerHTML = out.join("") || `<tr class="group"><th class="left" colspan="${width}">No result passes these filters.</th></tr>`;
  const more = list.length - state.rows;
  $("rows-more").innerHTML = more > 0 ? `<button class="plain">Show ${more} more</button><span class="printed">The first ${state.rows} of ${list.length} results.</span>` : "";
  for (const button of document.querySelectorAll(".numbers thead button")) {
    const head = button.closest("th");
    if (button.dataset.sort === state.sort) head.setAttribute("aria-sort", state.falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}
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
