"""The page: complete in one file, and in a browser it shows what the results say."""

from __future__ import annotations

import base64
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy.stats import binomtest

from memorization import load_results
from memorization.evaluation.membership import scores
from memorization.evaluation.statistics import log_roc
from memorization.evaluation.summary import threshold_curve
from memorization.report import gallery as gallery_module
from memorization.report import main
from memorization.report.findings import Findings
from memorization.report.page import build
from tests.preloaded import PYTHON
from tests.report.store import write_members_only, write_probes, write_run

PLOTS = "() => [...document.querySelectorAll('#figures .plot')].map(plot => [plot.ariaLabel, plot.data.length])"
# The lines (name, axis, x, y) of the plot whose description holds the argument.
LINES = """title => [...document.querySelectorAll('#figures .plot')].find(plot => plot.ariaLabel.includes(title)).data
  .map(line => [line.name, line.yaxis, line.x, line.y])"""

# The ends of a line's error bars, for [a part of the plot's description, the line's name].
BARS = """([title, name]) => {
  const {y, error_y} = [...document.querySelectorAll('#figures .plot')].find(plot => plot.ariaLabel.includes(title))
    .data.find(line => line.name === name);
  return y.map((value, i) => [value - error_y.arrayminus[i], value + error_y.array[i]]);
}"""


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
    page.wait_for_selector("#rows tr")
    draw(page)


def draw(page: Page) -> None:
    """Draw the plots that are not in the window, too."""
    page.evaluate("requestAnimationFrame(() => [...builders.keys()].forEach(draw))")
    page.wait_for_function("() => [...builders.keys()].every(plot => plot.data)")


def choose(page: Page, name: str, *values: str) -> None:
    """Tick values of a filter."""
    page.click(f"[data-filter={name}] summary")
    for value in values:
        page.locator(f"[data-filter={name}] label", has_text=value).locator("input").check()
    page.keyboard.press("Escape")
    draw(page)


def test_the_first_screen_has_the_answer_pictures_and_the_psnr_against_train_loss(report: Path, page: Page) -> None:
    show(page, report)
    for part in (".answer", "#strip img", "#ladder .plot"):
        box = page.locator(part).first.bounding_box()
        assert box
        assert 0 <= box["y"] < box["y"] + box["height"] <= 900
    lines = page.evaluate("document.querySelector('#ladder .plot').data.map(line => [line.name, line.x.length])")
    assert [name for name, _ in lines] == ["non-members", "members"]
    assert lines[0][1] == lines[1][1] > 1


def test_of_one_train_loss_no_curve_is_drawn_beside_the_answer(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {}, rungs=(0.01,))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert page.locator("#ladder").is_hidden()


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
    assert [(name.split(",")[0], count) for name, count in plots] == [
        ("Members recovered by each method under each degradation", 1),
        *[("Recovered share and median PSNR against train loss", 12)] * 2,  # 3 methods x 2 groups x (share, PSNR)
        *[("ROC curves", 4)] * 2,  # 3 methods and chance
        *[("Recovered share against the threshold", 6)] * 2,  # 3 methods x 2 groups
    ]
    results = load_results(real_store)
    lines = page.evaluate(LINES, "train loss, random_pixels")
    chosen = (results["degradation"] == "random_pixels") & (results["recovery"] == "energy") & results["member"]
    expected = results[chosen].groupby("rung")
    shares = 100 * expected["recovered"].mean()
    medians = expected["psnr_erased"].median()
    found = {axis: y for name, axis, _, y in lines if name == "energy alternating, members"}
    assert found["y"] == pytest.approx([shares[0.1], shares[0.01]])
    assert found["y2"] == pytest.approx([medians[0.1], medians[0.01]], rel=1e-6)


def test_error_bars_end_at_the_intervals(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {}, recovered=(3, 1))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    lines = page.evaluate(
        "() => document.querySelector('#figures .plot').data.filter(line => line.yaxis === 'y').map(line =>"
        "  [line.name, line.y[0], line.y[0] - line.error_y.arrayminus[0], line.y[0] + line.error_y.array[0]])"
    )
    for name, recovered in (("members", 3), ("non-members", 1)):
        expected = binomtest(recovered, 4).proportion_ci(0.95, method="wilson")
        (found,) = [values for line, *values in lines if line == f"energy known, {name}"]
        assert found == pytest.approx([25 * recovered, 100 * expected.low, 100 * expected.high], rel=1e-6)


