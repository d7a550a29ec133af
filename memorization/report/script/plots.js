// The plots of the page in their sections, and the legend that hides methods.

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
      heading: "Methods and degradations", text: `Members recovered, in percent (in brackets or on hovering: non-members, where any were)${state.rung === "all" ? ", at the lowest train loss of each run" : ""}. A click shows the run.`,
      facets: facets(list, cell => cell.autoencoder).filter(([, part]) => part.length > 1)
        .map(([key, part]) => ({title: key, label: `Members recovered by each method under each degradation, ${key}`, build: plot => heat(part, plot.clientWidth), across: distinct(part, cell => cell.method).length, height: (narrow() || distinct(part, cell => cell.method).length > 5 ? 150 : 90) + (narrow() ? 46 : 30) * distinct(part, cell => cell.degradation).length})),
    },
    {
      heading: "As training proceeds", text: "All train losses, falling to the right.",
      facets: facets(any, groupName).map(([key, part]) => ({title: key, label: `Recovered share and median PSNR against train loss, ${key}`, build: () => againstLoss(part, any)})),
    },
    swept("fraction", "share of pixels erased", "Against the share of pixels erased"),
    swept("noise", "standard deviation of the noise", "Against noise"),
    {
      heading: "Members told from non-members", text: "ROC curve of the erased PSNR. Both axes are logarithmic; a rate of 0 is drawn at half of the smallest rate that the images can show. Dotted: chance.",
      facets: facets(list.filter(cell => cell.members.count && cell.others.count), groupName).map(([key, part]) => ({title: key, label: `ROC curves, ${key}`, build: () => roc(part), height: 380})),
    },
    {
      heading: "If the threshold were another", text: `The share recovered at each threshold. The dashed line is the threshold that was used. At each threshold the answer must not have diverged, and no member may be closer to it than the original. With more than ${BARRED} methods, intervals are shown on hovering only.`,
      facets: facets(list, groupName).map(([key, part]) => ({title: key, label: `Recovered share against the threshold, ${key}`, build: () => sensitivity(part), height: 380})),
    },
    {
      heading: "Close to a member", text: "Near-member probes are changed copies of members, which the autoencoder never saw. Each line is one kind of change. It shows the share of probes that are answered with the member itself (at the threshold of “recovered”). A member that answers distant probes is memorised. ★ is the member unchanged. At the lowest train loss of each run.",
      facets: facets(any.filter(cell => data.probes[cell.place]), cell => [groupName(cell), cell.method].join("; ")).map(([key, [cell]]) => ({title: key, label: `Share of near-member probes answered with their member against their distance, ${key}`, build: () => attraction(cell), height: 380})),
    },
  ].filter(section => section.facets.length);
}
function drawLadder() {  // beside the answer: the PSNR of its method against the train loss
  const strongest = cells[data.strongest], alike = cells.filter(cell => groupName(cell) === groupName(strongest) && cell.method === strongest.method);
  if (distinct(alike, cell => cell.loss).length < 2) return;
  const label = `Median PSNR of members and non-members by train loss, ${strongest.method}; the numbers are in the table below`;
  $("ladder").innerHTML = `<figcaption>PSNR on the erased pixels, as training proceeds</figcaption><div class="plot" role="img" aria-label="${esc(label)}"></div>`;
  $("ladder").hidden = false;
  later($("ladder").querySelector(".plot"), () => psnrAgainstLoss(alike));
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
    part.innerHTML = `<h3>${section.heading}</h3><p class="soft">${section.text}</p><div class="facets${section.facets[0].across ? " wide" : ""}"></div>`;
    for (const facet of section.facets.slice(0, limit)) {
      const figure = document.createElement("figure");
      figure.className = `facet${facet.across ? " wide" : ""}${facet.across > WIDE ? " across" : ""}`;
      const size = [facet.height && `height: ${facet.height}px`, facet.across && `min-width: ${heatWidth(facet.across)}px`].filter(Boolean).join("; ");
      figure.innerHTML = `<figcaption>${esc(facet.title)}</figcaption><div class="scroll"><div class="plot" role="img" aria-label="${esc(facet.label)}; the numbers are in the table above"${size && ` style="${size}"`}></div></div>`;
      part.querySelector(".facets").append(figure);
      later(figure.querySelector(".plot"), facet.build);
    }
    if (section.facets.length > limit) {
      const button = document.createElement("button");
      button.className = "plain more";
      button.textContent = `Show ${section.facets.length - limit} more`;
      button.onclick = () => { state.all.add(section.heading); writeAddress(); drawPlots(chosen()); };
      part.append(button);
      part.insertAdjacentHTML("beforeend", `<p class="printed">The first ${limit} of ${section.facets.length} plots.</p>`);
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
