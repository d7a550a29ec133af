// What comes out unasked: extractions in plots and pictures. The table is in the page; everything else is drawn from `data.unasked`.

const unasked = data.unasked, SHOWN = 24;  // ends of a kind, until asked for more
let searched = unasked.strongest;
const everyEnd = new Set();  // the kinds of ends that are all shown
const counted = (count, one, many) => `${count} ${count === 1 ? one : many}`;

// Distinct ends and members against the queries, and beside them the estimated totals.
function found(run) {
  const {queries, ends, members} = run.curve, last = queries.at(-1), known = run.members > 0;
  const step = (name, y, tint, dash) => ({
    type: "scatter", mode: "lines+markers", name, x: queries, y, line: {color: tint, width: 2, shape: "hv", dash}, marker: {size: 5, color: tint},
    hovertemplate: `%{y} ${name}<br>after %{x:,} queries<extra></extra>`,
  });
  const totals = (name, key, place, tint) => ({
    type: "scatter", mode: "markers", name: `${name} in all, estimated`, x: [last * (1 + place)], y: [run.totals[key][0]],
    error_y: {...bars([run.totals[key]], tint), thickness: 2, width: 5}, marker: {symbol: "diamond", size: 9, color: tint},
    hovertemplate: `${name} in all, estimated: ${run.totals[key][3]}<extra></extra>`,
  });
  const traces = [step("distinct ends", ends, tone("--soft"), "dot")];
  if (known) traces.push(step("members", members, tone("--accent"), "solid"));
  if (run.totals.ends[2] !== null) traces.push(totals("ends", "ends", 0.06, tone("--soft")));
  if (known && run.totals.members[2] !== null) traces.push(totals("members", "members", 0.12, tone("--accent")));
  if (known) traces.push({type: "scatter", mode: "lines", name: `all ${run.members} members`, x: [0, 1.16 * last], y: [run.members, run.members], line: {color: tone("--ink"), width: 1, dash: "dash"}, hoverinfo: "skip"});
  const high = Math.min(run.totals.ends[2] ?? 0, 2 * Math.max(run.totals.ends[0], run.members));
  const top = 1.08 * Math.max(1, run.members, ends.at(-1), high);
  return {
    data: traces,
    layout: layout({...above(), xaxis: axis({title: {text: "queries of the autoencoder"}, range: [-0.03 * last, 1.17 * last], nticks: narrow() ? 4 : 6}), yaxis: upright("found so far", {range: [-0.03 * top, top], ...whole(top)})}),
  };
}
const above = () => ({showlegend: true, legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: {size: 12}}});
const whole = top => top < 8 ? {dtick: 1} : {};  // no half images

// The spectral radius of each end that is a member, against its hits.
const STEPS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000];
function radii(run) {
  const kinds = [[true, "recovered", "circle", "--accent"], [false, "not recovered", "circle-open", "--c2"], [null, run.recovery ? "not tried" : "members", run.recovery ? "x" : "circle", run.recovery ? "--soft" : "--accent"]];
  const most = Math.max(...run.radii.map(([hits]) => hits)), ys = run.radii.map(([, radius]) => radius);
  const traces = kinds.map(([state, name, symbol, tint]) => {
    const part = run.radii.filter(([, , , recovered]) => recovered === state);
    return {
      type: "scatter", mode: "markers", name, x: part.map(([hits]) => hits), y: part.map(([, radius]) => radius),
      marker: {symbol, size: 8, color: tone(tint), line: {color: tone(tint), width: 1.5}},
      text: part.map(([hits, , image, , radius]) => `member ${image}${state === null && !run.recovery ? "" : `, ${name}`}<br>${counted(hits, "hit", "hits")}, spectral radius ${radius}`), hovertemplate: "%{text}<extra></extra>",
    };
  }).filter(line => line.x.length);
  const range = [Math.log10(0.8), Math.log10(1.3 * Math.max(most, 5))], pad = 0.08 * (Math.max(1, ...ys) - Math.min(1, ...ys)) + 0.01;
  traces.push({type: "scatter", mode: "lines", name: "radius 1", x: [0.8, 1.3 * Math.max(most, 5)], y: [1, 1], line: {color: tone("--ink"), width: 1, dash: "dash"}, hoverinfo: "skip"});
  return {
    data: traces,
    layout: layout({...above(), xaxis: axis({type: "log", range, tickvals: STEPS, tickformat: ",d", title: {text: "hits (starting images that ended there)"}}), yaxis: upright("spectral radius", {range: [Math.min(1, ...ys) - pad, Math.max(1, ...ys) + pad]})}),
  };
}

