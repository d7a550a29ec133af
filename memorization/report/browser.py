"""The report in a headless Chromium: its plots as files, and what they look like on a screen.

The page's own script draws the plots, so that a browser is needed for them (as for Plotly's `kaleido`, which would draw
them a second time). Playwright drives it; it is the extra `figures`.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.provenance import record_tables
from memorization.store.files import write

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from plotly.graph_objects import Figure

NAMES = ("chromium", "chromium-browser", "google-chrome")  # on the PATH; else the one that Playwright installed
QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
WIDTH, SCALE = 720, 3  # of a figure in CSS pixels, and how many pixels of a PNG each of them gets
TIMEOUT = 600_000  # ms that the browser may take for anything, on a machine that is busy
NAME = 120  # characters of a file's name

# Draws all plots of the page but the one beside the answer, also those shown only on demand; gives their names.
NAMED = """() => {
  builders.delete($("ladder").querySelector(".plot"));
  if (cells.length) {
    for (const section of plotSections(chosen())) state.all.add(section.heading);
    drawPlots(chosen());
  }
  if (data.unasked) drawSearches(unasked.runs);
  return [...builders.keys()].map(plot => {
    const part = plot.closest("#figures > div, section"), figure = plot.closest("figure");
    return `${part.querySelector("h2, h3").textContent} ${figure.querySelector("figcaption").textContent}`;
  });
}"""
# The plot at a place, as high as on the page, as an SVG and a PNG. A line that is drawn in
# both of its halves is named once in the legend.
STILL = """async ([place, width, scale]) => {
  const [plot, build] = [...builders][place], {data, layout} = build(plot);
  const named = data.filter(line => line.type !== "heatmap" && line.yaxis !== "y2" && line.showlegend !== false);
  for (const line of data) { line.showlegend = named.includes(line); delete line.legendgroup; }
  const figure = {data, layout: {...layout, showlegend: named.length > 1, paper_bgcolor: "white", plot_bgcolor: "white",
    xaxis: {...layout.xaxis, automargin: true, title: {...layout.xaxis.title, standoff: 10}},
    margin: {...layout.margin, t: 16},
    legend: {orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "normal"}}};
  const size = {width, height: plot.offsetHeight + 26 * Math.ceil(named.length / 3)};
  return [size.height, await Plotly.toImage(figure, {...size, format: "svg"}),
          await Plotly.toImage(figure, {...size, format: "png", scale})];
}"""


class BrowserError(OSError):
    """There is no browser to draw with; the message says in one line what to install."""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; raises `BrowserError` if it, or Playwright, is not installed."""
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        raise BrowserError("figures need Playwright: pip install 'memorization[figures]'") from None
    with sync_playwright() as playwright:
        path = next(filter(None, map(shutil.which, NAMES)), playwright.chromium.executable_path)
        if not Path(path).exists():
            remedy = f"install it as {NAMES[0]!r}, or run: playwright install chromium"
            raise BrowserError(f"figures need Chromium: {remedy}")
        try:
            browser = playwright.chromium.launch(executable_path=path, args=QUIET, timeout=TIMEOUT)
        except Error as error:
            raise BrowserError(f"{path} does not start: {error.message.splitlines()[0]}") from None
        with contextlib.closing(browser):
            yield browser


def still(figure: Figure, file: Path, width: int, height: int, tables: Iterable[Path]) -> None:
    """Write one Plotly `figure` of a script as a PNG, as a window of `width` x `height` pixels shows it.

    The PNG says which `tables` the figure was drawn from, see `provenance`.
    """
    with tempfile.TemporaryDirectory() as aside, chromium() as browser:
        source = Path(aside) / "figure.html"
        figure.write_html(source)
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(source.as_uri(), timeout=TIMEOUT)
        page.wait_for_selector(".js-plotly-plot .main-svg", state="attached", timeout=TIMEOUT)
        page.wait_for_timeout(1000)
        page.locator(".js-plotly-plot").screenshot(path=file)
    record_tables(file, tables)


def figures(findings: Findings, folder: Path) -> list[Path]:
    """Write each plot of the page as `<section>-<plot>.png` and `.pdf` into `folder`; gives the paths.

    In the tones of the light page, unfiltered. Raises `BrowserError`, or `OSError` if the folder cannot be written.
    In a thread of its own, since Playwright refuses one in which an event loop runs, as in a notebook.
    """
    with ThreadPoolExecutor(1) as alone:
        return alone.submit(_figures, findings, folder).result()


def _figures(findings: Findings, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with chromium() as browser, tempfile.TemporaryDirectory() as aside:
        report = Path(aside) / "report.html"
        write(report, build(findings))
        page = browser.new_page(color_scheme="light", viewport={"width": 1280, "height": 900})
        page.set_default_timeout(TIMEOUT)
        page.goto(report.as_uri())
        paper = browser.new_page()
        paper.set_default_timeout(TIMEOUT)
        for place, name in enumerate(_file_names(page.evaluate(NAMED))):
            height, *addresses = page.evaluate(STILL, [place, WIDTH, SCALE])
            svg, png = (address.partition(",")[2] for address in addresses)  # `data:` addresses
            style = "<style>body { margin: 0 } svg { display: block }</style>"
            paper.set_content(f"<title>{name}</title>{style}{unquote(svg)}")
            pdf = paper.pdf(width=f"{WIDTH}px", height=f"{height}px", page_ranges="1", print_background=True)
            for ending, content in (("png", b64decode(png)), ("pdf", pdf)):
                written.append(folder / f"{name}.{ending}")
                write(written[-1], content)
    return written


def _file_names(titles: list[str]) -> Iterator[str]:
    """A file name for each title, numbered where two are the same."""
    seen: Counter[str] = Counter()
    for title in titles:
        name = re.sub(r"[^a-z0-9_.]+", "-", title.lower()).strip("-.")[:NAME]
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}-{seen[name]}"
