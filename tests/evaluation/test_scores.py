"""Scores of images, and metrics of a run, against independent implementations."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from sklearn.metrics import roc_auc_score
from torchmetrics import functional
from torchmetrics.utilities import dim_zero_cat

from memorization.architectures import autoencoder
from memorization.degradations import RandomPixels
from memorization.evaluation import metrics, running
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.summary import summarise
from memorization.recovery import Iterate, Known
from tests import problems

GENERATOR = torch.Generator().manual_seed(0)
ORIGINALS = torch.rand(4, 3, 20, 16, generator=GENERATOR)
ANSWERS = (ORIGINALS + 0.1 * torch.randn(4, 3, 20, 16, generator=GENERATOR)).clamp(0, 1)


def test_psnr_is_that_of_scikit_image():
    expected = [
        peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(ORIGINALS, ANSWERS, strict=True)
    ]
    found = metrics.psnr(ANSWERS, ORIGINALS)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    theirs = functional.image.peak_signal_noise_ratio(ANSWERS, ORIGINALS, 1.0, reduction="none", dim=(1, 2, 3))
    np.testing.assert_allclose(found, theirs, rtol=1e-5)


def test_erased_psnr_looks_at_erased_pixels_alone():
    erased = torch.rand(4, 1, 20, 16, generator=GENERATOR) < 0.3
    erased[3] = False
    ruined = torch.where(erased, ANSWERS, 0.0)
    found = metrics.psnr(ruined, ORIGINALS, erased)
    for i in range(3):
        error = (ANSWERS - ORIGINALS)[i][erased[i].expand(3, -1, -1)]
        assert found[i] == pytest.approx(-10 * math.log10(error.square().mean()), rel=1e-5)
    assert found[3] == pytest.approx(metrics.psnr(ruined, ORIGINALS)[3].item())  # nothing erased: all pixels count


def reference_ssim(answer, original) -> float:
    """scikit-image's, in float64, of one image (C, H, W)."""
    window = min(7, *(side - 1 + side % 2 for side in answer.shape[1:]))
    settings = {"win_size": window, "data_range": 1.0, "channel_axis": 0, "use_sample_covariance": False}
    return structural_similarity(np.asarray(answer, float), np.asarray(original, float), **settings)


@pytest.mark.parametrize("shape", [(3, 20, 16), (1, 8, 8), (1, 5, 4), (3, 2, 9), (1, 1, 1), (3, 150, 150)])
@pytest.mark.parametrize("level", [0.0, 0.9])
def test_ssim_is_that_of_scikit_image(shape, level):
    """Also of flat bright images, whose variances are small differences of large numbers."""
    originals = level + (1 - level) * torch.rand(4, *shape, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1))
    answers = (originals + torch.tensor([1e-4, 1e-3, 1e-2, 1e-1]).view(-1, 1, 1, 1) * noise).clamp(0, 1)
    expected = [reference_ssim(*pair) for pair in zip(answers, originals, strict=True)]
    np.testing.assert_allclose(metrics.ssim(answers, originals), expected, atol=1e-7)


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


def batch(seed: int, count: int = 40) -> dict[str, torch.Tensor]:
    """What a recovered batch tells the metrics: of good and bad answers, some diverged, one of NaN."""
    generator = torch.Generator().manual_seed(seed)
    originals = torch.rand(count, 3, 12, 9, generator=generator)
    noise = 10 ** (-3 * torch.rand(count, 1, 1, 1, generator=generator)) * torch.randn(
        originals.shape, generator=generator
    )
    answers, member = (originals + noise).clamp(0, 1), torch.rand(count, generator=generator) < 0.4
    psnr = metrics.psnr(answers, originals) + 3 * member
    psnr[0] = torch.nan
    diverged = torch.rand(count, generator=generator) < 0.1
    recovered = (psnr > 25) & ~diverged
    return {
        "preds": answers,
        "target": originals,
        "psnr_erased": psnr,
        "diverged": diverged,
        "recovered": recovered,
        "member": member,
    }


def rows(images: dict[str, torch.Tensor], part) -> dict[str, torch.Tensor]:
    return {name: tensor[part] for name, tensor in images.items()}


