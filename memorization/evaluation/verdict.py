"""Which controls belong to a run, and whether it beats them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from memorization.evaluation.controls import CONTROLS, TO_BEAT, Control
from memorization.evaluation.scores import Columns, bounded
from memorization.evaluation.statistics import CONFIDENCE, auc, mcnemar, median_interval

KEYS = ("member", "image")
CALIBRATED = ("median", "median_low", "median_high", "auc", "auc_low", "auc_high")
NOT_APPLICABLE = "not applicable"
UNJUDGED: dict[str, Any] = {"verdict": "", "verdict_p": np.nan, "controls": ""}
UNJUDGED |= {f"calibrated_{name}": np.nan for name in CALIBRATED}


class Group(NamedTuple):
    """The images of one run, control and rung: what is said of all of them, and the columns that differ."""

    facts: Mapping[str, Any]
    images: Columns


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
        if name != Control.none:
            serving.setdefault(("task", task) if setup == "" else ("setup", setup), []).append(place)
    found = []
    for name, setup, task, rung in zip(names, setups, tasks, rungs, strict=True):
        alike = [*serving.get(("task", task), []), *serving.get(("setup", setup), [])] if name == Control.none else []
        with np.errstate(all="ignore"):
            away = np.nan_to_num(np.abs(np.log10(rungs[alike] / rung)), posinf=np.inf)
        ordered = sorted(zip(away.tolist(), alike, strict=True), reverse=True)
        found.append({str(names[place]): place for _, place in ordered})
    return found


def verdict_on(own: Group, controls: Mapping[str, Group], missing: Mapping[str, str]) -> dict[str, Any]:
    """Whether a run beats its `controls`, and the calibration of its scores by its reference autoencoder.

    It is `unremarkable` unless more members came back than of the non-members (Fisher's exact test, one-sided) and than
    from each control on the same members (McNemar's, one-sided), all at 5 %. Since all must hold, the largest of these
    p-values, `verdict_p`, is that of the verdict, without a correction (intersection-union test). The ceiling is not
    among them. Where a control that applies was not run, the verdict says so; `missing` says of each why.
    `calibrated_median` is the median over the members of the erased PSNR (dB) minus the reference's, and
    `calibrated_auc` says how well that difference tells members from non-members. The reference was trained on the
    non-members, so it is the chance to say which of the two autoencoders held an image.
    """
    if not controls or not own.images["member"].any():
        return UNJUDGED
    run = {name: _matched(controls[name].images, own.images) for name in CONTROLS if name in controls}
    absent = {name: missing.get(name) or _absence(name, own.facts) for name in CONTROLS if name not in controls}
    results = {name: _result(name, images, controls[name].facts, own) for name, images in run.items()}
    judged = UNJUDGED | {"controls": ", ".join(f"{name} {(results | absent)[name]}" for name in CONTROLS)}
    if Control.reference in run:
        judged |= _calibration(own.images, run[Control.reference])
    to_beat = [images for name, images in run.items() if name in TO_BEAT]
    if to_beat:
        judged["verdict_p"] = _largest_p(own.images, to_beat)
        complete = all(why.startswith(NOT_APPLICABLE) for name, why in absent.items() if name in TO_BEAT)
        judged["verdict"] = _verdict(judged["verdict_p"], complete)
    return judged


def _absence(control: Control, facts: Mapping[str, Any]) -> str:
    """Why a control has no results: it does not apply to the degradation, or was not run.

    Results of older versions do not say whether the degradation erases, but where it has no fill it does not.
    """
    erases = facts["erases"]
    never = facts["fill"] == "none" if pd.isna(erases) else not erases
    return NOT_APPLICABLE if control is Control.inpaint and never else "not run"


def _result(control: Control, images: Columns, facts: Mapping[str, Any], own: Group) -> str:
    """The share of members that a control brought back, in words."""
    note = "" if control in TO_BEAT else " (ceiling)"
    if facts["rung"] != own.facts["rung"] and not np.isnan(facts["rung"]):
        note = f" (at {facts['rung']:.0e})"
    return f"{images['recovered'][own.images['member']].mean():.0%}{note}"


def _largest_p(own: Columns, controls: list[Columns]) -> float:
    """The largest p-value of the tests that more members came back than of what they are compared with."""
    member = own["member"]
    tests = [mcnemar(own["recovered"][member], other["recovered"][member], greater=True) for other in controls]
    return max(_excess_p(own), *tests)


def _excess_p(images: Columns) -> float:
    """Fisher's exact one-sided p-value of more members than non-members coming back."""
    count, members, recovered = len(images["member"]), images["member"].sum(), images["recovered"].sum()
    return float(stats.hypergeom.sf((images["recovered"] & images["member"]).sum() - 1, count, recovered, members))


def _verdict(p: float, complete: bool) -> str:
    if p > 1 - CONFIDENCE:
        return "unremarkable"
    return "beats its controls" if complete else "beats those of its controls that were run"


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


def _calibration(own: Columns, reference: Columns) -> dict[str, float]:
    """The statistics of the difference in erased PSNR between a run and its reference."""
    own_psnr, its = (bounded(images["psnr_erased"], images["diverged"]) for images in (own, reference))
    difference, member = own_psnr - its, own["member"]
    values = [np.median(difference[member]), *median_interval(difference[member])]
    if member.all():
        values += [np.nan] * 3
    else:
        area = auc(difference[member], difference[~member])
        values += [area.value, area.low, area.high]
    return {f"calibrated_{name}": float(value) for name, value in zip(CALIBRATED, values, strict=True)}
