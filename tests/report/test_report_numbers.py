"""Every number of the page is one that Python computed; the script has no arithmetic of its own for them."""

from __future__ import annotations

import math
import re
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from playwright.sync_api import Browser
from scipy.stats import binomtest

from memorization.evaluation.membership import scores
from memorization.evaluation.statistics import log_roc
from memorization.report.cells import Cell, Group
from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.tables import TEXTS, decibels, epsilon, operating_points, span
from tests.report.store import configured, write, write_probes

MEMBERS, OTHERS = 23, 17
# All plots with their lines, and what stands in the table and on the card of each run.
SHOWN = """() => {
  [...builders.keys()].forEach(draw);
  const plots = [...builders.keys()].filter(plot => plot.id !== "scatter").map(plot => [plot.ariaLabel, plot.data]);
  const rows = [...document.querySelectorAll("#rows [data-cell]")].map(row => {
    select(Number(row.dataset.cell));
    draw($("scatter"));
    const points = [...$("scatter").data].map(line => line.text);
    return [row.innerText, $("card").innerText, [...$("pick").options].map(option => option.text), points];
  });
  return [plots, rows];
}"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> tuple[Findings, list[Any], list[Any]]:
    """A store of random results, and the plots and rows of its page."""
    store, rng = tmp_path_factory.mktemp("random"), np.random.default_rng(0)
    pictures = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    member = np.arange(MEMBERS + OTHERS) < MEMBERS
    for method in ("iterate", "energy", "pnp_admm"):
        tables, gallery = {}, {"original": pictures, "degraded": pictures, "row": torch.tensor([0])}
        for rung in (0.1, 0.01):
            psnr = rng.normal(np.where(member, 28, 18), 9).astype(np.float32).astype(float)
            psnr[rng.random(len(psnr)) < 0.05] = math.nan
            psnr[:4] = psnr[-4:].round()  # ties, and halves that round to even
            psnr[4:6] += 0.25 - psnr[4:6] % 0.5
            status = np.where(rng.random(len(psnr)) < 0.1, "diverged", "converged")
            nearest = rng.random(len(psnr)) < 0.8
            table = pd.DataFrame(
                {"image": rng.permutation(900)[: len(psnr)], "row": range(len(psnr)), "member": member}
            )
            table = table.assign(psnr_erased=psnr, status=status, is_nearest=nearest)
            tables[rung] = table.assign(recovered=nearest & (psnr >= 25) & (status != "diverged"))
            gallery[f"answer/{rung:.0e}"] = pictures
        signature = write(store, configured({"recovery.name": method}), tables, gallery)
        write_probes(store, signature, {"none": [4], "shift": [int(rng.integers(5)) for _ in range(3)]})
    findings = Findings.load(store)
    page = browser.new_page()
    (store / "report.html").write_text(build(findings))
    page.goto(f"{(store / 'report.html').as_uri()}#rung=all")
    page.wait_for_selector("#rows tr")
    plots, rows = page.evaluate(SHOWN)
    page.close()
    return findings, plots, rows


def lines_of(plots: list[Any], title: str) -> dict[str, Any]:
    (lines,) = (lines for label, lines in plots if title in label)
    return {f"{line['name']} {line.get('yaxis', '')}".strip(): line for line in lines}


def share(group: Group) -> str:
    return f"{TEXTS['%'](group.recovered.value)} % ({span(group.recovered, '%')})"


def psnr(group: Group) -> str:
    return f"{decibels(group.psnr.value)} ({span(group.psnr, 'dB')})"


def test_the_table_and_the_card_have_the_numbers_of_the_findings(
    found: tuple[Findings, list[Any], list[Any]],
) -> None:
    findings, _, rows = found
    assert len(rows) == len(findings.cells) == 6
    for cell, (row, card, _, _) in zip(findings.cells, rows, strict=True):
        members, others, excess, auc = cell.members, cell.non_members, cell.excess, cell.auc
        texts = [share(members), share(others), f"{TEXTS['%'](excess.value)} % ({span(excess, '%')})"]
        texts += [f"{auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})", psnr(members), psnr(others)]
        texts += [f"{cell.train_loss:.1e}", str(members.diverged + others.diverged)]
        assert [text.strip() for text in row.split("\t")[1:] if text.strip()] == texts
        for group in (members, others):
            assert f"{group.successes} of {group.count}: {share(group)}; median {psnr(group)} dB" in card
        assert f"Epsilon\n{epsilon(cell)}" in card
        for name, text, *limits in operating_points(cell):
            assert f"{name}\n{text}{''.join(f' ({limit})' for limit in limits)}" in card


def test_images_stand_from_the_best_to_the_worst_with_their_scores(
    found: tuple[Findings, list[Any], list[Any]],
) -> None:
    findings, _, rows = found
    for cell, (*_, options, points) in zip(findings.cells, rows, strict=True):
        results = findings.rows[cell.signature, cell.rung]
        results = results.assign(score=scores(results), kind=np.where(results["member"], "member", "non-member"))
        ranked = results.sort_values(["member", "score"], ascending=False, kind="stable")
        state = np.select(
            [ranked["status"] == "diverged", ranked["recovered"]], ["diverged", "recovered"], "not recovered"
        )
        texts = [
            (f"{kind} {image}", f"{decibels(value)} dB, {text}")
            for kind, image, value, text in zip(
                ranked["kind"], ranked["image"], ranked["psnr_erased"], state, strict=True
            )
        ]
        assert options == [": ".join(pair) for pair in texts]
        assert [*points[1], *points[0]] == ["<br>".join(pair) for pair in texts]


def test_curves_are_those_of_the_findings(found: tuple[Findings, list[Any], list[Any]]) -> None:
    findings, plots, _ = found
    lines = lines_of(plots, "against train loss")
    for name, cells in by_method(findings).items():
        for key, group_of in (("members", lambda cell: cell.members), ("non-members", lambda cell: cell.non_members)):
            groups: list[Group] = [group_of(cell) for cell in cells]
            for axis, values in (
                ("y", [100 * g.recovered.value for g in groups]),
                ("y2", [g.psnr.value for g in groups]),
            ):
                line = lines[f"{name}, {key} {axis}"]
                assert line["y"] == pytest.approx(values, rel=1e-8)
                assert line["text"] == [
                    f"{name}, {key}<br>train loss {cell.train_loss:.1e}<br>{group.successes} of {group.count} "
                    f"recovered ({TEXTS['%'](group.recovered.value)} %, {span(group.recovered, '%')})<br>median erased "
                    f"PSNR {decibels(group.psnr.value)} dB ({span(group.psnr, 'dB')})"
                    for cell, group in zip(cells, groups, strict=True)
                ]


def by_method(findings: Findings) -> dict[str, list[Cell]]:
    methods: dict[str, list[Cell]] = {}
    for cell in findings.cells:
        methods.setdefault(cell.labels.method, []).append(cell)
    return methods


def test_rates_and_thresholds_are_those_of_the_results(found: tuple[Findings, list[Any], list[Any]]) -> None:
    findings, plots, _ = found
    roc, thresholds = lines_of(plots, "ROC curves"), lines_of(plots, "against the threshold")
    for cell in findings.cells:
        results, name = findings.rows[cell.signature, cell.rung], f"{cell.labels.method}, {cell.rung:.0e}"
        member = results["member"].to_numpy()
        fpr, tpr = log_roc(scores(results)[member], scores(results)[~member])
        assert roc[name]["x"] == pytest.approx(fpr)
        assert roc[name]["y"] == pytest.approx(tpr)
        assert f"AUC {cell.auc.value:.3f}<br>" in roc[name]["hovertemplate"]
        for key, part in (("members", results[member]), ("non-members", results[~member])):
            line = thresholds[f"{name}, {key}"]
            right = part["is_nearest"] & (part["status"] != "diverged")
            for limit, y, text in zip(line["x"], line["y"], line["text"], strict=True):
                back = int((right & (part["psnr_erased"] >= limit)).sum())
                low, high = binomtest(back, len(part)).proportion_ci(0.95, method="wilson")
                assert y == pytest.approx(100 * back / len(part))
                shown = [float(number) for number in re.findall(r"[\d.]+", text)]
                assert shown == pytest.approx([y, 100 * low, 100 * high], abs=0.5000001)
                assert not ({0.0, 100.0} & {*shown[1:]} - {round(100 * low, 9), round(100 * high, 9)})


def test_probes_are_those_of_the_findings(found: tuple[Findings, list[Any], list[Any]]) -> None:
    findings, plots, _ = found
    for cell, table in findings.probed:
        (line,) = (
            line
            for label, lines in plots
            if "near-member probes" in label and cell.labels.method in label
            for line in lines
            if line["name"] == "shift"
        )
        rows = table[table["kind"] == "shift"]
        assert line["x"] == pytest.approx(rows["distance"].tolist())
        assert line["y"] == pytest.approx((100 * rows["captured"]).tolist())
        for text, share in zip(line["text"], rows["captured"], strict=True):
            assert f"away<br>{round(4 * share)} of 4 answered with the member (" in text
            assert "median PSNR to the probe 20.0 dB, to the member 30.0 dB" in text


def test_the_script_computes_no_statistic_and_rounds_no_number() -> None:
    """Distances on the screen and the errors of pixels are drawing: `Math.min`, `Math.max`, `Math.abs`, a logarithm."""
    for file in files("memorization.report").joinpath("script").iterdir():
        text = file.read_text()
        assert not re.search(r"toFixed|toPrecision|toExponential|toLocaleString|Intl", text), file.name
        assert not re.search(r"Math\.(?!min\b|max\b|abs\b|log10\b|ceil\b)", text), file.name
        assert not re.search(r"1\.9[56]|wilson|\* *100\b|\b100 *\*|[/*] \S*count\b", text, re.I), file.name
