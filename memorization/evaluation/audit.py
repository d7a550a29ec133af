"""The audit from Python: how much of its training set does an autoencoder of your own hold?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from memorization.architectures.autoencoder import reconstruction_loss
from memorization.architectures.external import first_line
from memorization.architectures.external.adapted import Description, adapted
from memorization.architectures.external.contract import check_contract, check_loss, evaluating
from memorization.components import SLOW, Record
from memorization.data import as_float, to_uint8
from memorization.data.split import check_distinct, check_images, check_tensor
from memorization.degradations import Degradation, RandomPixels
from memorization.degradations.checks import check_flag, check_whole
from memorization.evaluation.batch import Recipe, as_numbers, check_parts, recover_batch
from memorization.evaluation.controls import Control, InapplicableError, controlled, untrained
from memorization.evaluation.extraction import bank_of
from memorization.evaluation.membership import scores
from memorization.evaluation.statistics import log_roc, roc
from memorization.evaluation.summary import THRESHOLDS, summarise, threshold_curve
from memorization.evaluation.verdict import NOT_APPLICABLE
from memorization.recovery import Autoencoder, Known, Method, OperatorKnowledge, PnPADMM

SHOWN = 6  # members, and non-members, whose pictures are kept
# What a store says of a run.
OWN: Record = {"dataset": "own", "rung": np.nan, "signature": "none", "task": "own", "setup": "own"}


@dataclass(frozen=True)
class Audit:
    """The scores of an audit, one row an image and control, and their summary.

    `missing` says of each control that was asked for why it was not run. `pictures` are of the first members and
    non-members, (K, C, H, W) uint8: `original`, `degraded` and `answer`, and the `row` (K,) of each in the results.
    """

    results: pd.DataFrame
    missing: dict[str, str]
    recipe: Recipe
    pictures: dict[str, Tensor] = field(repr=False)

    def table(self) -> pd.DataFrame:
        """The audited autoencoder and each control in a row: see `memorization.evaluation.summary.summarise`."""
        return summarise(self.results, self.missing)

    summary = table  # its older name

    def roc(self, *, logarithmic: bool = False) -> pd.DataFrame:
        """How well erased PSNR tells members from non-members: `fpr` and `tpr` at the corners of the ROC curve.

        Of the audited autoencoder. With `logarithmic`, for such axes, a rate of 0 is half of the smallest resolved.
        """
        own = self._own()
        score, member = scores(own), own["member"].to_numpy(bool)
        fpr, tpr = (log_roc if logarithmic else roc)(score[member], score[~member])
        return pd.DataFrame({"fpr": fpr, "tpr": tpr})

    def threshold_curve(self, thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
        """What the audited autoencoder brings back at other thresholds (dB): see `memorization.evaluation.summary`."""
        return threshold_curve(self._own(), thresholds)

    def _own(self) -> pd.DataFrame:
        return self.results[self.results["control"] == Control.none]


@torch.inference_mode(False)  # under which no gradient could be taken
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
    starts: int = 0,
    recall: int | None = None,
    controls: bool = False,
    reference: Autoencoder | None = None,
    indices: Sequence[int] | None = None,
    progress: bool = True,
    **description: Unpack[Description],
) -> Audit:
    """How much of `members` (N, C, H, W) does `autoencoder` hold, beside `non_members` that it never saw?

    Images are float32 in [0, 1], or uint8; the autoencoder, a module or any callable, maps float32 (B, C, H, W) to the
    same shape. `description` says how it and the `reference` are called, and how they take and give images, if not so:
    see `adapted`. It is called in eval mode, and a module is left as it was. Defaults: 80 % of the pixels erased, the
    method of Abitbul and Dar, the mask known, one starting point an image (0 `starts`: as many as `energy` needs, one
    of the other methods).

    `recall` is how many images of a bank are tried as starting points as well: those that explain a measurement best.
    The bank is first extracted from the autoencoder itself, with about 150,000 queries; 0 is none. By default `Energy`
    with `Robust` has one, and the other methods have none.

    `controls` adds those of `evaluation.controls`, as far as they apply; `reference` is an autoencoder of the same kind
    that was trained without `members`, best on `non_members` in their place.

    `progress` shows a bar on stderr for what takes longer than a few seconds.

    `indices` is a number for each image, members first, from which and `seed` its degradation is drawn; default 0, 1,
    2, … With `split.member_indices + split.non_member_indices` the images are degraded as by `memorization-recover`.

    Raises `ValueError` for images or settings out of range, for an image that is given twice, and for an autoencoder
    that breaks its contract (see `contract.check_contract`).
    """
    degradation = RandomPixels(0.8) if degradation is None else degradation
    recovery, operator = PnPADMM() if recovery is None else recovery, Known() if operator is None else operator
    check_whole("batch_size", batch_size, 1)
    check_whole("seed", seed, 0)
    check_flag("controls", controls)
    check_flag("progress", progress)
    check_parts(degradation=degradation, recovery=recovery, operator=operator)
    if reference is autoencoder is not None:
        raise ValueError("reference is the autoencoder itself; give one that was trained without the members")
    kind = type(autoencoder).__name__
    autoencoder = adapted(autoencoder, **description)
    recipe = Recipe(degradation, recovery, operator, seed, threshold_db, starts, recall=recall)
    images = Images.of(members, non_members, indices, batch_size)
    with evaluating(autoencoder):
        images.check(recipe, autoencoder)
        loss = reconstruction_loss(autoencoder, images.members, batch_size)
    if reference is not None:  # before it would be late
        try:
            reference = adapted(reference, **description)
            with evaluating(reference):
                images.check(recipe, reference)
        except ValueError as error:
            raise ValueError(f"reference: {error}") from error
    own, pictures = images.recovered(recipe, autoencoder, loss, progress=progress)
    check_loss(loss, images.members, autoencoder)
    tables = [own.assign(control=Control.none.value, train_loss=loss)]
    missing: dict[str, str] = {}
    if controls or reference is not None:
        found, missing = _controls(recipe, autoencoder, reference, images.members, controls)
        for control, (other, model) in found.items():
            try:
                if control is Control.untrained:  # the others were checked
                    with evaluating(model):
                        images.check(other, model)
                scored, _ = images.recovered(other, model, name=f"control {control}", progress=progress)
                tables.append(scored.assign(control=control.value, train_loss=np.nan))
            except Exception as error:  # of the user's code; what was scored is not lost by it
                missing[control] = f"{NOT_APPLICABLE} ({first_line(error)})"
    table = pd.concat(tables, ignore_index=True).assign(architecture=kind, **OWN)
    return Audit(table, missing, recipe, pictures)


@dataclass(frozen=True)
class Images:
    """members: (N, C, H, W) float. every: these and then the non-members. numbers: what each is degraded by."""

    members: Tensor
    every: Tensor
    numbers: list[int]
    batch_size: int

    @classmethod
    def of(cls, members: Tensor, non_members: Tensor, indices: Sequence[int] | None, batch_size: int) -> Images:
        """Raises `ValueError` for images that cannot be audited."""
        _check_images("members", members)
        _check_images("non_members", non_members)
        if members.dtype != non_members.dtype:
            raise ValueError(f"members are {members.dtype}, non-members {non_members.dtype}; they must be alike")
        if members.shape[1:] != non_members.shape[1:]:
            raise ValueError(f"members are {tuple(members.shape[1:])}, non-members {tuple(non_members.shape[1:])}")
        check_distinct(members, non_members)
        every = as_float(torch.cat([members, non_members])).clamp(0, 1)
        numbers = _numbers(range(len(every)) if indices is None else indices, len(members), len(every))
        return cls(every[: len(members)], every, numbers, batch_size)

    def check(self, recipe: Recipe, autoencoder: Autoencoder) -> None:
        """Raise `ValueError` unless the autoencoder keeps its contract on two of the images."""
        some = self.every[[0, len(self.members)]] if len(self.every) > len(self.members) else self.every[:1]
        check_contract(autoencoder, some, recipe.method.access, min(self.batch_size, len(self.every)))

    def recovered(
        self,
        recipe: Recipe,
        autoencoder: Autoencoder,
        loss: float | None = None,
        *,
        name: str = "audit",
        progress: bool = False,
    ) -> tuple[pd.DataFrame, dict[str, Tensor]]:
        """The scores of all images, one row each, and pictures of the first members and non-members, see `Audit`.

        `loss` is the train loss, if it is known; `name` is what a bar is called.
        """
        parts = [slice(i, i + self.batch_size) for i in range(0, len(self.every), self.batch_size)]
        bank = bank_of(recipe, autoencoder, self.every.shape[1:], loss, progress=progress)
        members, count = len(self.members), len(self.every)
        shown = [*range(min(SHOWN, members)), *range(members, min(members + SHOWN, count))]
        tables, pictures, total = [], [], len(parts) * recipe.tries.iterations
        with (
            evaluating(autoencoder),
            tqdm(None, name, total, unit="it", delay=SLOW, disable=not progress, leave=False) as bar,
        ):
            for part in parts:
                images, numbers = self.every[part], self.numbers[part]
                given = (recipe, autoencoder, images, numbers, self.members)
                batch = recover_batch(*given, on_iteration=bar.update, bank=bank, loss=loss)
                at = [row - part.start for row in shown if part.start <= row < part.stop]
                kept = (images, batch.degraded, batch.answers)
                tables.append(batch.scores)
                pictures.append([to_uint8(pictured[at]) for pictured in kept])
        table = pd.concat(tables, ignore_index=True).assign(member=np.arange(count) < members, **recipe.choices())
        found = dict(zip(("original", "degraded", "answer"), map(torch.cat, zip(*pictures, strict=True)), strict=True))
        return table, found | {"row": torch.tensor(shown)}


def _check_images(name: str, images: Tensor) -> None:
    """Raise `ValueError` for what is no tensor of images, float32 in [0, 1] or uint8."""
    check_tensor(images, name)
    if images.requires_grad:
        raise ValueError(f"{name} require grad, which images do not; give {name}.detach()")
    if images.dtype not in (torch.uint8, torch.float32, torch.float64):
        raise ValueError(f"{name} are {images.dtype}; give float32 in [0, 1], or uint8")
    check_images(as_float(images), name)


def _numbers(indices: Sequence[int], members: int, count: int) -> list[int]:
    """`indices` as whole numbers; raises `ValueError` unless they are one for each of `count` images."""
    if not isinstance(indices, Sequence | np.ndarray | Tensor):
        raise ValueError(f"indices are {indices!r}; give a list, one for each of the {count} images, members first")
    if len(indices) != count:
        raise ValueError(f"indices are {len(indices)}; give one for each of the {count} images, members first")
    seen: dict[tuple[bool, int], int] = {}
    for i, number in enumerate(as_numbers(indices)):
        if (first := seen.setdefault((i < members, number), i)) != i:
            raise ValueError(f"indices: images {first} and {i} are both {number}; give each a number of its own")
    return [number for _, number in seen]


def _controls(
    recipe: Recipe, autoencoder: Autoencoder, reference: Autoencoder | None, members: Tensor, every: bool
) -> tuple[dict[Control, tuple[Recipe, Autoencoder]], dict[str, str]]:
    """What to recover with and from for each control, and why some are missing; the reference alone unless `every`."""
    models: dict[Control, Autoencoder] = {}
    missing: dict[str, str] = {}
    if every:
        try:
            models[Control.untrained] = untrained(autoencoder, recipe.seed)
        except InapplicableError as error:
            missing[Control.untrained] = f"{NOT_APPLICABLE} ({error})"
        if recipe.degradation.erases:
            models[Control.inpaint] = autoencoder
        models[Control.nearest] = autoencoder
    else:
        missing |= dict.fromkeys((Control.untrained, Control.inpaint, Control.nearest), "not asked for")
    if reference is None:
        missing[Control.reference] = "not given"
    else:
        models[Control.reference] = reference
    return {name: (controlled(recipe, name, members), model) for name, model in models.items()}, missing
