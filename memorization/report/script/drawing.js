// How a plot is drawn: when it comes near the window, in the tones of its light or dark ground, or on paper.

const tone = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const colour = cell => tone(`--c${colourOf(cell)}`);
const axis = more => ({gridcolor: tone("--grid"), linecolor: tone("--line"), color: tone("--soft"), zeroline: false, ...more});
const upright = (text, more) => axis({title: {text, standoff: 8}, automargin: true, ...more});  // a y axis that makes room for its ticks
const PERCENT = {range: [-4, 104], dtick: 25};
const layout = more => ({paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: {color: tone("--soft"), size: 12, family: "system-ui, sans-serif"}, showlegend: false, hovermode: "closest", margin: {l: 40, r: 10, t: 8, b: 42}, ...more});
const narrow = () => innerWidth < 600;  // a phone
const builders = new Map();  // of each plot on the page
const near = new IntersectionObserver(entries => entries.forEach(entry => { if (entry.isIntersecting) draw(entry.target); }), {rootMargin: "300px"});
function draw(plot) {
  near.unobserve(plot);
  const build = builders.get(plot);
  if (!build) return;
  const figure = build(plot), size = onPaper() ? {width: plot.clientWidth, height: plot.clientHeight} : {};
  Plotly.react(plot, figure.data, {...figure.layout, ...size}, {responsive: true, displaylogo: false, displayModeBar: false});
  if (!plot.wired && figure.click) plot.on("plotly_click", event => builders.get(plot) && figure.click(event.points[0].customdata));
  plot.wired = true;
}
function later(plot, build) {
  builders.set(plot, build);
  near.observe(plot);
}
const redraw = () => { for (const plot of builders.keys()) if (plot.data) draw(plot); };
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
// On paper: all plots, in light tones and as wide as a page, which the class `paper` gives them before it is laid out.
const onPaper = () => document.documentElement.classList.contains("paper");
function paper(on) {
  if (on === onPaper()) return;
  document.documentElement.classList.toggle("paper", on);
  if (on) for (const details of document.querySelectorAll("#answer details, #compared details, #seeds details")) details.open = true;
  if (on) for (const plot of builders.keys()) draw(plot);
  else {
    redraw();
    for (const plot of builders.keys()) if (plot.data) Plotly.relayout(plot, {autosize: true});  // to the window's width again
  }
}
addEventListener("beforeprint", () => paper(true));
addEventListener("afterprint", () => paper(false));
matchMedia("print").addEventListener("change", event => paper(event.matches));

// Bars of 95 % intervals; none where there is no interval.
const bars = (estimates, tint) => ({type: "data", symmetric: false, array: estimates.map(e => e[2] === null ? 0 : e[2] - e[0]), arrayminus: estimates.map(e => e[1] === null ? 0 : e[0] - e[1]), thickness: 1, width: 2, color: tint});
// Of lines that coincide, all but the first are dashed, with wider gaps the later they come, so that each is seen.
function interleaved(traces) {
  for (const alike of Map.groupBy(traces.filter(line => line.visible), line => JSON.stringify([line.x, line.y])).values()) {
    if (alike.length > 1 && alike[0].line.dash !== "dot") alike[0].line.dash = "solid";
    alike.slice(1).forEach((line, at) => { line.line.dash = `${line.line.dash === "dot" ? 3 : 9}px,${9 * (at + 1)}px`; });
  }
  return traces;
}
