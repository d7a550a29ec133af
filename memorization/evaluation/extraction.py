"""What was extracted: the ends of a search beside the members, without which they are counted and shown.

An end is a member if it is one to `threshold_db` on all pixels, and no non-member is nearer. It is then evidence, as
nobody who made the search had held the image. Every other end is spurious, and never counts as a member.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from memorization.architectures.autoencoder import Autoencoder, weight_of
from memorization.architectures.external.adapted import Description, adapted
from memorization.architectures.external.contract import check_beyond, check_contract, evaluating, some_images
from memorization.data import as_float
from memorization.data.split import as_shape, check_distinct, check_images, check_seed, check_tensor
from memorization.degradations.checks import check_flag
from memorization.evaluation.batch import Recipe
from memorization.evaluation.metrics import check_threshold, nearest_member, psnr
from memorization.evaluation.statistics import proportion_interval
from memorization.extraction.priors import Mixture, Prior
from memorization.extraction.richness import Richness, richness
from memorization.extraction.search import (
    MOST_ENDS,
    TO_RECALL,
    Bank,
    Draw,
    Ending,
    Search,
    Settled,
    search,
    settle_draw,
)
from memorization.extraction.spectrum import spectral_radii

REVISION = 2  # of the columns, of what counts as a member, and of the estimated totals
NO_IMAGE = -1  # the index of a member where there is none to compare with


@dataclass(frozen=True)
class Extraction:
    """What came out of an autoencoder unasked.

    table: one row a distinct end, in the order in which they were found: see `ends_table`.
    images: (K, C, H, W) float32, the ends, clipped to [0, 1].
    queries, starts: evaluations of the autoencoder, and starting images, in all.
    endings: how many starting images ended in which way, by the words of `search.Ending`.
    members: how many there are; 0 where none was given.
    """

    table: pd.DataFrame
    images: Tensor
    queries: int
    starts: int
    endings: dict[str, int]
    members: int = 0

    @property
    def extracted(self) -> list[int]:
        """The indices of the members that came out."""
        return sorted(self.table.loc[self.table["is_member"], "nearest_member"].unique().tolist())

    def richness(self) -> Richness:
        """How many distinct ends there are in all."""
        return richness(self.table["hits"].tolist())

    def summary(self) -> pd.DataFrame:
        """One row: see `summarised`."""
        return pd.DataFrame([summarised(self.table, self.members, self.queries, self.starts)])

    def curve(self) -> pd.DataFrame:
        """Distinct ends and distinct members against the queries spent: one row a round in which one was found."""
        return curve(self.table)

    def __str__(self) -> str:
        return (
            f"{told(summarised(self.table, self.members, self.queries, self.starts))}; {told_of_starts(self.endings)}"
        )


def extract(
    autoencoder: Autoencoder,
    shape: Sequence[int],
    *,
    members: Tensor | None = None,
    non_members: Tensor | None = None,
    prior: Prior | None = None,
    queries: int = Search.queries,
    unseen: float = Search.unseen,
    batch_size: int = Search.batch_size,
    max_iterations: int = Search.max_iterations,
    tolerance: float = Search.tolerance,
    extrapolation: int = Search.extrapolation,
    threshold_db: float = 25.0,
    seed: int = 0,
    spectra: bool = True,
    progress: bool = True,
    **description: Unpack[Description],
) -> Extraction:
    """What comes out of `autoencoder`, which maps images of `shape` (C, H, W), if nobody holds anything?

    Threat model: queries alone, and the shape. Starting images are drawn from `prior` (default: noise of several
    spectra and scales, and combinations of what was found) and iterated to their ends. It goes on until `queries` are
    spent, or by its own estimate no more than `unseen` ends are left. The other settings of the search are those of
    `extraction.Search`.

    `members` (N, C, H, W) and `non_members`, float in [0, 1] or uint8, are only compared with the ends: without them
    these are counted and shown. `spectra` adds each end's spectral radius, for which the autoencoder needs derivatives.
    `description` says how the autoencoder is called, and how it takes and gives images, see `adapted`.

    Raises `ValueError` for settings or images out of range, for an image that is given twice, and for an autoencoder
    that breaks its contract.
    """
    sides = as_shape(shape)
    autoencoder = adapted(autoencoder, **description)
    check_seed(seed)
    check_threshold(threshold_db)
    check_flag("spectra", spectra)
    check_flag("progress", progress)
    known = [_checked(name, images, sides) for name, images in (("members", members), ("non_members", non_members))]
    check_distinct(*known)
    settings = Search(
        prior=Mixture() if prior is None else prior,
        max_iterations=max_iterations,
        tolerance=tolerance,
        extrapolation=extrapolation,
        batch_size=batch_size,
        queries=queries,
        unseen=unseen,
    )
    like = _like(autoencoder)
    with torch.inference_mode(False), evaluating(autoencoder):
        images = some_images(sides).to(like)
        check_contract(autoencoder, images)
        check_beyond(autoencoder, images)

        with tqdm(total=queries, desc="extraction", unit="query", unit_scale=True, disable=not progress) as bar:

            def settled(draw: Draw, ends: Tensor) -> Settled:
                batch = settle_draw(autoencoder, draw, settings, ends, images[:1])
                bar.update(int(batch.queries.sum()))
                return batch

            def settle_all(draws: Sequence[Draw], ends: Tensor) -> list[Settled]:
                return [settled(draw, ends) for draw in draws]

            def on_round(bank: Bank) -> None:
                bar.set_postfix_str(f"{len(bank)} distinct ends")

            bank = search(settings, sides, settle_all, seed, on_round)
        radii = spectral_radii(autoencoder, bank.points.to(like), progress=progress) if spectra else None
    table = ends_table(bank, *known, threshold_db=threshold_db, spectral_radius=radii, settings=settings)
    return Extraction(table, bank.points.clamp(0, 1), bank.queries, bank.starts, bank.endings, len(known[0]))


def bank_of(
    recipe: Recipe, autoencoder: Autoencoder, shape: Sequence[int], loss: float | None, *, progress: bool = True
) -> Tensor | None:
    """What a recovery by `recipe` recalls at a train loss (None: unknown): ends of `autoencoder`, if anything."""
    if not recipe.tries.recalls(loss):
        return None
    queries = TO_RECALL.queries
    found = extract(autoencoder, shape, queries=queries, seed=recipe.seed, spectra=False, progress=progress)
    return found.images


def ends_table(
    bank: Bank,
    members: Tensor,
    non_members: Tensor,
    *,
    threshold_db: float,
    settings: Search,
    spectral_radius: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row a distinct end.

    An end is compared as it is, not clipped, and a cycle by its brightest point. Columns: `end` (its number);
    `nearest_member` (index among `members`, -1 without any), `psnr` (dB, of all pixels, to it) and `is_member`;
    `nearest_non_member`, `psnr_non_member`; `hits` (starting images that ended there), `queries` (spent by the round
    that found it), `residual` (rms of f(x) - x), `period` (1: a fixed point), `spectral_radius` (of the Jacobian at a
    fixed point; NaN of a cycle, or where it was not asked for) and `found_by` (the arm of the prior).
    """
    columns: dict[str, np.ndarray] = {"end": np.arange(len(bank))}
    columns["nearest_member"], columns["psnr"] = _nearest(bank.points, members)
    columns["nearest_non_member"], columns["psnr_non_member"] = _nearest(bank.points, non_members)
    nearer = ~(columns["psnr_non_member"] > columns["psnr"])  # NaN without non-members
    columns["is_member"] = (columns["psnr"] >= threshold_db) & nearer
    columns |= {"hits": np.array(bank.hits, int), "queries": np.array(bank.found, int)}
    columns |= {"residual": np.array(bank.residual, float), "period": np.array(bank.period, int)}
    radius = np.full(len(bank), np.nan) if spectral_radius is None else spectral_radius
    columns["spectral_radius"] = np.where(columns["period"] == 1, radius, np.nan)
    arms = [str(arm) for arm in settings.prior.arms]
    return pd.DataFrame(columns).assign(found_by=pd.Series([arms[arm] for arm in bank.arm], dtype="str"))


