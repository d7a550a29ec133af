// The first drawing, and what is drawn anew when the choice changes.
for (const link of document.querySelectorAll('a[href^="#"]')) {  // the address holds the filters, not a place
  link.addEventListener("click", event => { event.preventDefault(); document.querySelector(link.getAttribute("href")).scrollIntoView(); });
}
new ResizeObserver(([entry]) => {  // the sticky navigation hides no heading that is gone to
  document.documentElement.style.scrollPaddingTop = `${entry.target.offsetHeight + 8}px`;
}).observe(document.querySelector("nav"));
function changed() {
  writeAddress();
  nameFilters();
  const list = chosen();
  if (list.length && !list.includes(cells[state.run])) {
    state.run = list.reduce((best, cell) => (cell.excess[0] ?? -Infinity) > (best.excess[0] ?? -Infinity) ? cell : best).place;
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
drawLadder();
drawTable(chosen());
drawRun();
drawGallery();
drawPlots(chosen());
addEventListener("hashchange", () => { readAddress(); drawFilters(); changed(); });
