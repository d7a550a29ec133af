"""Per-image scores: how close an answer is to the original, on the erased pixels, on all, and against the members."""

from __future__ import annotations

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from memorization.architectures.autoencoder import MEMBERS_AT_ONCE
from memorization.data import as_float

PSNR_CAP = 120.0  # dB; float32 rounding of an exact answer, so that no score is infinite


def psnr(answer: Tensor, original: Tensor, where: Tensor | None = None) -> Tensor:
    """(B,) `10 log10(1 / MSE)` in dB for pixels in [0, 1], at most 120.

    `where` (B, 1, H, W) restricts it to some pixels; an image with none there is scored on all of its pixels.
    """
    error = (answer - original).square()
    if where is None:
        mse = error.flatten(1).mean(1)
    else:
        chosen = (where | ~where.flatten(1).any(1).view(-1, 1, 1, 1)).expand_as(error)
        mse = (error * chosen).flatten(1).sum(1) / chosen.flatten(1).sum(1)
    return (-10 * torch.log10(mse)).clamp(max=PSNR_CAP)


def ssim(answer: Tensor, original: Tensor) -> Tensor:
    """(B,) structural similarity in a uniform window of 7 pixels, or the largest odd one that a smaller image holds."""
    window = min(7, *(side - 1 + side % 2 for side in answer.shape[2:]))
    pairs = zip(answer.cpu().numpy(), original.cpu().numpy(), strict=True)
    settings = {"win_size": window, "data_range": 1.0, "channel_axis": 0, "use_sample_covariance": False}
    return torch.tensor([float(structural_similarity(a, b, **settings)) for a, b in pairs])


def nearest_member(answer: Tensor, original: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B,) of the member closest to each answer, and whether no member is closer to it than the original is.

    Distances are Euclidean over the whole image. For a member the second value says that the answer is the *right*
    image; a non-member is held to the same rule.
    """
    own = (answer.double() - original.double()).flatten(1).norm(dim=1)
    smallest, index = torch.full_like(own, torch.inf), torch.zeros(len(answer), dtype=torch.int64, device=answer.device)
    for first in range(0, len(members), MEMBERS_AT_ONCE):
        part = members[first : first + MEMBERS_AT_ONCE]
        nearest, where = _distances(answer, as_float(part)).min(1)
        index = torch.where(nearest < smallest, where + first, index)
        smallest = torch.minimum(nearest, smallest)
    return index, own <= smallest * (1 + 1e-9)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(A, B) Euclidean distances in float64: `torch.cdist` in float32 is wrong by up to a fifth for large images."""
    return torch.cdist(a.double().flatten(1), b.double().flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


def mask_error(mask: Tensor | None, erased: Tensor) -> Tensor:
    """(B,) share of pixels whose estimated state, observed or erased, is wrong; NaN where no mask was estimated.

    `mask` (B, 1, H, W) holds the weight of each pixel as observed, `erased` (B, 1, H, W) the truth.
    """
    if mask is None:
        return torch.full((len(erased),), torch.nan, device=erased.device)
    return ((mask > 0.5) == erased).flatten(1).float().mean(1)
