"""The fully connected autoencoder: `depth` linear layers with `width` units between them.

Overparameterised by design: it has no bottleneck, and can store its training images as attracting fixed points
(Radhakrishnan, Belkin and Uhler, 2020, "Overparameterized neural networks implement associative memory").
"""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from memorization.architectures.initialisation import activated


class FullyConnected(nn.Module):
    """Linear layers between the flattened image and itself.

    shape: (C, H, W) of the images.
    depth: number of linear layers, at least 2.
    width: units in each hidden layer.
    activation: between the layers, by name.
    initialisation: `he`, `default` or `orthogonal`; see `initialise`.

    Raises `ValueError` for a size out of range or an unknown name.
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
        self.shape = shape
        pixels = math.prod(shape)
        sizes = [pixels, *[width] * (depth - 1), pixels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += activated(nn.Linear(inputs, outputs), initialisation, activation, first=not layers)
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(1))
        return y.view(-1, *self.shape)
