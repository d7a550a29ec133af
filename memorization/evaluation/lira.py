"""LiRA: was this image in the training set, judged by models trained with it and without it?

The likelihood-ratio attack of Carlini et al., "Membership inference attacks from first principles", S&P 2022
(arXiv:2112.03570). An image that is easy scores well whether or not it was trained on, which a threshold on the score
alone takes for membership. LiRA compares the target's score of an image with the scores that reference models give to
this very image: those trained with it (in) and those trained without it (out).

A score may be anything that is larger for members and near to normal: here decibels, minus the logarithm of a mean
squared error. Pure functions of NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from memorization.components import choose
from memorization.evaluation import statistics

if TYPE_CHECKING:
    import pandas as pd

REVISION = 1  # of the scores
OWN_VARIANCE_FROM = 64  # references from which each image has variances of its own, as in the paper
LEAST = 1e-9  # a standard deviation, in the units of the scores, where all references agree

# gaussian and kernel use references in and out, offline and rank those out alone; see `likelihood_ratio`.
Variant = StrEnum("Variant", ["gaussian", "kernel", "offline", "rank"])
# What is attacked with, by the column that holds it: erased PSNR after a recovery, and PSNR of the reconstruction.
ATTACKS = {"psnr_erased": "erased PSNR", "own_psnr": "loss"}
COLUMNS = {"psnr_erased": "lira", "own_psnr": "lira_loss"}  # of LiRA on each
MAIN = ("own_psnr", "psnr_erased", "lira_loss", "lira")  # of the columns of `attacked`, those that are told of first
Floats = NDArray[np.float64]


def likelihood_ratio(
    target: ArrayLike,
    references: ArrayLike,
    inside: ArrayLike,
    variant: Variant | str = Variant.gaussian,
    *,
    own_variance: bool | None = None,
) -> Floats:
    """(N,) how much more likely each image's score is if it was trained on; larger is more likely a member.

    target: (N,) scores of the model that is attacked.
    references: (K, N) scores of the K reference models on the same images.
    inside: (K, N), which images each reference was trained on.
    variant: what is assumed of the scores of references on an image:
        gaussian: normal, in and out; `log N(t; mean_in, sd_in) - log N(t; mean_out, sd_out)` (the paper's online
        attack).
        kernel: any density, in and out, each estimated with Gaussian kernels of Silverman's bandwidth.
        offline: normal, out alone; `-log Pr[Z > t]` for Z from `N(mean_out, sd_out)` (the paper's offline attack).
        rank: nothing, out alone; the share of the references out whose score is below the target's, ties counting one
        half. With n of them it has steps of 1/n, so many images tie.
    own_variance: estimate the variances of each image by itself, and not as one over all images, around the mean of
        each. None: from 64 references on, as in the paper; fewer tell too little.

    Raises `ValueError` for scores that are NaN or infinite, for other shapes, and for an image of which too few
    references were in or out.
    """
    variant = choose("variant", variant, Variant)
    t, scores, chosen = _checked(target, references, inside)
    own = len(scores) >= OWN_VARIANCE_FROM if own_variance is None else own_variance
    check_inside(chosen, variant, own)
    if variant is Variant.rank:
        return _share_below(t, scores, ~chosen)
    if variant is Variant.offline:
        found: Floats = -stats.norm.logsf(t, *_moments(scores, ~chosen, own))
        return found
    density = _log_normal if variant is Variant.gaussian else _log_kernels
    return density(t, scores, chosen, own) - density(t, scores, ~chosen, own)


def _checked(target: ArrayLike, references: ArrayLike, inside: ArrayLike) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    t, scores, chosen = np.asarray(target, float), np.asarray(references, float), np.asarray(inside)
    if t.ndim != 1 or scores.ndim != 2 or scores.shape[1:] != t.shape or chosen.shape != scores.shape:
        shapes = f"{t.shape}, {scores.shape} and {chosen.shape}"
        raise ValueError(f"target, references and inside are {shapes}; give (N,), (K, N) and (K, N)")
    for name, values in (("target", t), ("references", scores)):
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{name}: {bad} of {values.size} are NaN or infinite; give a failure the lowest score")
    return t, scores, _as_bool(chosen)


def _as_bool(inside: ArrayLike) -> NDArray[np.bool_]:
    if not np.isin(inside, (0, 1)).all():
        raise ValueError("inside holds what is neither true nor false; say of each reference and image which it is")
    return np.asarray(inside, bool)


def check_inside(inside: ArrayLike, variant: Variant = Variant.gaussian, own_variance: bool = False) -> None:
    """Raise `ValueError` where `inside` (K, N) is not bool, or too few references have or lack an image to tell of it.

    For `variant` and `own_variance` see `likelihood_ratio`.
    """
    chosen, parts = _as_bool(inside), {"without": False}
    if variant in (Variant.gaussian, Variant.kernel):
        parts = {"with": True, **parts}
    varying = variant is not Variant.rank
    for word, kind in parts.items():
        counts = (chosen == kind).sum(0)
        if len(few := np.flatnonzero(counts < (2 if own_variance and varying else 1))):
            way = "give references of both kinds for each image; `evaluation.halves` draws them"
            if word == "with":
                way += ", or choose the variant offline or rank, which need those without alone"
            count = "no reference was" if counts[few[0]] == 0 else "only one reference was"
            raise ValueError(f"inside: {count} trained {word} image {few[0]} ({len(few)} such images); {way}")
        if varying and len(counts) and counts.max() < 2:
            why = "which shows no variance; add references"
            raise ValueError(f"inside: one reference for each image was trained {word} it, {why}")


def _moments(scores: Floats, chosen: NDArray[np.bool_], own: bool) -> tuple[Floats, Floats]:
    """(N,) mean and standard deviation of the `chosen` scores of each image; the deviation of all unless `own`."""
    counts = chosen.sum(0)
    mean = np.where(chosen, scores, 0.0).sum(0) / counts
    squares = np.where(chosen, scores - mean, 0.0) ** 2
    variance = squares.sum(0) / (counts - 1) if own else np.full(counts.shape, squares.sum() / (counts - 1).sum())
    return mean, np.maximum(np.sqrt(variance), LEAST)


def _log_normal(t: Floats, scores: Floats, chosen: NDArray[np.bool_], own: bool) -> Floats:
    found: Floats = stats.norm.logpdf(t, *_moments(scores, chosen, own))
    return found


def _log_kernels(t: Floats, scores: Floats, chosen: NDArray[np.bool_], own: bool) -> Floats:
    counts = chosen.sum(0)
    bandwidth = _moments(scores, chosen, own)[1] * (0.75 * counts) ** -0.2  # Silverman's, of one dimension
    logs = np.where(chosen, stats.norm.logpdf(t, scores, bandwidth), -np.inf)
    found: Floats = special.logsumexp(logs, axis=0) - np.log(counts)
    return found


def _share_below(t: Floats, scores: Floats, chosen: NDArray[np.bool_]) -> Floats:
    below = np.where(chosen, (scores < t) + 0.5 * (scores == t), 0.0)
    share: Floats = below.sum(0) / chosen.sum(0)
    return share


def attacked(
    target: Mapping[str, ArrayLike], references: Mapping[str, ArrayLike], inside: ArrayLike
) -> dict[str, Floats]:
    """The columns of all attacks on the scores `ATTACKS` of the target (N,) and the references (K, N), each by name.

    The scores themselves; `lira` and `lira_loss`, of the variant gaussian; and with `_kernel`, `_offline` or `_rank`.
    """
    found = {name: np.asarray(target[name], float) for name in ATTACKS}
    for name, column in COLUMNS.items():
        for variant in Variant:
            ending = "" if variant is Variant.gaussian else f"_{variant}"
            found[column + ending] = likelihood_ratio(target[name], references[name], inside, variant)
    return found


def titles() -> dict[str, str]:
    """What each column of `attacked` is called, thresholds first."""
    named = {"own_psnr": "loss threshold", "psnr_erased": "erased PSNR"}
    words = {"gaussian": "", "kernel": ", kernels", "offline": ", out alone", "rank": ", rank of those out"}
    for name in ("own_psnr", "psnr_erased"):
        for variant in Variant:
            ending = "" if variant is Variant.gaussian else f"_{variant}"
            named[COLUMNS[name] + ending] = f"LiRA on the {ATTACKS[name]}{words[variant]}"
    return named


def summarised(table: pd.DataFrame, attacks: Sequence[str] = ()) -> pd.DataFrame:
    """One row an attack, from the columns of `attacked` and `member`, one row an image; of some `attacks`, or of all.

    Columns: `attack` (its column) and `title`; `auc`; `fpr`, the lowest false positive rate that the non-members
    resolve, `1 / non_members`; `tpr`, the true positive rate there, at a threshold that one non-member exceeds;
    `members` and `non_members`. Both statistics have an interval, see `statistics.auc` and `statistics.tpr_at_fpr`.
    NaN without members or without non-members.
    """
    import pandas as pd

    member, rows = table["member"].to_numpy(bool), []
    counts = {"members": int(member.sum()), "non_members": int((~member).sum())}
    nothing = statistics.Estimate(np.nan, np.nan, np.nan)
    named = titles()
    for name in attacks or named:
        scores, area, point = table[name].to_numpy(float), nothing, None
        if all(counts.values()):
            area = statistics.auc(scores[member], scores[~member])
            point = statistics.tpr_at_fpr(scores[member], scores[~member], 1 / counts["non_members"])
        tpr = point.tpr if point else nothing
        fpr = 1 / counts["non_members"] if point else np.nan
        row: dict[str, Any] = {"attack": name, "title": named[name], **statistics.columns("auc", *area)}
        rows.append(row | {"fpr": fpr, **statistics.columns("tpr", *tpr), **counts})
    return pd.DataFrame(rows)


def resolved(non_members: int) -> str:
    """In words, the lowest false positive rate that so many non-members resolve."""
    if not non_members:
        return "There are no non-members: no false positive rate is resolved."
    return (
        f"{non_members} non-members resolve a false positive rate of {100 / non_members:.3g} % and none below (0.1 % "
        "takes 1,000). One non-member sets that threshold, so the interval of the true positive rate begins at 0."
    )


def told(summary: pd.DataFrame) -> list[str]:
    """`summarised` in lines, an attack each, and what false positive rate the non-members resolve."""
    lines, width = [], max(map(len, summary["title"]))
    for _, row in summary.iterrows():
        area = f"AUC {row['auc']:.3f} ({row['auc_low']:.3f} to {row['auc_high']:.3f})"
        rate = f"TPR {100 * row['tpr']:.0f} % ({100 * row['tpr_low']:.0f} to {100 * row['tpr_high']:.0f} %)"
        lines.append(f"{row['title']:<{width}}  {area}  {rate} at FPR {100 * row['fpr']:.3g} %")
    return [*lines, resolved(int(summary["non_members"].iloc[0]))]
