"""The fully connected autoencoder: `depth` linear layers with `width` units between them.

Overparameterised by design: it has no bottleneck, and can store its training images as attracting fixed points
(Radhakrishnan, Belkin and Uhler, 2020, "Overparameterized neural networks implement associative memory").
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from memorization.architectures.initialisation import Redrawn, Shape, activated
from memorization.components import SettingError, number
from memorization.data import in_double


class FullyConnected(Redrawn):
    """Linear layers between the flattened image and itself.

    depth: number of linear layers, at least 2. width: units in each hidden layer. dropout: share of the hidden units
    that is left out at random in each training step, the others scaled up; none in eval mode.
    """

    revision = 1
    later = ("dropout",)

    def __init__(
        self,
        shape: Shape,
        depth: int = 10,
        width: int = 512,
        activation: str = "leaky_relu",
        initialisation: str = "he",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 2:
            raise SettingError("depth", depth, "it must be at least 2")
        if width < 1:
            raise SettingError("width", width, "it must be at least 1")
        if not 0 <= number(dropout) < 1:
            raise SettingError("dropout", dropout, "it must be a share from 0 (none) to below 1, such as 0.1")
        self.shape, self.width, self.has_modes = shape, width, dropout > 0
        pixels = math.prod(shape)
        sizes = [pixels, *[width] * (depth - 1), pixels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += activated(nn.Linear(inputs, outputs), initialisation, activation, first=not layers)
            layers += [nn.Dropout(dropout)] if dropout else []
        self.layers = nn.Sequential(*layers[: -2 if dropout else -1])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x.flatten(1))
        return y.view(-1, *self.shape)

    def least_loss(self, images: Tensor) -> float:
        """A mean squared error on `images` (N, C, H, W), uint8 or floating point, that no weights can undercut.

        The last layer is linear, so that all outputs lie in an affine subspace of dimension `width`. The nearest one is
        that of the principal components (Eckart and Young, 1936); what they leave is the bound, 0 if N <= width + 1.
        It is computed on the first 2 * width images, and counts nothing for the others.
        """
        some = in_double(images[: 2 * self.width].flatten(1))
        if len(some) <= self.width + 1:
            return 0.0
        some = (some - some.mean(0)) / (1 if images.is_floating_point() else 255)
        energies = torch.linalg.eigvalsh(some @ some.T)  # ascending
        return float(energies[: -self.width].clamp_min(0).sum() / images.numel())
