"""One batch through the whole of a recovery: degrade, solve, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from operator import index
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Record, Registry, SettingError, revision_of, within
from memorization.data.split import check_seed
from memorization.degradations import DEGRADATIONS, Degradation, Measurement, image_seeds
from memorization.evaluation import metrics
from memorization.recovery import METHODS, OPERATORS, Anderson, Recovery, Status, Tries, solve, solver
from memorization.recovery.knowledge.estimate import OperatorKnowledge
from memorization.recovery.problem import Method

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Recipe:
    """What is done to every image of an experiment.

    Raises `SettingError` for settings out of range, and for parts that do not go together.
    """

    degradation: Degradation
    method: Method
    operator: OperatorKnowledge
    seed: int = 0  # with an image's index, the only source of the degradation's randomness
    threshold_db: float = 25.0  # erased PSNR from which an image counts as recovered, if it is also the right one
    starts: int = 0  # starting points an image, 0 for as many as it takes; see `solve`
    extrapolation: int = 0  # depth of the method's Anderson extrapolation, 0 for none
    recall: int | None = None  # starts from images of a bank, None for as many as `solve` takes by itself

    def __post_init__(self) -> None:
        metrics.check_threshold(self.threshold_db)
        check_seed(self.seed)
        try:
            _ = self.solving
        except SettingError as error:
            reason = f"{error.reason}; set it to 0 for none"
            raise SettingError("extrapolation", self.extrapolation, reason) from error
        _ = self.tries
        if self.asks_operator and self.operator.blind and not self.degradation.keeps_shape:
            reason = "it cannot be estimated where the `degradation` makes images smaller: choose known"
            raise SettingError("operator", OPERATORS.name_of(self.operator), reason)

    @property
    def solving(self) -> Method:
        """The method that is run."""
        return Anderson(self.method, self.extrapolation) if self.extrapolation else self.method

    @property
    def tries(self) -> Tries:
        """How often an image is tried."""
        return Tries(self.solving, self.operator, self.starts, self.recall)

    @property
    def asks_operator(self) -> bool:
        """Does anything depend on `operator`?"""
        return self.tries.asks_operator

    def choices(self) -> Record:
        """What each row of results says of the recipe.

        `operator` is `none` if nothing asks for it; `erases` says whether inpainting applies.
        """
        return {
            "degradation": DEGRADATIONS.name_of(self.degradation),
            **asdict(self.degradation.describe()),
            "erases": self.degradation.erases,
            "recovery": METHODS.name_of(self.method),
            "operator": OPERATORS.name_of(self.operator) if self.asks_operator else "none",
            "seed": self.seed,
            "threshold_db": self.threshold_db,
        }

    def identity(self) -> Record:
        """All that can change the results but the images, the autoencoder and the seed, as plain values.

        Each part with its name, its revision and its settings; `revisions` are those of what all recipes share.
        """
        extrapolated = {"anderson": revision_of(Anderson)} if self.extrapolation else {}
        recall = self.tries.recalled
        starts = self.starts or (0 if self.tries.restarts else 1)
        tries = {"starts": starts} | ({} if recall == 0 else {"recall": recall})
        return {
            "degradation": _identity(DEGRADATIONS, self.degradation),
            "recovery": _identity(METHODS, self.method) | tries | {"extrapolation": self.extrapolation},
            "operator": _identity(OPERATORS, self.operator) if self.asks_operator else {"name": "none"},
            "threshold_db": self.threshold_db,
            "revisions": {"solver": solver.REVISION, "scores": metrics.REVISION, **extrapolated},
        }


def as_numbers(indices: Iterable[Any]) -> list[int]:
    """The number of each image, of Python, NumPy or torch; raises `ValueError` for what is none."""
    numbers = []
    for i, given in enumerate(indices):
        try:
            numbers.append(index(given))
        except TypeError:
            numbers.append(-1)
        if numbers[-1] < 0:
            raise ValueError(f"indices: {given!r} of image {i} is no number of an image; give whole numbers from 0 on")
    return numbers


def check_parts(**parts: Any) -> None:
    """Raise `SettingError` for a part of a recipe that is none: a word, say, or a class in place of an object."""
    has = {"degradation": "describe", "recovery": "access", "operator": "blind"}
    for name, part in parts.items():
        if isinstance(part, type) or not hasattr(part, has[name]):
            raise SettingError(name, part, "give an object, such as RandomPixels(0.8), Energy() or Known()")


def _identity(registry: Registry[Any], part: Any) -> Record:
    """The name, the revision and the settings of `part`, and of the parts in it; images that it holds are left out."""
    settings = {field.name: getattr(part, field.name) for field in fields(part)}
    return {"name": registry.name_of(part), "revision": revision_of(part)} | {
        name: _identity(registry, value) if is_dataclass(value) else value
        for name, value in settings.items()
        if not isinstance(value, Tensor)
    }


@dataclass(frozen=True)
class RecoveredBatch:
    """What became of a batch of images."""

    scores: pd.DataFrame  # one row an image, see `recover_batch`
    degraded: Tensor  # (B, C, H, W), a measurement smaller than the image enlarged to it
    answers: Tensor  # (B, C, H, W) in [0, 1]
    erased: Tensor  # (B, 1, H, W), the pixels that were erased
    path: Tensor | None = None  # see `solve`

    def compared(self, originals: Tensor, member: Tensor) -> dict[str, Tensor]:
        """The arguments of `update` of `running.recovery_metrics`; `member` (B,) says which images are members."""
        columns = {name: torch.tensor(self.scores[name].to_numpy()) for name in ("psnr_erased", "recovered")}
        columns |= {"diverged": torch.tensor(self.scores["status"].eq(Status.diverged).to_numpy()), "member": member}
        images = {"preds": self.answers, "target": originals}
        return images | {name: column.to(self.answers.device) for name, column in columns.items()}


def recover_batch(
    recipe: Recipe,
    autoencoder: Autoencoder,
    originals: Tensor,
    indices: Sequence[int],
    members: Tensor,
    path: Sequence[int] = (),
    on_iteration: Callable[[int], None] | None = None,
    *,
    bank: Tensor | None = None,
    loss: float | None = None,
) -> RecoveredBatch:
    """Degrade `originals` (B, C, H, W), recover them with `autoencoder` and score the answers.

    `indices` are the images' indices in their pool; `members` (N, C, H, W) all members, of which `nearest_member` is an
    index. A diverged image is never recovered, and its scores are those of its last finite answer.
    `path`, `on_iteration`, the `bank` of images to recall and the train `loss` are passed on to `solve`.
    """
    import pandas as pd

    begin = time.perf_counter()
    with within("degradation"):
        measurement = recipe.degradation(originals, image_seeds(recipe.seed, indices))
    method, operator = recipe.solving, recipe.operator
    solution = solve(
        autoencoder,
        measurement,
        method,
        operator,
        starts=recipe.starts,
        bank=bank,
        recall=recipe.recall,
        loss=loss,
        path=path,
        on_iteration=on_iteration,
    )
    seconds = (time.perf_counter() - begin) / len(originals)
    columns = _of_answers(recipe, solution, measurement, originals, members)
    columns |= {name: getattr(solution, name) for name in ("iterations", "queries", "residual", "start", "energy")}
    columns |= _of_estimate(recipe, solution, measurement)
    table = pd.DataFrame({"image": list(indices)} | {name: value.cpu().numpy() for name, value in columns.items()})
    table = table.assign(status=solution.status, seconds=seconds)
    degraded = functional.interpolate(measurement.y, originals.shape[2:], mode="nearest")
    return RecoveredBatch(table, degraded, solution.images, measurement.erased, solution.path)


def _of_answers(
    recipe: Recipe, solution: Recovery, measurement: Measurement, originals: Tensor, members: Tensor
) -> dict[str, Tensor]:
    """The columns (B,) that compare the answers with the originals and the members."""
    psnr_erased = metrics.psnr(solution.images, originals, measurement.erased)
    nearest, right = metrics.nearest_member(solution.images, originals, members)
    solved = torch.tensor([status != Status.diverged for status in solution.status], device=right.device)
    return {
        "psnr_erased": psnr_erased,
        "psnr": metrics.psnr(solution.images, originals),
        "ssim": metrics.ssim(solution.images, originals),
        "nearest_member": nearest,
        "is_nearest": right,
        "recovered": (psnr_erased >= recipe.threshold_db) & right & solved,
    }


def _of_estimate(recipe: Recipe, solution: Recovery, measurement: Measurement) -> dict[str, Tensor]:
    """The columns (B,) that say what was believed of the operator, and how wrong it was; NaN where it was known."""
    blind = recipe.operator.blind and recipe.asks_operator
    estimated, estimates = (solution.mask, solution.estimates) if blind else (None, {})
    columns = {f"estimated_{name}": value for name, value in estimates.items()}
    return columns | {"operator_error": metrics.mask_error(estimated, measurement.erased)}
