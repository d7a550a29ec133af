"""The contract of a knowledge of the operator `H`, and the estimate that it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from memorization.degradations import Measurement, Operator


@dataclass(frozen=True)
class Estimate:
    """What is believed of a batch's measurements."""

    y: Tensor  # the measurement as operator and noise describe it, an offset taken off, (B, C, H, W) or smaller
    operator: Operator  # the `H` in use
    sigma: Tensor  # (B,) standard deviation of the noise, in pixels of [0, 1]; 0 where nothing is known of it
    details: dict[str, Tensor] = field(default_factory=dict)  # of the knowledge's own, (B, ...) each

    @property
    def mask(self) -> Tensor | None:
        """(B, 1, H, W): the belief that a pixel was observed, None unless the operator is a mask."""
        weight = self.operator.mask
        return self.details.get("observed", None if weight is None else weight.amin(1, keepdim=True))

    def select(self, keep: Tensor) -> Estimate:
        """The estimate of the images that `keep` names."""
        details = {name: tensor[keep] for name, tensor in self.details.items()}
        return Estimate(self.y[keep], self.operator.select(keep), self.sigma[keep], details)


class OperatorKnowledge(ABC):
    """A way to know `H`: frozen settings, and pure functions that the solver calls."""

    blind: bool = True  # nothing of the measurement but `y` is used
    hypotheses: int = 1  # how many there are to start from; several starts take turns through them
    annealed: float = 0.0  # share of the iterations in which no image counts as converged: the estimate still moves
    restarts: ClassVar[bool] = False  # with it, is an image that is not solved worth other starts by default?
    revision: ClassVar[int] = 1

    @abstractmethod
    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        """What is believed before the first iteration."""

    def recall(self, measurement: Measurement, image: Tensor, hypothesis: int = 0) -> Estimate:
        """What is believed before the first iteration from a recalled `image` (B, C, H, W), which may be the answer."""
        return self.update(self.start(measurement, hypothesis), measurement.y, image, 1, 0.0)

    def unlikely(self, measurement: Measurement, bank: Tensor) -> Tensor:
        """(B, M): how ill each image of `bank` (M, C, H, W) explains each measurement."""
        y = measurement.y
        scores = y.new_empty(len(y), len(bank))
        for i, image in enumerate(bank):
            images = image.expand(len(y), -1, -1, -1)
            scores[:, i] = self.misfit(self.recall(measurement, images), y, images)
        return scores

    @abstractmethod
    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        """The belief for the next iteration, from the current `image` (B, C, H, W); `estimate` itself if it stays."""

    @abstractmethod
    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        """(B,): how far `image` is from explaining all of `y`; compares answers to the same `y`."""

    def solved(self, estimate: Estimate, y: Tensor, image: Tensor, level: float) -> Tensor:
        """(B,) bool: does `image` explain `y` so well that no other start is needed?

        level: how exactly the autoencoder holds an image, as a root mean square in pixels of [0, 1]. Where this cannot
        be told, an image that is a fixed point passes for solved.
        """
        return torch.ones_like(estimate.sigma, dtype=torch.bool)

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        """What is believed, in a few numbers an image, (B,) each."""
        return {}


def erased_share(estimate: Estimate) -> Tensor:
    """(B,): the share of pixels that is believed to be erased."""
    assert estimate.mask is not None
    return 1 - estimate.mask.flatten(1).mean(1)
