"""Training a fully connected autoencoder in the few coordinates that its members and first weights span.

The gradient of the first layer's weights lies in the span of the centred members, and that of the last layer's in the
span of the members and of that layer's first weights. Let the columns of `U` (pixels, dimensions) be an orthonormal
basis of both, the members' principal axes first. The network between the coordinates `U^T (x - mean)` has the same
loss as that between the images, up to a constant factor, and gradient descent takes the same steps in both, exactly.
What it has learnt is added to the weights of the autoencoder:

    W_first += (A - A0) U^T,   A0 = W_first U  at the start
    W_last  += U (B - B0),     B0 = U^T W_last at the start

Adam is not the same in other coordinates: here it scales its steps along principal axes, not along pixels. Its learning
rate for these two layers is multiplied by the root of pixels per member, so that a step is about as long as among the
pixels. All this is our choice; `experiments/benchmark` says what it saves and what it changes.
"""

import copy
import math
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import Centred, reconstruction_loss
from memorization.architectures.fully_connected import FullyConnected
from memorization.data import as_float

SHARE = 0.5  # of the pixels: with more dimensions than that, the change of coordinates saves little


class Span:
    """The coordinates of a training, and the autoencoder into which what is learnt is put back.

    basis: `U` (P, D), float32. inputs: the members' coordinates (N, D). rate: by how much the learning rate of the
    first and the last layer is multiplied. scale: the loss between images, a mean over pixels, divided by that between
    coordinates.
    """

    @torch.no_grad()
    def __init__(self, autoencoder: Centred, network: FullyConnected, members: Tensor) -> None:
        self.autoencoder, self.members = autoencoder, members
        first, *hidden, last = network.layers
        self.hidden = list(hidden)
        self.ends = cast("nn.Linear", first), cast("nn.Linear", last)
        first, last = self.ends
        centred = (as_float(members) - autoencoder.mean).flatten(1).double()  # (N, P)
        _, axes = torch.linalg.eigh(centred @ centred.T)  # the largest variance last
        self.basis = torch.linalg.qr(torch.cat([centred.T @ axes.flip(1), last.weight.double()], 1)).Q
        self.inputs = (centred @ self.basis).float()
        self.basis = self.basis.float()
        self.before = first.weight.clone(), last.weight.clone(), last.bias.clone()
        pixels, dimensions = self.basis.shape
        self.scale, self.rate = dimensions / pixels, math.sqrt(pixels / len(members))

    @classmethod
    def of(cls, autoencoder: nn.Module, members: Tensor) -> Self | None:
        """That of `autoencoder` and `members` (N, C, H, W); None if nothing would be saved, or it is of another kind.

        It must be fully connected, with its members' mean image subtracted and without a sigmoid.
        """
        if not isinstance(autoencoder, Centred) or autoencoder.sigmoid:
            return None
        network = autoencoder.network
        if type(network) is not FullyConnected or len(members) + network.width > SHARE * members[0].numel():
            return None
        return cls(autoencoder, network, members)

    def _coordinates(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first weights: of the first layer (H, D) and of the last (D, H), and the last's bias (D,)."""
        first, last, bias = self.before
        return first @ self.basis, self.basis.T @ last, self.basis.T @ bias

    @torch.no_grad()
    def network(self) -> nn.Sequential:
        """The network between coordinates, (B, D) to (B, D), with the first weights."""
        dimensions, (first, last), (inner, outer, bias) = self.basis.shape[1], self.ends, self._coordinates()
        ends = [nn.utils.skip_init(nn.Linear, dimensions, first.out_features)]
        ends += [nn.utils.skip_init(nn.Linear, last.in_features, dimensions)]
        for layer, weight, its_bias in zip(ends, (inner, outer), (first.bias, bias), strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(its_bias)
        return nn.Sequential(ends[0], *copy.deepcopy(self.hidden), ends[1])

    @torch.no_grad()
    def put_back(self, network: nn.Module) -> nn.Module:
        """The autoencoder, with what `network` has learnt, in float32 whatever it was trained in."""
        learnt: list[Any] = list(copy.deepcopy(network).to("cpu", self.basis.dtype).children())
        first, last = self.ends
        pairs = zip((learnt[0].weight, learnt[-1].weight, learnt[-1].bias), self._coordinates(), strict=True)
        inner, outer, bias = (new - old for new, old in pairs)
        changes = inner @ self.basis.T, self.basis @ outer, self.basis @ bias
        for into, old, change in zip((first.weight, last.weight, last.bias), self.before, changes, strict=True):
            into.copy_(old + change)
        first.bias.copy_(learnt[0].bias)
        for layer, trained in zip(self.hidden, learnt[1:-1], strict=True):
            layer.load_state_dict(trained.state_dict())
        return self.autoencoder

    def loss(self, network: nn.Module) -> float:
        """The mean squared error between the members and what the autoencoder makes of them, once all is put back."""
        autoencoder = self.put_back(network).eval()
        return reconstruction_loss(autoencoder, self.members)
