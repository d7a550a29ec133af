// The gallery of a scene: one autoencoder and degradation

function options(select, list, value) {
  select.innerHTML = list.map(([key, text]) => `<option value="${esc(key)}">${esc(text)}</option>`).join("");
  select.value = value;
}
const framed = image => image.status === "recovered" ? ' class="recovered"' : "";
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
    const fits = image => view.show === "all" || (view.show === "failed" ? image.status !== "recovered" : image.status === view.show);
    const body = rows.map((image, rank) => {
      if (!fits(image)) return "";
      const row = numbers.get(`${member}${image.number}`), own = pictures.images[row];
      const fixedPicture = name => `<td><img src="${source(own[name])}" alt="${imageName(image)}, ${name}"></td>`;
      const answers = columns.map(cell => {
        const text = pictures.answers[cell.place][row], found = imagesOf(cell).find(other => other.member === member && other.number === image.number);
        if (!text || !found) return "<td></td>";
        return `<td${framed(found)}><button data-place="${cell.place}" data-at="${found.at}"><img src="${source(text)}" alt="${imageName(image)}, ${esc(cell.method)}, ${found.status}"><span class="caption">${found.status === "recovered" ? "✓ " : ""}${found.psnr}${found.status === "diverged" ? " diverged" : ""}</span></button></td>`;
      });
      return `<tr><th scope="row">${names.has(rank) ? `<b>${names.get(rank)}</b><br>` : ""}${imageName(image)}</th>${fixedPicture("original")}${fixedPicture("degraded")}${answers.join("")}</tr>`;
    }).join("");
    const failed = rows.some(image => image.status === "recovered") && rows.find(image => image.status !== "recovered"), paths = pictures.paths[by.place] ?? [];
    const way = rows.map((image, rank) => {
      const row = numbers.get(`${member}${image.number}`), path = paths[row];
      const name = [names.get(rank), image === failed && "best of the failed"].filter(Boolean).join(", ");
      if (!path || names.size && !name) return "";
      return `<tr><th scope="row">${name ? `<b>${name}</b><br>` : ""}${imageName(image)}</th><td>${pathFigure(path, imageName(image))}</td><td${framed(image)}><img src="${source(pictures.answers[by.place][row])}" alt="${imageName(image)}, answer after ${path.iterations} iterations"><span class="caption">${path.iterations}</span></td></tr>`;
    }).join("");
    const part = document.createElement("div");
    part.className = `gallery${small ? " pixels" : ""}`;
    part.style.setProperty("--columns", columns.length + 3);
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
function drawStrip() {  // the pictures beside the answer
  const cell = cells[data.strongest], pictures = picturesOf(cell.scene), answers = pictures.answers[cell.place] ?? [];
  $("strip").classList.toggle("pixels", data.scenes[cell.scene].size[0] < 58);
  $("strip").innerHTML = [["Members", true], ["Non-members", false]].map(([heading, member]) => {
    const rows = pictures.images.map((image, row) => row).filter(row => pictures.images[row].member === member && answers[row]).slice(0, 6);
    const line = (name, get) => `<tr><th scope="row">${name}</th>${rows.map(row => `<td><img src="${source(get(row))}" alt="${member ? "member" : "non-member"} ${pictures.images[row].image}, ${name}"></td>`).join("")}</tr>`;
    return rows.length ? `<table><caption>${heading}</caption>${line("original", row => pictures.images[row].original)}${line("degraded", row => pictures.images[row].degraded)}${line("answer", row => answers[row])}</table>` : "";
  }).join("");
}
