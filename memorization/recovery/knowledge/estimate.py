"""What a method may know of the operator `H`: the truth, or an estimate that is renewed as the image takes shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from memorization.degradations import Measurement, Operator


@dataclass(frozen=True)
class Estimate:
    """What is believed of a batch's measurements.

    y: the measurement as operator and noise describe it, an offset taken off, (B, C, H, W) or smaller.
    operator: the `H` in use.
    sigma: (B,) standard deviation of the noise, in pixels of [0, 1]; 0 where nothing is known of it.
    details: (B, ...) tensors of the knowledge's own.
    """

    y: Tensor
    operator: Operator
    sigma: Tensor
    details: dict[str, Tensor] = field(default_factory=dict)

    @property
    def mask(self) -> Tensor | None:
        """(B, 1, H, W): the belief that a pixel was observed, None unless the operator is a mask."""
        weight = self.operator.mask
        return self.details.get("observed", None if weight is None else weight.amin(1, keepdim=True))

    def select(self, keep: Tensor) -> Estimate:
        """The estimate of the images that `keep` names."""
        details = {name: tensor[keep] for name, tensor in self.details.items()}
        return Estimate(self.y[keep], self.operator.select(keep), self.sigma[keep], details)


class OperatorKnowledge(Protocol):
    """Frozen settings of a way to know `H`."""

    @property
    def blind(self) -> bool:
        """True if nothing of the measurement but `y` is used."""

    @property
    def hypotheses(self) -> int:
        """How many suppositions of another kind there are to start from; several starts take turns through them."""

    @property
    def annealed(self) -> float:
        """The share of the iterations before which no image counts as converged, since the estimate still moves."""

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        """What is believed before the first iteration."""

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        """The belief for the next iteration, from the current `image` (B, C, H, W); `estimate` itself if it stays."""

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        """(B,): how ill `image` explains all of `y` under what is believed, to compare answers to the same `y`."""

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        """What is believed, in a few numbers an image, (B,) each."""


def erased_share(estimate: Estimate) -> Tensor:
    """(B,): the share of pixels that is believed to be erased."""
    assert estimate.mask is not None
    return 1 - estimate.mask.flatten(1).mean(1)
