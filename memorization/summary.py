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
from memorization.statistics import (
    CONFIDENCE,
    auc,
    difference_interval,
    mcnemar,
    median_interval,
    paired_bootstrap,
    proportion_interval,
    tpr_at_fpr,
)

CHOICES = ["dataset", "architecture", "degradation", "fraction", "fill", "noise", "recovery", "operator"]
FACTS = ["rung", "train_loss", "seed", "threshold_db", "signature"]
# What ties a control to what it belongs to, with the values of results that have none; see `controls_of`.
LINKS = {"control": "none", "task": "", "setup": ""}
CALIBRATED = ("median", "median_low", "median_high", "auc", "auc_low", "auc_high")
UNJUDGED: dict[str, Any] = {"verdict": "", "verdict_p": np.nan, "controls": ""}
UNJUDGED |= {f"calibrated_{name}": np.nan for name in CALIBRATED}
RATES = (0.1, 0.01, 0.001)  # false positive rates at which the true positive rate is asked for
THRESHOLDS = tuple(range(10, 61))  # dB, of a threshold curve


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: erased PSNR in dB, below all others for diverged images."""
    return np.where(results["status"] == "diverged", -np.inf, results["psnr_erased"])


def summarise(results: pd.DataFrame, missing: Mapping[str, str] | None = None) -> pd.DataFrame:
    """One row a run, control and rung, from one row an image (the columns of `results.parquet`).

    Fractions and rates lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB. `auc` and
    `tpr_at_fpr_<rate>` are those of `scores`; a true positive rate is NaN where the non-members are too few to resolve
    the rate, else `fpr_of_<rate>` is the rate really achieved. `verdict` and `controls` are explained at
    `_judged`; `missing` says why a control was not run.
    """
    table = results.assign(score=scores(results), diverged=results["status"] == "diverged")
    for name, default in LINKS.items():
        if name not in table:
            table[name] = default
        elif table[name].isna().any():
            table[name] = table[name].astype(object).fillna(default)
    rows: list[dict[str, Any]] = []
    groups: list[pd.DataFrame] = []
    for _, group in table.groupby(["signature", "control", "rung"], sort=False, dropna=False):
        groups.append(group)
        first = group.iloc[0]
        row: dict[str, Any] = {name: first[name] for name in (*CHOICES, *FACTS, *LINKS)}
        columns = {name: group[name].to_numpy() for name in ("recovered", "psnr_erased", "score", "diverged")}
        member = group["member"].to_numpy(bool)
        for name, part in (("members", member), ("non_members", ~member)):
            row[name] = int(part.sum())
            if row[name]:
                row |= {f"{name}_{key}": value for key, value in _group(columns, part).items()}
        if 0 < row["members"] < len(group):
            row |= _contrast(columns["score"][member], columns["score"][~member])
        errors = group["operator_error"].to_numpy(float)[member]
        row["operator_error"] = float(errors.mean()) if len(errors) else np.nan
        row["queries"] = float(group["queries"].to_numpy().mean())
        row["seconds"] = float(group["seconds"].to_numpy().sum())
        rows.append(row)
    summary = _with_intervals(pd.DataFrame(rows))
    alone = bool((summary["control"] == "none").all())  # then none is searched for, which takes long for many runs
    judged = [UNJUDGED if alone else _judged(i, summary, groups, missing or {}) for i in range(len(rows))]
    return summary.assign(**pd.DataFrame(judged, index=summary.index))


def controls_of(row: pd.Series, summary: pd.DataFrame) -> dict[str, int]:
    """The positions in `summary` of the controls of one of its rows, by name.

    A control without an autoencoder serves every method on the same images, degraded alike (`task`); the others share
    the method and the autoencoder's settings (`setup`). Of a control at several rungs, the nearest to the row's counts:
    a reference autoencoder need not have reached the same ones.
    """
    places = np.flatnonzero(summary["control"] != "none")
    if not len(places) or row["control"] != "none":
        return {}
    controls = summary.iloc[places]
    alike = np.where(controls["setup"] == "", controls["task"] == row["task"], controls["setup"] == row["setup"])
    away = np.log10(controls["rung"] / row["rung"]).abs().fillna(0).to_numpy()
    chosen = [place for _, place in sorted(zip(away[alike], places[alike].tolist(), strict=True), reverse=True)]
    return {str(summary["control"].iat[place]): place for place in chosen}


def _judged(at: int, summary: pd.DataFrame, groups: list[pd.DataFrame], missing: Mapping[str, str]) -> dict[str, Any]:
    """Whether row `at` beats its controls, and the calibration of its scores by its reference autoencoder.

    It is `unremarkable` unless more members came back than of the non-members (Fisher's exact test, one-sided) and than
    from each control on the same members (McNemar's, one-sided), all at 5 %. Since all must hold, the largest of these
    p-values, `verdict_p`, is that of the verdict, without a correction (intersection-union test). The ceiling is not
    among them. `calibrated_median` is the median over the members of the erased PSNR (dB) minus the reference's, and
    `calibrated_auc` says how well that difference tells members from non-members. The reference was trained on the
    non-members, so it is the chance to say which of the two autoencoders held an image.
    """
    row, own = summary.iloc[at], groups[at]
    found = controls_of(row, summary)
    if not found:
        return UNJUDGED
    judged, texts = UNJUDGED.copy(), []
    p = [_excess_p(row)]
    for name in CONTROLS:
        if name in found:
            other = _matched(groups[found[name]], own)
            member = own["member"].to_numpy(bool)
            rung, note = other["rung"].to_numpy(float)[0], "" if name in TO_BEAT else " (ceiling)"
            if rung != row["rung"] and not np.isnan(rung):
                note = f" (at {rung:.0e})"
            texts.append(f"{name} {other['recovered'][member].mean():.0%}{note}")
            if name in TO_BEAT:
                p.append(mcnemar(own["recovered"][member], other["recovered"][member], greater=True))
            if name == "reference":
                judged |= _calibration(_finite(own) - _finite(other), member)
        else:
            texts.append(f"{name} {missing.get(name) or _absence(name, row)}")
    if any(name in found for name in TO_BEAT):
        judged["verdict_p"] = max(p)
        judged["verdict"] = "beats its controls" if max(p) <= 1 - CONFIDENCE else "unremarkable"
    return judged | {"controls": ", ".join(texts)}


def _absence(control: str, row: pd.Series) -> str:
    chained = str(row["degradation"]).lower() == "chain"
    return "not applicable" if control == "inpaint" and (chained or row["fill"] == "none") else "not run"


def _excess_p(row: pd.Series) -> float:
    """Fisher's exact one-sided p-value of more members than non-members coming back."""
    counts = [(round(row[f"{name}_recovered"] * row[name]), row[name]) for name in ("members", "non_members")]
    return float(stats.fisher_exact([[k, n - k] for k, n in counts], alternative="greater").pvalue)


def _matched(other: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """The rows of `other` in the order of `own`: the same images."""
    keys = ["member", "image"]
    if (other[keys].to_numpy() == own[keys].to_numpy()).all():
        return other
    return other.set_index(keys).loc[pd.MultiIndex.from_frame(own[keys])].reset_index()


def _finite(rows: pd.DataFrame) -> np.ndarray:
    """Erased PSNRs (dB), 0 for diverged images: those of an answer that is as wrong as can be."""
    return np.where(rows["diverged"], 0.0, rows["psnr_erased"])


def _calibration(difference: np.ndarray, member: np.ndarray) -> dict[str, float]:
    low, high = median_interval(difference[member])
    area = auc(difference[member], difference[~member])
    values = (np.median(difference[member]), low, high, area.value, area.low, area.high)
    return {f"calibrated_{name}": float(value) for name, value in zip(CALIBRATED, values, strict=True)}


def _group(columns: dict[str, np.ndarray], part: np.ndarray) -> dict[str, float]:
    """The statistics of the members, or of the non-members."""
    psnr = columns["psnr_erased"][part]
    low, high = median_interval(psnr)
    return {
        "recovered": columns["recovered"][part].sum() / len(psnr),
        "recovered_low": np.nan,
        "recovered_high": np.nan,
        "median_psnr": float(np.median(psnr)),
        "median_psnr_low": low,
        "median_psnr_high": high,
        "best_psnr": float(psnr.max()),
        "diverged": int(columns["diverged"][part].sum()),
    }


def _contrast(members: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """How well the scores of `members` and `others` are told apart, with room for the excess."""
    area = auc(members, others)
    row = {"excess": np.nan, "excess_low": np.nan, "excess_high": np.nan}
    row |= {"auc": area.value, "auc_low": area.low, "auc_high": area.high}
    for rate in RATES:
        point, name = tpr_at_fpr(members, others, rate), f"tpr_at_fpr_{rate:g}"
        row |= {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan, f"fpr_of_{rate:g}": np.nan}
        if point:
            row |= {name: point.tpr.value, f"{name}_low": point.tpr.low, f"{name}_high": point.tpr.high}
            row[f"fpr_of_{rate:g}"] = point.fpr
    return row


def _with_intervals(summary: pd.DataFrame) -> pd.DataFrame:
    """`summary` with the intervals of its proportions and the excess, of all rows at once."""
    counts = {}
    for name in ("members", "non_members"):
        if f"{name}_recovered" in summary:
            trials = summary[name].to_numpy(float)
            counts[name] = (summary[f"{name}_recovered"].to_numpy(float) * trials).round(), trials
            summary[f"{name}_recovered_low"], summary[f"{name}_recovered_high"] = proportion_interval(*counts[name])
    if "excess" in summary:
        summary["excess"] = summary["members_recovered"] - summary["non_members_recovered"]
        low, high = difference_interval(counts["members"], counts["non_members"])
        summary["excess_low"], summary["excess_high"] = low, high
    return summary


def threshold_curve(results: pd.DataFrame, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """How the recovered fractions depend on `threshold_db`: one row a threshold (dB), of one run and rung.

    An image counts at each threshold if it did not diverge and no member is closer to its answer than the original.
    """
    score = np.where(results["is_nearest"], scores(results), -np.inf)
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
    """Of the members of one run and rung, by their numbers in the data set: who came back, and the erased PSNR (dB)."""

    image: np.ndarray
    recovered: np.ndarray
    psnr_erased: np.ndarray

    @classmethod
    def of(cls, results: pd.DataFrame) -> MemberScores:
        """From the results of one run and rung."""
        members = results[results["member"].to_numpy(bool)]
        order = np.argsort(members["image"].to_numpy(), kind="stable")
        return cls(*(members[name].to_numpy()[order] for name in ("image", "recovered", "psnr_erased")))


def compare(first: MemberScores, second: MemberScores) -> dict[str, float]:
    """Two methods on the same members: is one better?

    `recovered_difference` with the p-value of McNemar's exact test, and the mean difference of the erased PSNR in dB
    with a bootstrap interval (NaN for a single member) and p-value; positive where `first` is better.
    Raises `ValueError` for other members.
    """
    if not len(first.image) or not np.array_equal(first.image, second.image):
        raise ValueError("the two tables hold different members; a paired comparison needs the same images in both")
    psnr = paired_bootstrap(first.psnr_erased, second.psnr_erased)
    return {
        "members": len(first.image),
        "recovered_difference": float(first.recovered.mean() - second.recovered.mean()),
        "recovered_p": mcnemar(first.recovered, second.recovered),
        "psnr_difference": psnr.mean.value,
        "psnr_difference_low": psnr.mean.low,
        "psnr_difference_high": psnr.mean.high,
        "psnr_p": psnr.p,
    }
