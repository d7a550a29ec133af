"""Figures for papers: every plot of the page as a PNG and a PDF, and one line where there is nothing to draw with."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memorization.report import browser, main
from memorization.report.browser import figures
from memorization.report.findings import Findings
from tests.report.store import write_run


def test_every_plot_is_written_as_png_and_pdf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fraction in (0.5, 0.9):
        write_run(tmp_path, {"degradation.fraction": fraction})
    main(["--store", str(tmp_path), "--figures", str(tmp_path / "plots")])
    files = sorted((tmp_path / "plots").iterdir())
    assert capsys.readouterr().out == f"{len(files)} files: {tmp_path / 'plots'}\n"
    names = {path.stem for path in files}
    assert {"against-the-share-of-pixels-erased-digits-fc-random_pixels-zero-fill"} < names
    assert {f"as-training-proceeds-random_pixels-{share}-zero-fill" for share in (50, 90)} < names
    assert [path.name for path in files] == [f"{name}.{end}" for name in sorted(names) for end in ("pdf", "png")]
    for path in files:
        if path.suffix == ".pdf":
            assert len(re.findall(rb"/Type */Page\b", path.read_bytes())) == 1
            heat_map = path.name.startswith("methods-and-degradations")  # of which Plotly makes an image
            assert (b"/Subtype /Image" in path.read_bytes()) == heat_map
            assert path.stem.encode() in path.read_bytes()  # its title
            continue
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert picture.shape[1] == browser.WIDTH * browser.SCALE
        assert (picture[0, 0] == 255).all()  # paper
        drawn = (picture < 200).any(axis=2)
        assert drawn[:, picture.shape[1] // 2 :].any()
        assert not drawn[[0, -1]].any()  # nothing is cut off
        assert not drawn[:, [0, -1]].any()


@pytest.mark.usefixtures("browser")  # with which an event loop runs, as in a notebook
def test_plots_that_the_page_shows_on_demand_are_written_too(tmp_path: Path) -> None:
    for fraction in (0.1, 0.2, 0.3, 0.4, 0.5):
        write_run(tmp_path, {"degradation.fraction": fraction}, rungs=(0.1,))
    written = figures(Findings.load(tmp_path), tmp_path / "plots")
    assert sum(path.name.startswith("as-training-proceeds") for path in written) == 2 * 5


def test_without_chromium_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, {})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"^error: .*Chromium.*playwright install chromium$"):
        main(["--store", str(tmp_path), "--figures", str(tmp_path / "plots")])


def test_without_playwright_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, {})
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(SystemExit, match=r"^error: .*pip install 'memorization\[figures\]'$"):
        main(["--store", str(tmp_path), "--figures", str(tmp_path / "plots")])


def test_a_browser_that_does_not_start_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, {})
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(browser, "NAMES", (str(broken),))
    with pytest.raises(SystemExit, match=r"^error: .*chromium does not start: [^\n]+$"):
        main(["--store", str(tmp_path), "--figures", str(tmp_path / "plots")])
