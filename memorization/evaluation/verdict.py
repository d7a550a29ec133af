"""Which controls belong to a run, and whether it beats them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memorization.evaluation.controls import CONTROLS, TO_BEAT
from memorization.evaluation.scores import Columns, bounded
from memorization.evaluation.statistics import (
    CONFIDENCE,
    auc,
    mcnemar,
    median_interval,
)

KEYS = ("member", "image")
CALIBRATED = ("median", "median_low", "median_high", "auc", "auc_low", "auc_high")
NOT_APPLICABLE = "not applicable"
UNJUDGED: dict[str, Any] = {"verdict": "", "verdict_p": np.nan, "controls": ""}
UNJUDGED |= {f"calibrated_{name}": np.nan for name in CALIBRATED}


def controls_of(summary: pd.DataFrame) -> list[dict[str, int]]:
    """For each row of `summary`, the positions in it of the row's controls, by name.

    A control without an autoencoder serves every method on the same images, degraded alike (`task`); the others share
    the method and the autoencoder's settings (`setup`). Of a control at several rungs, the nearest to the row's counts:
    a reference autoencoder need not have reached the same ones.
    """
    names, setups, tasks = (summary[name].tolist() for name in ("control", "setup", "task"))
    rungs = summary["rung"].to_numpy(float)
    serving: dict[tuple[str, str], list[int]] = {}
    for place, (name, setup, task) in enumerate(zip(names, setups, tasks, strict=True)):
        if name != "none":
            serving.setdefault(("task", task) if setup == "" else ("setup", setup), []).append(place)
    found = []
    for name, setup, task, rung in zip(names, setups, tasks, rungs, strict=True):
        alike = [*serving.get(("task", task), []), *serving.get(("setup", setup), [])] if name == "none" else []
        with np.errstate(all="ignore"):
            away = np.nan_to_num(np.abs(np.log10(rungs[alike] / rung)), posinf=np.inf)
        ordered = sorted(zip(away.tolist(), alike, strict=True), reverse=True)
        found.append({str(names[place]): place for _, place in ordered})
    return found


def _judged(
    at: int, rows: list[dict[str, Any]], groups: list[Columns], found: dict[str, int], missing: Mapping[str, str]
) -> dict[str, Any]:
    """Whether row `at` beats its controls, and the calibration of its scores by its reference autoencoder.

    It is `unremarkable` unless more members came back than of the non-members (Fisher's exact test, one-sided) and than
    from each control on the same members (McNemar's, one-sided), all at 5 %. Since all must hold, the largest of these
    p-values, `verdict_p`, is that of the verdict, without a correction (intersection-union test). The ceiling is not
    among them. Where a control that applies was not run, the verdict says so. `calibrated_median` is the median over
    the members of the erased PSNR (dB) minus the reference's, and `calibrated_auc` says how well that difference tells
    members from non-members. The reference was trained on the non-members, so it is the chance to say which of the two
    autoencoders held an image.
    """
    row, own, judged, texts = rows[at], groups[at], UNJUDGED.copy(), list[str]()
    if not found or not row["members"]:
        return UNJUDGED
    member, p, complete = own["member"], [_excess_p(own)], True
    for name in CONTROLS:
        if name in found:
            other = _matched(groups[found[name]], own)
            rung, note = rows[found[name]]["rung"], "" if name in TO_BEAT else " (ceiling)"
            if rung != row["rung"] and not np.isnan(rung):
                note = f" (at {rung:.0e})"
            texts.append(f"{name} {other['recovered'][member].mean():.0%}{note}")
            if name in TO_BEAT:
                p.append(mcnemar(own["recovered"][member], other["recovered"][member], greater=True))
            if name == "reference":
                own_psnr, its = (bounded(images["psnr_erased"], images["diverged"]) for images in (own, other))
                judged |= _calibration(own_psnr - its, member)
        else:
            reason = missing.get(name) or _absence(name, row)
            texts.append(f"{name} {reason}")
            complete &= name not in TO_BEAT or reason.startswith(NOT_APPLICABLE)
    if any(name in found for name in TO_BEAT):
        judged["verdict_p"] = max(p)
        beaten = "beats its controls" if complete else "beats those of its controls that were run"
        judged["verdict"] = beaten if max(p) <= 1 - CONFIDENCE else "unremarkable"
    return judged | {"controls": ", ".join(texts)}


def _absence(control: str, row: Mapping[str, Any]) -> str:
    chained = str(row["degradation"]).lower() == "chain"
    return NOT_APPLICABLE if control == "inpaint" and (chained or row["fill"] == "none") else "not run"


def _excess_p(images: Columns) -> float:
    """Fisher's exact one-sided p-value of more members than non-members coming back."""
    count, members, recovered = len(images["member"]), images["member"].sum(), images["recovered"].sum()
    return float(stats.hypergeom.sf((images["recovered"] & images["member"]).sum() - 1, count, recovered, members))


def _matched(other: Columns, own: Columns) -> Columns:
    """`other` in the order of `own`: the same images."""
    if all(np.array_equal(other[name], own[name]) for name in KEYS):
        return other
    keys, wanted = (list(zip(*(images[name].tolist() for name in KEYS), strict=True)) for images in (other, own))
    place = {key: i for i, key in enumerate(keys)}
    if absent := [image for member, image in wanted if (member, image) not in place]:
        raise ValueError(f"a control lacks {len(absent)} images of the run it belongs to, image {absent[0]} for one")
    rows = [place[key] for key in wanted]
    return {name: values[rows] for name, values in other.items()}


def _calibration(difference: np.ndarray, member: np.ndarray) -> dict[str, float]:
    values = [np.median(difference[member]), *median_interval(difference[member])]
    if not member.all():
        area = auc(difference[member], difference[~member])
        values += [area.value, area.low, area.high]
    else:
        values += [np.nan] * 3
    return {f"calibrated_{name}": float(value) for name, value in zip(CALIBRATED, values, strict=True)}