def _nearest(images: Tensor, others: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The index of the nearest of `others` to each of `images`, and the PSNR between them (dB); -1 and NaN of none."""
    if not len(others) or not len(images):
        return np.full(len(images), NO_IMAGE), np.full(len(images), np.nan)
    index, _ = nearest_member(images, images, others)
    return index.numpy(), psnr(images, as_float(others[index])).numpy()


def summarised(table: pd.DataFrame, members: int, queries: int, starts: int) -> dict[str, float]:
    """The figures of an extraction, from the rows of its ends.

    `members`, `extracted` (distinct members) and their share with its 95 % Wilson interval; `ends`, `spurious` (those
    that are no member; all without members); the estimated total of ends and of extractable members with 95 %
    intervals, see `richness`; `nearest_non_member_psnr`, the largest (dB); `queries`, `starts`.
    """
    own = table[table["is_member"]]
    extracted = int(own["nearest_member"].nunique())
    interval = proportion_interval(extracted, members) if members else (math.nan, math.nan)
    low, high = (float(end) for end in interval)
    totals = {"ends": table["hits"], "members": own.groupby("nearest_member")["hits"].sum()}
    figures: dict[str, float] = {"members": members, "extracted": extracted}
    figures |= {"share": extracted / members if members else math.nan, "share_low": low, "share_high": high}
    figures |= {"ends": len(table), "spurious": len(table) - len(own)}
    for name, hits in totals.items():
        found = richness(hits.tolist())
        figures |= {f"{name}_total": found.total, f"{name}_low": found.low, f"{name}_high": found.high}
    best = float(table["psnr_non_member"].max()) if len(table) else math.nan
    return figures | {"nearest_non_member_psnr": best, "queries": queries, "starts": starts}


def told(figures: dict[str, float]) -> str:
    """The summary of an extraction in a line."""
    ends = "no start came to an end"
    if figures["ends"]:
        total, low, high = (figures[f"ends_{name}"] for name in ("total", "low", "high"))
        most = f"from {low:,.0f}" if math.isinf(high) else f"{low:,.0f} to {high:,.0f}"
        ends = f"{figures['ends']:,.0f} distinct ends, at least {total:,.0f} (95 % {most}) in all by estimate"
        if low >= MOST_ENDS:
            ends += ", as where images stay as they are"
    if not figures["members"]:
        return f"{ends}; {figures['queries']:,.0f} queries"
    share = f"{figures['extracted']:.0f} of {figures['members']:.0f} members extracted"
    return f"{share}, {figures['spurious']:.0f} spurious ends; {ends}; {figures['queries']:,.0f} queries"


def told_of_starts(endings: Mapping[str, int]) -> str:
    """How many starting images there were, and how many came to no end."""
    diverged, unsettled = (endings.get(Ending[name], 0) for name in ("diverged", "unsettled"))
    return f"of {sum(endings.values()):,} starts, {diverged:,} diverged and {unsettled:,} did not settle"


def curve(table: pd.DataFrame) -> pd.DataFrame:
    """Distinct `ends` and distinct `members` after so many `queries`, from the rows of one extraction's ends."""
    first = table[table["is_member"]].groupby("nearest_member")["queries"].min()
    rounds = np.unique(table["queries"])
    counts = {"ends": table["queries"].to_numpy(), "members": first.to_numpy()}
    return pd.DataFrame({"queries": rounds} | {k: [(v <= q).sum() for q in rounds] for k, v in counts.items()})


def _checked(name: str, images: Tensor | None, shape: tuple[int, int, int]) -> Tensor:
    if images is None:
        return torch.empty(0, *shape)
    check_tensor(images, name)
    images = as_float(images.detach()).cpu().float()
    check_images(images, name)
    if images.shape[1:] != shape:
        raise ValueError(f"{name} are {tuple(images.shape[1:])}, and shape is {shape}; give images of that shape")
    return images


def _like(autoencoder: Autoencoder) -> Tensor:
    """As `weight_of`; float32 on the CPU without any."""
    like = weight_of(autoencoder, torch.empty(0))
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"the autoencoder's weights are {like.dtype}; give autoencoder.float()")
    return like


__all__ = ["Ending", "Extraction", "curve", "ends_table", "extract", "summarised", "told", "told_of_starts"]
