"""Which controls belong to a run, and whether it beats them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from memorization.evaluation.controls import CONTROLS, TO_BEAT, Control
from memorization.evaluation.membership import bounded
from memorization.evaluation.statistics import CONFIDENCE, Estimate, auc, columns, mcnemar, median_interval

Columns = dict[str, np.ndarray]  # of the images of one run and rung
KEYS = ("member", "image")
NOT_APPLICABLE = "not applicable"
UNKNOWN = Estimate(np.nan, np.nan, np.nan)
UNJUDGED: dict[str, Any] = {"verdict": "", "verdict_p": np.nan, "controls": ""}
UNJUDGED |= columns("calibrated_median", *UNKNOWN) | columns("calibrated_auc", *UNKNOWN)


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
    if to_beat := [images for name, images in run.items() if name in TO_BEAT]:
        complete = all(why.startswith(NOT_APPLICABLE) for name, why in absent.items() if name in TO_BEAT)
        beaten = "beats its controls" if complete else "beats those of its controls that were run"
        judged["verdict_p"] = p = _largest_p(own.images, to_beat)
        judged["verdict"] = beaten if p <= 1 - CONFIDENCE else "unremarkable"
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
    member, recovered = own["member"], own["recovered"]
    excess = stats.hypergeom.sf((recovered & member).sum() - 1, len(member), recovered.sum(), member.sum())  # Fisher's
    return max(float(excess), *(mcnemar(recovered[member], of["recovered"][member], greater=True) for of in controls))


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
    members, others = (own_psnr - its)[own["member"]], (own_psnr - its)[~own["member"]]
    median = columns("calibrated_median", float(np.median(members)), *median_interval(members))
    return median | columns("calibrated_auc", *(auc(members, others) if len(others) else UNKNOWN))
