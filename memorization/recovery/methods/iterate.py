"""Plain iteration of the autoencoder, the baseline: `x <- f(x)` from the measurement.

It finds training images that are attracting fixed points of `f` (Radhakrishnan, Belkin and Uhler, 2020) if the
measurement lies in their basin. It needs no operator, and forgets the measurement after the first step.
"""

from dataclasses import dataclass

from memorization.recovery.problem import ImageState, Method, Problem


@dataclass(frozen=True)
class Iterate(Method):
    """Settings of the iteration; see the module."""

    max_iterations: int = 100
    tolerance: float = 1e-5  # of the change in one iteration

    knows = "the measurement; H to enlarge a smaller one; with several starts, H as far as it is told"
    uses_operator = False

    def step(self, problem: Problem, state: ImageState, progress: float) -> ImageState:
        return ImageState(problem.autoencoder(state.x))