// The extracted share beside those of recoveries, against the train loss.
function wrapped(text, width) {  // in lines of at most so many characters, where there is a comma
  const lines = [];
  for (const part of text.split(", ")) lines.length && lines.at(-1).length + part.length < width ? lines.push(`${lines.pop()}, ${part}`) : lines.push(part);
  return lines.map(esc).join(",<br>");
}
const TINTS = ["--accent", ...[3, 2, 4, 0, 5, 6, 7].map(at => `--c${at}`)];  // of the lines: no two are alike
function ladder({lines}, room) {
  const traces = lines.map((line, at) => {
    const tint = tone(TINTS[at % TINTS.length]), place = (lines.length - 1) / 2 - at;
    return {
      type: "scatter", mode: "lines+markers", name: wrapped(line.name, room / 8), x: line.losses.map(loss => loss * 10 ** (0.04 * place)), y: line.shares.map(share => share[0]), error_y: bars(line.shares, tint),
      line: {color: tint, width: line.extracted ? 2.5 : 1.5, dash: line.extracted ? "solid" : "dot"}, marker: {symbol: line.extracted ? "circle" : "diamond-open", size: 8, color: tint},
      text: line.shares.map((share, i) => `${esc(line.name)}<br>${line.counts[i]}: ${share[3]} % (${share[4]})<br>train loss ${line.lossTexts[i]}`), hovertemplate: "%{text}<extra></extra>",
    };
  });
  const decades = lines.flatMap(line => line.losses).map(loss => Math.log10(Math.max(loss, 1e-16))), range = [Math.max(...decades) + 0.4, Math.min(...decades) - 0.4];
  return {data: traces, layout: layout({...above(), xaxis: axis({type: "log", range, dtick: Math.ceil((range[0] - range[1]) / 6), exponentformat: "power", tickangle: 0, title: {text: "train loss"}}), yaxis: upright("share of members (%)", PERCENT)})};
}

function plotted(parent, caption, label, text, build) {
  const figure = document.createElement("figure");
  figure.className = "facet";
  figure.innerHTML = `<figcaption>${esc(caption)}</figcaption>${text ? `<p class="soft">${text}</p>` : ""}<div class="plot" role="img" aria-label="${esc(label)}; the numbers are in the table above" style="height: 400px"></div>`;
  parent.append(figure);
  later(figure.querySelector(".plot"), build);
}
for (const line of unasked.ladders) plotted($("ladders"), line.title, `Extracted and recovered share against train loss, ${line.title}`, "", plot => ladder(line, plot.clientWidth));

// The plots of some extractions: of the chosen one, or, to be written as figures, of all.
function drawSearches(runs) {
  for (const plot of document.querySelectorAll("#extraction-plots .plot")) { builders.delete(plot); near.unobserve(plot); if (plot.data) Plotly.purge(plot); }
  $("extraction-plots").innerHTML = '<div class="facets wide"></div>';
  const parent = $("extraction-plots").firstChild;
  for (const run of runs) {
    const name = runs.length > 1 ? `, ${run.title}` : "";
    plotted(parent, `Found so far${name}`, `Distinct ends and members against queries, ${run.title}`, "Each point is the count at the end of a round of the search. When rounds add no more ends, the search has found what it can. ◆ with a bar: the estimated number in all and its 95 % interval, which may end above the plot.", () => found(run));
    if (run.radii.length) {
      const by = run.recovery ? ` Filled: members that ${esc(run.recovery)} also brings back from this autoencoder.` : "";
      plotted(parent, `How firmly members are held${name}`, `Spectral radius of each end that is a member against its hits, ${run.title}`, `One symbol is one end that is a member. Below the line at radius 1 an end attracts the images around it: the lower, the faster.${by}`, () => radii(run));
    }
  }
}

