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