def test_roc_has_the_corners_of_the_results(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    results = load_results(real_store)
    rows = results[(results["degradation"] == "box") & (results["recovery"] == "iterate") & (results["rung"] == 0.01)]
    lines = page.evaluate(LINES, "ROC curves, box")
    (x, y) = next((x, y) for name, _, x, y in lines if name == "iterate")
    found = set(zip(np.round(x, 6), np.round(y, 6), strict=True))
    member = rows["member"].to_numpy()
    expected = log_roc(scores(rows)[member], scores(rows)[~member])
    assert set(zip(*np.round(expected, 6), strict=True)) <= found
    assert len(found) <= 21


def test_the_recovered_share_at_each_threshold_is_that_of_the_results(
    report: Path, real_store: Path, page: Page
) -> None:
    show(page, report)
    results = load_results(real_store)
    lines = page.evaluate(LINES, "threshold, random_pixels")
    for recovery, operator in (("iterate", ""), ("energy", " alternating")):
        chosen = (results["degradation"] == "random_pixels") & (results["recovery"] == recovery)
        expected = threshold_curve(results[chosen & (results["rung"] == 0.01)])
        for group in ("members", "non-members"):
            ((x, y),) = [(x, y) for name, _, x, y in lines if name == f"{recovery}{operator}, {group}"]
            assert x == expected["threshold_db"].tolist()
            assert y == pytest.approx((100 * expected[f"{group.replace('-', '_')}_recovered"]).tolist())
            assert max(y) > 0 or group == "non-members" or recovery == "iterate"
            bars = page.evaluate(BARS, ["threshold, random_pixels", f"{recovery}{operator}, {group}"])
            limits = expected[[f"{group.replace('-', '_')}_recovered_{end}" for end in ("low", "high")]].to_numpy()
            barred = [i for i, (low, high) in enumerate(bars) if (low, high) != (y[i], y[i])]
            assert len(barred) >= 5  # one every 10 dB
            assert np.array(bars)[barred] == pytest.approx(100 * limits[barred], abs=1e-6)


def test_methods_are_compared_in_pairs(tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 of 4 members against 0: a p-value of 1/8, times 3 by Holm; see the test of `--compare`."""
    write_run(tmp_path, {}, recovered=(4, 0))
    write_run(tmp_path, {"recovery.name": "iterate"}, recovered=(0, 0))
    write_run(tmp_path, {"recovery.name": "pnp_admm"}, recovered=(0, 0))
    findings = Findings.load(tmp_path)
    output = tmp_path / "report.html"
    output.write_text(build(findings))
    show(page, output)
    rows = [row.split("\t") for row in page.inner_text("#compared tbody").splitlines()]
    assert rows[0] == ["digits / fc; random_pixels 50 %, zero fill"]
    assert [row[:4] for row in rows[1:]] == [
        ["iterate known", "pnp_admm known", "+0", "1"],
        ["iterate known", "energy known", "-100", "0.4"],
        ["pnp_admm known", "energy known", "-100", "0.4"],
    ]
    assert rows[2][4].startswith("-40.0")
    monkeypatch.setattr("memorization.report.page.COMPARED", 2)
    assert "3 pairs of methods were tried on the same members" in build(findings)


def test_variation_over_seeds_has_a_table_of_its_own(tmp_path: Path, page: Page) -> None:
    for seed, recovered in enumerate([4, 2, 3]):
        write_run(tmp_path, {"seed": seed}, recovered=(recovered, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    cells = page.locator("#seeds tbody tr").all_inner_texts()[0].split("\t")
    assert cells[0] == "digits / fc; random_pixels 50 %, zero fill; energy known"
    share = "75 % (13 to 100)"  # of the members, and of the excess: no non-member came back
    assert [" ".join(cell.split()) for cell in cells[1:]] == ["3", share, share, "25.0", "22.0", "11.8"]


def test_lines_against_fraction_and_noise(tmp_path: Path, page: Page) -> None:
    for fraction, noise, recovered in ((0.5, 0.0, 4), (0.9, 0.0, 2), (0.5, 0.2, 1)):
        settings = {"degradation.fraction": fraction, "degradation.noise": noise}
        write_run(tmp_path, settings, recovered=(recovered, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    for title, xs, ys in (("share of pixels", [0.5, 0.9], [100, 50]), ("against noise", [0.0, 0.2], [100, 25])):
        ((x, y),) = [(x, y) for name, axis, x, y in page.evaluate(LINES, title) if axis == "y" and ", members" in name]
        assert (x, y) == (xs, ys)


def test_heat_map_shows_the_shares_and_a_click_selects(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    results = load_results(real_store)
    z, x, y, places = page.evaluate(
        "() => { const {z, x, y, customdata} = document.querySelector('#figures .plot').data[0];"
        " return [z, x, y, customdata]; }"
    )
    last = results[(results["rung"] == 0.01) & results["member"]]
    shares = 100 * last.groupby(["degradation", "recovery"])["recovered"].mean()
    for row, degradation in enumerate(y):
        for column, method in enumerate(x):
            assert z[row][column] == pytest.approx(shares[degradation.split()[0], method.split()[0]])
    page.evaluate("place => select(place)", places[1][0])
    assert page.inner_text("#run-name").startswith(f"{x[0]}, {y[1]}")


def test_all_pictures_load(report: Path, page: Page) -> None:
    show(page, report)
    widths = page.evaluate("() => [...document.images].map(image => image.naturalWidth)")
    # the headline's 4 images, (original, degraded, 3 methods) of 4, and for one method the answer of 4 ...
    assert [width for width in widths if width == 8] == [8] * (4 * 3 + 4 * (2 + 3) + 4)
    assert [width for width in widths if width != 8] == [4 * 8] * 4  # ... and those on the way, after 0, 1, 3, 10 steps


def test_psnr_under_a_picture_is_that_of_the_results(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    results = load_results(real_store)
    page.select_option("#scene", label="random_pixels 50 %, zero fill")
    for rung, name in ((0.01, "1e-02"), (0.1, "1e-01")):
        page.select_option("#scene-rung", name)
        answers = page.locator("#gallery button")
        assert answers.count() == 4 * 3
        for i in range(answers.count()):
            who, method, status = answers.nth(i).locator("img").get_attribute("alt").split(", ")
            kind, image = who.split()
            row = results[
                (results["degradation"] == "random_pixels")
                & (results["recovery"] == method.split()[0])
                & (results["rung"] == rung)
                & (results["image"] == int(image))
                & (results["member"] == (kind == "member"))
            ].iloc[0]
            mark = "✓ " if row["recovered"] else ""
            assert answers.nth(i).inner_text().strip().removesuffix(" diverged") == f"{mark}{row['psnr_erased']:.1f}"
            assert (status == "recovered") == row["recovered"]


def test_gallery_is_ordered_and_shows_the_failed(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {}, recovered=(2, 1))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    names, paths = page.locator("#gallery table:not(.way) tbody th"), page.locator("#gallery .way tbody th")
    assert [" ".join(name.split()) for name in names.all_inner_texts()] == [
        "best member 101",
        "member 100",
        "median member 103",
        "worst member 102",
        "best non-member 104",
        "non-member 107",
        "median non-member 106",
        "worst non-member 105",
    ]
    assert [" ".join(name.split()) for name in paths.all_inner_texts()] == [
        "best member 101",
        "median, best of the failed member 103",
        "worst member 102",
        "best non-member 104",
        "best of the failed non-member 107",
        "median non-member 106",
        "worst non-member 105",
    ]
    page.select_option("#scene-show", "failed")
    assert {name.split()[-1] for name in names.all_inner_texts()} == {"102", "103", "105", "106", "107"}
    page.select_option("#scene-show", "diverged")
    assert names.count() == 0


def test_each_picture_stands_with_its_own_score(tmp_path: Path) -> None:
    write_run(tmp_path, {}, recovered=(2, 1))
    (scene,) = gallery_module.scenes(Findings.load(tmp_path))[0].values()
    assert len(scene.images) == 8
    for row, image in enumerate(scene.images):
        for text in (image["original"], image["degraded"], *(answers[row] for answers in scene.answers.values())):
            assert np.unique(pixels(text)) == 10 * (image["image"] - 100)  # see `write_run`
        for path in (paths[row] for paths in scene.paths.values()):
            assert (path["steps"], path["iterations"]) == ([0, 1, 3, 10], 20)
            level = 10 * (image["image"] - 100)
            levels = [max(0, level - darker) for darker in (4, 3, 2, 1)] if level else [0] * 4
            assert pixels(path["pixels"]).tolist() == [np.repeat(levels, 5).tolist()] * 5  # side by side
    assert len(scene.paths) == 2


def pixels(text: str) -> np.ndarray:
    """(H, W) of a grey picture on the page."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L"))


