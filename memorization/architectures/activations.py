"""Activations by name, with the gain that keeps a signal alive through many layers.

The gain of He et al. (2015, arXiv:1502.01852) keeps the second moment, `gain^2 E[rho(z)^2] = 1` for standard normal
`z`: closed forms for the ReLUs, integrals for the others. The saturating ones (tanh, sigmoid, sine, selu) would be
chaotic at depth 10 with it. They get the gain at which small differences neither grow nor die, `gain rho'(0) = 1`
(Poole et al., 2016, arXiv:1606.05340); selu gets the 3/4 of torch's `calculate_gain`. On the faces, tanh needs about
100 steps to 1e-4 with a gain of 1, and about 700 with the 1.59 of the second moment or the 5/3 of `calculate_gain`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Sine(nn.Module):
    """`sin(x)`. SIREN's `sin(30 x)` with weights 30 times smaller is the same function at the start, but Adam, whose
    steps do not shrink with the weights, then moves it 30 times as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,  # slope 0.01
    "prelu": nn.PReLU,  # one learned slope a layer, 0.25 at the start
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "selu": nn.SELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "sine": Sine,
}
GAINS = {
    "relu": math.sqrt(2),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "elu": 1.2451983,
    "gelu": 1.5335304,
    "silu": 1.6765325,
    "selu": 0.75,
    "tanh": 1.0,
    "sigmoid": 4.0,
    "sine": 1.0,
}
# Never falling and never steeper than 1, so that each is the proximal map of a convex function (of one variable).
PROXIMAL = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")
