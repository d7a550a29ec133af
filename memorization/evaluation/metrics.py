"""Scores of answers, per image; those over the images of a run while it goes on are in `running`.

How close an answer is to the original, on the erased pixels and on all, and against the members. The erased PSNR as
a score of membership is in `membership`.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE
from memorization.components import SettingError, number
from memorization.data import as_float, in_double
from memorization.data.split import VALUES_AT_ONCE
from memorization.evaluation.membership import PSNR_CAP

REVISION = 1  # of the scores, as `revision` is of a part: raised for other scores of equal answers, or other columns
WINDOW = 7  # pixels, the side of SSIM's uniform window
UNIFORM: dict[str, Any] = {"gaussian_kernel": False, "data_range": 1.0}  # the settings of SSIM, but for its window
PIXELS_AT_ONCE = 2**13  # of which SSIM is computed together; with more, a CPU takes up to five times as long for each


def check_threshold(threshold_db: Any) -> None:
    """Raise `SettingError` unless the PSNR from which an image counts as recovered is a finite number of dB."""
    if not math.isfinite(number(threshold_db)):
        raise SettingError("threshold_db", threshold_db, "it must be a finite number of dB")


def psnr(answer: Tensor, original: Tensor, where: Tensor | None = None) -> Tensor:
    """(B,) `10 log10(1 / MSE)` in dB for pixels in [0, 1], at most 120.

    `where` (B, 1, H, W) restricts it to some pixels; an image with none there is scored on all of its pixels.
    Our own: torchmetrics' takes no such pixels, and without them its rounding differs by up to 1e-5 dB, which the
    threshold would turn into other results.
    """
    error = (answer - original).square()
    if where is None:
        mse = error.flatten(1).mean(1)
    else:
        chosen = (where | ~where.flatten(1).any(1).view(-1, 1, 1, 1)).expand_as(error)
        mse = (error * chosen).flatten(1).sum(1) / chosen.flatten(1).sum(1)
    return (-10 * torch.log10(mse)).clamp(max=PSNR_CAP)


def ssim(answer: Tensor, original: Tensor) -> Tensor:
    """(B,) structural similarity in a uniform window of 7 pixels, or the largest odd one that a smaller image holds.

    The mean over the windows that lie in the image, as scikit-image takes it. In float64, where the variance of a flat
    bright window keeps its digits: float32 loses up to 5e-4.
    """
    window, count = window_of(answer.shape), max(1, PIXELS_AT_ONCE // answer[0, 0].numel())
    parts = (images.flatten(0, 1).unsqueeze(1).split(count) for images in (answer, original))  # each channel by itself
    channels = torch.cat([_ssim(a, b, window) for a, b in zip(*parts, strict=True)])
    return channels.view(answer.shape[:2]).mean(1).float().to(answer.device)


def _ssim(answer: Tensor, original: Tensor, window: int) -> Tensor:
    from torchmetrics.functional.image import structural_similarity_index_measure

    pair = in_double(answer), in_double(original)
    _, whole = structural_similarity_index_measure(
        *pair, kernel_size=window, reduction="none", return_full_image=True, **UNIFORM
    )  # (B, C, H, W), of a window around each pixel, the image mirrored at its edge
    edge = window // 2
    inside: Tensor = whole[:, :, edge : whole.shape[2] - edge, edge : whole.shape[3] - edge]
    return inside.flatten(1).mean(1)


def window_of(shape: Sequence[int]) -> int:
    """The side of SSIM's window for images of `shape` (..., H, W): odd."""
    return min(WINDOW, *(side - 1 + side % 2 for side in shape[-2:]))


def nearest_member(answer: Tensor, original: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B,) of the member closest to each answer, and whether no member is closer to it than the original is.

    Distances are Euclidean over the whole image, in float64: `torch.cdist` in float32 is wrong by up to a fifth for
    large images. For a member the second value says that the answer is the *right* image.
    """
    found = in_double(answer).flatten(1)
    own = (found - in_double(original).flatten(1)).norm(dim=1)
    smallest, index = torch.full_like(own, torch.inf), torch.zeros(len(answer), dtype=torch.int64, device=own.device)
    at_once = min(MEMBERS_AT_ONCE, max(1, VALUES_AT_ONCE // members.shape[1:].numel()))
    for first in range(0, len(members), at_once):
        part = in_double(as_float(members[first : first + at_once])).flatten(1)
        nearest, where = torch.cdist(found, part, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        index = torch.where(nearest < smallest, where + first, index)
        smallest = torch.minimum(nearest, smallest)
    return index.to(answer.device), (own <= smallest * (1 + 1e-9)).to(answer.device)


def mask_error(mask: Tensor | None, erased: Tensor) -> Tensor:
    """(B,) share of pixels whose estimated state, observed or erased, is wrong; NaN where no mask was estimated.

    `mask` (B, 1, H, W) holds the weight of each pixel as observed, `erased` (B, 1, H, W) the truth.
    """
    if mask is None:
        return torch.full((len(erased),), torch.nan, device=erased.device)
    return ((mask > 0.5) == erased).flatten(1).float().mean(1)
