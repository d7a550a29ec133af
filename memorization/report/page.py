"""The page: what its script and template show, as plain data.

The script (the files of `script/`, one after the other) draws tables, figures and pictures from one record a cell, so
that filters act on the page alone.
"""

from __future__ import annotations

import base64
import inspect
import math
import statistics
import sys
from collections.abc import Iterable
from importlib.resources import files
from itertools import groupby
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from memorization.evaluation.statistics import Estimate, OperatingPoint
from memorization.recovery import METHODS, OPERATORS
from memorization.report import reproduce
from memorization.report.cells import Cell, Group
from memorization.report.findings import Findings, rows_of
from memorization.report.gallery import Scene, scenes
from memorization.report.labels import percent, without
from memorization.report.tables import decibels, most_varied, share, span, without_seed
from memorization.store.signature import rung_name

SCRIPTS = ("records", "choice", "table", "drawing", "figures", "plots", "run", "gallery", "start")  # in this order
RECOVERED, DIVERGED, NEAREST = 1, 2, 4  # bits of an image's state
COMPARED = 200  # pairs of methods that the page shows; of more, `--compare` tells
SEEDED = 100  # runs with other seeds that the page shows
OPEN = 10  # pairs that it shows at once; more, on a click


def build(findings: Findings, *, watching: bool = False) -> str:
    """The report as one self-contained HTML page, which reloads itself if `watching`.

    Raises `StoreError` for a damaged gallery or config.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("memorization.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"percent": percent, "decibels": decibels, "span": span, "code": code}
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    pictures, extent = scenes(findings)
    strongest = findings.strongest
    return environment.get_template("page.html").render(
        store=findings.store,
        damaged=findings.damaged,
        watching=watching,
        style=Markup(_file("page.css")),
        script=Markup("\n".join(_file(f"script/{name}.js") for name in SCRIPTS)),
        plotly=Markup(get_plotlyjs()),
        answer=answer(strongest),
        standing=standing(findings),
        strongest=strongest,
        data=data(findings, pictures) | {"lossless": extent.lossless},
        pictures=[
            {"images": scene.images, "answers": scene.answers, "paths": scene.paths} for scene in pictures.values()
        ],
        extent=extent,
        pairs=len(findings.pairs),
        open_pairs=OPEN,
        compared=_compared(findings) if len(findings.pairs) <= COMPARED else [],
        seeds=[(without_seed(cell.labels), found) for cell, found in most_varied(findings, SEEDED)],
        seeded=len(findings.over_seeds),
        judged=any(cell.verdict for cell in findings.cells),
        thresholds=sorted({cell.threshold_db for cell in findings.cells}),
        operators=_operators(findings),
        versions=reproduce.versions(),
    )


def _file(name: str) -> str:
    return files("memorization.report").joinpath(name).read_text(encoding="utf-8")


def data(findings: Findings, pictures: dict[tuple[str, str], Scene]) -> dict[str, Any]:
    """What the script shows: `cells` in their order, and what many cells share.

    runs: by signature, how to make the run again. images: lists of image numbers, members first, of which each cell
    names one by its place. probes: by the place of a cell, see `_probes`. scenes: what `pictures` are of, in their
    order. strongest: the place of the answer's cell.
    """
    last = {(cell.signature, cell.rung) for cell in findings.last_cells}
    images: dict[tuple[Any, ...], int] = {}
    scene_of = {key: place for place, key in enumerate(pictures)}
    cells = []
    for cell in findings.cells:
        scores = _members_first(findings.rows[cell.signature, cell.rung])
        numbers = (cell.members.count, *scores["image"].tolist())
        bits = {RECOVERED: scores["recovered"], DIVERGED: scores["status"] == "diverged", NEAREST: scores["is_nearest"]}
        state = sum(bit * values.to_numpy(np.uint8) for bit, values in bits.items())
        cells.append(
            {
                **_facts(findings, cell),
                "last": (cell.signature, cell.rung) in last,
                "scene": scene_of[cell.labels.autoencoder, cell.labels.degradation],
                "images": images.setdefault(numbers, len(images)),
                "queries": _plain(float(scores["queries"].mean())),
                "psnr": _packed(scores["psnr_erased"].to_numpy("<f4")),
                "state": _packed(np.asarray(state, np.uint8)),
            }
        )
    places = {(cell.signature, cell.rung): place for place, cell in enumerate(findings.cells)}
    strongest = findings.strongest
    return {
        "cells": cells,
        "probes": {places[cell.signature, cell.rung]: _probes(table) for cell, table in findings.probed},
        "runs": {
            signature: _reproduction(findings, signature) for signature in {cell.signature for cell in findings.cells}
        },
        "images": [{"members": members, "numbers": numbers} for members, *numbers in images],
        "scenes": [
            {"autoencoder": autoencoder, "degradation": degradation, "size": scene.size}
            for (autoencoder, degradation), scene in pictures.items()
        ],
        "cards": _threat_models(cell.recovery for cell in findings.cells),
        "strongest": places[strongest.signature, strongest.rung],
    }


def _compared(findings: Findings) -> list[tuple[str, list[dict[str, Any]]]]:
    """The comparisons of methods, by where they were made."""
    rows = rows_of(findings.comparisons)
    return [(name, list(part)) for name, part in groupby(rows, lambda r: f"{r['autoencoder']}; {r['degradation']}")]


def _probes(table: pd.DataFrame) -> dict[str, list[list[float | None]]]:
    """Of each kind of near-member probes a row a strength: see `probes.attraction`.

    Strength, median distance, probes, those answered with their member, those that were drawn closer to it, and the
    median PSNR (dB) of the answers to the probe and to the member. Kind `none` is the member itself.
    """
    kinds: dict[str, list[list[float | None]]] = {}
    for row in rows_of(table):
        counts = [row["probes"], *(round(row[name] * row["probes"]) for name in ("captured", "attracted"))]
        medians = [_plain(round(row[name], 1)) for name in ("psnr_probe", "psnr_member")]
        kinds.setdefault(row["kind"], []).append([row["strength"], round(row["distance"], 4), *counts, *medians])
    return kinds


def _members_first(scores: pd.DataFrame) -> pd.DataFrame:
    return (
        scores
        if scores["member"].is_monotonic_decreasing
        else scores.sort_values("member", ascending=False, kind="stable")
    )


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()


def _facts(findings: Findings, cell: Cell) -> dict[str, Any]:
    config, labels = findings.runs[cell.signature].config, cell.labels
    return {
        "signature": cell.signature,
        "dataset": config["dataset"]["name"],
        "architecture": config["architecture"]["name"],
        "autoencoder": labels.autoencoder,
        "degradation": labels.degradation,
        "method": labels.method,
        "recovery": cell.recovery,
        "variant": labels.variant,
        "rung": rung_name(cell.rung),
        "loss": cell.train_loss,
        "fraction": _plain(cell.fraction),
        "noise": _plain(cell.noise),
        "alike": without(labels.degradation, cell.fraction, cell.noise),
        "threshold": cell.threshold_db,
        "members": _group(cell.members),
        "others": _group(cell.non_members),
        "excess": _estimate(cell.excess),
        "auc": _estimate(cell.auc),
        "operating": [[rate, _point(point)] for rate, point in cell.operating.items()],
        "verdict": cell.verdict,
        "p": _plain(cell.verdict_p),
        "holm": _plain(cell.verdict_holm),
        "controls": cell.controls_text,
        "repeated": cell.repeated,
        "calibrated": cell.calibrated_psnr
        and cell.calibrated_auc
        and [_estimate(cell.calibrated_psnr), _estimate(cell.calibrated_auc)],
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "count": group.count,
        "recovered": _estimate(group.recovered),
        "psnr": _estimate(group.psnr),
        "diverged": group.diverged,
    }


def _estimate(estimate: Estimate) -> list[float | None]:
    return [_plain(value) for value in (estimate.value, estimate.low, estimate.high)]


def _point(point: OperatingPoint | None) -> list[float | None] | None:
    return None if point is None else [_plain(point.fpr), *_estimate(point.tpr)]


def _plain(value: float) -> float | None:
    """In seven digits, as many as a float32 holds; None for what JSON cannot hold."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _reproduction(findings: Findings, signature: str) -> dict[str, Any]:
    run = findings.runs[signature]
    versions = run.done.get("versions", {})
    return {
        "folder": str(run.folder),
        "command": reproduce.command(run.config),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def answer(cell: Cell) -> str:
    """One run in one sentence, with its intervals."""
    variant = f"operator {cell.labels.variant}" if cell.operator != "none" else cell.labels.variant
    method = f"{cell.recovery} ({variant})" if variant else cell.recovery
    degraded = f"degraded by {cell.labels.degradation}"
    if not math.isnan(cell.fraction) and cell.degradation != "chain":  # in a chain, erasing is not all
        degraded = f"with {100 * cell.fraction:.3g} % of the pixels erased"
    return (
        f"At a train loss of {cell.train_loss:.0e}, {method} recovered {share(cell.members)} from images "
        f"{degraded}, and {share(cell.non_members)}."
    )


def standing(findings: Findings) -> str:
    """How the run of the answer was chosen, and where the others stand."""
    cells = findings.last_cells
    if len(cells) == 1:
        return "This is the only run of the store, at its lowest train loss."
    best = findings.strongest
    equal = sum(cell.excess.value == best.excess.value for cell in cells) - 1
    excesses = [cell.excess.value for cell in cells if not math.isnan(cell.excess.value)]
    if not excesses:
        return f"This is the one of {len(cells)} runs that stands first; none has members and non-members to compare."
    adjusted = (
        "" if math.isnan(best.verdict_holm) else f"; the p-value adjusted for all (Holm) does: {best.verdict_holm:.1g}"
    )
    ties = (
        f" ({equal} {'other has' if equal == 1 else 'others have'} the same; of these, the one with most pixels "
        "erased, then with the highest median PSNR, is shown)"
    )
    return (
        f"This is the strongest of {len(cells)} runs, each at its lowest train loss: the one with the largest excess "
        f"of members over non-members{ties if equal else ''}. Over all of them the excess is {percent(min(excesses))} "
        f"to {percent(max(excesses))}, with a median of {percent(statistics.median(excesses))}. Neither the "
        f"intervals nor the verdict account for this choice{adjusted}."
    )


def code(text: str) -> Markup:
    """Text with its `quoted` parts as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _threat_models(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """What each method is, its access to the autoencoder and what it knows; of those that this version has."""
    present = set(names)
    methods: dict[str, Any] = dict(METHODS)
    return {
        name: {
            "text": _first_paragraph(sys.modules[method.__module__].__doc__),
            "access": method.access,
            "knows": method.knows,
        }
        for name, method in methods.items()
        if name in present
    }


def _operators(findings: Findings) -> list[tuple[str, str, bool]]:
    """(name, what it is, blind) of the ways to know the operator that occur."""
    present = {cell.operator for cell in findings.cells}
    operators: dict[str, Any] = dict(OPERATORS)
    return [
        (name, _first_paragraph(inspect.getdoc(operator)), operator.blind)
        for name, operator in operators.items()
        if name in present
    ]


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").split("\n\n")[0].split())
