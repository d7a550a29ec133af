"""Scores against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from memorization.architectures import autoencoder
from memorization.evaluation import metrics

GENERATOR = torch.Generator().manual_seed(0)
ORIGINALS = torch.rand(4, 3, 20, 16, generator=GENERATOR)
ANSWERS = (ORIGINALS + 0.1 * torch.randn(4, 3, 20, 16, generator=GENERATOR)).clamp(0, 1)


def test_psnr_is_that_of_scikit_image():
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(ORIGINALS, ANSWERS, strict=True)
    ]
    np.testing.assert_allclose(metrics.psnr(ANSWERS, ORIGINALS), expected, rtol=1e-5)


def test_erased_psnr_looks_at_erased_pixels_alone():
    erased = torch.rand(4, 1, 20, 16, generator=GENERATOR) < 0.3
    erased[3] = False
    ruined = torch.where(erased, ANSWERS, 0.0)
    found = metrics.psnr(ruined, ORIGINALS, erased)
    for i in range(3):
        error = (ANSWERS - ORIGINALS)[i][erased[i].expand(3, -1, -1)]
        assert found[i] == pytest.approx(-10 * math.log10(error.square().mean()), rel=1e-5)
    assert found[3] == pytest.approx(metrics.psnr(ruined, ORIGINALS)[3].item())  # nothing erased: all pixels count


def test_ssim_of_one_window_is_its_formula():
    """Wang et al. (2004): of a 7x7 image the window is the image; constants 0.01 and 0.03, mean over channels."""
    a, b = (images[:, :, :7, :7].double().flatten(2) for images in (ORIGINALS, ANSWERS))
    cross = ((a - a.mean(2, keepdim=True)) * (b - b.mean(2, keepdim=True))).mean(2)
    spread = a.var(2, correction=0) + b.var(2, correction=0)
    c, d = 0.01**2, 0.03**2
    expected = (
        (2 * a.mean(2) * b.mean(2) + c) * (2 * cross + d) / ((a.mean(2) ** 2 + b.mean(2) ** 2 + c) * (spread + d))
    )
    found = metrics.ssim(ANSWERS[:, :, :7, :7], ORIGINALS[:, :, :7, :7])
    np.testing.assert_allclose(found, expected.mean(1), rtol=1e-4)


@pytest.mark.parametrize("side", [4, 5, 8, 20])
def test_ssim_of_an_image_with_itself_is_one(side):
    images = ORIGINALS[:, :, :side, :side]
    np.testing.assert_allclose(metrics.ssim(images, images), 1, atol=1e-6)


def test_the_nearest_member_and_whether_it_is_the_right_one():
    members = ORIGINALS[:3]
    answers = torch.stack([ORIGINALS[1] + 0.01, ORIGINALS[0], ORIGINALS[3]])
    originals = torch.stack([ORIGINALS[1], ORIGINALS[2], ORIGINALS[3]])  # right, wrong, a non-member found
    index, right = metrics.nearest_member(answers, originals, members)
    assert index.tolist()[:2] == [1, 0]
    assert right.tolist() == [True, False, True]


def test_mask_error_counts_pixels():
    erased = torch.zeros(1, 1, 2, 5, dtype=torch.bool)
    erased[..., 0] = True
    mask = (~erased).float()
    mask[0, 0, 0, 0] = 0.9  # one erased pixel taken for observed
    assert metrics.mask_error(mask, erased).item() == pytest.approx(0.1)
    assert metrics.mask_error(None, erased).isnan().all()


@pytest.mark.parametrize("deviation", [1e-3, 1e-2])
def test_the_original_is_told_from_its_answer_in_large_images_too(deviation):
    """A faint error on 12,288 pixels: float32 sums of squares are off by more than the margin of the comparison."""
    members = torch.rand(40, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    answers = (members + deviation * torch.randn(members.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    index, right = metrics.nearest_member(answers, members, members)
    assert index.tolist() == list(range(40))
    assert right.all()


def test_members_are_searched_in_parts(monkeypatch):
    monkeypatch.setattr(autoencoder, "MEMBERS_AT_ONCE", 3)
    members = torch.rand(10, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    index, right = metrics.nearest_member(members.flip(0), members, members)
    assert index.tolist() == list(range(9, -1, -1))
    assert not right.any()
