"""The page: complete in one file, and in a browser it shows what the results say."""

from __future__ import annotations

import base64
import html
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy.stats import binomtest

from memorization import load_results
from memorization.report import Findings, build, main
from memorization.report import gallery as gallery_module
from tests.report.store import write_run

PLOTS = (
    "() => [...document.querySelectorAll('.plot')].map(plot => [plot.offsetParent !== null, plot.data?.length ?? 0])"
)


@pytest.fixture(scope="module")
def report(real_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    main(["--store", str(real_store), "--output", str(path)])
    return path


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if it logs an error or asks for anything beside itself."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if is_foreign(request.url) else None)
    yield page
    page.close()
    assert complaints == []


def is_foreign(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:"))


def show(page: Page, path: Path) -> None:
    page.goto(path.as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")


def test_report_is_written_and_named_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {})
    main(["--store", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    assert (tmp_path / "report.html").stat().st_size < 6_000_000  # plotly and little else


def test_page_loads_nothing_from_elsewhere(report: Path) -> None:
    text = re.sub(r"<script>.*?</script>", "", report.read_text(), flags=re.S)
    loads = re.findall(r"<(?:script|link|img|iframe|source)[^>]*?(?:src|href)=\"([^\"]*)", text)
    assert loads
    assert all(load.startswith("data:") for load in loads)
    assert not re.search(r"@import|url\(", text)


def test_plots_show_every_line(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    plots = page.evaluate(PLOTS)
    assert plots == [[True, 12]] * 2  # a plot a degradation; 3 methods x (members, non-members) x (share, PSNR)
    results = load_results(real_store)
    lines = page.evaluate("() => document.querySelector('.plot').data.map(line => [line.name, line.yaxis, line.y])")
    chosen = (results["degradation"] == "random_pixels") & (results["recovery"] == "energy") & results["member"]
    expected = results[chosen].groupby("rung")
    shares = 100 * expected["recovered"].mean()
    medians = expected["psnr_erased"].median()
    found = {axis: y for name, axis, y in lines if name == "energy alternating, members"}
    assert found["y"] == pytest.approx([shares[0.1], shares[0.01]])
    assert found["y2"] == pytest.approx([medians[0.1], medians[0.01]], rel=1e-6)


def test_error_bars_end_at_the_intervals(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {}, recovered=(3, 1))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    lines = page.evaluate(
        "() => document.querySelector('.plot').data.filter(line => line.yaxis === 'y').map(line =>"
        "  [line.name, line.y[0], line.y[0] - line.error_y.arrayminus[0], line.y[0] + line.error_y.array[0]])"
    )
    for name, recovered in (("members", 3), ("non-members", 1)):
        expected = binomtest(recovered, 4).proportion_ci(0.95, method="wilson")
        (found,) = [values for line, *values in lines if line == f"energy known, {name}"]
        assert found == pytest.approx([25 * recovered, 100 * expected.low, 100 * expected.high])


def test_all_pictures_load(report: Path, page: Page) -> None:
    show(page, report)
    widths = page.evaluate("() => [...document.images].map(image => image.naturalWidth)")
    # 4 of the headline's images x 3, and 2 degradations x 4 images x (original, degraded, 3 methods x 2 rungs)
    assert widths == [8] * (4 * 3 + 2 * 4 * (2 + 3 * 2))


def test_psnr_under_a_picture_is_that_of_the_results(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    results = load_results(real_store)
    page.select_option("[data-switch=gallery-0]", label="random_pixels 50 %, zero fill")
    for rung, name in ((0.01, "1e-02"), (0.1, "1e-01")):
        page.select_option("[data-switch=rung-0-0]", name)
        figures = page.locator(".galleries:visible figure:visible")
        assert figures.count() == 4 * 3
        for i in range(figures.count()):
            who, method, status = figures.nth(i).locator("img").get_attribute("alt").split(", ")
            kind, image = who.split()
            row = results[
                (results["degradation"] == "random_pixels")
                & (results["recovery"] == method.split()[0])
                & (results["rung"] == rung)
                & (results["image"] == int(image))
                & (results["member"] == (kind == "member"))
            ].iloc[0]
            mark = "✓ " if row["recovered"] else ""
            assert figures.nth(i).inner_text().strip().removesuffix(" diverged") == f"{mark}{row['psnr_erased']:.1f}"
            assert (status == "recovered") == row["recovered"]


def test_each_picture_stands_with_its_own_score(tmp_path: Path) -> None:
    write_run(tmp_path, {}, recovered=(2, 1))
    galleries, _ = gallery_module.galleries(Findings.load(tmp_path))
    rows = galleries["digits / fc"][0].rows
    assert len(rows) == 8
    for row in rows:
        number = row.image - 100  # see `write_run`
        answer = row.answers["energy known"]["1e-02"]
        for uri in (row.original, row.degraded, answer.picture):
            png = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
            assert np.unique(np.asarray(Image.open(io.BytesIO(png)))) == 10 * number
        back = number in (0, 1, 4)
        assert (answer.status == "recovered") == back
        assert answer.psnr == (50 if back else 10) + number


def test_rung_is_chosen_with_the_keyboard(report: Path, page: Page) -> None:
    show(page, report)
    shown = "[data-for=rung-0-0]:visible, [data-for=rung-0-1]:visible"
    before = page.locator(shown).first.get_attribute("data-when")
    page.locator("[data-switch^=rung]:visible").focus()
    page.keyboard.press("ArrowDown")
    after = page.locator(shown).first.get_attribute("data-when")
    assert (before, after) == ('["1e-02"]', '["1e-01"]')
    assert page.locator(shown).count() == 4 * 3


def test_table_shows_the_chosen_rung_and_sorts(tmp_path: Path, page: Page) -> None:
    for weight, members in ((1.0, 2), (2.0, 4), (3.0, 1)):
        write_run(tmp_path, {"recovery.weight": weight}, recovered=(members, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    rows = page.locator(".numbers tbody tr:not(.group):visible")
    assert rows.count() == 3
    page.select_option("[data-switch=rows-0]", "all")
    assert rows.count() == 6
    page.select_option("[data-switch=rows-0]", "1e-01")
    page.locator(".numbers thead button", has_text="Excess").click()
    assert [text.split("\t")[5].split(" (")[0].split("%")[0].strip() for text in rows.all_inner_texts()] == [
        "100",
        "50",
        "25",
    ]
    assert "weight=2.0" in rows.first.inner_text()


def test_methods_are_hidden_by_their_button(report: Path, page: Page) -> None:
    show(page, report)
    page.locator("[data-method='energy alternating']").press("Enter")
    visible = page.evaluate(
        "() => [...document.querySelectorAll('.plot')].map(p => p.data.filter(d => d.visible).map(d => d.legendgroup))"
    )
    assert [set(names) for names in visible] == [{"iterate", "pnp_admm alternating"}] * 2


def test_one_autoencoder_is_shown_at_a_time(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {"seed": 0})
    write_run(tmp_path, {"seed": 1}, recovered=(4, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert page.evaluate(PLOTS) == [[False, 0], [True, 4]]  # that of the strongest run; the other is not drawn yet
    page.select_option("[data-switch=block]", label="digits / fc, seed=0")
    assert page.evaluate(PLOTS) == [[True, 4], [False, 4]]
    assert page.locator(".numbers:visible").count() == 1
    assert page.locator(".galleries:visible").count() == 1


def test_colours_follow_the_scheme_and_the_page_fits_a_phone(report: Path, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="light")
    show(page, report)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    colour = "() => document.querySelector('.plot').data[0].line.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({colour})() !== before", arg=light)


def test_names_are_escaped(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {"dataset.name": "<script>alert('&')</script>"})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert "<script>alert('&')</script> / fc" in page.locator("#answer").inner_text()


def test_pictures_are_left_out_beyond_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, {})
    write_run(tmp_path, {"operator.name": "alternating"})
    findings = Findings.load(tmp_path)
    assert "To keep this file small" not in build(findings)
    monkeypatch.setattr(gallery_module, "BUDGET", 2 * 2 * 3 * 25)  # 2 runs, 3 images of each kind, 5 x 5 pixels
    found, extent = gallery_module.galleries(findings)
    assert extent == gallery_module.Extent(images=3, every_rung=False)
    (shown,) = found["digits / fc"]
    assert shown.rungs == ["1e-02"]
    assert [len(rows) for rows in shown.parts.values()] == [3, 3]
    assert "at most 3 images" in build(findings)


def test_command_of_the_page_finds_the_run(report: Path, real_store: Path) -> None:
    found = re.search(r"<pre[^>]*><code>(.*?)</code>", report.read_text(), re.S)
    assert found is not None
    words = shlex.split(html.unescape(found[1]))
    assert words[0] == "memorization-recover"
    command = [sys.executable, "-m", "memorization.recover", *words[1:], f"store={real_store}", "tracking=none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("found ")
    assert Findings.load(real_store).strongest.signature in done.stdout
