"""The inverse problem that one step of a recovery method sees, and the contract of methods."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import SettingError, number
from memorization.degradations import Operator
from memorization.degradations.checks import check_whole

NOISE_SCALE = 0.1  # in pixels of [0, 1]
RIDGE = 1e-3  # of a start, so that what an operator hardly passes on is not blown up


def data_weight(sigma: Tensor) -> Tensor:
    """(B,): how far the data are trusted: 1 without noise, 1/2 at `NOISE_SCALE`, towards 0 beyond (our own choice).

    The share of data that are off by `sigma` (B,) in their best mean with an answer of the autoencoder that is off by
    `NOISE_SCALE`, each weighted by its inverse variance.
    """
    return 1 / (1 + (sigma / NOISE_SCALE).square())


@dataclass(frozen=True)
class Problem:
    """Recover images from `y = H x + e` with the autoencoder as the only prior.

    neutral: (C, H, W), the member-independent image to start from where nothing was measured: the mean image that a
        centred autoencoder holds, for a method with access to its gradients, else grey.
    """

    measured: Tensor  # (B, C, H, W) or smaller
    y: Tensor  # the same as `operator` and `sigma` describe it: the knowledge may have taken an offset off it
    operator: Operator  # the `H` in use in this step, true or estimated
    sigma: Tensor  # (B,) standard deviation of the noise, true or estimated; 0 if unknown
    autoencoder: Autoencoder  # the trained `f`; each call is counted as one query an image
    neutral: Tensor
    recalled: Tensor | None = None  # (B, C, H, W), images of a bank to start from

    @property
    def image(self) -> Tensor:
        """(B, C, H, W): the measurement as an image, to start from."""
        return self.measured if self.measured.shape[1:] == self.neutral.shape else self.completed(self.neutral)

    def completed(self, fill: Tensor) -> Tensor:
        """(B, C, H, W): the measurement where and as far as it is trusted, elsewhere `fill` (C, H, W)."""
        return self.operator.solve(self.y, fill.expand(len(self.y), -1, -1, -1), self.ridge)

    @property
    def ridge(self) -> Tensor:
        """(B, 1, 1, 1): the weight of a starting image against the data."""
        return (1 / self.trust - 1 + RIDGE).view(-1, 1, 1, 1)

    @property
    def trust(self) -> Tensor:
        """(B,): see `data_weight`."""
        return data_weight(self.sigma)


# What a method asks of the autoencoder: nothing, outputs, or derivatives through it as well.
Access = StrEnum("Access", ["none", "queries", "gradients"])


class ImageState(NamedTuple):
    """The state of a method that goes on from nothing but its last image."""

    x: Tensor  # (B, C, H, W)


class Method(ABC):
    """A recovery method: frozen settings, and pure functions that the solver drives; most need `step` alone.

    The state is a NamedTuple of tensors, each with the batch as its first axis, so that the solver can drop the images
    that are done.
    """

    access: Access = Access.queries  # what it asks of the autoencoder
    knows: str = "the measurement, and H as far as it is told"  # in words, what else it needs
    uses_operator: bool = True  # do its steps ask for `H`? Several starts always do
    restarts: ClassVar[bool] = False  # does `solve` start an image that is not solved again by itself?
    revision: ClassVar[int] = 1
    max_iterations: int
    tolerance: float

    def __post_init__(self) -> None:
        check_whole("max_iterations", self.max_iterations, 1)
        if not 0 <= number(self.tolerance) < math.inf:
            raise SettingError("tolerance", self.tolerance, "it must be at least 0 and finite")

    def start(self, problem: Problem, start: int = 0) -> Any:
        """The state before the first step, from the starting point of number `start`: 0 is the method's own.

        Below 0 it is the recalled image of the problem.
        """
        return ImageState(starting_image(problem, start, own="measurement"))

    @abstractmethod
    def step(self, problem: Problem, state: Any, progress: float) -> Any:
        """The state after one more iteration; `progress` in [0, 1) is the share of the iteration budget used."""

    def answer(self, state: Any) -> Tensor:
        """The recovered images (B, C, H, W) of a state."""
        image: Tensor = state.x
        return image

    def residual(self, previous: Any, state: Any) -> Tensor:
        """(B,) how far each image is from being solved, in pixels of [0, 1]: converged at `tolerance` or less."""
        return rms(state.x - previous.x)

    @property
    def last(self) -> "Method | None":
        """A faster method for the last steps of images that are near their answer, if there is one.

        Its state has an `x` as well. `solve` tries it a few times on the images that are `near`. An image whose answer
        then explains `y` (`OperatorKnowledge.solved`) and is a fixed point, as exactly as the autoencoder holds its
        members by the train loss, has converged. The others go on as they were, at the cost of the queries.
        """
        return None

    def near(self, state: Any) -> Tensor:
        """(B,) bool: is each image so near an answer that `last` is worth a try? By default none is."""
        return _none_of(self.answer(state))

    def stalled(self, state: Any) -> Tensor:
        """(B,) bool: will nothing more come of each image, so that it has converged? By default never."""
        return _none_of(self.answer(state))


def _none_of(images: Tensor) -> Tensor:
    """(B,) bool, all False."""
    return torch.zeros(len(images), dtype=torch.bool, device=images.device)


def starting_image(problem: Problem, start: int, own: Literal["measurement", "neutral"]) -> Tensor:
    """The starting point of number `start`, (B, C, H, W): the method's `own`, the other of these two, random values.

    Neutral and random images give way to the measurement where and as far as it is trusted. Random values are uniform
    in [0, 1], and those of a number are the same for every image. Below 0 it is the recalled image, as it is.
    """
    if start < 0:
        assert problem.recalled is not None
        return problem.recalled
    if start == (0 if own == "measurement" else 1):
        return problem.image
    if start <= 1:
        return problem.completed(problem.neutral)
    values = torch.rand(problem.neutral.shape, generator=torch.Generator().manual_seed(start))
    return problem.completed(values.to(problem.neutral))


def rms(x: Tensor) -> Tensor:
    """Root mean square of each image, (B, ...) to (B,)."""
    level: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1) / math.sqrt(x[0].numel())
    return level


def neutral_image(autoencoder: Autoencoder, access: Access, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """See `Problem.neutral`; of `shape` (C, H, W). A centred autoencoder holds its image as the buffer `mean`."""
    if access == Access.gradients and isinstance(autoencoder, nn.Module):
        mean = dict(autoencoder.named_buffers()).get("mean")
        if mean is not None and mean.shape == shape:
            return mean.to(like)
    return like.new_full(shape, 0.5)
