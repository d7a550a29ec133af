"""What the page's script draws: one record a cell, and what many cells share.

All numbers, and all texts of numbers, are computed here. The script draws, sorts and filters them.
"""

import base64
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from memorization.evaluation.membership import scores
from memorization.evaluation.statistics import Estimate, log_roc, proportion_interval
from memorization.evaluation.summary import THRESHOLDS, recovered_from
from memorization.report import reproduce
from memorization.report.cells import Cell, Group
from memorization.report.findings import Findings, rows_of
from memorization.report.gallery import Scene
from memorization.report.labels import without
from memorization.report.tables import TEXTS, decibels, epsilon, operating_points, p_values, span
from memorization.report.threat import bank, threat_models
from memorization.store.reading import Run
from memorization.store.signature import rung_name

Shared = dict[str, dict[Any, int]]  # by the name of the list, see `place`
Shown = list[float | str | None]  # of an estimate: value, low, high, and the texts of the value and of the interval


def place(known: dict[Any, int], value: Any) -> int:
    """The place of a value in a list of those that many cells share, in which each stands once."""
    return known.setdefault(value, len(known))


def packed(numbers: Iterable[int]) -> str:
    """Whole numbers from 0 on: how many bytes each takes, and all of them in base64."""
    array = np.array([*numbers])
    array = array.astype(np.min_scalar_type(array.max(initial=0)))
    return f"{array.itemsize}{base64.b64encode(array.tobytes()).decode()}"


def data(findings: Findings, pictures: dict[tuple[str, str], Scene]) -> dict[str, Any]:
    """The records of `cells`, in their order, and what they share.

    runs: by signature, how to make the run again. scenes: what `pictures` are of, in their order. probes: by the place
    of a cell, see `_probes`. thresholds: those of the curves, in dB. numbers, shares, rates, operating: see `_images`
    and `_facts`. strongest: the place of the answer's cell.
    """
    shared: Shared = {name: {} for name in ("numbers", "shares", "rates", "operating")}
    last, places = {(cell.signature, cell.rung) for cell in findings.last_cells}, findings.places
    scenes = {key: {"place": place, "size": scene.size} for place, (key, scene) in enumerate(pictures.items())}
    records = []
    for cell in findings.cells:
        key, scene = (cell.signature, cell.rung), scenes[cell.labels.autoencoder, cell.labels.degradation]
        scene |= _task(findings, cell)
        shown = _facts(cell, shared) | _images(findings.rows[key], shared)
        shown["bank"] = bank(findings.runs[cell.signature].config, cell.rung)
        records.append(shown | {"scene": scene["place"], "last": key in last})
    return {
        "cells": records,
        "probes": {places[cell.signature, cell.rung]: _probes(table, shared) for cell, table in findings.probed},
        "runs": {signature: _reproduction(findings.runs[signature]) for signature, _ in places},
        "scenes": list(scenes.values()),
        "thresholds": THRESHOLDS,
        **{name: list(values) for name, values in shared.items()},
        "shares": _shares(*np.array([*shared["shares"]]).T),
        "cards": threat_models(findings),
        "strongest": places[findings.strongest.signature, findings.strongest.rung],
    }


def as_shown(estimate: Estimate, unit: str) -> Shown:
    """`unit`: as of `TEXTS`; shares are fractions here, and percentages on the page."""
    scale = 100 if unit == "%" else 1
    numbers = (plain(scale * value) for value in (estimate.value, estimate.low, estimate.high))
    return [*numbers, TEXTS[unit](estimate.value), span(estimate, unit)]


