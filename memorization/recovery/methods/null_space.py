"""Null-space iteration: `z = f(x)` fills in what was not measured, `x <- z + t H^+ (y - H z)` restores what was.

The part of the image that `H` sees comes from the measurement, the part in its null space from the autoencoder. This is
the range/null-space decomposition of DDNM (Wang, Yu and Zhang, 2023, arXiv:2212.00490) with `f` as the denoiser. It is
not DDNM, which samples with a diffusion model. It is half-quadratic splitting in the limit of a vanishing penalty. It
needs one query an iteration and no penalty; use it with a known operator and little noise. Unlike ADMM it does not
accumulate the misfit, so it can stay at an attracting image that contradicts the measurement. Where `H` is a mask, its
fixed points are those of regularisation by denoising by gradient steps (Romano, Elad and Milanfar, 2017,
arXiv:1611.02862) for some `t < 1`.

The correction projects `z` onto the images that were measured as `y`. `relaxation` makes it up to twice as long, as in
relaxed projections (Gubin, Polyak and Raik, 1967): 1 is DDNM's, and nearly 2 escapes images that contradict the
measurement.

Our own choices: `t` is `relaxation` without noise, and less with noise (`Problem.trust`). An operator that is no mask
is inverted with the ridge `1 / w - 1` of the trust `w`, but at least `RIDGE` (`ITERATED` in a chain), so that noise is
not amplified. The weight of an estimated mask scales the correction. The null space starts grey.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from memorization.components import SettingError, number
from memorization.recovery.problem import ImageState, Method, Problem, starting_image

RIDGE = 1e-6  # leaves to f what an operator that is no mask passes on with less than a thousandth of its size
ITERATED = 1e-3  # the same where the operator is inverted by conjugate gradients, which a smaller one keeps from ending


@dataclass(frozen=True)
class NullSpace(Method):
    """Settings of the iteration; see the module."""

    max_iterations: int = 100
    tolerance: float = 1e-5  # of the change in one iteration
    relaxation: float = 1.0  # of the correction, in (0, 2]; 1 is the projection, nearly 2 tends to recover more

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < number(self.relaxation) <= 2:
            raise SettingError("relaxation", self.relaxation, "it must be above 0 and at most 2")

    def start(self, problem: Problem, start: int = 0) -> ImageState:
        return ImageState(starting_image(problem, start, own="neutral"))

    def step(self, problem: Problem, state: ImageState, progress: float) -> ImageState:
        return ImageState(problem.autoencoder(self._corrected(problem, state.x)))

    def _corrected(self, problem: Problem, z: Tensor) -> Tensor:
        """`z + t H^+ (y - H z)`, (B, C, H, W) as `z` is."""
        h, trust = problem.operator, problem.trust.view(-1, 1, 1, 1)
        if (weight := h.mask) is not None:
            return torch.lerp(z, problem.y, self.relaxation * trust * weight)
        x = h.solve(problem.y, z, (1 / trust - 1).clamp_min(ITERATED if h.iterated else RIDGE))
        return torch.lerp(z, x, self.relaxation)
