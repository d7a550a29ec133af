"""Controls: what the same measurements yield without the memory that is audited, and with a perfect one.

A recovered member means little by itself: it may follow from the pixels that were left, from the architecture, or from
what any autoencoder of such images learns. Each control answers one of these, on the same images degraded the same way:

- `untrained`: the same architecture before its training, with the same method. A centred one holds grey, not the
  members' mean, which by itself tells members from others a little.
- `inpaint`: biharmonic inpainting, told which pixels are missing. Not applicable where none are erased.
- `reference`: an autoencoder trained without the members, with the same method: members and non-members swapped.
- `nearest`: the member nearest to the measurement, told `H`: what a thief who holds the training set would answer. Not
  to be beaten: it is the ceiling.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from enum import StrEnum
from typing import Any

import torch
from torch import nn

from memorization.architectures import Centred
from memorization.architectures.autoencoder import Autoencoder
from memorization.degradations import Degradation


class Control(StrEnum):
    none = "none"
    untrained = "untrained"
    inpaint = "inpaint"
    reference = "reference"
    nearest = "nearest"


CONTROLS = (Control.untrained, Control.inpaint, Control.reference, Control.nearest)


def controlled(recipe, control, members=None):
    from memorization.recovery import Inpaint, Known
    from memorization.recovery.methods.nearest_member import NearestMember

    if control is Control.inpaint:
        return replace(recipe, method=Inpaint(), operator=Known(), starts=1, extrapolation=0)
    if control is Control.nearest:
        return replace(recipe, method=NearestMember(members), operator=Known(), starts=1, extrapolation=0)
    return recipe


TO_BEAT = CONTROLS[:3]


def inpaintable(degradation: Degradation) -> bool:
    """Whether inpainting applies: the degradation consists of erasures."""
    return degradation.erases


def untrained(autoencoder: Autoencoder, seed: int = 0) -> nn.Module | None:
    """A copy of `autoencoder` with its parameters drawn anew, from `seed` alone, and a centred one's mean image grey.

    None where it cannot be made: the autoencoder is no module, has no parameters, or has some in a part without torch's
    `reset_parameters`.
    """
    if not isinstance(autoencoder, nn.Module):
        return None
    fresh = copy.deepcopy(autoencoder)
    parts = [part for part in fresh.modules() if list(part.parameters(recurse=False))]
    if not parts or not all(hasattr(part, "reset_parameters") for part in parts):
        return None
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in parts:
            reset: Any = part.reset_parameters
            reset()
    return without_mean(fresh)


def without_mean(autoencoder: nn.Module) -> nn.Module:
    """`autoencoder`, changed in place: it holds grey instead of the members' mean image, if it holds one."""
    for part in autoencoder.modules():
        if isinstance(part, Centred):
            part.mean.fill_(0.5)
    return autoencoder
