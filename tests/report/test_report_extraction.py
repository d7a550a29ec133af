"""What comes out unasked: the sentence, the table and the records count as by hand, and the page shows the same."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page
from scipy.stats import binomtest

from memorization import load_extractions
from memorization.report import ends, main
from memorization.report.browser import figures
from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.tables import headline
from memorization.report.unasked import choice, sentences
from memorization.store.files import StoreError
from memorization.store.reading import finished
from tests.preloaded import PYTHON
from tests.report.store import End, write_extraction, write_run

# Members 0, 1 and 2 of four (member 1 in two ends), and two spurious ends.
ENDS: list[End] = [(0, 5, 300), (1, 9, 300), (None, 4, 300), (1, 2, 700), (2, 1, 700), (None, 1, 700)]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test if it logs an error or asks for anything beside itself."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    yield page
    page.close()
    assert complaints == []


def show(page: Page, store: Path, **options: Any) -> None:
    output = store / "report.html"
    output.write_text(build(Findings.load(store), **options))
    page.goto(output.as_uri())
    draw(page)


def draw(page: Page) -> None:
    page.evaluate("requestAnimationFrame(() => [...builders.keys()].forEach(draw))")
    page.wait_for_function("() => [...builders.keys()].every(plot => plot.data)")


def lines(page: Page, label: str) -> dict[str, dict[str, Any]]:
    """The lines of the plot whose description starts so, by name."""
    found = page.evaluate(
        "label => [...document.querySelectorAll('#unasked .plot')].find(plot => plot.ariaLabel.startsWith(label)).data"
        ".map(({name, x, y, error_y, marker}) => ({name, x, y, bars: error_y, symbol: marker?.symbol}))",
        label,
    )
    return {line["name"]: line for line in found}


def test_records_agree_with_counting_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signature = write_extraction(tmp_path, ENDS)
    main(["--store", str(tmp_path), "--extractions", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    expected = {"signature": signature, "members": 4, "extracted": 3, "share": 0.75, "ends": 6, "spurious": 2}
    expected |= {
        "queries": 1000,
        "rung": 0.01,
        "train_loss": 0.9 * 0.01,
        "control": "none",
        "prior": "noise",
        "fixed": 22,
    }
    assert {name: record[name] for name in expected} == expected
    low, high = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert (record["share_low"], record["share_high"]) == pytest.approx((low, high))
    assert record["ends_total"] >= 6


def test_the_first_sentence_says_what_came_out_and_what_of_the_controls(tmp_path: Path) -> None:
    write_extraction(tmp_path, ENDS)
    write_extraction(tmp_path, [], {"control": "untrained"})
    write_extraction(tmp_path, [(0, 1, 300), (None, 2, 300)], {"control": "reference"})
    write_extraction(tmp_path, [(3, 9, 300)], {"control": "reference"}, rung=0.1)  # of another rung
    every = Findings.load(tmp_path).extractions
    (sentence,) = sentences(every)
    assert sentence == (
        "Unasked, 3 of 4 members came out of fc on digits at a train loss of 9e-03 after 1,000 queries "
        "(95 % interval 30 to 95 %); 0 of the untrained control and 1 of the reference control."
    )
    assert choice(every) == ""


def test_of_several_the_lowest_rung_counts_then_the_most_members(tmp_path: Path) -> None:
    every_member: list[End] = [(member, 1, 300) for member in range(4)]
    write_extraction(tmp_path, every_member, rung=0.1)
    write_extraction(tmp_path, ENDS)
    write_extraction(tmp_path, ENDS[:1], {"seed": 1})
    for name, found in (("faces", ENDS[:1]), ("patches", [])):
        write_extraction(tmp_path, found, {"dataset.name": name})
    every = Findings.load(tmp_path).extractions
    said = sentences(every)
    assert [sentence.split(" at ")[0] for sentence in said] == [
        "Unasked, 3 of 4 members came out of fc on digits",
        "Unasked, 1 of 4 members came out of fc on faces",
    ]
    assert "of 3 of these, the 2 with the largest share are named" in choice(every)


def test_without_members_the_ends_are_counted(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, ENDS, members=0)
    (sentence,) = sentences(Findings.load(tmp_path).extractions)
    assert sentence.startswith("Unasked, 6 distinct images came out of fc on digits")
    show(page, tmp_path)
    assert page.locator("#extraction-pictures button[data-kind]").count() == 6
    page.locator("#extraction-pictures button[data-kind]").first.click()
    assert page.locator("#end-pictures img").count() == 1
    assert not re.search(r"\bNaN\b|undefined|\bnull\b|spurious,", page.inner_text("#unasked"))


def test_runs_that_differ_are_told_apart_and_controls_share_their_names(tmp_path: Path) -> None:
    write_extraction(tmp_path, ENDS, autoencoder="0123456789abcdef")
    write_extraction(tmp_path, ENDS, {"search.queries": 50}, autoencoder="0123456789abcdef")
    write_extraction(tmp_path, ENDS, {"control": "reference"}, autoencoder="fedcba9876543210")
    write_extraction(tmp_path, ENDS, {"seed": 1}, autoencoder="aaaaaaaaaaaaaaaa")
    found = [(each.autoencoder, each.search, each.at) for each in Findings.load(tmp_path).extractions]
    assert found == [
        ("digits / fc, seed=0", "noise, queries=50", "1e-02"),
        ("digits / fc, seed=0", "noise, queries=1000", "1e-02"),
        ("digits / fc, seed=0", "noise, queries=1000", "reference, 1e-02"),
        ("digits / fc, seed=1", "noise, queries=1000", "1e-02"),
    ]


def test_the_terminal_has_the_table_below_the_headline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {})
    before = headline(Findings.load(tmp_path))
    main(["--store", str(tmp_path), "--summary"])
    assert capsys.readouterr().out == f"{before}\n"
    write_extraction(tmp_path, ENDS)
    main(["--store", str(tmp_path), "--summary"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"{before}\n\ndigits / fc: what came out unasked; noise\n")
    (row,) = [line for line in shown.splitlines() if line.startswith("  1e-02 ") and " of 4 " in line]
    cells = re.split(r" {2,}", row.strip())
    assert (cells[1], cells[3], cells[4], cells[6:]) == ("3 of 4 (30 to 95 %)", "6", "2", ["1,000", "12.0"])
    assert max(map(len, shown.splitlines())) <= 120
    main(["--store", str(tmp_path), "--extractions"])
    assert capsys.readouterr().out == shown.removeprefix(f"{before}\n\n")


def test_json_of_recoveries_is_the_same_list_with_extractions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, {})
    shown = []
    for _ in range(2):
        main(["--store", str(tmp_path), "--json"])
        shown.append(capsys.readouterr().out)
        write_extraction(tmp_path, ENDS)
    assert shown[0] == shown[1]


def test_a_store_without_extractions_has_no_word_of_them(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    text = build(Findings.load(tmp_path))
    assert "nasked" not in re.sub(r"<script>.*?</script>", "", text, flags=re.S)
    assert "data.unasked" not in text
    assert ".came-out" not in text
    with pytest.raises(SystemExit, match=r"holds no finished extraction; make one with memorization-extract"):
        main(["--store", str(tmp_path), "--extractions"])


def test_extractions_alone_make_a_page_and_a_table(
    tmp_path: Path, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    write_extraction(tmp_path, ENDS)
    for options, expected in ((["--summary"], "3 of 4 (30 to 95 %)"), (["--json"], "[]\n"), (["--compare"], "No two")):
        main(["--store", str(tmp_path), *options])
        assert expected in capsys.readouterr().out
    show(page, tmp_path)
    assert page.inner_text("#answer .answer").startswith("Unasked, 3 of 4 members came out")
    assert "holds no recovery" in page.inner_text("#answer")
    assert page.locator("section").evaluate_all("parts => parts.map(part => part.id)") == ["unasked", "words"]
    for link in page.locator("nav a").all():
        target = link.get_attribute("href")
        assert target is not None
        assert page.locator(target).count() == 1
    assert page.locator("#strip img").count() == 2 * 4
    names = {path.stem for path in figures(Findings.load(tmp_path), tmp_path / "plots")}
    assert any("found-so-far" in name for name in names)


def test_controls_alone_are_shown_without_a_claim(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, [], {"control": "untrained"})
    show(page, tmp_path)
    assert "Only controls were searched" in page.inner_text("#answer")
    assert page.locator("#unasked [data-extraction]").count() == 1
    assert "Extracted members: none" in page.inner_text("#extraction-pictures")


def test_the_table_of_the_page_agrees_and_a_row_chooses(tmp_path: Path, page: Page) -> None:
    write_run(tmp_path, {})
    write_extraction(tmp_path, ENDS)
    write_extraction(tmp_path, ENDS[:1], {"control": "reference"})
    show(page, tmp_path)
    rows = page.locator("#extractions [data-extraction]")
    texts = [[cell.strip() for cell in row.split("\t")] for row in rows.all_inner_texts()]
    assert [(row[0], row[1], row[3], row[4], row[6], row[7]) for row in texts] == [
        ("9.0e-03", "3 of 4 (30 to 95 %)", "6", "2", "1,000", "12.0"),
        ("reference 9.0e-03", "1 of 4 (5 to 70 %)", "1", "0", "1,000", "12.0"),
    ]
    assert page.locator("#extraction-pictures [data-kind=pairs]").count() == 4
    rows.nth(1).click()
    assert page.locator("#extraction-pictures [data-kind=pairs]").count() == 1
    assert "Spurious ends: none" in page.inner_text("#extraction-pictures")
    assert page.input_value("#extraction") == "1"
    assert page.locator("#run-name").inner_text().startswith("energy known")  # the recovery's row is another table


def test_curves_count_ends_and_members_and_end_with_all_queries(tmp_path: Path, page: Page) -> None:
    signature = write_extraction(tmp_path, ENDS)
    show(page, tmp_path)
    found = lines(page, "Distinct ends and members against queries")
    assert (found["distinct ends"]["x"], found["distinct ends"]["y"]) == ([0, 300, 700, 1000], [0, 3, 6, 6])
    assert found["members"]["y"] == [0, 2, 3, 3]
    assert found["all 4 members"]["y"] == [4, 4]
    totals = finished(tmp_path, "extractions")[0].done["figures"]
    assert signature == finished(tmp_path, "extractions")[0].folder.name
    ends_in_all = found["ends in all, estimated"]
    assert ends_in_all["y"] == pytest.approx([totals["ends_total"]])
    assert ends_in_all["y"][0] + ends_in_all["bars"]["array"][0] == pytest.approx(totals["ends_high"])
    assert ends_in_all["y"][0] - ends_in_all["bars"]["arrayminus"][0] == pytest.approx(totals["ends_low"])
    members = found["members in all, estimated"]
    assert members["y"][0] + members["bars"]["array"][0] <= 4  # no more than there are


def test_radii_stand_against_hits_and_say_what_a_recovery_brings_back(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, ENDS, autoencoder="0123456789abcdef")
    show(page, tmp_path)
    found = lines(page, "Spectral radius")
    assert list(found) == ["members", "radius 1"]
    assert list(zip(found["members"]["x"], found["members"]["y"], strict=True)) == [
        (hits, pytest.approx(radius)) for hits, radius in ((5, 0.9), (9, 1.0), (2, 1.2), (1, 1.3))
    ]
    write_run(tmp_path, {}, recovered=(2, 0), autoencoder="0123456789abcdef")  # images 100 and 101 of 100 to 103
    write_run(tmp_path, {"recovery.name": "iterate"}, recovered=(4, 0), autoencoder="aaaaaaaaaaaaaaaa")
    show(page, tmp_path)
    found = lines(page, "Spectral radius")
    assert (found["recovered"]["x"], found["not recovered"]["x"]) == ([5, 9, 2], [1])
    assert found["not recovered"]["symbol"] == "circle-open"
    assert "energy known, random_pixels 50 %, zero fill also brings back" in page.inner_text("#extraction-plots")


def test_extracted_stands_beside_recovered_from_two_rungs_on(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, ENDS, autoencoder="0123456789abcdef")
    show(page, tmp_path)
    assert page.locator("#ladders").count() == 0
    write_extraction(tmp_path, ENDS[:1], rung=0.1, autoencoder="0123456789abcdef")
    write_run(tmp_path, {}, recovered=(2, 0), autoencoder="0123456789abcdef")
    write_run(tmp_path, {"recovery.name": "iterate"}, recovered=(4, 0), autoencoder="aaaaaaaaaaaaaaaa")
    show(page, tmp_path)
    found = lines(page, "Extracted and recovered share")
    assert [name.replace("<br>", " ") for name in found] == [
        "extracted",
        "recovered, energy known, random_pixels 50 %, zero fill",
    ]
    extracted, recovered = found.values()
    assert (extracted["y"], recovered["y"]) == ([25, 75], [50, 50])
    low, high = binomtest(3, 4).proportion_ci(0.95, method="wilson")
    assert 75 + extracted["bars"]["array"][1] == pytest.approx(100 * high)
    assert 75 - extracted["bars"]["arrayminus"][1] == pytest.approx(100 * low)


def test_no_two_searches_of_an_autoencoder_share_a_colour(tmp_path: Path, page: Page) -> None:
    for spectrum in (0.0, 1.0, 2.0, 3.0):
        for rung in (0.1, 0.01):
            settings = {"prior.spectrum": spectrum}
            write_extraction(tmp_path, ENDS, settings, rung=rung, autoencoder="0123456789abcdef")
    for method in ("energy", "iterate", "null_space"):
        write_run(tmp_path, {"recovery.name": method}, autoencoder="0123456789abcdef")
    show(page, tmp_path)
    colours = page.evaluate("document.querySelector('#ladders .plot').data.map(line => line.line.color)")
    assert len(colours) == len(set(colours)) == 7


def test_of_the_starts_it_is_said_how_many_diverged_and_did_not_settle(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, ENDS)
    show(page, tmp_path)
    shown = page.inner_text("#extraction-starts")
    assert shown == "The search: of 23 starts, 1 diverged and 0 did not settle."


def test_on_a_phone_every_column_can_be_reached(tmp_path: Path, page: Page) -> None:
    many: list[End] = [(member, 9, 300) for member in range(9)]
    write_extraction(tmp_path, many, members=50, queries=515_684)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        show(page, tmp_path)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        heads = page.locator("#extractions thead th")
        assert heads.count() == len([head for head in heads.all() if head.is_visible()]) == 8
        page.evaluate("document.querySelector('#extractions').parentElement.scrollLeft = 1e4")
        box = heads.last.bounding_box()
        assert box
        assert box["x"] + box["width"] <= width
        assert page.inner_text(".swipe").startswith("Swipe the table")
    page.set_viewport_size({"width": 1400, "height": 900})
    assert not page.is_visible(".swipe")


def test_pairs_are_sorted_by_hits_and_spurious_ends_are_marked(tmp_path: Path, page: Page) -> None:
    write_extraction(tmp_path, ENDS)
    show(page, tmp_path)
    captions = [" ".join(text.split()) for text in page.locator("[data-kind=pairs]").all_inner_texts()]
    assert captions == [
        "member 101 9 hits, 41.0 dB",
        "member 100 5 hits, 40.0 dB",
        "member 101 2 hits, 41.0 dB",
        "member 102 1 hit, 42.0 dB",
    ]
    assert "Extracted members: 3" in page.inner_text("#extraction-pictures")
    assert "4 ends show 3 members." in page.inner_text("#extraction-pictures")
    spurious = page.locator("[data-kind=spurious]")
    assert [" ".join(text.split()) for text in spurious.all_inner_texts()] == [
        "spurious 4 hits, 15.0 dB",
        "spurious 1 hit, 15.0 dB",
    ]
    assert spurious.first.locator("img").evaluate("image => getComputedStyle(image).outlineStyle") == "dashed"
    widths = page.locator("#unasked img").evaluate_all("all => all.map(image => image.naturalWidth)")
    assert widths == [5] * (2 * 4 + 2)
    page.locator("[data-kind=pairs]").nth(3).press("Enter")
    assert page.inner_text("#end-name") == "Member 102, extracted"
    assert "700 queries" in page.inner_text("#end-facts")
    page.keyboard.press("Escape")
    assert not page.locator("#end").is_visible()


def test_each_picture_stands_with_its_own_member(tmp_path: Path) -> None:
    write_extraction(tmp_path, ENDS)
    drawn = ends.drawn(Findings.load(tmp_path))
    (run,) = drawn["runs"]
    for pair in run["pairs"]:
        level = 20 * (pair["image"] - 100)
        assert [pixels(drawn["pictures"][pair[key]]) for key in ("end", "member")] == [{level + 1}, {level}]
    assert {pixels(drawn["pictures"][end["end"]]).pop() for end in run["spurious"]} == {200}
    assert len(drawn["pictures"]) == len(set(drawn["pictures"]))  # each stands once


def pixels(text: str) -> set[int]:
    """The values of a grey picture on the page."""
    return {*np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("L")).flatten().tolist()}


def test_pictures_are_left_out_beyond_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: Page) -> None:
    many: list[End] = [(k % 4, 50 - k, 300) for k in range(40)]
    write_extraction(tmp_path, many)
    assert len(ends.drawn(Findings.load(tmp_path))["runs"][0]["pairs"]) == 40
    show(page, tmp_path)
    assert page.locator("[data-kind=pairs]").count() == 24
    page.get_by_role("button", name="Show 16 more").click()
    assert page.locator("[data-kind=pairs]").count() == 40
    monkeypatch.setattr(ends, "LOSSLESS", 2 * 24 * 25)  # 24 ends with their members, of 5 x 5 pixels
    drawn = ends.drawn(Findings.load(tmp_path))
    assert [end["hits"] for end in drawn["runs"][0]["pairs"]] == [*range(50, 26, -1)]
    assert (drawn["runs"][0]["pairsCount"], drawn["lossless"]) == (40, True)
    monkeypatch.setattr(ends, "LOSSLESS", 0)
    monkeypatch.setattr(ends, "LOSSY", 2 * 6 * 25)
    drawn = ends.drawn(Findings.load(tmp_path))
    assert (len(drawn["runs"][0]["pairs"]), drawn["lossless"]) == (6, False)
    show(page, tmp_path)
    assert "The page holds the 6 with most hits." in page.inner_text("#unasked")
    assert "compressed with loss" in page.inner_text("#unasked")


def test_names_are_escaped_and_the_page_fits_a_phone_and_paper(tmp_path: Path, page: Page) -> None:
    name = "<script>alert('&')</script>"
    for rung, found in ((0.1, ENDS[:1]), (0.01, ENDS)):
        write_extraction(tmp_path, found, {"dataset.name": name}, rung=rung)
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, tmp_path)
    assert f"fc on {name}" in page.inner_text("#answer")
    assert f"{name} / fc" in page.inner_text("#extractions")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print")
    page.wait_for_function("onPaper()")
    widths = page.evaluate("() => [...document.querySelectorAll('table, .plot')].map(part => part.scrollWidth)")
    assert max(widths) <= 700


@pytest.mark.parametrize("name", ["results.parquet", "ends.safetensors", "config.yaml", "done.json"])
def test_a_damaged_extraction_is_left_out_and_named(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "extractions" / write_extraction(tmp_path, ENDS) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SystemExit) as stopped:
        main(["--store", str(tmp_path)])
    assert str(stopped.value).startswith(f"error: {path} is damaged")
    whole = write_extraction(tmp_path, ENDS, {"seed": 1})
    main(["--store", str(tmp_path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: left out: {path} is damaged")
    text = (tmp_path / "report.html").read_text()
    assert "A damaged run is left out of this page." in text
    main(["--store", str(tmp_path), "--extractions", "--json"])
    assert [record["signature"] for record in json.loads(capsys.readouterr().out)] == [whole]


def test_all_ends_are_loaded_in_one_table(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no finished extraction; make one with memorization-extract store="):
        load_extractions(tmp_path)
    first = write_extraction(tmp_path, ENDS)
    second = write_extraction(tmp_path, ENDS[:2], rung=0.1)
    write_extraction(tmp_path, [], {"control": "untrained"})  # nothing settled
    table = load_extractions(tmp_path)
    assert table["signature"].value_counts()[[first, second]].tolist() == [6, 2]
    assert {str(table[name].dtype) for name in ("signature", "found_by", "dataset")} == {"category"}
    assert table[table["signature"] == first]["hits"].tolist() == [5, 9, 4, 2, 1, 1]


def test_what_the_command_writes_is_what_the_report_reads(tmp_path: Path, page: Page) -> None:
    """Of a small autoencoder, with its controls: all figures again from the rows; the page's command finds the run."""
    settings = ["dataset=digits", "dataset.members=6", "dataset.non_members=6", "architecture.depth=3"]
    settings += ["architecture.width=128", "training.max_steps=500", "training.target_loss=1e-2"]
    settings += ["training.ladder=[1e-1,1e-2]", "rungs=[1e-1,1e-2]", "search.queries=1000", "search.batch_size=20"]
    settings += ["search.max_iterations=50", f"store={tmp_path}", "tracking=none"]
    command = [*PYTHON, "-m", "memorization.extract", *settings]
    done = subprocess.run([*command, "controls=true"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    every = Findings.load(tmp_path).extractions
    assert [each.at for each in every] == ["1e-01", "1e-02", "untrained", "reference, 1e-01", "reference, 1e-02"]
    table = load_extractions(tmp_path)
    for each in every:
        rows = table[table["signature"] == each.signature]
        own = rows[rows["is_member"]]
        assert (each.extracted, each.figures["spurious"]) == (own["image"].nunique(), len(rows) - len(own))
        assert np.isnan(each.figures["nearest_non_member_psnr"]) == (len(rows) == 0)
    show(page, tmp_path)
    assert page.locator("#extractions [data-extraction]").count() == 5
    words = shlex.split(page.inner_text("#extraction-command"))
    assert words[0] == "memorization-extract"
    again = [*PYTHON, "-m", "memorization.extract", *words[1:], f"store={tmp_path}", "tracking=none"]
    done = subprocess.run(again, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines() if "extraction" in line} == {"found"}
