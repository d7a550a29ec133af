"""From scores to statistics: how many members came back, how many non-members, and how sure that is.

"Recovered" is a rule that was applied to each image before: its erased-pixel PSNR is at least `threshold_db`, and no
member is closer to the answer than the original. The statistics themselves, with their intervals, are in `statistics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from memorization.evaluation.controls import Control
from memorization.evaluation.scores import Columns, scores
from memorization.evaluation.statistics import (
    Estimate,
    auc,
    difference_interval,
    median_interval,
    proportion_interval,
    tpr_at_fpr,
)
from memorization.evaluation.verdict import KEYS, Group, controls_of, verdict_on
from memorization.recovery import Status

CHOICES = ["dataset", "architecture", "degradation", "fraction", "fill", "noise", "recovery", "operator"]
FACTS = ["rung", "train_loss", "seed", "threshold_db", "signature"]
# What ties a control to what it belongs to, with the values of results that have none; see `controls_of`.
LINKS = {"control": Control.none.value, "task": "", "setup": ""}
ERASES = "erases"  # which results of older versions do not say; it is for the verdict alone
MEASURED = (*KEYS, "recovered", "psnr_erased", "score", "diverged", "operator_error", "queries", "seconds")
KINDS = ("members", "non_members")
RATES = (0.1, 0.01, 0.001)  # false positive rates at which the true positive rate is asked for
THRESHOLDS = tuple(range(10, 61))  # dB, of a threshold curve


def summarise(results: pd.DataFrame, missing: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a run, control and rung, from one row an image (the columns of `results.parquet`).

    Fractions and rates lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB, -inf where it was NaN.
    What there are no images for, or too few, is NaN: an interval of a median takes six. `auc` and
    `tpr_at_fpr_<rate>` are those of `scores`; a true positive rate is NaN where the non-members are too few to resolve
    the rate, else `fpr_of_<rate>` is the rate really achieved. `verdict` and `controls` are explained at
    `verdict_on`; `missing` says why a control was not run. Raises `ValueError` for a table without rows, and for a
    control that holds other images than the run it belongs to.
    """
    if results.empty:
        raise ValueError("there are no results to summarise: the table has no rows")
    groups = _groups(_complete(results))
    summary = _with_intervals(pd.DataFrame([_row(group) for group in groups]))
    judged = [
        verdict_on(group, {name: groups[place] for name, place in found.items()}, missing or {})
        for group, found in zip(groups, controls_of(summary), strict=True)
    ]
    return summary.assign(**pd.DataFrame(judged, index=summary.index))


def _complete(results: pd.DataFrame) -> pd.DataFrame:
    """`results` with all columns that a summary needs; NaN in `recovered` is no success."""
    known = {"recovered": results["recovered"].eq(True), "diverged": results["status"] == Status.diverged}
    table = results.assign(score=scores(results), **known).astype({"member": bool, "operator_error": float})
    for name, default in LINKS.items():
        if name not in table:
            table[name] = default
        elif table[name].isna().any():
            table[name] = table[name].astype(object).fillna(default)
    return table if ERASES in table else table.assign(**{ERASES: None})


def _groups(table: pd.DataFrame) -> list[Group]:
    """The rows of each run, control and rung."""
    number = table.groupby(["signature", "control", "rung"], sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    starts = np.flatnonzero(np.diff(number[order], prepend=-1))
    columns = {name: table[name].to_numpy()[order] for name in MEASURED}
    facts = table[[*CHOICES, *FACTS, *LINKS, ERASES]].iloc[order[starts]].to_dict("records")
    ends = [*starts[1:], len(order)]
    return [
        Group({str(name): value for name, value in first.items()}, {name: c[start:end] for name, c in columns.items()})
        for first, start, end in zip(facts, starts, ends, strict=True)
    ]


def _row(group: Group) -> dict[str, Any]:
    """What a summary says of the images of one run, control and rung, with room for what is found for all at once."""
    images, member = group.images, group.images["member"]
    row = {name: value for name, value in group.facts.items() if name != ERASES}
    for name, part in zip(KINDS, (member, ~member), strict=True):
        row[name] = int(part.sum())
        row |= {f"{name}_{key}": value for key, value in _statistics(images, part).items()}
    row |= _contrast(images["score"][member], images["score"][~member])
    row["operator_error"] = float(images["operator_error"][member].mean()) if row["members"] else np.nan
    row["queries"] = float(images["queries"].mean())
    row["seconds"] = float(images["seconds"].sum())
    return row


def _statistics(columns: Columns, part: np.ndarray) -> dict[str, float]:
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
    for name in KINDS:
        trials = summary[name].to_numpy(float)
        counts[name] = (summary[f"{name}_recovered"].to_numpy(float) * trials).round(), trials
        summary[f"{name}_recovered_low"], summary[f"{name}_recovered_high"] = proportion_interval(*counts[name])
    summary["excess"] = summary["members_recovered"] - summary["non_members_recovered"]
    summary["excess_low"], summary["excess_high"] = difference_interval(counts["members"], counts["non_members"])
    return summary


def recovered_from(results: pd.DataFrame, thresholds: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """How many members and non-members count at each threshold of a `threshold_curve`, (2, T), of how many, (2, 1)."""
    score = np.where(results["is_nearest"].eq(True), scores(results), -np.inf)
    member = results["member"].to_numpy(bool)
    parts = [np.sort(score[part]) for part in (member, ~member)]
    counts = [len(part) - np.searchsorted(part, thresholds) for part in parts]
    return np.stack(counts), np.array([[len(part)] for part in parts])


def threshold_curve(results: pd.DataFrame, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """How the recovered fractions depend on `threshold_db`: one row a threshold (dB), of one run and rung.

    An image counts at each threshold if it did not diverge and no member is closer to its answer than the original.
    """
    recovered, trials = recovered_from(results, thresholds)
    low, high = proportion_interval(recovered, trials)
    excess_low, excess_high = difference_interval((recovered[0], trials[0]), (recovered[1], trials[1]))
    with np.errstate(invalid="ignore"):
        share = recovered / trials
    columns = {"threshold_db": np.asarray(thresholds, float)}
    for i, name in enumerate(KINDS):
        columns |= {f"{name}_recovered": share[i], f"{name}_recovered_low": low[i], f"{name}_recovered_high": high[i]}
    return pd.DataFrame(columns | {"excess": share[0] - share[1], "excess_low": excess_low, "excess_high": excess_high})