const picture = (place, name) => `<img src="${source(unasked.pictures[place])}" alt="${esc(name)}">`;
function drawEnds(run) {
  const list = (key, heading, text, one) => {
    const all = run[key], limit = everyEnd.has(key) ? all.length : SHOWN, count = run[`${key}Count`];
    if (!count) return `<div class="gallery"><h3>${heading}: none</h3></div>`;
    const left = count > all.length ? ` The page holds the ${all.length} with most hits.` : "";
    const more = all.length > limit ? `<p><button class="plain" data-more="${key}">Show ${all.length - limit} more</button></p><p class="printed">The first ${limit} of ${count}.</p>` : "";
    return `<div class="gallery${run.size[0] < 78 ? " pixels" : ""}"><h3>${heading}: ${key === "pairs" ? run.extracted : count}</h3><p class="soft">${text}${left}</p><div class="ends-list${key === "spurious" ? " alone" : ""}">${all.slice(0, limit).map(one).join("")}</div>${more}</div>`;
  };
  $("extraction-pictures").innerHTML =
    (run.members ? list("pairs", "Extracted members", `${run.pairsCount > run.extracted ? `${run.pairsCount} ends show ${run.extracted} members. ` : ""}Left: what came out, in a frame. Right: the member. Most hits first. Below: the hits, and the PSNR between the two in dB.`, (end, at) =>
      `<button class="extracted" data-kind="pairs" data-at="${at}"><span class="two">${picture(end.end, `what came out, ${end.psnr} dB from member ${end.image}`)}${picture(end.member, `member ${end.image}`)}</span><span class="caption"><b>member ${end.image}</b><br>${counted(end.hits, "hit", "hits")}, ${end.psnr} dB</span></button>`) : "") +
    list("spurious", run.members ? "Spurious ends" : "Ends", run.members ? "Dashed frame: ends that are no member. Below: the hits, and the PSNR to the nearest member in dB." : "Most hits first.", (end, at) =>
      `<button class="spurious" data-kind="spurious" data-at="${at}">${picture(end.end, run.members ? `a spurious end, ${end.psnr} dB from the nearest member` : "an end")}<span class="caption"><b>${run.members ? "spurious" : `end ${at + 1}`}</b><br>${counted(end.hits, "hit", "hits")}${run.members ? `, ${end.psnr} dB` : ""}</span></button>`) +
    (unasked.lossless ? "" : '<p class="soft">The pictures are compressed with loss.</p>');
}
function openEnd(kind, at) {
  const run = unasked.runs[searched], end = run[kind][at], facts = [["Hits", end.hits], ["Nearest member", end.member === null ? "" : `${end.image}, at ${end.psnr} dB`], ["Nearest non-member", end.nonMember === "–" ? "" : `at ${end.nonMember} dB`], ["Found", `in the round that ended after ${end.queries} queries${end.foundBy && `, from ${esc(end.foundBy)}`}`], ["Kind", end.kind], ["Spectral radius", end.radius]];
  $("end-name").textContent = kind === "pairs" ? `Member ${end.image}, extracted` : run.members ? "A spurious end" : `End ${at + 1}`;
  $("end-pictures").innerHTML = [["what came out", end.end], [kind === "pairs" ? "the member" : "the nearest member", end.member]].filter(([, place]) => place !== null).map(([name, place]) => `<figure>${picture(place, name)}<figcaption class="caption">${name}</figcaption></figure>`).join("");
  $("end-facts").innerHTML = facts.filter(([, text]) => text !== "").map(([name, text]) => `<dt>${name}</dt><dd>${text}</dd>`).join("");
  $("end").showModal();
}
function drawSearch() {
  const run = unasked.runs[searched];
  $("extraction").value = searched;
  $("extraction-command").textContent = run.command;
  $("extraction-starts").textContent = `The search: ${run.starts}.`;
  for (const row of document.querySelectorAll("[data-extraction]")) Number(row.dataset.extraction) === searched ? row.setAttribute("aria-current", "true") : row.removeAttribute("aria-current");
  drawSearches([run]);
  drawEnds(run);
}
function search(place) {
  searched = place;
  everyEnd.clear();
  drawSearch();
}
$("extraction").innerHTML = unasked.runs.map((run, place) => `<option value="${place}">${esc(run.title)}</option>`).join("");
$("extraction").onchange = () => search(Number($("extraction").value));
$("extractions").addEventListener("click", event => {
  const row = event.target.closest("[data-extraction]");
  if (row) search(Number(row.dataset.extraction));
});
$("extraction-pictures").addEventListener("click", event => {
  const more = event.target.closest("[data-more]"), end = event.target.closest("[data-kind]");
  if (more) { everyEnd.add(more.dataset.more); drawEnds(unasked.runs[searched]); }
  if (end) openEnd(end.dataset.kind, Number(end.dataset.at));
});
$("end").addEventListener("click", event => { if (event.target === $("end")) $("end").close(); });
function drawPairs() {  // the pictures beside the first sentence, where no recovery has its own there
  const run = unasked.runs[unasked.strongest], pairs = run.pairs.slice(0, 6);
  $("strip").classList.toggle("pixels", run.size[0] < 58);
  const line = (name, get) => `<tr><th scope="row">${name}</th>${pairs.map(end => `<td>${picture(get(end), `member ${end.image}, ${name}`)}</td>`).join("")}</tr>`;
  $("strip").innerHTML = pairs.length ? `<table><caption>Most hits</caption>${line("came out", end => end.end)}${line("member", end => end.member)}</table>` : "";
}
if (!cells.length) drawPairs();
drawSearch();
