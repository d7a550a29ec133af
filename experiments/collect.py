"""Write `results.csv` and `figure.png` of a study from its run store: `python experiments/collect.py STUDY STORE`.

The table is `audit.summarise` of the study's results; the figure is the upper part of the report, seen in Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from memorization import load_results
from memorization.audit import summarise


def main(study: str, store: Path) -> None:
    """Needs `<store>/report.html`, which `memorization-report` writes."""
    folder = Path(__file__).parent / study
    results = load_results(store)
    summary = summarise(results[results["study"] == study]).drop(columns="seconds")
    summary.to_csv(folder / "results.csv", index=False, float_format="%.6g")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme="light")
        page.goto((store / "report.html").resolve().as_uri())
        page.wait_for_selector(".js-plotly-plot .main-svg")
        page.wait_for_timeout(1000)
        page.screenshot(path=folder / "figure.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