def plain(value: float) -> float | None:
    """In nine digits; None for what JSON cannot hold."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def _images(results: pd.DataFrame, shared: Shared) -> dict[str, Any]:
    """The images of a cell, and the curves made of them.

    numbers: the place in `numbers` of all numbers of images. order: the places in these of the members, from the best
    to the worst, then of the non-members likewise. psnr, states: of the images in this order, texts in dB with blanks
    between, and letters. roc: the false and the true positive rates for logarithmic axes, as places in `rates`; empty
    without members or non-members. curves: of each group with images, the places in `shares` of what is recovered at
    each of `THRESHOLDS`.
    """
    member, score = results["member"].to_numpy(bool), scores(results)
    order = np.lexsort((-score, ~member))
    diverged, recovered = results["status"] == "diverged", results["recovered"].eq(True)
    states = np.select([diverged, recovered], ["d", "r"], "f")
    curves = zip(("members", "others"), *map(np.ndarray.tolist, recovered_from(results, THRESHOLDS)), strict=True)
    rates = log_roc(score[member], score[~member]) if 0 < member.sum() < len(member) else ()
    return {
        "numbers": place(shared["numbers"], tuple(results["image"].tolist())),
        "order": packed(order.tolist()),
        "psnr": " ".join(map(decibels, results["psnr_erased"].to_numpy()[order].tolist())),
        "states": "".join(states[order]),
        "roc": [packed(place(shared["rates"], plain(rate)) for rate in each.tolist()) for each in rates],
        "curves": {
            key: packed(place(shared["shares"], (count, of)) for count in counts) for key, counts, (of,) in curves if of
        },
    }


def _shares(successes: np.ndarray, trials: np.ndarray) -> list[Shown]:
    with np.errstate(invalid="ignore"):
        estimates = zip(successes / trials, *proportion_interval(successes, trials), strict=True)
    return [as_shown(Estimate(*map(float, estimate)), "%") for estimate in estimates]


def _probes(table: pd.DataFrame, shared: Shared) -> dict[str, list[list[float | str]]]:
    """Of each kind of near-member probes a row a strength, by growing distance: see `summary.attraction`.

    Strength, median distance, the place in `shares` of the share answered with their member, probes, those answered
    with their member, those that were drawn closer to it, and the median PSNR (dB) of the answers to the probe and to
    the member. Kind `none` is the member itself.
    """
    kinds: dict[str, list[list[float | str]]] = {}
    for row in sorted(rows_of(table), key=lambda row: row["distance"]):
        probes = row["probes"]
        captured, attracted = (round(row[name] * probes) for name in ("captured", "attracted"))
        at = place(shared["shares"], (captured, probes))
        counts, medians = [probes, captured, attracted], [decibels(row[f"psnr_{to}"]) for to in ("probe", "member")]
        kinds.setdefault(row["kind"], []).append([row["strength"], f"{row['distance']:.3f}", at, *counts, *medians])
    return kinds


def _task(findings: Findings, cell: Cell) -> dict[str, Any]:
    """What all cells of an autoencoder and a degradation have in common."""
    config, labels = findings.runs[cell.signature].config, cell.labels
    names: dict[str, Any] = {group: config[group]["name"] for group in ("dataset", "architecture")}
    names |= {"autoencoder": labels.autoencoder, "degradation": labels.degradation}
    strength = {"fraction": plain(cell.fraction), "noise": plain(cell.noise)}
    return names | strength | {"alike": without(labels.degradation, cell.fraction, cell.noise)}


def _facts(cell: Cell, shared: Shared) -> dict[str, Any]:
    """What stands in the table and on the card; `operating` are places in the list of that name."""
    facts: dict[str, Any] = {"signature": cell.signature, "method": cell.labels.method, "recovery": cell.recovery}
    facts |= {"variant": cell.labels.variant, "rung": rung_name(cell.rung), "loss": cell.train_loss}
    facts |= {"lossText": f"{cell.train_loss:.1e}", "threshold": cell.threshold_db}
    facts |= {"members": _group(cell.members, shared), "others": _group(cell.non_members, shared)}
    facts |= {"excess": as_shown(cell.excess, "%"), "auc": as_shown(cell.auc, "AUC")}
    facts["epsilon"] = epsilon(cell)
    facts["operating"] = [place(shared["operating"], point) for point in operating_points(cell)]
    facts |= {"verdict": cell.verdict, "p": p_values(cell), "controls": cell.controls_text}
    facts |= {"queries": f"{cell.queries:.0f}", "repeated": cell.repeated}
    calibrated = ((cell.calibrated_psnr, "dB"), (cell.calibrated_auc, "AUC"))
    shown = [as_shown(estimate, unit) for estimate, unit in calibrated if not math.isnan(estimate.value)]
    return facts | {"calibrated": shown}


def _group(group: Group, shared: Shared) -> dict[str, Any]:
    """`recovered` is a place in `shares`."""
    counts = {"count": group.count, "successes": group.successes, "diverged": group.diverged}
    recovered = place(shared["shares"], (group.successes, group.count))
    return counts | {"recovered": recovered, "psnr": as_shown(group.psnr, "dB")}


def _reproduction(run: Run) -> dict[str, str]:
    versions = ", ".join(map(" ".join, run.done.get("versions", {}).items()))
    folder = "" if "call" in run.config else str(run.folder)
    return {"folder": folder, "command": reproduce.command(run.config), "versions": versions}