def test_an_image_opens_with_its_pictures_and_error(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    strongest = Findings.load(real_store).strongest
    rows = Findings.load(real_store).rows[strongest.signature, strongest.rung]
    # in the gallery, with its keyboard
    page.locator("#gallery button").first.press("Enter")
    name = page.inner_text("#image-name")
    number = int(name.split(":")[0].split()[1])
    row = rows[(rows["image"] == number) & rows["member"]].iloc[0]
    page.wait_for_selector("canvas[data-drawn]")
    assert page.locator("#image-pictures img").count() == 3
    assert page.locator("#image-path span").all_inner_texts() == ["start", "1", "3", "10"]
    # the error map: black where the answer is the original, white where it is wrong by a quarter or more
    original, answer, error = page.evaluate(
        """() => [...document.querySelectorAll('#image-pictures img, #image-pictures canvas')].filter((_, i) => i !== 1)
             .map(part => { const own = document.createElement('canvas'); own.width = own.height = 8;
               const context = own.getContext('2d'); context.drawImage(part, 0, 0);
               return [...context.getImageData(0, 0, 8, 8).data].filter((_, i) => i % 4 === 0); })"""
    )
    difference = np.abs(np.subtract(original, answer))
    assert np.array(error) == pytest.approx(np.minimum(255, 3 * 255 * difference / 255 / 0.25), abs=1)
    page.keyboard.press("Escape")
    assert not page.locator("#image").is_visible()
    assert row["recovered"] == ("recovered" in name and "not recovered" not in name)
    # from the list of the run in detail
    page.select_option("#pick", index=0)
    page.click("#open")
    best = rows[rows["member"]].sort_values("psnr_erased").iloc[-1]
    assert page.inner_text("#image-name").startswith(f"member {best['image']}: {best['psnr_erased']:.1f} dB")


def test_scatter_holds_every_image_and_a_click_opens_it(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    findings = Findings.load(real_store)
    rows = findings.rows[findings.strongest.signature, findings.strongest.rung]
    found = page.evaluate("() => $('scatter').data.map(points => points.y)")
    for points, part in zip(found, (rows[~rows["member"]], rows[rows["member"]]), strict=True):
        assert points == [round(psnr, 1) for psnr in sorted(part["psnr_erased"], reverse=True)]  # less than a pixel
    page.locator("#scatter").scroll_into_view_if_needed()
    page.locator("#scatter .trace.scatter").last.locator("path.point").first.click(force=True)
    best = rows[rows["member"]].sort_values("psnr_erased").iloc[-1]
    assert page.inner_text("#image-name").startswith(f"member {best['image']}:")


def test_table_shows_the_chosen_rung_and_sorts(tmp_path: Path, page: Page) -> None:
    for weight, members in ((1.0, 2), (2.0, 4), (3.0, 1)):
        write_run(tmp_path, {"recovery.weight": weight}, recovered=(members, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    rows = page.locator("#rows tr:not(.group)")
    assert rows.count() == 3
    page.select_option("#rung", "all")
    assert rows.count() == 6
    page.select_option("#rung", "1e-01")
    page.locator(".numbers thead button", has_text="Excess").click()
    excess = [row.locator("td").nth(2).inner_text().split(" %")[0] for row in rows.all()]
    assert excess == ["100", "50", "25"]
    assert "weight=2.0" in rows.first.inner_text()


def test_filters_leave_what_was_chosen_and_outlive_a_reload(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    results = load_results(real_store)
    choose(page, "method", "energy", "iterate")
    choose(page, "degradation", "box")
    rows = page.locator("#rows tr:not(.group)")

    def check() -> None:
        part = results[(results["degradation"] == "box") & (results["rung"] == 0.01) & results["member"]]
        expected = part.groupby("recovery")["recovered"].mean()
        found = {row.locator("th").inner_text().split()[0]: row.locator("td").first.inner_text() for row in rows.all()}
        assert found.keys() == {"iterate", "energy"}
        for name, text in found.items():
            assert text.split(" %")[0] == f"{100 * expected[name]:.0f}"
        assert {name for name, *_ in page.evaluate(LINES, "train loss, box")} == {
            f"{method}, {group}" for method in ("iterate", "energy alternating") for group in ("members", "non-members")
        }
        assert page.locator("#figures .plot").count() == 4  # heat map, train loss, ROC, threshold
        assert page.locator("#scene option").all_inner_texts() == ["box 36 %, zero fill"]
        assert page.locator("#gallery thead").first.locator("th").count() == 2 + 2
        assert page.inner_text("#count").startswith("2 of ")

    check()
    page.reload()
    page.wait_for_selector("#rows tr")
    draw(page)
    check()
    page.click("#reset")
    assert rows.count() == 6


def test_filter_opens_and_closes_with_the_keyboard(report: Path, page: Page) -> None:
    show(page, report)
    page.locator("[data-filter=method] summary").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    assert page.locator("[data-filter=method] summary").evaluate("node => node === document.activeElement")
    assert page.inner_text("#count").startswith("2 of ")


def test_methods_are_hidden_by_their_button(report: Path, page: Page) -> None:
    show(page, report)
    page.locator("[data-method='energy alternating']").press("Enter")
    visible = page.evaluate(
        "() => [...document.querySelectorAll('#figures .plot')].filter(p => p.ariaLabel.includes('train loss'))"
        ".map(p => p.data.filter(d => d.visible).map(d => d.legendgroup))"
    )
    assert [set(names) for names in visible] == [{"iterate", "pnp_admm alternating"}] * 2


def test_autoencoders_of_two_seeds_are_told_apart(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {"seed": 0})
    write_run(tmp_path, {"seed": 1}, recovered=(4, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert page.locator("#rows tr:not(.group)").count() == 2
    choose(page, "autoencoder", "seed=0")
    assert page.locator("#rows tr:not(.group)").count() == 1
    assert "seed=0" in page.inner_text("#run-name")


def test_colours_follow_the_scheme_and_the_page_fits_a_phone(report: Path, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="light")
    show(page, report)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    colour = "() => [...document.querySelectorAll('#figures .plot')].at(-1).data[0].line.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"before => ({colour})() !== before", arg=light)


def test_names_are_escaped(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {"dataset.name": "<script>alert('&')</script>"})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert "<script>alert('&')</script> / fc" in (page.locator("#answer").text_content() or "")
    assert "<script>alert('&')</script> / fc" in page.locator("#run-name").inner_text()


def test_pictures_are_left_out_beyond_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, {})
    write_run(tmp_path, {"operator.name": "alternating"})
    findings = Findings.load(tmp_path)
    assert "to keep this file small" not in build(findings)
    monkeypatch.setattr(gallery_module, "LOSSLESS", 2 * 2 * 3 * 25)  # 2 runs, 3 images of each kind, 5 x 5 pixels
    found, extent = gallery_module.scenes(findings)
    assert extent == gallery_module.Extent(images=3, every_rung=False, lossless=True, every_path=False)
    (scene,) = found.values()
    assert len(scene.answers) == 2
    assert len(scene.paths) == 1
    assert [image["image"] for image in scene.images] == [101, 103, 102, 107, 105, 104]  # the best, one between, worst
    assert "at most 3 of each kind" in build(findings)
    monkeypatch.setattr(gallery_module, "LOSSLESS", 0)
    monkeypatch.setattr(gallery_module, "LOSSY", 2 * 2 * 25)
    found, extent = gallery_module.scenes(findings)
    assert extent == gallery_module.Extent(images=1, every_rung=False, lossless=False, every_path=False)
    assert "compressed with loss" in build(findings)


def test_command_of_the_page_finds_the_run(report: Path, real_store: Path, page: Page) -> None:
    show(page, report)
    words = shlex.split(page.inner_text("#command"))
    assert words[0] == "memorization-recover"
    command = [*PYTHON, "-m", "memorization.recover", *words[1:], f"store={real_store}", "tracking=none"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("found ")
    strongest = Findings.load(real_store).strongest.signature
    assert strongest in done.stdout
    assert strongest in page.inner_text("#provenance")


def test_a_run_without_non_members_is_shown_with_dashes(tmp_path: Path, page: Page) -> None:
    write_members_only(tmp_path)
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    cells = page.locator("#rows tr:not(.group)").locator("td").all_inner_texts()
    assert cells[0].startswith("50 % (")
    assert [cells[i] for i in (1, 2, 4, 6)] == ["–"] * 4
    assert "none were tried" in page.inner_text("#card")
    assert "no non-members were tried" in page.inner_text("#answer")
    assert not re.search(r"\bNaN\b|undefined|null\b", page.inner_text("body"))


def test_a_median_without_an_interval_has_a_dash_and_no_bar(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert page.locator("#rows tr:not(.group) td").nth(5).inner_text() == "31.5 (–)"
    bars = page.evaluate(
        "() => document.querySelector('#figures .plot').data.filter(line => line.yaxis === 'y2')"
        ".flatMap(line => [...line.error_y.array, ...line.error_y.arrayminus])"
    )
    assert set(bars) == {0}


def test_probes_are_plotted_from_counts_filtered_and_four_at_first(tmp_path: Path, page: Page) -> None:
    for operator in ("known", "alternating", "robust"):
        for fraction in (0.5, 0.9):
            settings = {"operator.name": operator, "degradation.fraction": fraction}
            write_probes(tmp_path, write_run(tmp_path, settings), {"none": [4], "shift": [3, 1], "blend": [0, 0]})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    probes = page.locator("#figures .plot[aria-label^='Share of near-member probes']")
    assert probes.count() == 4
    page.emulate_media(media="print")
    assert page.get_by_text("The first 4 of 6 plots.").last.is_visible()
    page.emulate_media(media="screen")
    title = "near-member probes answered with their member against their distance, random_pixels 50 %"
    lines = {name: (x, y) for name, _, x, y in page.evaluate(LINES, title)}
    assert lines == {
        "the member": ([0], [100]),
        "shift": ([0.1, 0.2], [75, 25]),
        "blend": ([0.1, 0.2], [0, 0]),
    }
    low, high = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert page.evaluate(BARS, [title, "shift"])[0] == pytest.approx([100 * low, 100 * high])
    page.get_by_role("button", name="Show 2 more").last.click()
    assert probes.count() == 6
    choose(page, "method", "robust")
    assert probes.count() == 2
    assert "plotly-" not in re.sub(r"<script>.*?</script>", "", (tmp_path / "report.html").read_text(), flags=re.S)


def test_paper_has_light_tones_a_legend_and_the_filters(report: Path, page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    show(page, report)
    choose(page, "method", "energy", "iterate")
    colour = "() => [...document.querySelectorAll('#figures .plot')].map(plot => plot.layout.font.color)"
    dark = page.evaluate(colour)
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function(f"before => ({colour})().every(tone => tone !== before[0])", arg=dark)
    assert page.evaluate("['--c0', '--ground'].map(tone)") == ["#8a5a00", "#fff"]
    assert page.locator("#legend").is_visible()
    assert page.inner_text("#printed").startswith("Printed with 4 of 12 results shown: method ")
    widths = page.evaluate(
        "() => [...document.querySelectorAll('.plot')].map(plot => plot.querySelector('.main-svg').clientWidth)"
    )
    assert max(widths) <= 700
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(media="screen", color_scheme="dark")
    page.wait_for_function(f"before => JSON.stringify(({colour})()) === JSON.stringify(before)", arg=dark)
    assert page.evaluate("document.querySelector('#figures .plot .main-svg').clientWidth") > 700


def test_the_table_fits_with_verdicts_and_a_phone_shows_the_shares(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {"control": "inpaint"}, recovered=(0, 0))
    for weight, recovered in ((1.0, 4), (2.0, 3)):
        write_run(tmp_path, {"recovery.weight": weight}, recovered=(recovered, 0))
    main(["--store", str(tmp_path)])
    page.set_viewport_size({"width": 1280, "height": 900})
    show(page, tmp_path / "report.html")
    assert "unremarkable (p = 0.1; Holm: 0.2)" in " ".join(page.locator("#rows th").nth(2).inner_text().split())
    assert page.evaluate(
        "(() => { const part = $('rows').closest('.scroll'); return part.scrollWidth <= part.clientWidth; })()"
    )
    page.set_viewport_size({"width": 390, "height": 844})
    for place in range(3):  # members, non-members, excess
        box = page.locator("#rows tr:not(.group)").first.locator("td").nth(place).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    assert page.locator("nav a").first.is_visible()


def test_a_heat_map_of_many_methods_is_wide_and_legible(tmp_path: Path, page: Page) -> None:
    for weight in range(10):
        for fraction in (0.5, 0.9):
            settings = {"recovery.weight": float(weight), "degradation.fraction": fraction}
            write_run(tmp_path, settings, rungs=(0.1,), recovered=(4, 1))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    for width in (1400, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("[...builders.keys()].forEach(draw)")
        sizes = page.evaluate(
            "() => [...document.querySelectorAll('#figures .plot .heatmap-label, #figures .plot .hm text')]"
            ".concat([...document.querySelector('#figures .plot').querySelectorAll('.heatmap-label text, .hm text')])"
            ".map(text => [parseFloat(getComputedStyle(text).fontSize), text.getBoundingClientRect().width])"
        )
        plot = page.evaluate("document.querySelector('#figures .plot').clientWidth")
        assert plot > (1200 if width == 1400 else 400)
        assert len(sizes) >= 20
        assert all(size >= 11 for size, _ in sizes)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.emulate_media(media="print")
    widths = page.evaluate("() => [...document.querySelectorAll('table, .plot')].map(part => part.scrollWidth)")
    assert max(widths) <= 700  # what is wider shrinks all pages
    assert page.evaluate(
        "() => [...document.querySelectorAll('.plot')].every(plot =>"
        " Math.abs(plot.clientWidth - plot.querySelector('.main-svg').clientWidth) <= 1)"
    )


def test_the_label_of_an_axis_keeps_off_its_ticks(report: Path, page: Page) -> None:
    show(page, report)
    gaps = page.evaluate(
        "() => [...document.querySelectorAll('#figures .plot')].filter(plot => plot.querySelector('.ytitle'))"
        ".map(plot =>"
        "  Math.min(...[...plot.querySelectorAll('.ytick text')].map(tick => tick.getBoundingClientRect().left))"
        "  - plot.querySelector('.ytitle').getBoundingClientRect().right)"
    )
    assert len(gaps) == 6
    assert min(gaps) > 0


def test_curves_that_coincide_are_all_seen(tmp_path: Path, page: Page) -> None:
    for operator in ("known", "alternating", "robust"):
        write_run(tmp_path, {"operator.name": operator}, rungs=(0.1,), recovered=(4, 0))
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    dashes = page.evaluate(
        "() => ['ROC', 'against the threshold'].map(title => [...document.querySelectorAll('#figures .plot')]"
        ".find(plot => plot.ariaLabel.includes(title)).data.filter(line => line.name !== 'chance')"
        ".map(line => line.line.dash))"
    )
    for lines in dashes:
        assert len(set(lines)) == len(lines)


def test_long_names_fit_a_phone(tmp_path: Path, page: Page) -> None:
    for fraction in (0.5, 0.9):
        path = "/data/" + "x" * 300
        settings = {"dataset": {"name": "images", "path": path}, "degradation.fraction": fraction}
        write_run(tmp_path, settings)
    write_run(tmp_path, {"dataset": {"name": "images", "path": "/" + "y" * 300}})
    page.set_viewport_size({"width": 390, "height": 844})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_reset_goes_back_to_the_beginning(report: Path, page: Page) -> None:
    show(page, report)
    page.locator(".numbers thead button", has_text="Excess").click()
    page.locator("[data-method='energy alternating']").click()
    page.locator("#rows button").last.click()
    chosen = page.inner_text("#run-name")
    page.click("#reset")
    assert page.evaluate("location.hash") in ("", "#")
    assert page.locator("th[aria-sort]").count() == 0
    assert page.inner_text("#run-name") != chosen
    page.wait_for_function("() => document.querySelectorAll('.toggle[aria-pressed=false]').length === 0")


def test_what_is_lossy_is_said_of_the_error_and_numbers_are_grouped(
    tmp_path: Path, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_module, "LOSSLESS", 0)
    write_run(tmp_path, {})
    main(["--store", str(tmp_path)])
    show(page, tmp_path / "report.html")
    page.locator("#gallery button").first.press("Enter")
    assert "compressed with loss" in page.locator("#image-pictures figcaption").last.inner_text()
    assert "(1,000 would do)" in page.inner_text("#card")
