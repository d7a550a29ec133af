"""From scores to statistics: how many members came back, how many non-members, and how sure that is.

"Recovered" is a stated rule, applied per image before this module: erased-pixel PSNR of at least `threshold_db`, and no
member closer to the answer than the original. Proportions carry 95 % Wilson intervals, their difference Newcombe's
hybrid of them, medians the exact order-statistic interval.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from memorization.data import check_images
from memorization.degradations import Chain, Degradation, RandomPixels
from memorization.recovery import Autoencoder, Known, Method, OperatorKnowledge, PnPADMM
from memorization.recovery.experiment import Recipe, recover_batch

CONFIDENCE = 0.95
CHOICES = ["dataset", "architecture", "degradation", "fraction", "fill", "noise", "recovery", "operator"]


def proportion_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion."""
    interval = stats.binomtest(int(successes), int(trials)).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """The 95 % interval of a difference of two independent proportions, each given as (successes, trials).

    Newcombe's hybrid score interval (Statistics in Medicine 17, 1998, method 10).
    """
    p, q = first[0] / first[1], second[0] / second[1]
    (p_low, p_high), (q_low, q_high) = proportion_interval(*first), proportion_interval(*second)
    below, above = np.hypot(p - p_low, q_high - q), np.hypot(p_high - p, q - q_low)
    return float(p - q - below), float(p - q + above)


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """The exact interval of the median from order statistics, of at least 95 % coverage (no assumption but sampling).

    The k-th smallest and the k-th largest value, `k` from the binomial distribution (Conover, "Practical Nonparametric
    Statistics"); the extremes where fewer than six values cannot give 95 %.
    """
    ordered = np.sort(values)
    rank = max(0, int(stats.binom.ppf((1 - CONFIDENCE) / 2, len(ordered), 0.5)) - 1)
    return float(ordered[rank]), float(ordered[-1 - rank])


def summarise(results: pd.DataFrame) -> pd.DataFrame:
    """One row a run and rung, from one row an image (the columns of `results.parquet`).

    Fractions lie in [0, 1]; `_low` and `_high` bound 95 % intervals; PSNR is in dB.
    """
    rows: list[dict[str, Any]] = []
    for (_, _), group in results.groupby(["signature", "rung"], sort=False, dropna=False):
        members, others = group[group["member"]], group[~group["member"]]
        row: dict[str, Any] = {name: group[name].iloc[0] for name in CHOICES}
        row |= {name: group[name].iloc[0] for name in ("rung", "train_loss", "seed", "threshold_db", "signature")}
        for name, part in (("members", members), ("non_members", others)):
            successes, trials = int(part["recovered"].sum()), len(part)
            row[name] = trials
            if not trials:
                continue
            row[f"{name}_recovered"] = successes / trials
            row[f"{name}_recovered_low"], row[f"{name}_recovered_high"] = proportion_interval(successes, trials)
            psnr = part["psnr_erased"].to_numpy()
            row[f"{name}_median_psnr"] = float(np.median(psnr))
            row[f"{name}_median_psnr_low"], row[f"{name}_median_psnr_high"] = median_interval(psnr)
            row[f"{name}_best_psnr"] = float(psnr.max())
            row[f"{name}_diverged"] = int((part["status"] == "diverged").sum())
        if len(members) and len(others):
            counts = [(int(part["recovered"].sum()), len(part)) for part in (members, others)]
            row["excess"] = row["members_recovered"] - row["non_members_recovered"]
            row["excess_low"], row["excess_high"] = difference_interval(*counts)
        row["operator_error"] = float(members["operator_error"].mean()) if len(members) else np.nan
        row["queries"] = float(group["queries"].mean())
        row["seconds"] = float(group["seconds"].sum())
        rows.append(row)
    return pd.DataFrame(rows)


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
