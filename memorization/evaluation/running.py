"""Scores over the images of a run while it goes on, as torchmetrics that several processes share."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import BinaryAUROC
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
from torchmetrics.utilities import dim_zero_cat

from memorization.evaluation.membership import PSNR_CAP
from memorization.evaluation.metrics import UNIFORM, window_of

LEAST_DB = 1e-6  # above the 0 of an image that diverged
SCALE = 128.0  # brings PSNRs into [0, 1], beyond which torchmetrics takes a sigmoid, without rounding them


class _OfOneKind(Metric):
    """A statistic of what is gathered of the `members`, or else of the non-members; NaN without images."""

    full_state_update = is_differentiable = False
    higher_is_better = True
    gathered: list[Tensor]

    def __init__(self, members: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self.members = members
        self.add_state("gathered", [], dist_reduce_fx="cat")


class ErasedPSNR(_OfOneKind):
    """The median erased PSNR in dB, as in a summary: images whose PSNR is NaN count as the worst."""

    def update(self, psnr_erased: Tensor, member: Tensor) -> None:
        """psnr_erased: (B,) in dB; member: (B,) bool."""
        found = psnr_erased[member == self.members]
        self.gathered.append(torch.where(found.isnan(), -torch.inf, found))

    def compute(self) -> Tensor:
        ordered = dim_zero_cat(self.gathered).sort().values
        middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]] if len(ordered) else ordered
        return middle.mean()


class RecoveredShare(_OfOneKind):
    """The share in [0, 1] of images that were recovered."""

    def update(self, recovered: Tensor, member: Tensor) -> None:
        """recovered, member: (B,) bool."""
        self.gathered.append(recovered[member == self.members].float())

    def compute(self) -> Tensor:
        return dim_zero_cat(self.gathered).mean()


class MembershipAUROC(BinaryAUROC):
    """The area under the ROC curve by which the erased PSNR tells members from non-members; NaN without both.

    Images that diverged, or whose PSNR is NaN, are the least likely members.
    """

    def update(self, psnr_erased: Tensor, diverged: Tensor, member: Tensor) -> None:  # type: ignore[override]
        """psnr_erased: (B,) in dB; diverged, member: (B,) bool."""
        score = torch.where(diverged | psnr_erased.isnan(), 0.0, psnr_erased.clamp(LEAST_DB, PSNR_CAP))
        super().update(score / SCALE, member.long())

    def compute(self) -> Tensor:  # type: ignore[override]
        target = dim_zero_cat(self.target)
        if not 0 < target.sum() < len(target):
            return torch.full((), torch.nan, device=target.device)
        area: Tensor = super().compute()
        return area


def recovery_metrics(shape: Sequence[int]) -> MetricCollection:
    """What a recovery of images of `shape` (C, H, W) has brought back so far, by the names of a summary's columns.

    `psnr` (of the mean squared error) and `ssim` are over all pixels of all images. `update` takes what
    `RecoveredBatch.compared` gives of a batch. `compute` puts the processes together, so that each must call it.
    """
    found: dict[str, Metric | MetricCollection] = {
        "auc": MembershipAUROC(),
        "psnr": PeakSignalNoiseRatio(data_range=1.0),
        "ssim": StructuralSimilarityIndexMeasure(kernel_size=window_of(shape), **UNIFORM),
    }
    for kind, members in (("members", True), ("non_members", False)):
        found[f"{kind}_recovered"] = RecoveredShare(members)
        found[f"{kind}_median_psnr"] = ErasedPSNR(members)
    return MetricCollection(found, compute_groups=False)
