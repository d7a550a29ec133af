"""The live view: the page is rewritten as results land, and keeps its filters when it reloads."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from memorization.engine import interruption
from memorization.report import command
from memorization.report.command import watch
from memorization.report.findings import Findings
from memorization.report.page import build
from tests.preloaded import PYTHON
from tests.report.store import write_run


def test_page_is_rewritten_when_a_run_lands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, pages = tmp_path / "report.html", []

    def sleep(seconds: float) -> None:
        pages.append(output.read_text() if output.exists() else "")
        if len(pages) == 1:  # a control is the first to land
            write_run(tmp_path, {"control": "untrained"})
        if len(pages) == 2:
            write_run(tmp_path, {})
        if len(pages) == 3:
            write_run(tmp_path, {"operator.name": "alternating"})
        if len(pages) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(interruption, "handle", lambda: None)  # the signals are those of the test run
    watch(tmp_path, output)
    assert pages[:2] == ["", ""]
    assert "energy known" in pages[2]
    assert "energy alternating" not in pages[2]
    assert "energy alternating" in pages[3] == pages[4]
    assert "location.reload" in pages[4]
    assert "location.reload" not in output.read_text()


def test_a_page_that_is_no_longer_watched_stops_reloading(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    page = tmp_path / "report.html"
    watching = subprocess.Popen([*PYTHON, "-m", "memorization.report", "--store", str(tmp_path), "--watch"])
    try:
        while not page.exists():
            assert watching.poll() is None
            time.sleep(0.1)
        assert "location.reload" in page.read_text()
        watching.send_signal(signal.SIGTERM)
        assert watching.wait(60) == 0
    finally:
        watching.kill()
        watching.wait()
    assert "location.reload" not in page.read_text()


def test_open_page_takes_up_what_landed_and_keeps_its_filters(tmp_path: Path, browser: Browser) -> None:
    for operator in ("known", "alternating"):
        write_run(tmp_path, {"operator.name": operator})
    output = tmp_path / "report.html"
    output.write_text(build(Findings.load(tmp_path), watching=True))
    page = browser.new_page()
    page.add_init_script("window.setInterval = tick => { window.tick = tick; }")
    page.goto(output.as_uri())
    page.click("[data-filter=method] summary")
    page.locator("[data-filter=method] label", has_text="known").locator("input").check()
    page.keyboard.press("Escape")
    assert page.inner_text("#count") == "1 of 4 results shown"
    for _ in range(2):
        page.click("[data-sort=membersPsnr]")  # rising, then
    page.click("[data-method='energy known']")
    page.select_option("#scene-show", "failed")
    page.select_option("#scene-rung", "1e-01")
    write_run(tmp_path, {"operator.name": "robust"})
    output.write_text(build(Findings.load(tmp_path), watching=True))
    with page.expect_navigation():
        page.evaluate("tick()")
    page.wait_for_selector("#count:has-text('1 of 6 results shown')")
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Members")
    assert page.locator("[data-method='energy known']").get_attribute("aria-pressed") == "false"
    assert page.input_value("#scene-show") == "failed"
    assert page.input_value("#scene-rung") == "1e-01"
    page.close()
