"""The fully connected autoencoder: `depth` linear layers with `width` units between them.

Overparameterised by design: it has no bottleneck, and can store its training images as attracting fixed points
(Radhakrishnan, Belkin and Uhler, 2020, "Overparameterized neural networks implement associative memory").
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}
INITIALISATIONS = ("he", "default")


class FullyConnected(nn.Module):
    """Linear layers between the flattened image and itself; the output is not clamped.

    shape: (C, H, W) of the images.
    depth: number of linear layers, at least 2.
    width: units in each hidden layer.
    activation: between the layers, by name.
    initialisation: `he` (normal, gain of the leaky ReLU, biases 0) or torch's `default`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        depth: int = 10,
        width: int = 512,
        activation: str = "leaky_relu",
        initialisation: str = "he",
    ) -> None:
        super().__init__()
        if depth < 2 or width < 1:
            raise ValueError(
                f"architecture.depth={depth} architecture.width={width}: the depth must be at least 2, the width 1"
            )
        if activation not in ACTIVATIONS:
            raise ValueError(f"architecture.activation is {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
        if initialisation not in INITIALISATIONS:
            raise ValueError(
                f"architecture.initialisation is {initialisation!r}; choose one of {', '.join(INITIALISATIONS)}"
            )
        self.shape = shape
        pixels = math.prod(shape)
        sizes = [pixels, *[width] * (depth - 1), pixels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            linear = nn.Linear(inputs, outputs)
            if initialisation == "he":
                nn.init.kaiming_normal_(linear.weight, a=0.01, nonlinearity="leaky_relu")
                nn.init.zeros_(linear.bias)
            layers += [linear, ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(1))
        return y.view(-1, *self.shape)
