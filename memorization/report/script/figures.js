// What each kind of plot shows, of a list of cells: data and layout for Plotly, and what a click does.

const GROUPS = [["others", "non-members"], ["members", "members"]];
function bounds(list) {
  const ends = list.flatMap(cell => [...cell.members.psnr.slice(0, 3), ...cell.others.psnr.slice(0, 3), cell.threshold]).filter(value => value !== null);
  return [Math.max(-20, Math.min(0, ...ends)), 1.06 * Math.max(1, ...ends)];
}
function groupText(cell, key, name) {
  const {successes, count, recovered: [, , , share, bounds], psnr: [, , , median, within]} = cell[key];
  return `${esc(cell.method)}, ${name}<br>train loss ${cell.lossText}<br>${successes} of ${count} recovered (${share} %, ${bounds})<br>median erased PSNR ${median} dB (${within})`;
}
// The recovered share above, the median PSNR below, against something; one line a method.
function curves(list, all, xOf, xaxis, shifted) {
  const traces = [], methods = Map.groupBy(list, cell => cell.method);
  let at = 0;
  for (const [method, part] of methods) {
    const place = (methods.size - 1) / 2 - at++;
    for (const [row, shown] of [["", "recovered"], ["2", "psnr"]]) {
      for (const [key, name] of GROUPS) {
        const estimates = part.map(cell => cell[key][shown]), solid = key === "members";
        traces.push({
          type: "scatter", mode: "lines+markers", name: `${method}, ${name}`, legendgroup: method, visible: !state.hidden.has(method), yaxis: `y${row}`,
          x: part.map(cell => shifted(xOf(cell), place)), y: estimates.map(e => e[0]), customdata: part.map(cell => cell.place),
          error_y: bars(estimates, colour(part[0])),
          line: {color: colour(part[0]), dash: solid ? "solid" : "dot", width: solid ? 2 : 1.5},
          marker: {symbol: symbolOf(part[0]) + (solid ? "" : "-open"), size: 7, color: colour(part[0])},
          text: part.map(cell => groupText(cell, key, name)),
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
      yaxis: upright("recovered (%)", {domain: [0.53, 1], ...PERCENT}),
      yaxis2: upright("median erased PSNR (dB)", {domain: [0, 0.47], range: bounds(all)}),
    }),
  };
}
function againstLoss(list, all) {
  const decades = all.map(cell => Math.log10(Math.max(cell.loss, 1e-16)));
  const range = [Math.max(...decades) + 0.3, Math.min(...decades) - 0.3];
  const xaxis = {type: "log", range, dtick: Math.ceil((range[0] - range[1]) / 4.5), exponentformat: "power", tickangle: 0, title: {text: "train loss"}};
  return curves(list, all, cell => cell.loss, xaxis, (x, place) => x * 10 ** (0.03 * place));
}
function psnrAgainstLoss(list) {  // of one method
  const {data: traces, layout: {shapes, xaxis, yaxis2}, click} = againstLoss(list, list);
  const shown = traces.filter(line => line.yaxis === "y2").map((line, at) => ({...line, yaxis: "y", visible: true, name: GROUPS[at][1]}));
  return {
    data: shown, click,
    layout: layout({
      shapes: shapes.map(line => ({...line, yref: "y"})), xaxis: {...xaxis, anchor: "y"}, yaxis: {...yaxis2, domain: [0, 1], title: {text: "median (dB)", standoff: 8}},
      showlegend: true, legend: {orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "reversed"},
    }),
  };
}
function against(name, title, list, all) {
  const xs = list.map(cell => cell[name]), span = Math.max(...xs) - Math.min(...xs);
  const xaxis = {title: {text: title}, range: [Math.min(...xs) - 0.06 * span, Math.max(...xs) + 0.06 * span]};
  const sorted = [...list].sort((a, b) => a[name] - b[name]);
  return curves(sorted, all, cell => cell[name], xaxis, (x, place) => x - 0.006 * span * place);
}
function roc(list) {
  const several = distinct(list, cell => cell.rung).length > 1;
  const traces = list.map(cell => {
    const [x, y] = cell.roc.map(text => unpacked(text).map(place => data.rates[place])), name = cell.method + (several ? `, ${cell.rung}` : "");
    return {
      type: "scatter", mode: "lines", name, legendgroup: cell.method, visible: !state.hidden.has(cell.method), x, y, customdata: x.map(() => cell.place),
      line: {color: colour(cell), width: 2, dash: ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"][variants.indexOf(cell.variant) % 6]},
      hovertemplate: `${esc(name)}<br>AUC ${cell.auc[3]}<br>FPR %{x:.3g}, TPR %{y:.3g}<extra></extra>`,
    };
  });
  const low = Math.min(...traces.flatMap(line => [line.x[0], line.y[0]]));
  interleaved(traces).push({type: "scatter", mode: "lines", x: [low, 1], y: [low, 1], line: {color: tone("--soft"), width: 1, dash: "dot"}, hoverinfo: "skip", name: "chance"});
  const range = [Math.log10(low), 0.03], ticks = {type: "log", range, dtick: 1, exponentformat: "power"};
  return {data: traces, click: select, layout: layout({xaxis: axis({...ticks, title: {text: "false positive rate (non-members)"}}), yaxis: upright("true positive rate (members)", ticks)})};
}
const BARRED = 4;  // methods in a plot of thresholds, beyond which their bars would hide it
function sensitivity(list) {  // the recovered share at each threshold; what diverged or is closer to another member never counts
  const several = distinct(list, cell => cell.rung).length > 1;
  const traces = list.flatMap((cell, place) => GROUPS.filter(([key]) => cell[key].count).map(([key, name], side) => {
    const solid = key === "members", found = unpacked(cell.curves[key]).map(place => data.shares[place]);
    const method = cell.method + (several ? `, ${cell.rung}` : "");
    const barred = found.map((e, i) => list.length <= BARRED && i % 10 === (2 * place + side + 2) % 10 ? e : [e[0], null, null]);  // a bar every 10 dB, each line's at its own
    return {
      type: "scatter", mode: "lines", name: `${method}, ${name}`, legendgroup: cell.method, visible: !state.hidden.has(cell.method), x: data.thresholds, y: found.map(e => e[0]), error_y: {...bars(barred, colour(cell)), width: 0}, customdata: found.map(() => cell.place),
      line: {color: colour(cell), dash: solid ? "solid" : "dot", width: solid ? 2 : 1.5, shape: "hv"}, text: found.map(e => `${e[3]} % (${e[4]})`), hovertemplate: `${esc(method)}, ${name}<br>%{text} at %{x} dB<extra></extra>`,
    };
  }));
  const lines = distinct(list, cell => cell.threshold).map(x => ({type: "line", yref: "paper", x0: x, x1: x, y0: 0, y1: 1, line: {dash: "dash", width: 1, color: tone("--soft")}}));
  return {data: interleaved(traces), click: select, layout: layout({shapes: lines, xaxis: axis({title: {text: "threshold of “recovered” (dB)"}}), yaxis: upright("recovered (%)", PERCENT)})};
}
// Near-member probes of a cell: the share answered with the member against the distance, one line a kind.
const probeKinds = distinct(Object.values(data.probes).flatMap(kinds => Object.keys(kinds)), kind => kind).filter(kind => kind !== "none");
function attraction(cell) {
  const drawn = Object.entries(data.probes[cell.place]).map(([kind, rows]) => {
    const itself = kind === "none", at = probeKinds.indexOf(kind), tint = itself ? tone("--ink") : tone(`--c${[1, 2, 3, 4, 0, 5, 6, 7][at % 8]}`);
    const found = rows.map(row => data.shares[row[2]]), x = rows.map(row => Number(row[1]));
    return {
      type: "scatter", mode: itself ? "markers" : "lines+markers", name: itself ? "the member" : kind, x, y: found.map(e => e[0]), error_y: bars(found, tint), customdata: x.map(() => cell.place),
      line: {color: tint, width: 2}, marker: {symbol: itself ? "star" : Object.keys(SYMBOLS)[at % 6], size: itself ? 10 : 7, color: tint},
      text: rows.map(([strength, distance, , probes, captured, attracted, toProbe, toMember], i) => `${itself ? "the members themselves" : `${esc(kind)} ${strength}, ${distance} away`}<br>${captured} of ${probes} answered with the member (${found[i][4]} %)` + (itself ? "" : `<br>${attracted} closer to the member than to the probe<br>median PSNR to the probe ${toProbe} dB, to the member ${toMember} dB`)),
      hovertemplate: "%{text}<extra></extra>",
    };
  });
  const farthest = Math.max(...drawn.flatMap(line => line.x));
  return {
    data: drawn, click: select,
    layout: layout({showlegend: true, legend: {orientation: "h", y: 1.02, yanchor: "bottom", font: {size: 12}}, xaxis: axis({title: {text: "distance to the member (RMS)"}, range: [-0.05 * farthest, 1.05 * farthest]}), yaxis: upright("answered with the member (%)", PERCENT)}),
  };
}
const WIDE = 6;  // methods, beyond which a heat map takes the whole width
const heatWidth = methods => (narrow() ? 130 : 200) + 36 * methods;  // px that its numbers need
function heat(list, room) {
  const lowest = new Map();
  for (const cell of list) lowest.set(`${cell.degradation}\n${cell.method}`, cell);
  const x = distinct(list, cell => cell.method), y = distinct(list, cell => cell.degradation);
  const grid = y.map(degradation => x.map(method => lowest.get(`${degradation}\n${method}`)));
  const map = get => grid.map(row => row.map(cell => cell ? get(cell) : null));
  const both = cell => cell.members.recovered[3] + (cell.others.recovered[0] ? ` (${cell.others.recovered[3]})` : "");
  const roomy = room / x.length > (narrow() ? 80 : 95);  // for the number in brackets
  return {
    data: [{
      type: "heatmap", x: x.map(esc), y: y.map(name => narrow() ? esc(name).replaceAll(", ", "<br>") : esc(name)), z: map(cell => cell.members.recovered[0]), zmin: 0, zmax: 100, xgap: 2, ygap: 2, customdata: map(cell => cell.place),
      colorscale: [[0, tone("--grid")], [1, tone("--heat")]], showscale: false, text: map(cell => roomy ? both(cell) : cell.members.recovered[3]), hovertext: map(both),
      texttemplate: "%{text}", textfont: {size: 12, color: tone("--ink")}, hovertemplate: "%{x}<br>%{y}<br>members (non-members) recovered: %{hovertext} %<extra></extra>",
    }],
    click: select,
    layout: layout({xaxis: axis({side: "top", automargin: true, showgrid: false, tickangle: x.length > 5 || narrow() ? -45 : 0}), yaxis: axis({autorange: "reversed", automargin: true, showgrid: false}), margin: {l: 8, r: 8, t: 8, b: 8}}),
  };
}
