"""The audit from Python: how much of its training set does an autoencoder of your own hold?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from memorization.controls import NearestMember, inpaintable, untrained
from memorization.data import check_images
from memorization.degradations import Chain, Degradation, RandomPixels
from memorization.recovery import Autoencoder, Inpaint, Known, Method, OperatorKnowledge, PnPADMM
from memorization.recovery.experiment import Recipe, recover_batch
from memorization.summary import summarise


def describe(recipe_part: object) -> dict[str, Any]:
    """`fraction`, `fill` and `noise` of a degradation: a number or word each, missing where it has none.

    Of a chain, `noise` is that of the second part, the rest that of the last part that erases.
    """
    if isinstance(recipe_part, Chain):
        first, second = describe(recipe_part.first), describe(recipe_part.second)
        return second if second["fill"] != "none" else {**first, "noise": second["noise"]}
    return {
        "fraction": float(getattr(recipe_part, "fraction", np.nan)),
        "fill": getattr(recipe_part, "fill", "none"),
        "noise": float(getattr(recipe_part, "noise", 0.0)),
    }


@dataclass(frozen=True)
class Audit:
    """The scores of an audit, one row an image and control, and their summary.

    `missing` says of each control that was asked for why it was not run.
    """

    results: pd.DataFrame
    missing: dict[str, str] = field(default_factory=dict)

    def summary(self) -> pd.DataFrame:
        """The audited autoencoder and each control in a row: see `memorization.summary.summarise`."""
        return summarise(self.results, self.missing)


def audit(
    autoencoder: Autoencoder,
    members: Tensor,
    non_members: Tensor,
    degradation: Degradation | None = None,
    recovery: Method | None = None,
    operator: OperatorKnowledge | None = None,
    *,
    seed: int = 0,
    batch_size: int = 100,
    threshold_db: float = 25.0,
    starts: int = 1,
    controls: bool = False,
    reference: Autoencoder | None = None,
) -> Audit:
    """How much of `members` (N, C, H, W) does `autoencoder` hold, beside `non_members` that it never saw?

    Images are float32 in [0, 1]; the autoencoder maps (B, C, H, W) to the same shape. It is called in eval mode, and a
    module is put back in the modes that it was in. Defaults: 80 % of the pixels erased, the method of Abitbul and Dar,
    the mask known, one starting point an image.

    `controls` adds those of `memorization.controls`, as far as they apply; `reference` is an autoencoder of the same
    kind that was trained without `members`, best on `non_members` in their place.

    Raises `ValueError` for images or settings out of range, for
    non-members that are members, and for an autoencoder that changes the shape or does not return a tensor.
    """
    degradation, recovery, operator = degradation or RandomPixels(0.8), recovery or PnPADMM(), operator or Known()
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    for name, images in (("members", members), ("non_members", non_members)):
        if not isinstance(images, Tensor):
            raise ValueError(f"{name} are a {type(images).__name__}; give a tensor, torch.as_tensor(...) makes one")
        if images.requires_grad:
            raise ValueError(f"{name} require grad, which images do not; give {name}.detach()")
        check_images(images, name)
    if members.dtype != non_members.dtype:
        raise ValueError(f"members are {members.dtype}, non-members {non_members.dtype}; they must be alike")
    if members.shape[1:] != non_members.shape[1:]:
        raise ValueError(f"members are {tuple(members.shape[1:])}, non-members {tuple(non_members.shape[1:])}")
    index = {image.cpu().numpy().tobytes(): i for i, image in enumerate(members)}
    for i, image in enumerate(non_members):
        if (same := index.get(image.cpu().numpy().tobytes())) is not None:
            raise ValueError(f"non_members: image {i} is member {same}; give images that the autoencoder never saw")
    recipe = Recipe(degradation, recovery, operator, seed, threshold_db, starts)
    images = torch.cat([members, non_members])
    with _evaluating(autoencoder):
        _check_autoencoder(autoencoder, members[:1])
        own = _scored(recipe, autoencoder, images, members, batch_size)
        loss = sum([_squared_error(autoencoder, part) for part in members.split(batch_size)]) / members.numel()
        tables = [own.assign(control="none", train_loss=loss, **_choices(recipe))]
        missing: dict[str, str] = {}
        if controls or reference is not None:
            found, missing = _controls(recipe, autoencoder, members, reference, controls)
            for name, (other, model) in found.items():
                with _evaluating(model):
                    _check_autoencoder(model, members[:1])
                    table = _scored(other, model, images, members, batch_size)
                tables.append(table.assign(control=name, train_loss=np.nan, **_choices(other)))
    facts = {
        "dataset": "own",
        "architecture": type(autoencoder).__name__,
        "degradation": type(degradation).__name__,
        **describe(degradation),
        "rung": np.nan,
        "seed": seed,
        "threshold_db": threshold_db,
        "signature": "none",
        "task": "own",
        "setup": "own",
    }
    return Audit(pd.concat(tables, ignore_index=True).assign(**facts), missing)


def _controls(
    recipe: Recipe, autoencoder: Autoencoder, members: Tensor, reference: Autoencoder | None, every: bool
) -> tuple[dict[str, tuple[Recipe, Autoencoder]], dict[str, str]]:
    """What to recover with and from for each control (the reference alone unless `every`), and why some are missing.

    The recipes share all of `recipe` but what makes the control.
    """
    found: dict[str, tuple[Recipe, Autoencoder]] = {}
    missing = {} if every else dict.fromkeys(("untrained", "inpaint", "nearest"), "not asked for")
    told = replace(recipe, operator=Known(), starts=1)
    if every:
        fresh = untrained(autoencoder, recipe.seed)
        if fresh is None:
            missing["untrained"] = "not applicable (its parameters cannot be drawn anew)"
        else:
            found["untrained"] = recipe, fresh
        if inpaintable(recipe.degradation):
            found["inpaint"] = replace(told, method=Inpaint()), autoencoder
        found["nearest"] = replace(told, method=NearestMember(members)), autoencoder
    if reference is None:
        missing["reference"] = "not given"
    elif reference is autoencoder:
        raise ValueError("reference is the autoencoder itself; give one that was trained without the members")
    else:
        found["reference"] = recipe, reference
    return found, missing


def _scored(recipe: Recipe, autoencoder: Autoencoder, images: Tensor, members: Tensor, batch_size: int) -> pd.DataFrame:
    """The scores of `images` (N, C, H, W), of which `members` come first."""
    tables = [
        recover_batch(recipe, autoencoder, images[rows], rows.tolist(), members).scores
        for rows in torch.arange(len(images)).split(batch_size)
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(member=table["image"] < len(members))


def _choices(recipe: Recipe) -> dict[str, str]:
    operator = type(recipe.operator).__name__ if recipe.method.uses_operator else "none"
    return {"recovery": type(recipe.method).__name__, "operator": operator}


@contextlib.contextmanager
def _evaluating(autoencoder: Autoencoder) -> Iterator[None]:
    """Eval mode; afterwards every part of a module is in its earlier mode."""
    modules = list(autoencoder.modules()) if isinstance(autoencoder, torch.nn.Module) else []
    modes = [module.training for module in modules]
    if isinstance(autoencoder, torch.nn.Module):
        autoencoder.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@torch.no_grad()
def _check_autoencoder(autoencoder: Autoencoder, images: Tensor) -> None:
    """Raise `ValueError` unless `autoencoder` maps `images` (B, C, H, W) to a tensor of the same shape."""
    output: object = autoencoder(images)
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the autoencoder returns a {type(output).__name__}; it must return the images alone: wrap it in a "
            "function that does"
        )
    if output.shape != images.shape:
        raise ValueError(f"the autoencoder maps {tuple(images.shape)} to {tuple(output.shape)}; it must keep the shape")


@torch.no_grad()
def _squared_error(autoencoder: Autoencoder, images: Tensor) -> float:
    return float((autoencoder(images) - images).square().sum())
