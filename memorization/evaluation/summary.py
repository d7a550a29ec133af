"""From scores to statistics: how many members came back, how many non-members, and how sure that is.

"Recovered" is a rule that was applied to each image before: its erased-pixel PSNR is at least `threshold_db`, and no
member is closer to the answer than the original. The statistics themselves, with their intervals, are in `statistics`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from memorization.components import Status
from memorization.evaluation import statistics
from memorization.evaluation.controls import Control
from memorization.evaluation.membership import scores
from memorization.evaluation.statistics import columns, difference_interval, proportion_interval
from memorization.evaluation.verdict import KEYS, UNKNOWN, Columns, Group, controls_of, verdict_on

CHOICES = ["dataset", "architecture", "degradation", "fraction", "fill", "noise", "recovery", "operator"]
FACTS = ["rung", "train_loss", "seed", "threshold_db", "signature"]
# What ties a control to what it belongs to, with the values of results that have none; see `controls_of`.
LINKS = {"control": Control.none.value, "task": "", "setup": ""}
ERASES = "erases"  # which results of older versions do not say; it is for the verdict alone
MEASURED = (*KEYS, "recovered", "psnr_erased", "score", "diverged", "operator_error", "queries", "seconds")
KINDS = ("members", "non_members")
DELTA = 1e-5  # of the differential privacy that `epsilon_low` speaks of
RATES = (0.1, 0.01, 0.001)  # false positive rates at which the true positive rate is asked for
THRESHOLDS = tuple(range(10, 61))  # dB, of a threshold curve


def summarise(results: pd.DataFrame, missing: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a run, control and rung, from one row an image (the columns of `results.parquet`).

    Fractions and rates lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB, -inf where it was NaN.
    What there are no images for, or too few, is NaN: an interval of a median takes six. `auc` and
    `tpr_at_fpr_<rate>` are those of `scores`; a true positive rate is NaN where the non-members are too few to resolve
    the rate, else `fpr_of_<rate>` is the rate really achieved. `epsilon_low` is a lower bound on the epsilon of a
    differentially private training, at `DELTA`, 1e-5, from the counts of recovered members and non-members: see
    `statistics.epsilon_bound`, also for what it assumes. `verdict` and `controls` are explained at
    `verdict_on`; `missing` says why a control was not run. Raises `ValueError` for a table without rows, and for a
    control that holds other images than the run it belongs to.
    """
    if results.empty:
        raise ValueError("there are no results to summarise: the table has no rows")
    groups = _groups(_complete(results))
    summary = pd.DataFrame([_row(group) for group in groups])
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
    images = {name: table[name].to_numpy()[order] for name in MEASURED}
    facts = table[[*CHOICES, *FACTS, *LINKS, ERASES]].iloc[order[starts]].to_dict("records")
    return [
        Group({str(name): value for name, value in first.items()}, {name: c[start:end] for name, c in images.items()})
        for first, start, end in zip(facts, starts, [*starts[1:], len(order)], strict=True)
    ]


def _row(group: Group) -> dict[str, Any]:
    """What a summary says of the images of one run, control and rung, but for the verdict."""
    images, member = group.images, group.images["member"]
    row = {name: value for name, value in group.facts.items() if name != ERASES}
    for name, part in zip(KINDS, (member, ~member), strict=True):
        row[name] = int(part.sum())
        row |= {f"{name}_{key}": value for key, value in _statistics(images, part).items()}
    row |= _contrast(images)
    row["operator_error"] = float(images["operator_error"][member].mean()) if row["members"] else np.nan
    row["queries"] = float(images["queries"].mean())
    row["seconds"] = float(images["seconds"].sum())
    return row


def _statistics(images: Columns, part: np.ndarray) -> dict[str, float]:
    """The statistics of the members, or of the non-members."""
    psnr, count = images["psnr_erased"][part], int(part.sum())
    psnr = np.where(np.isnan(psnr), -np.inf, psnr)
    recovered = images["recovered"][part].sum()
    low, high = map(float, proportion_interval(recovered, count))
    with np.errstate(invalid="ignore"):  # the median between -inf and inf is NaN
        median = float(np.median(psnr)) if count else np.nan
    return {
        **columns("recovered", recovered / count if count else np.nan, low, high),
        **columns("median_psnr", median, *statistics.median_interval(psnr)),
        "best_psnr": float(psnr.max()) if count else np.nan,
        "diverged": int(images["diverged"][part].sum()),
    }


def _contrast(images: Columns) -> dict[str, float]:
    """What members have above non-members, and how well their scores are told apart; NaN without both."""
    parts = images["member"], ~images["member"]
    members, others = (images["score"][part] for part in parts)
    both = bool(len(members) and len(others))
    first, second = ((images["recovered"][part].sum(), part.sum()) for part in parts)
    excess = first[0] / first[1] - second[0] / second[1] if both else np.nan
    row = columns("excess", excess, *map(float, difference_interval(first, second)))
    row["epsilon_low"] = statistics.epsilon_bound(*map(int, (*first, *second)), delta=DELTA)
    row |= columns("auc", *(statistics.auc(members, others) if both else UNKNOWN))
    for rate in RATES:
        point = statistics.tpr_at_fpr(members, others, rate) if both else None
        fpr, tpr = point or (np.nan, UNKNOWN)
        row |= columns(f"tpr_at_fpr_{rate:g}", *tpr) | {f"fpr_of_{rate:g}": fpr}
    return row


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
    counts, table = [*zip(recovered, trials, strict=True)], {"threshold_db": np.asarray(thresholds, float)}
    with np.errstate(invalid="ignore"):
        shares = recovered / trials
    for name, share, count in zip(KINDS, shares, counts, strict=True):
        table |= columns(f"{name}_recovered", share, *proportion_interval(*count))
    return pd.DataFrame(table | columns("excess", shares[0] - shares[1], *difference_interval(*counts)))


def attraction(table: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """How many probes of each kind and strength were drawn to their member: one row each, nearest first within a kind.

    From the rows of `probes.recover_probes`, and one group for each value of the columns `by`. Shares lie in [0, 1]
    with 95 % Wilson intervals; `distance`, `psnr_probe` and `psnr_member` are medians.
    """
    groups = table.groupby([*by, "kind", "strength"], sort=False, dropna=False)
    found = {name: (name, "median") for name in ("distance", "psnr_probe", "psnr_member")}
    found |= {name: (name, "mean") for name in ("attracted", "captured")}
    rows = groups.agg(probes=("member", "size"), **found).reset_index()
    for name in ("attracted", "captured"):
        low, high = proportion_interval((rows[name] * rows["probes"]).round(), rows["probes"])
        rows[f"{name}_low"], rows[f"{name}_high"] = low, high
    return rows
