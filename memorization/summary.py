"""From scores to statistics: how many members came back, how many non-members, and how sure that is.

"Recovered" is a stated rule, applied per image before this module: erased-pixel PSNR of at least `threshold_db`, and no
member closer to the answer than the original. The statistics themselves, with their intervals, are in `statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from memorization.controls import CONTROLS, TO_BEAT
from memorization.scores import PSNR_CAP
from memorization.statistics import (
    CONFIDENCE,
    Estimate,
    auc,
    difference_interval,
    mcnemar,
    median_interval,
    paired_difference,
    proportion_interval,
    tpr_at_fpr,
)

CHOICES = ["dataset", "architecture", "degradation", "fraction", "fill", "noise", "recovery", "operator"]
FACTS = ["rung", "train_loss", "seed", "threshold_db", "signature"]
# What ties a control to what it belongs to, with the values of results that have none; see `controls_of`.
LINKS = {"control": "none", "task": "", "setup": ""}
KEYS = ("member", "image")
MEASURED = (*KEYS, "recovered", "psnr_erased", "score", "diverged", "operator_error", "queries", "seconds")
CALIBRATED = ("median", "median_low", "median_high", "auc", "auc_low", "auc_high")
NOT_APPLICABLE = "not applicable"
UNJUDGED: dict[str, Any] = {"verdict": "", "verdict_p": np.nan, "controls": ""}
UNJUDGED |= {f"calibrated_{name}": np.nan for name in CALIBRATED}
RATES = (0.1, 0.01, 0.001)  # false positive rates at which the true positive rate is asked for
THRESHOLDS = tuple(range(10, 61))  # dB, of a threshold curve

Columns = dict[str, np.ndarray]  # of the images of one run and rung


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: the erased PSNR in dB.

    -inf, below all others, for images that diverged and where the PSNR is NaN. An infinite one, of an exact answer,
    stays above all others.
    """
    psnr = results["psnr_erased"].to_numpy(float)
    return np.where((results["status"] == "diverged") | np.isnan(psnr), -np.inf, psnr)


def bounded(psnr: np.ndarray, diverged: np.ndarray) -> np.ndarray:
    """PSNRs (dB) that can be subtracted from each other and averaged, within 0 and `PSNR_CAP`, 120.

    0, that of an answer in [0, 1] that is as wrong as can be, for images that diverged and where the PSNR is NaN; 120,
    the most that `scores.psnr` gives, where it is infinite.
    """
    return np.where(diverged | np.isnan(psnr), 0.0, np.clip(psnr, 0.0, PSNR_CAP))


