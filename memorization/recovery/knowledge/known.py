"""The true operator and noise level: the oracle of a comparison."""

from dataclasses import dataclass

from torch import Tensor

from memorization.degradations import Measurement
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge
from memorization.recovery.problem import data_weight

FITTING = 1.5  # times the noise: the most that a few observed pixels are off the right image by, root mean square


@dataclass(frozen=True)
class Known(OperatorKnowledge):
    """The true operator and noise level, the oracle of a comparison."""

    blind = False

    def start(self, measurement: Measurement, hypothesis: int = 0) -> Estimate:
        y = measurement.y
        return Estimate(y, measurement.operator, y.new_full((len(y),), measurement.sigma))

    def update(self, estimate: Estimate, y: Tensor, image: Tensor, iteration: int, progress: float) -> Estimate:
        return estimate

    def misfit(self, estimate: Estimate, y: Tensor, image: Tensor) -> Tensor:
        return data_weight(estimate.sigma) * estimate.operator.misfit(image, y)

    def solved(self, estimate: Estimate, y: Tensor, image: Tensor, level: float) -> Tensor:
        weight = estimate.operator.mask
        count = y[0].numel() if weight is None else weight.expand_as(y).flatten(1).sum(1).clamp_min(1)
        square: Tensor = estimate.operator.misfit(image, y) / count
        return square <= (FITTING * estimate.sigma).square() + level**2
