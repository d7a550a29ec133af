"""Membership inference from Python: is an image in the training set, by a threshold on its score or by LiRA?

Two scores of an image are attacked with. The loss threshold takes the PSNR of the autoencoder's reconstruction of the
image itself, which is minus the logarithm of its loss (Yeom et al., CSF 2018). Ours takes the erased PSNR of a
recovery: the attacker holds a degraded image only. LiRA calibrates each by reference autoencoders, see `lira`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE, Autoencoder, reconstruction_loss, taken_by
from memorization.architectures.external.adapted import Description, adapted
from memorization.architectures.external.contract import evaluating
from memorization.components import Status
from memorization.degradations import Degradation, RandomPixels
from memorization.degradations.checks import check_flag, check_whole
from memorization.evaluation import lira as ratios
from memorization.evaluation import metrics
from memorization.evaluation.audit import Images
from memorization.evaluation.batch import Recipe, check_parts
from memorization.evaluation.membership import bounded
from memorization.recovery import Known, Method, OperatorKnowledge, PnPADMM


@dataclass(frozen=True)
class Attacked:
    """What a membership inference found; `print` it.

    table: one row an image, members first: `image` (its place), `member`, and the columns of
        `evaluation.lira.attacked`, a score each, larger for what is more likely a member.
    references: how many there were.
    """

    table: pd.DataFrame
    references: int

    def summary(self) -> pd.DataFrame:
        """One row an attack, with AUC and TPR at the lowest FPR resolved: see `evaluation.lira.summarised`."""
        return ratios.summarised(self.table)

    def __str__(self) -> str:
        return "\n".join([f"Membership inference with {self.references} references:", *ratios.told(self.summary())])


@torch.no_grad()
def own_psnr(autoencoder: Autoencoder, images: Tensor) -> np.ndarray:
    """(N,) PSNR (dB, 0 to 120) of the reconstruction of each of `images` (N, C, H, W), float in [0, 1] or uint8.

    It is `-10 log10` of the image's own mean squared error: minus the logarithm of its loss.
    """
    parts = (taken_by(autoencoder, part) for part in images.split(MEMBERS_AT_ONCE))
    found = torch.cat([metrics.psnr(autoencoder(part), part) for part in parts])
    return bounded(found.cpu().numpy().astype(float), np.zeros(len(images), bool))


def scores_of(results: pd.DataFrame, own: np.ndarray) -> dict[str, np.ndarray]:
    """The scores `lira.ATTACKS` (N,) of one autoencoder, from its recovery's `results` and its `own_psnr`.

    Erased PSNRs lie within 0 and 120 dB; an image that diverged has 0.
    """
    diverged = results["status"].eq(Status.diverged).to_numpy()
    return {"psnr_erased": bounded(results["psnr_erased"].to_numpy(float), diverged), "own_psnr": own}


@torch.inference_mode(False)  # under which no gradient could be taken
def lira(
    autoencoder: Autoencoder,
    members: Tensor,
    non_members: Tensor,
    references: Sequence[Autoencoder],
    inside: ArrayLike,
    degradation: Degradation | None = None,
    recovery: Method | None = None,
    operator: OperatorKnowledge | None = None,
    *,
    seed: int = 0,
    batch_size: int = 100,
    starts: int = 0,
    recall: int | None = None,
    indices: Sequence[int] | None = None,
    progress: bool = True,
    **description: Unpack[Description],
) -> Attacked:
    """Which of `members` and `non_members` (N, C, H, W) was `autoencoder` trained on, judged beside `references`?

    references: K autoencoders of the same kind, each trained on some of the images, best a random half.
    inside: (K, N) bool, which images each was trained on, members first, then non-members. Each image must be in and
        out of some. `evaluation.halves` draws such halves.

    All other arguments are as of `audit`; all autoencoders answer the same measurements. The scores of an image are the
    PSNR of its reconstruction (the loss threshold) and the erased PSNR of its recovery, each by itself and calibrated
    by the likelihood-ratio attack (LiRA; Carlini et al., S&P 2022): see `evaluation.lira.likelihood_ratio`.

    Raises `ValueError` as `audit` does, and for an image that no reference was trained with, or none without.
    """
    check_whole("batch_size", batch_size, 1)
    check_whole("seed", seed, 0)
    check_flag("progress", progress)
    degradation = RandomPixels(0.8) if degradation is None else degradation
    recovery, operator = PnPADMM() if recovery is None else recovery, Known() if operator is None else operator
    check_parts(degradation=degradation, recovery=recovery, operator=operator)
    recipe = Recipe(degradation, recovery, operator, seed, starts=starts, recall=recall)
    images = Images.of(members, non_members, indices, batch_size)
    models = [adapted(model, **description) for model in (autoencoder, *references)]
    member = np.arange(len(images.every)) < len(images.members)
    trained = np.asarray(inside)
    if trained.shape != (len(references), len(member)):
        raise ValueError(f"inside is {trained.shape}; give ({len(references)}, {len(member)}): references, images")
    ratios.check_inside(trained, own_variance=len(references) >= ratios.OWN_VARIANCE_FROM)
    for number, model in enumerate(models):
        try:
            with evaluating(model):
                images.check(recipe, model)
        except ValueError as error:
            raise ValueError(f"reference {number - 1}: {error}" if number else str(error)) from error
    found = []
    for number, (model, chosen) in enumerate(zip(models, [member, *trained.astype(bool)], strict=True)):
        with evaluating(model):
            loss = reconstruction_loss(model, images.every[torch.from_numpy(chosen)], batch_size)
            own = own_psnr(model, images.every)
        name = f"reference {number - 1}" if number else "attack"
        results, _ = images.recovered(recipe, model, loss, name=name, progress=progress)
        found.append(scores_of(results, own))
    stacked = {name: np.stack([scores[name] for scores in found[1:]]) for name in ratios.ATTACKS}
    columns = ratios.attacked(found[0], stacked, trained)
    return Attacked(pd.DataFrame({"image": np.arange(len(member)), "member": member} | columns), len(references))
