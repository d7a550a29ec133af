"""The true operator and noise level: the oracle of a comparison."""

from dataclasses import dataclass

from torch import Tensor

from memorization.degradations import Measurement
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge
from memorization.recovery.problem import data_weight


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