def summarise(results: pd.DataFrame, missing: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a run, control and rung, from one row an image (the columns of `results.parquet`).

    Fractions and rates lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB, -inf where it was NaN.
    What there are no images for, or too few, is NaN: an interval of a median takes six. `auc` and
    `tpr_at_fpr_<rate>` are those of `scores`; a true positive rate is NaN where the non-members are too few to resolve
    the rate, else `fpr_of_<rate>` is the rate really achieved. `verdict` and `controls` are explained at
    `_judged`; `missing` says why a control was not run. Raises `ValueError` for a table without rows, and for a control
    that holds other images than the run it belongs to.
    """
    if results.empty:
        raise ValueError("there are no results to summarise: the table has no rows")
    known = {
        "recovered": results["recovered"].eq(True),
        "diverged": results["status"] == "diverged",
    }  # NaN is no success
    table = results.assign(score=scores(results), **known).astype({"member": bool, "operator_error": float})
    for name, default in LINKS.items():
        if name not in table:
            table[name] = default
        elif table[name].isna().any():
            table[name] = table[name].astype(object).fillna(default)
    order, starts = _grouped(table)
    columns = {name: table[name].to_numpy()[order] for name in MEASURED}
    firsts = table[[*CHOICES, *FACTS, *LINKS]].iloc[order[starts]].to_dict("records")
    rows: list[dict[str, Any]] = []
    groups: list[Columns] = []
    for first, start, end in zip(firsts, starts, [*starts[1:], len(order)], strict=True):
        group = {name: values[start:end] for name, values in columns.items()}
        groups.append(group)
        row: dict[str, Any] = {str(name): value for name, value in first.items()}
        member = group["member"]
        for name, part in (("members", member), ("non_members", ~member)):
            row[name] = int(part.sum())
            row |= {f"{name}_{key}": value for key, value in _group(group, part).items()}
        row |= _contrast(group["score"][member], group["score"][~member])
        row["operator_error"] = float(group["operator_error"][member].mean()) if row["members"] else np.nan
        row["queries"] = float(group["queries"].mean())
        row["seconds"] = float(group["seconds"].sum())
        rows.append(row)
    summary = _with_intervals(pd.DataFrame(rows))
    found = controls_of(summary)
    judged = [_judged(i, rows, groups, found[i], missing or {}) for i in range(len(rows))]
    return summary.assign(**pd.DataFrame(judged, index=summary.index))


def _grouped(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The places of a table's rows, those of each run, control and rung together, and where in them each begins."""
    group = table.groupby(["signature", "control", "rung"], sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    return order, np.flatnonzero(np.diff(group[order], prepend=-1))


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


def _group(columns: Columns, part: np.ndarray) -> dict[str, float]:
    """The statistics of the members, or of the non-members, with room for the intervals of proportions."""
    psnr = columns["psnr_erased"][part]
    psnr = np.where(np.isnan(psnr), -np.inf, psnr)
    low, high = median_interval(psnr)
    with np.errstate(invalid="ignore"):  # the median between -inf and inf is NaN
        median = float(np.median(psnr)) if len(psnr) else np.nan
    return {
        "recovered": columns["recovered"][part].sum() / len(psnr) if len(psnr) else np.nan,
        "recovered_low": np.nan,
        "recovered_high": np.nan,
        "median_psnr": median,
        "median_psnr_low": low,
        "median_psnr_high": high,
        "best_psnr": float(psnr.max()) if len(psnr) else np.nan,
        "diverged": int(columns["diverged"][part].sum()),
    }


def _contrast(members: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """How well the scores of `members` and `others` are told apart, with room for the excess; NaN without both."""
    both = bool(len(members) and len(others))
    area = auc(members, others) if both else Estimate(np.nan, np.nan, np.nan)
    row = {"excess": np.nan, "excess_low": np.nan, "excess_high": np.nan}
    row |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    for rate in RATES:
        point, name = tpr_at_fpr(members, others, rate) if both else None, f"tpr_at_fpr_{rate:g}"
        row |= {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan, f"fpr_of_{rate:g}": np.nan}
        if point:
            row |= {name: point.tpr.value, f"{name}_low": point.tpr.low, f"{name}_high": point.tpr.high}
            row[f"fpr_of_{rate:g}"] = point.fpr
    return row


def _with_intervals(summary: pd.DataFrame) -> pd.DataFrame:
    """`summary` with the intervals of its proportions and the excess, of all rows at once."""
    counts = {}
    for name in ("members", "non_members"):
        trials = summary[name].to_numpy(float)
        counts[name] = (summary[f"{name}_recovered"].to_numpy(float) * trials).round(), trials
        summary[f"{name}_recovered_low"], summary[f"{name}_recovered_high"] = proportion_interval(*counts[name])
    summary["excess"] = summary["members_recovered"] - summary["non_members_recovered"]
    summary["excess_low"], summary["excess_high"] = difference_interval(counts["members"], counts["non_members"])
    return summary


def threshold_curve(results: pd.DataFrame, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """How the recovered fractions depend on `threshold_db`: one row a threshold (dB), of one run and rung.

    An image counts at each threshold if it did not diverge and no member is closer to its answer than the original.
    """
    score = np.where(results["is_nearest"].eq(True), scores(results), -np.inf)
    member, limits = results["member"].to_numpy(bool), np.asarray(thresholds, float)
    parts = [np.sort(score[part]) for part in (member, ~member)]
    recovered = np.stack([len(part) - np.searchsorted(part, limits, "left") for part in parts])  # (2, thresholds)
    trials = np.array([[len(part)] for part in parts])
    low, high = proportion_interval(recovered, trials)
    excess_low, excess_high = difference_interval((recovered[0], trials[0]), (recovered[1], trials[1]))
    with np.errstate(invalid="ignore"):
        share = recovered / trials
    columns = {"threshold_db": limits}
    for i, name in enumerate(("members", "non_members")):
        columns |= {f"{name}_recovered": share[i], f"{name}_recovered_low": low[i], f"{name}_recovered_high": high[i]}
    return pd.DataFrame(columns | {"excess": share[0] - share[1], "excess_low": excess_low, "excess_high": excess_high})


@dataclass(frozen=True)
class MemberScores:
    """Of the members of one run and rung, by their numbers in the data set: who came back, and the erased PSNR (dB).

    The PSNR is `bounded`, within 0 and 120 dB.
    """

    image: np.ndarray
    recovered: np.ndarray
    psnr_erased: np.ndarray

    @classmethod
    def of(cls, results: pd.DataFrame) -> MemberScores:
        """From the results of one run and rung."""
        members = results[results["member"].to_numpy(bool)]
        members = members.sort_values("image", kind="stable")
        psnr = bounded(members["psnr_erased"].to_numpy(float), (members["status"] == "diverged").to_numpy())
        return cls(members["image"].to_numpy(), members["recovered"].eq(True).to_numpy(), psnr)


def compare(first: MemberScores, second: MemberScores) -> dict[str, float]:
    """Two methods on the same members: is one better?

    `recovered_difference` with the p-value of McNemar's exact test, and the mean difference of the erased PSNR in dB
    (each within 0 and 120 dB, see `bounded`) with the interval (NaN for a single member) and p-value of
    `statistics.paired_difference`; positive where `first` is better. Raises `ValueError` for other members, or none.
    """
    if not len(first.image):
        raise ValueError("the tables hold no members; a paired comparison needs some")
    if not np.array_equal(first.image, second.image):
        raise ValueError("the two tables hold different members; a paired comparison needs the same images in both")
    psnr = paired_difference(first.psnr_erased, second.psnr_erased)
    return {
        "members": len(first.image),
        "recovered_difference": float(first.recovered.mean() - second.recovered.mean()),
        "recovered_p": mcnemar(first.recovered, second.recovered),
        "psnr_difference": psnr.mean.value,
        "psnr_difference_low": psnr.mean.low,
        "psnr_difference_high": psnr.mean.high,
        "psnr_p": psnr.p,
    }
