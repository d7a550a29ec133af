"""From scores to statistics: how many members came back, how many non-members, and how sure that is.

"Recovered" is a stated rule, applied per image before this module: erased-pixel PSNR of at least `threshold_db`, and no
member closer to the answer than the original. The statistics themselves, with their intervals, are in `statistics`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from memorization.data import check_images
from memorization.degradations import Chain, Degradation, RandomPixels
from memorization.recovery import Autoencoder, Known, Method, OperatorKnowledge, PnPADMM
from memorization.recovery.experiment import Recipe, recover_batch
from memorization.statistics import (
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
RATES = (0.1, 0.01, 0.001)  # false positive rates at which the true positive rate is asked for
THRESHOLDS = tuple(range(10, 61))  # dB, of a threshold curve


def scores(results: pd.DataFrame) -> np.ndarray:
    """(N,) by which members and non-members are told apart: erased PSNR in dB, below all others for diverged images."""
    return np.where(results["status"] == "diverged", -np.inf, results["psnr_erased"])


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """One row a run and rung, from one row an image (the columns of `results.parquet`).

    Fractions and rates lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB. `auc` and
    `tpr_at_fpr_<rate>` are those of `scores`; a true positive rate is NaN where the non-members are too few to resolve
    the rate, else `fpr_of_<rate>` is the rate really achieved.
    """
    table = results.assign(score=scores(results), diverged=results["status"] == "diverged")
    rows: list[dict[str, Any]] = []
    for (_, _), group in table.groupby(["signature", "rung"], sort=False, dropna=False):
        first = group.iloc[0]
        row: dict[str, Any] = {name: first[name] for name in (*CHOICES, *FACTS)}
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
    return _with_intervals(pd.DataFrame(rows))


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


def compare(first: pd.DataFrame, second: pd.DataFrame) -> dict[str, float]:
    """Two methods on the same members: is one better? `first` and `second` are the results of one run and rung each.

    `recovered_difference` with the p-value of McNemar's exact test, and the mean difference of the erased PSNR in dB
    with a bootstrap interval and p-value; positive where `first` is better. Raises `ValueError` for other members.
    """
    a, b = (table[table["member"]].set_index("image").sort_index() for table in (first, second))
    if not len(a) or not a.index.equals(b.index):
        raise ValueError("the two tables hold different members; a paired comparison needs the same images in both")
    psnr = paired_bootstrap(a["psnr_erased"], b["psnr_erased"])
    return {
        "members": len(a),
        "recovered_difference": float(a["recovered"].mean() - b["recovered"].mean()),
        "recovered_p": mcnemar(a["recovered"], b["recovered"]),
        "psnr_difference": psnr.mean.value,
        "psnr_difference_low": psnr.mean.low,
        "psnr_difference_high": psnr.mean.high,
        "psnr_p": psnr.p,
    }


def describe(recipe_part: object) -> dict[str, Any]:
    """`fraction`, `fill` and `noise` of a degradation: a number or word each, missing where it has none.

    Of a chain, `noise` is that of the second part, the rest that of the last part that erases.
    """
    if isinstance(recipe_part, Chain):
        first, second = describe(recipe_part.first), describe(recipe_part.second)
        return second if second["fill"] != "none" else {**first, "noise": second["noise"]}
    return {
        "fraction": float(getattr(recipe_part, "fraction", np.nan)),
        "fill": getattr(recipe_part, "fill", "none"),
        "noise": float(getattr(recipe_part, "noise", 0.0)),
    }


@dataclass(frozen=True)
class Audit:
    """The scores of an audit, one row an image, and their summary."""

    results: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """Recovered fractions of members and non-members, their excess and median PSNRs, with 95 % intervals."""
        return summarise(self.results)


def audit(
    autoencoder: Autoencoder,
    members: Tensor,
    non_members: Tensor,
    degradation: Degradation | None = None,
    recovery: Method | None = None,
    operator: OperatorKnowledge | None = None,
    *,
    seed: int = 0,
    batch_size: int = 100,
    threshold_db: float = 25.0,
    starts: int = 1,
) -> Audit:
    """How much of `members` (N, C, H, W) does `autoencoder` hold, beside `non_members` that it never saw?

    Images are float32 in [0, 1]; the autoencoder maps (B, C, H, W) to the same shape. It is called in eval mode, and a
    module is put back in the modes that it was in. Defaults: 80 % of the pixels erased, the method of Abitbul and Dar,
    the mask known, one starting point an image. Raises `ValueError` for images or settings out of range, for
    non-members that are members, and for an autoencoder that changes the shape or does not return a tensor.
    """
    degradation, recovery, operator = degradation or RandomPixels(0.8), recovery or PnPADMM(), operator or Known()
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    for name, images in (("members", members), ("non_members", non_members)):
        if not isinstance(images, Tensor):
            raise ValueError(f"{name} are a {type(images).__name__}; give a tensor, torch.as_tensor(...) makes one")
        if images.requires_grad:
            raise ValueError(f"{name} require grad, which images do not; give {name}.detach()")
        check_images(images, name)
    if members.dtype != non_members.dtype:
        raise ValueError(f"members are {members.dtype}, non-members {non_members.dtype}; they must be alike")
    if members.shape[1:] != non_members.shape[1:]:
        raise ValueError(f"members are {tuple(members.shape[1:])}, non-members {tuple(non_members.shape[1:])}")
    index = {image.cpu().numpy().tobytes(): i for i, image in enumerate(members)}
    for i, image in enumerate(non_members):
        if (same := index.get(image.cpu().numpy().tobytes())) is not None:
            raise ValueError(f"non_members: image {i} is member {same}; give images that the autoencoder never saw")
    recipe = Recipe(degradation, recovery, operator, seed, threshold_db, starts)
    images = torch.cat([members, non_members])
    with _evaluating(autoencoder):
        _check_autoencoder(autoencoder, members[:1])
        tables = [
            recover_batch(recipe, autoencoder, images[rows], rows.tolist(), members).scores
            for rows in torch.arange(len(images)).split(batch_size)
        ]
        loss = sum([_squared_error(autoencoder, part) for part in members.split(batch_size)]) / members.numel()
    results = pd.concat(tables, ignore_index=True)
    results["member"] = results["image"] < len(members)
    facts = {
        "dataset": "own",
        "architecture": type(autoencoder).__name__,
        "degradation": type(degradation).__name__,
        "recovery": type(recovery).__name__,
        "operator": type(operator).__name__ if recovery.uses_operator else "none",
        **describe(degradation),
        "rung": np.nan,
        "train_loss": loss,
        "seed": seed,
        "threshold_db": threshold_db,
        "signature": "none",
    }
    return Audit(results.assign(**facts))


@contextlib.contextmanager
def _evaluating(autoencoder: Autoencoder) -> Iterator[None]:
    """Eval mode; afterwards every part of a module is in its earlier mode."""
    modules = list(autoencoder.modules()) if isinstance(autoencoder, torch.nn.Module) else []
    modes = [module.training for module in modules]
    if isinstance(autoencoder, torch.nn.Module):
        autoencoder.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@torch.no_grad()
def _check_autoencoder(autoencoder: Autoencoder, images: Tensor) -> None:
    """Raise `ValueError` unless `autoencoder` maps `images` (B, C, H, W) to a tensor of the same shape."""
    output: object = autoencoder(images)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the autoencoder returns a {type(output).__name__}; it must return the images alone: wrap it in a "
            "function that does"
        )
    if output.shape != images.shape:
        raise ValueError(f"the autoencoder maps {tuple(images.shape)} to {tuple(output.shape)}; it must keep the shape")


@torch.no_grad()
def _squared_error(autoencoder: Autoencoder, images: Tensor) -> float:
    return float((autoencoder(images) - images).square().sum())
