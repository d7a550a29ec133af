// One run in detail, and the dialog with one of its images.

const MARKS = {recovered: "circle", "not recovered": "circle-open", diverged: "x"};
function scatter(cell) {
  const traces = [false, true].map(member => {
    const list = ranked(cell, member), tint = tone(member ? "--accent" : "--soft");
    return {
      type: "scatter", mode: "markers", name: member ? "members" : "non-members", x: list.map((image, i) => i + 1), y: list.map(image => Number(image.psnr)), customdata: list.map(image => image.at),
      marker: {size: 8, color: tint, symbol: list.map(image => MARKS[image.status]), line: {color: tint, width: 1.5}},
      text: list.map(image => `${imageName(image)}<br>${image.psnr} dB, ${image.status}`), hovertemplate: "%{text}<extra></extra>",
    };
  });
  return {
    data: traces, click: at => openImage(cells[state.run], at),
    layout: layout({
      showlegend: true, legend: {orientation: "h", y: 1.08}, xaxis: axis({title: {text: "rank (filled: recovered, cross: diverged)"}}), yaxis: upright("erased PSNR (dB)"),
      shapes: [{type: "line", xref: "paper", x0: 0, x1: 1, y0: cell.threshold, y1: cell.threshold, line: {dash: "dash", width: 1, color: tone("--soft")}}],
    }),
  };
}
function drawRun() {
  const cell = cells[state.run], run = data.runs[cell.signature], card = data.cards[cell.recovery];
  $("run-name").innerHTML = `<b>${esc(cell.method)}</b>, ${esc(cell.degradation)}, ${esc(cell.autoencoder)}, train loss ${cell.lossText}. Choose another in the table or a plot.`;
  const rate = ([name, text, limits]) => `<dt>${name}</dt><dd>${text}${limits ? ` <small>(${limits})</small>` : ""}</dd>`;
  const group = (name, key) => `<dt>${name}</dt><dd>${cell[key].count ? `${cell[key].successes} of ${cell[key].count}: ${shares(cell[key].recovered)}; median ${withInterval(cell[key].psnr)} dB` : "none were tried"}</dd>`;
  const verdict = cell.controls ? `<dt>Verdict</dt><dd><span class="verdict">${esc(cell.verdict || "none")}</span>${cell.p.length ? ` (${pText(cell)})` : ""}; members by controls: ${esc(cell.controls)}</dd>` : "";
  const calibrated = cell.calibrated.length ? `<dt>Above the reference</dt><dd>Members by ${withInterval(cell.calibrated[0])} dB in the median; AUC of that difference ${withInterval(cell.calibrated[1])}</dd>` : "";
  const threat = card ? `<h3>Threat model of ${esc(cell.recovery)}</h3><p>${card.text}</p><dl><dt>Access</dt><dd>${esc(card.access)}</dd><dt>Knows</dt><dd>${card.knows}</dd>${cell.bank && `<dt>Recalls</dt><dd>${cell.bank}</dd>`}<dt>Queries</dt><dd>${cell.queries} an image, on average${cell.bank && ", beside those of the bank"}</dd></dl>` : "";
  $("card").innerHTML = `<h3>Results</h3><dl>${group("Members", "members")}${group("Non-members", "others")}<dt>Excess</dt><dd>${shares(cell.excess)}</dd><dt>AUC</dt><dd>${withInterval(cell.auc)}</dd><dt>Epsilon</dt><dd>${esc(cell.epsilon)}</dd>${cell.operating.map(place => rate(data.operating[place])).join("")}${verdict}${calibrated}</dl>${threat}`;
  $("command").textContent = run.command;
  $("provenance").innerHTML = `${run.folder ? `Signature <code>${esc(cell.signature)}</code>, in <code>${esc(run.folder)}</code>; made` : "Made"} with ${esc(run.versions)}.${cell.repeated.length ? ` The same settings and autoencoder: ${cell.repeated.map(name => `<code>${esc(name)}</code>`).join(", ")}.` : ""}`;
  $("pick").innerHTML = [true, false].map(member => `<optgroup label="${member ? "Members" : "Non-members"}, best first">${ranked(cell, member).map(image => `<option value="${image.at}">${imageName(image)}: ${image.psnr} dB, ${image.status}</option>`).join("")}</optgroup>`).join("");
  later($("scatter"), () => scatter(cells[state.run]));
}
$("open").onclick = () => openImage(cells[state.run], Number($("pick").value));

let opened = null;
async function openImage(cell, at) {
  const image = imagesOf(cell)[at], order = ranked(cell, image.member), pictures = picturesOf(cell.scene);
  opened = {cell, order, rank: order.findIndex(other => other.at === at)};
  $("image-name").textContent = `${imageName(image)}: ${image.psnr} dB, ${image.status}`;
  $("image-facts").textContent = `${cell.method}; ${cell.degradation}; ${cell.autoencoder}; train loss ${cell.lossText}. Number ${opened.rank + 1} of ${order.length} ${image.member ? "members" : "non-members"}, from the best.`;
  const row = pictures.images.findIndex(other => other.member === image.member && other.image === image.number);
  const answer = row < 0 ? "" : (pictures.answers[cell.place] ?? [])[row];
  $("image-pictures").innerHTML = answer
    ? [["original", pictures.images[row].original], ["degraded", pictures.images[row].degraded], ["answer", answer]].map(([name, text]) => `<figure><img src="${source(text)}" alt="${imageName(image)}, ${name}"><figcaption class="caption">${name}</figcaption></figure>`).join("") +
      `<figure><canvas role="img" aria-label="Map of the error"></canvas><figcaption class="caption">error, white: 0.25 or more${data.lossless ? "" : "; of two pictures that were compressed with loss"}</figcaption></figure>`
    : "<p>The pictures of this image are not in this report: a run keeps those of the first images of each kind (<code>gallery=6</code>), and a large report shows some of them.</p>";
  const path = (pictures.paths[cell.place] ?? [])[row];
  $("image-path").innerHTML = path ? `<p class="soft">On the way: after so many iterations. The answer took ${path.iterations}.</p>${pathFigure(path, imageName(image))}` : "";
  for (const button of document.querySelectorAll("[data-step]")) button.disabled = !order[opened.rank + Number(button.dataset.step)];
  if (!$("image").open) $("image").showModal();
  if (!answer) return;
  const shown = [...$("image-pictures").querySelectorAll("img")];
  const [width, height] = data.scenes[cell.scene].size, canvas = $("image-pictures").querySelector("canvas");
  await Promise.all(shown.map(each => each.decode()));
  if (!canvas.isConnected) return;  // another image was opened meanwhile
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
