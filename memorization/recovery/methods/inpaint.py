"""Biharmonic inpainting, the control: it never queries the autoencoder, so what it recovers was not memorised.

Each channel of an erased region is filled with the smoothest surface that meets its surroundings (Damelin and Hoang,
2018, arXiv:1707.06567; scikit-image's `inpaint_biharmonic`). Use it beside the other methods, to see how much of an
image follows from the pixels that were left. It takes one step, with the mask that is known before there is an image:
the true one with `Known()`; of an estimated mask, pixels of less than half the largest weight count as erased.

Where nothing was erased, or everything, the answer is the measurement. An operator that is no mask is inverted with a
ridge towards grey that grows with the noise (our choice). Under a mask, noise stays.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memorization.recovery.problem import Access, ImageState, Method, Problem


@dataclass(frozen=True)
class Inpaint(Method):
    """The settings that every method has; one step is the answer, so neither changes it."""

    max_iterations: int = 1
    tolerance: float = 0.0  # every image converges in the first step

    access = Access.none
    knows = "the measurement, and H as far as it is told before there is an image; not f"

    def step(self, problem: Problem, state: ImageState, progress: float) -> ImageState:
        if (weight := problem.operator.mask) is None:
            grey = torch.full_like(state.x, 0.5)
            return ImageState(problem.operator.solve(problem.y, grey, problem.ridge))
        y = problem.measured
        erased = (weight < 0.5 * weight.amax((2, 3), keepdim=True)).expand_as(y).cpu().numpy()
        pairs = zip(y.cpu().numpy(), erased, strict=True)
        return ImageState(torch.from_numpy(np.stack([_inpainted(*pair) for pair in pairs])).to(y))

    def residual(self, previous: ImageState, state: ImageState) -> Tensor:
        return state.x.new_zeros(len(state.x))


def _inpainted(image: NDArray[np.floating], erased: NDArray[np.bool_]) -> NDArray[np.floating]:
    """`image` (C, H, W) with its `erased` pixels (C, H, W) filled in, each channel by itself."""
    from skimage.restoration import inpaint_biharmonic

    channels = [
        inpaint_biharmonic(channel, mask) if mask.any() and not mask.all() else channel
        for channel, mask in zip(image, erased, strict=True)
    ]
    return np.stack(channels)
