"""The truth about the operator `H`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from memorization.degradations import Measurement
from memorization.recovery.knowledge.estimate import Estimate
from memorization.recovery.problem import data_weight


@dataclass(frozen=True)
class Known:
    """The true operator and noise level (the oracle of a comparison)."""

    revision: ClassVar[int] = 1
    blind: ClassVar[bool] = False
    hypotheses: ClassVar[int] = 1
    annealed: ClassVar[float] = 0.0

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        y = measurement.y
        return Estimate(y, measurement.operator, y.new_full((len(y),), measurement.sigma))

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        return estimate

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        return data_weight(estimate.sigma) * estimate.operator.misfit(image, y)

    def report(self, estimate: Estimate) -> dict[str, Tensor]:
        return {}
