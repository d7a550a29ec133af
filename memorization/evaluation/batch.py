"""One batch through the whole of a recovery: degrade, solve, score."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import SettingError, revision_of, within
from memorization.data import check_seed
from memorization.degradations import DEGRADATIONS, Degradation, image_seeds
from memorization.evaluation import metrics
from memorization.recovery import METHODS, OPERATORS, Anderson
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.problem import Method
from memorization.recovery.solver import DIVERGED, asks_operator, check_starts, solve


@dataclass(frozen=True)
class RecoveredBatch:
    """scores: one row an image (see `recover_batch`); degraded and answers: (B, C, H, W); path: see `solve`.

    A measurement smaller than the image is enlarged to it.
    """

    scores: pd.DataFrame
    degraded: Tensor
    answers: Tensor
    path: Tensor | None = None


@dataclass(frozen=True)
class Recipe:
    """What is done to every image of an experiment.

    seed: with an image's index, the only source of the degradation's randomness.
    starts: starting points an image, see `solve`.
    threshold_db: the erased-pixel PSNR from which an image counts as recovered, if it is also the right one.
    """

    degradation: Degradation
    method: Method
    operator: OperatorKnowledge
    seed: int = 0
    threshold_db: float = 25.0
    starts: int = 1
    extrapolation: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold_db):
            raise ValueError(f"threshold_db is {self.threshold_db:g}; it must be a finite number of dB")
        check_seed(self.seed)
        check_starts(self.method, self.starts)
        if self.operator.blind and self.asks_operator and not self.degradation.keeps_shape:
            raise SettingError(
                "operator",
                OPERATORS.name_of(self.operator),
                "the degradation makes images smaller, which it cannot suppose; choose known",
            )
        _ = self.solving

    @property
    def solving(self) -> Any:
        return Anderson(self.method, self.extrapolation) if self.extrapolation else self.method

    def choices(self) -> dict[str, Any]:

        return {
            "degradation": DEGRADATIONS.name_of(self.degradation),
            **asdict(self.degradation.describe()),
            "recovery": METHODS.name_of(self.method),
            "operator": OPERATORS.name_of(self.operator) if self.asks_operator else "none",
            "seed": self.seed,
            "threshold_db": self.threshold_db,
        }

    def identity(self) -> dict[str, Any]:
        def of(reg, part):
            return (
                {"name": reg.name_of(part), "revision": revision_of(part), **asdict(part)}
                if reg.name_of(part) != "NearestMember"
                else {"name": "nearest"}
            )

        return {
            "degradation": of(DEGRADATIONS, self.degradation),
            "recovery": of(METHODS, self.method) | {"starts": self.starts, "extrapolation": self.extrapolation},
            "operator": of(OPERATORS, self.operator) if self.asks_operator else {"name": "none"},
            "threshold_db": self.threshold_db,
            "revisions": {"solver": 1, "scores": 1},
        }

    @property
    def asks_operator(self) -> bool:
        """Does anything depend on `operator`?"""
        return asks_operator(self.method, self.starts)


def recover_batch(
    recipe: Recipe,
    autoencoder: Autoencoder,
    originals: Tensor,
    indices: Sequence[int],
    members: Tensor,
    path: Sequence[int] = (),
    on_iteration: Callable[[int], None] | None = None,
) -> RecoveredBatch:
    """Degrade `originals` (B, C, H, W), recover them with `autoencoder` and score the answers.

    `indices` are the images' indices in their pool; `members` (N, C, H, W) all members, of which `nearest_member` is an
    index. A diverged image is never recovered, and its scores are those of its last finite answer.
    `path` is passed on to `solve`.
    """
    begin = time.perf_counter()
    with within("degradation"):
        measurement = recipe.degradation(originals, image_seeds(recipe.seed, indices))
    solution = solve(
        autoencoder,
        measurement,
        recipe.solving,
        recipe.operator,
        starts=recipe.starts,
        path=path,
        on_iteration=on_iteration,
    )
    seconds = (time.perf_counter() - begin) / len(originals)

    psnr_erased = metrics.psnr(solution.images, originals, measurement.erased)
    nearest, right = metrics.nearest_member(solution.images, originals, members)
    solved = torch.tensor([status != DIVERGED for status in solution.status], device=right.device)
    blind = recipe.operator.blind and recipe.asks_operator
    estimated, estimates = (solution.mask, solution.estimates) if blind else (None, {})
    columns = {
        "psnr_erased": psnr_erased,
        "psnr": metrics.psnr(solution.images, originals),
        "ssim": metrics.ssim(solution.images, originals),
        "nearest_member": nearest,
        "is_nearest": right,
        "recovered": (psnr_erased >= recipe.threshold_db) & right & solved,
        "iterations": solution.iterations,
        "queries": solution.queries,
        "residual": solution.residual,
        "start": solution.start,
        "energy": solution.energy,
        **{f"estimated_{name}": value for name, value in estimates.items()},
        "operator_error": metrics.mask_error(estimated, measurement.erased),
    }
    table = pd.DataFrame({"image": list(indices), **{name: value.cpu().numpy() for name, value in columns.items()}})
    table["status"] = solution.status
    table["seconds"] = seconds
    degraded = measurement.y
    if degraded.shape != originals.shape:
        degraded = functional.interpolate(degraded, originals.shape[2:], mode="nearest")
    return RecoveredBatch(table, degraded, solution.images, solution.path)
