"""Two layers with tied weights, `x -> W^T rho(W x + b)`, which can be held to a Moreau proximal map.

A map is the proximal map of a convex function if and only if it is the gradient of a convex function and 1-Lipschitz
(Moreau, 1965, "Proximité et dualité dans un espace hilbertien"). Here the Jacobian is `W^T diag(rho'(W x + b)) W`:
symmetric, and with its eigenvalues in [0, 1] wherever `0 <= rho' <= 1` and the largest singular value of `W` is at
most 1. `proximal` sees to both. That such networks are proximal maps is why an autoencoder may stand in for one in
plug-and-play ADMM (Abitbul and Dar, 2023, arXiv:2310.02897).

Small initial weights are essential to memorisation: `W^T W` of random weights is close to a multiple of the identity,
and training lets stand what the training images do not contradict. Of 50 faces (train loss 1e-4, width 2048, energy,
80 % erased, known H) none was recovered with He's scale and all with a tenth of it, of 50 non-members none.

`proximal` costs much: on those faces the loss was still 2e-3 after 500 steps (tanh), and 20 % came back. Moreover, the
fixed points of a proximal map form a convex set. A proximal autoencoder that reproduces its training images also
reproduces every mixture of them, and no training image attracts its surroundings.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from memorization.architectures.initialisation import ACTIVATIONS, PROXIMAL, Redrawn, Shape, initialise
from memorization.components import SettingError


class Contraction(nn.Module):
    """Divides a matrix by its largest singular value where that is above 1."""

    def forward(self, weight: Tensor) -> Tensor:
        wide = weight.shape[0] < weight.shape[1]
        with torch.no_grad():  # exact, and several times faster than a singular value decomposition
            top = torch.linalg.eigh(weight @ weight.T if wide else weight.T @ weight).eigenvectors[:, -1]
        largest = torch.linalg.vector_norm(top @ weight if wide else weight @ top)
        return weight.div(largest.clamp(min=1))


class Tied(Redrawn):
    """`W^T rho(W x + b)` on the flattened image.

    width: rows of `W`, the hidden units.
    activation: `rho`. initialisation: of `W`.
    scale: factor on the initial weights; with 1 the network starts close to the identity, see above.
    bias: learn `b`; without it, it is 0.
    proximal: keep the largest singular value of `W` at most 1; `rho` must be one of `PROXIMAL`.
    """

    revision = 1

    def __init__(
        self,
        shape: Shape,
        width: int = 512,
        activation: str = "leaky_relu",
        initialisation: str = "he",
        scale: float = 0.1,
        bias: bool = True,
        proximal: bool = False,
    ) -> None:
        super().__init__()
        if width < 1:
            raise SettingError("width", width, "it must be at least 1")
        if not 0 < scale < math.inf:
            raise SettingError("scale", scale, "it must be above 0 and finite, such as 0.1")
        self.shape = shape
        pixels = math.prod(shape)
        self.layer = initialise(nn.Linear(pixels, width), initialisation, activation, first=True)
        if proximal and activation not in PROXIMAL:
            reason = f"it is not proximal; choose one of {', '.join(PROXIMAL)}, or set `proximal` to false"
            raise SettingError("activation", activation, reason)
        if initialisation == "he":  # W^T sums over `width` units: the larger of both numbers decides
            scale *= math.sqrt(min(1.0, pixels / width))
        self.layer.weight.data *= scale
        if not bias:
            self.layer.register_parameter("bias", None)
        self.activation = ACTIVATIONS[activation]()
        if proximal:
            register_parametrization(self.layer, "weight", Contraction())

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight  # (width, pixels); read once, for a contraction is computed anew at each reading
        hidden = self.activation(nn.functional.linear(x.flatten(1), weight, self.layer.bias))
        y: Tensor = hidden @ weight
        return y.view(-1, *self.shape)
