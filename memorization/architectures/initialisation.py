"""Initial weights by name: He's normal ones, torch's own, or orthogonal ones."""

from __future__ import annotations

import math
from typing import Any, Self, TypeVar

import torch
from torch import nn

from memorization.architectures.activations import ACTIVATIONS, GAINS
from memorization.components import choose

INITIALISATIONS = ("he", "default", "orthogonal")
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


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
    """An architecture that draws its weights anew as a new one of the same settings draws them."""

    made_of: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *arguments: Any, **settings: Any) -> Self:
        made = super().__new__(cls)
        made.__dict__["made_of"] = arguments, settings
        return made

    def reset_parameters(self) -> None:
        """Draw the weights anew, from torch's global random state."""
        arguments, settings = self.made_of
        self.load_state_dict(type(self)(*arguments, **settings).state_dict())