def expected_of(images: dict[str, torch.Tensor]) -> dict[str, float]:
    """The metrics by NumPy, scikit-image and scikit-learn."""
    known = {name: tensor.numpy() for name, tensor in images.items()}
    psnr, member = known["psnr_erased"], known["member"]
    score = np.where(known["diverged"] | np.isnan(psnr), -1, psnr)
    mirrored = [np.pad(known[name], ((0, 0), (0, 0), (3, 3), (3, 3)), "reflect") for name in ("preds", "target")]
    found = {
        "auc": roc_auc_score(member, score),
        "psnr": peak_signal_noise_ratio(known["target"], known["preds"], data_range=1),
        "ssim": np.mean([reference_ssim(*pair) for pair in zip(*mirrored, strict=True)]),
    }
    for kind, part in (("members", member), ("non_members", ~member)):
        found[f"{kind}_recovered"] = known["recovered"][part].mean()
        found[f"{kind}_median_psnr"] = np.median(np.nan_to_num(psnr[part], nan=-np.inf))
    return found


def assert_close(found: dict[str, torch.Tensor], expected: dict[str, float]) -> None:
    assert {*found} == {*expected}
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5), name


def test_the_metrics_of_a_run_are_those_of_independent_implementations():
    images = batch(0)
    collection = running.recovery_metrics(images["preds"].shape[1:])
    collection.update(**images)
    assert_close(collection.compute(), expected_of(images))


def test_many_batches_make_one_run_and_each_its_own_values():
    images = batch(1)
    collection = running.recovery_metrics(images["preds"].shape[1:])
    parts = [slice(0, 15), slice(15, 16), slice(16, 40)]
    values = [collection(**rows(images, part)) for part in parts]
    assert_close(values[2], expected_of(rows(images, parts[2])))
    assert_close(collection.compute(), expected_of(images))
    collection.reset()
    collection.update(**rows(images, parts[0]))
    assert_close(collection.compute(), expected_of(rows(images, parts[0])))


def test_what_two_processes_have_seen_is_put_together():
    """Each has had other numbers of images, and the first of them members only."""
    images = batch(2)
    member = images["member"]
    parts = [
        rows(images, member.nonzero()[:5, 0]),
        rows(images, torch.cat([member.nonzero()[5:, 0], (~member).nonzero()[:, 0]])),
    ]
    first, second = (running.recovery_metrics(images["preds"].shape[1:]) for _ in parts)
    first.update(**parts[0])
    second.update(**rows(parts[1], slice(0, 20)))
    second.update(**rows(parts[1], slice(20, None)))
    for own, other in zip(first.values(), second.values(), strict=True):
        theirs = iter([dim_zero_cat(getattr(other, state)) for state in own._reductions])
        own.distributed_available_fn = lambda: True
        own.dist_sync_fn = lambda tensor, group, theirs=theirs: [tensor, next(theirs)]
    assert_close(first.compute(), expected_of(images))


def test_no_mean_is_nan_while_there_are_images():
    images = batch(3)
    images["psnr_erased"][images["member"]] = torch.nan
    images["diverged"][:] = True
    collection = running.recovery_metrics(images["preds"].shape[1:])
    collection.update(**images)
    found = collection.compute()
    assert not any(value.isnan() for value in found.values())
    assert found["auc"] == 0.5  # all are lost alike
    assert found["members_median_psnr"] == -torch.inf


def test_of_members_alone_nothing_is_said_of_others():
    images = rows(batch(4), slice(0, 6)) | {"member": torch.ones(6, dtype=torch.bool)}
    found = running.recovery_metrics(images["preds"].shape[1:])(**images)
    unknown = {"auc", "non_members_recovered", "non_members_median_psnr"}
    assert {name for name, value in found.items() if value.isnan()} == unknown


def test_the_metrics_of_a_recovered_batch_are_those_of_its_summary():
    members, others = problems.images(7, 1, torch.float32), problems.images(6, 2, torch.float32)
    recipe = Recipe(RandomPixels(0.3), Iterate(max_iterations=3), Known())
    originals, member = torch.cat([members, others]), torch.arange(13) < 7
    done = recover_batch(recipe, problems.projection(members[:4]), originals, range(13), members)
    collection = running.recovery_metrics(originals.shape[1:])
    collection.update(**done.compared(originals, member))
    table = done.scores.assign(member=member.numpy(), control="none", signature="s", rung=1e-8, train_loss=0.0)
    row = summarise(table.assign(dataset="d", architecture="a", **recipe.choices())).iloc[0]
    found = collection.compute()
    for name in found.keys() - {"psnr", "ssim"}:
        assert float(found[name]) == pytest.approx(row[name]), name


def test_the_metrics_travel_with_their_module():
    collection = running.recovery_metrics((3, 12, 9))
    collection.update(**batch(5))
    copied = deepcopy(collection)
    for name, value in copied.compute().items():
        assert torch.equal(value, collection.compute()[name])
