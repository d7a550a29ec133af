"""Initial weights by name (He's normal ones, torch's own, or orthogonal ones), and activations with their gains.

The gain of He et al. (2015, arXiv:1502.01852) keeps the second moment, `gain^2 E[rho(z)^2] = 1` for standard normal
`z`: closed forms for the ReLUs, integrals for the others. The saturating ones (tanh, sigmoid, sine, selu) would be
chaotic at depth 10 with it. They get the gain at which small differences neither grow nor die, `gain rho'(0) = 1`
(Poole et al., 2016, arXiv:1606.05340); selu gets the 3/4 of torch's `calculate_gain`. On the faces, tanh needs about
100 steps to 1e-4 with a gain of 1, and about 700 with the 1.59 of the second moment or the 5/3 of `calculate_gain`.
"""

import math
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from memorization.components import choose

INITIALISATIONS = ("he", "default", "orthogonal")
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
Shape = tuple[int, int, int]  # (C, H, W)


class Sine(nn.Module):
    """`sin(x)`. SIREN's `sin(30 x)` with weights 30 times smaller is the same function at the start, but Adam, whose
    steps do not shrink with the weights, then moves it 30 times as fast."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


LAYERS_AND_GAINS: dict[str, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, math.sqrt(2)),
    "leaky_relu": (nn.LeakyReLU, math.sqrt(2 / (1 + 0.01**2))),  # slope 0.01
    "prelu": (nn.PReLU, math.sqrt(2 / (1 + 0.25**2))),  # one learned slope a layer, 0.25 at the start
    "elu": (nn.ELU, 1.2451983),
    "gelu": (nn.GELU, 1.5335304),
    "silu": (nn.SiLU, 1.6765325),
    "selu": (nn.SELU, 0.75),
    "tanh": (nn.Tanh, 1.0),
    "sigmoid": (nn.Sigmoid, 4.0),
    "sine": (Sine, 1.0),
}
ACTIVATIONS = {name: layer for name, (layer, _) in LAYERS_AND_GAINS.items()}
GAINS = {name: gain for name, (_, gain) in LAYERS_AND_GAINS.items()}
# Never falling and never steeper than 1, so that each is the proximal map of a convex function (of one variable).
PROXIMAL = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")


def initialise(layer: Layer, initialisation: str, activation: str, *, first: bool = False) -> Layer:
    """Set the weights of `layer` in place, which stands in a network of `activation`, and return it.

    he: normal, standard deviation `gain / sqrt(inputs)`, with the activation's gain; He et al. (2015).
    orthogonal: orthonormal rows or columns times that gain; Saxe et al. (2014, arXiv:1312.6120).
    default: torch's, uniform within `1 / sqrt(inputs)`, biases too.

    Biases are 0. But a layer whose inputs are sigmoids (any but the `first` one) gets the bias that moves them from
    [0, 1] to zero mean: the network then starts as one of tanh. Without it, signals at depth 10 do not get through.

    Raises `SettingError` for an unknown name.
    """
    choose("activation", activation, ACTIVATIONS)
    choose("initialisation", initialisation, INITIALISATIONS)
    if initialisation == "default":
        return layer
    gain, weight = GAINS[activation], layer.weight.data  # (outputs, inputs, ...)
    if isinstance(layer, nn.ConvTranspose2d):
        weight = weight.transpose(0, 1)
        gain *= math.sqrt(math.prod(layer.stride))  # an output sees one in so many of the kernel's taps
    if initialisation == "he":
        nn.init.normal_(weight, 0.0, gain / math.sqrt(weight[0].numel()))
    else:
        weight.copy_(nn.init.orthogonal_(torch.empty(weight.shape), gain))
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    if activation == "sigmoid" and not first:
        seen = math.prod(layer.stride) if isinstance(layer, nn.ConvTranspose2d) else 1
        layer.bias.data.copy_(-weight.flatten(1).sum(1) / (2 * seen))
    return layer


def activated(layer: Layer, initialisation: str, activation: str, *, first: bool = False) -> list[nn.Module]:
    """`layer`, initialised by `initialise`, and the activation that follows it."""
    return [initialise(layer, initialisation, activation, first=first), ACTIVATIONS[activation]()]


def redraw(module: nn.Module) -> None:
    """Draw the weights of `module` anew, in place, by its `reset_parameters` or, without one, by those of its parts.

    A module with `reset_parameters` also draws the weights of its parts.
    """
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
    else:
        for part in module.children():
            redraw(part)


class Redrawn(nn.Module):
    """An architecture that draws its weights anew as a new one of the same settings draws them.

    All take the `shape` (C, H, W) of the images, the `activation` between the layers by its name, and an
    `initialisation`, see `initialise`. They raise `SettingError` for a setting out of range or an unknown name.
    """

    has_modes, on_meta = False, True
    made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        made = super().__new__(cls)
        made.__dict__["made_of"] = arguments, settings
        return made

    def reset_parameters(self) -> None:
        """Draw the weights anew, from torch's global random state."""
        arguments, settings = self.made_of
        self.load_state_dict(type(self)(*arguments, **settings).state_dict())
