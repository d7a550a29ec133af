"""Controls: what the same measurements yield without the memory that is audited, and with a perfect one.

A recovered member means little by itself: it may follow from the pixels that were left, from the architecture, or from
what any autoencoder of such images learns. Each control answers one of these, on the same images degraded the same way:

- `untrained`: the same architecture before its training, with the same method. A centred one holds grey instead of the
  members' mean image, which by itself tells members from others a little.
- `inpaint`: biharmonic inpainting with the known mask. It applies to a degradation that only erases.
- `reference`: an autoencoder that was trained without the members, with the same method.
- `nearest`: the member nearest to the measurement, with known `H`: the answer of somebody who holds the training set.
  It is a ceiling, and need not be beaten.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line and the tables of a report need the names alone, and no torch
    from torch import Tensor, nn

    from memorization.architectures.autoencoder import Autoencoder
    from memorization.evaluation.batch import Recipe

UNDRAWN = 1024.0  # marks weights before they are drawn anew; exact in every floating point type


# Which control a run is; none for the audited autoencoder.
Control = StrEnum("Control", ["none", "untrained", "inpaint", "reference", "nearest"])
CONTROLS = tuple(Control)[1:]
TO_BEAT = CONTROLS[:3]


class InapplicableError(ValueError):
    """A control cannot be had; the message says why."""


def controlled(recipe: Recipe, control: Control, members: Tensor | None = None) -> Recipe:
    """`recipe` with the method of `control`, on the same images, degraded alike.

    `untrained` and `reference` keep the method; `inpaint` and `nearest`, which holds the `members` (N, C, H, W), have
    their own and know the operator.
    """
    if control not in (Control.inpaint, Control.nearest):
        return recipe
    import torch

    from memorization.data import as_float
    from memorization.recovery import Inpaint, Known
    from memorization.recovery.methods.nearest_member import NearestMember

    held = torch.empty(0) if members is None else members
    method = Inpaint() if control is Control.inpaint else NearestMember(as_float(held))
    return replace(recipe, method=method, operator=Known(), starts=1, extrapolation=0, recall=0)


def untrained(autoencoder: Autoencoder, seed: int = 0) -> nn.Module:
    """A copy of `autoencoder` whose weights are drawn anew (see `redraw`), from `seed` alone.

    Raises `InapplicableError` if it has none, or some that no `reset_parameters` draws, as under `weight_norm`.
    """
    import torch

    from memorization.architectures.external import first_line
    from memorization.architectures.initialisation import redraw

    if not isinstance(autoencoder, torch.nn.Module) or not list(autoencoder.parameters()):
        raise InapplicableError("it has no weights to draw anew")
    try:
        fresh = copy.deepcopy(autoencoder).cpu()  # so that the draw is the same on every device
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(seed)
            for tensor in _learned(fresh).values():
                tensor.fill_(UNDRAWN)
            redraw(fresh)
    except Exception as error:  # of the user's code
        raise InapplicableError(f"its weights cannot be drawn anew: {first_line(error)}") from error
    if kept := [name for name, tensor in _learned(fresh).items() if (tensor == UNDRAWN).any()]:
        raise InapplicableError(f"no reset_parameters draws its weights {kept[0]} anew")
    return fresh.to(next(autoencoder.parameters()).device)


def _learned(autoencoder: nn.Module) -> dict[str, Tensor]:
    """What may hold what was learned: parameters and buffers of the state dict, such as a codebook, by their names."""
    return {name: tensor for name, tensor in autoencoder.state_dict().items() if tensor.is_floating_point()}
