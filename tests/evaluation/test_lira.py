"""LiRA: its scores against an independent computation, and against closed forms on simulated normal scores."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from memorization import audit, lira
from memorization.architectures import build
from memorization.components import SettingError
from memorization.evaluation import statistics
from memorization.evaluation.attacks import own_psnr, scores_of
from memorization.evaluation.halves import halves
from memorization.evaluation.lira import Variant, attacked, likelihood_ratio, resolved, summarised, titles
from memorization.recovery import PnPADMM
from tests import problems


def simulated(images, references, shift, *, deviation=1.0, between=5.0, seed=0):
    """Normal scores: a mean of its own for each image, `shift` added where it was trained on; half are members."""
    draw = np.random.default_rng(seed)
    easy = draw.normal(0, between, images)
    inside = halves(images, references, seed)
    scores = easy + shift * inside + draw.normal(0, deviation, inside.shape)
    member = np.arange(images) < images // 2
    target = easy + shift * member + draw.normal(0, deviation, images)
    return target, scores, inside, member


def by_hand(target, scores, inside, variant, own):
    """`likelihood_ratio`, an image at a time."""
    found, count = [], len(target)
    pooled = {}
    for kind in (True, False):
        parts = [scores[inside[:, i] == kind, i] for i in range(count)]
        squares = sum(((part - part.mean()) ** 2).sum() for part in parts)
        pooled[kind] = math.sqrt(squares / sum(len(part) - 1 for part in parts))
    for i in range(count):
        logs = []
        for kind in (True, False):
            part = scores[inside[:, i] == kind, i]
            deviation = part.std(ddof=1) if own else pooled[kind]
            if variant == "gaussian":
                logs.append(stats.norm.logpdf(target[i], part.mean(), deviation))
            elif variant == "kernel" and own:
                logs.append(stats.gaussian_kde(part, "silverman").logpdf(target[i])[0])
            elif variant == "kernel":
                width = deviation * (3 * len(part) / 4) ** (-1 / 5)
                logs.append(math.log(np.mean([stats.norm.pdf(target[i], each, width) for each in part])))
            elif variant == "offline":
                logs.append(math.log(1 - stats.norm.cdf(target[i], part.mean(), deviation)))
            else:
                logs.append(np.mean([1.0 if each < target[i] else 0.5 * (each == target[i]) for each in part]))
        found.append(logs[0] - logs[1] if variant in ("gaussian", "kernel") else -logs[1])
    return np.array(found) * (-1 if variant == "rank" else 1)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("variant", Variant)
def test_the_ratio_is_that_of_a_loop_over_the_images(variant, own):
    target, scores, _, _ = simulated(12, 20, 1.0, seed=3)
    inside = np.random.default_rng(1).random(scores.shape) < 0.5  # other counts for each image
    target[0] = scores[~inside[:, 0], 0][0]  # a tie
    found = likelihood_ratio(target, scores, inside, variant, own_variance=own)
    assert found == pytest.approx(by_hand(target, scores, inside, str(variant), own), rel=1e-9)


def test_variances_are_an_image_s_own_from_64_references_on():
    for references, own in ((62, False), (64, True)):
        drawn = simulated(10, references, 1.0)[:3]
        expected = likelihood_ratio(*drawn, own_variance=own)
        assert likelihood_ratio(*drawn).tolist() == expected.tolist()
        assert likelihood_ratio(*drawn, own_variance=not own).tolist() != expected.tolist()


@pytest.mark.parametrize("variant", [Variant.gaussian, Variant.kernel, Variant.offline])
def test_on_normal_scores_the_area_is_the_closed_form_and_exceeds_that_of_a_threshold(variant):
    shift, deviation, between = 1.5, 1.0, 5.0
    target, scores, inside, member = simulated(4000, 100, shift, deviation=deviation, between=between)
    ratio = likelihood_ratio(target, scores, inside, variant, own_variance=False)
    found = statistics.auc(ratio[member], ratio[~member])
    exact = stats.norm.cdf(shift / (deviation * math.sqrt(2)))  # 0.856
    assert found.low - 0.005 < exact < found.high + 0.005  # the means of 50 references have errors, too
    threshold = statistics.auc(target[member], target[~member])
    assert threshold.low < stats.norm.cdf(shift / math.sqrt(2 * (deviation**2 + between**2))) < threshold.high
    assert threshold.high < 0.65


@pytest.mark.parametrize("variant", Variant)
def test_without_a_shift_nothing_is_told(variant):
    held = []
    for seed in range(40):
        target, scores, inside, member = simulated(100, 16, 0.0, seed=seed)
        ratio = likelihood_ratio(target, scores, inside, variant)
        area = statistics.auc(ratio[member], ratio[~member])
        held.append(area.low <= 0.5 <= area.high)
    assert sum(held) >= 34  # 38 expected; 33 or fewer have a chance of 1 %


def test_an_image_in_or_out_of_no_reference_is_named():
    target, scores, inside, _ = simulated(6, 8, 1.0)
    inside[:, 4] = False
    with pytest.raises(ValueError, match=r"no reference was trained with image 4 .*choose the variant offline or rank"):
        likelihood_ratio(target, scores, inside)
    assert np.isfinite(likelihood_ratio(target, scores, inside, "offline")).all()
    inside[:, 2] = True
    with pytest.raises(ValueError, match=r"no reference was trained without image 2 .*`evaluation.halves` draws them"):
        likelihood_ratio(target, scores, inside, "rank")
    inside[1:, 2] = False
    with pytest.raises(ValueError, match="only one reference was trained with image 2"):
        likelihood_ratio(target, scores, inside, own_variance=True)


def test_what_are_no_scores_is_refused():
    target, scores, inside, _ = simulated(6, 8, 1.0)
    with pytest.raises(ValueError, match=re.escape("(5,), (8, 6) and (8, 6); give (N,), (K, N) and (K, N)")):
        likelihood_ratio(target[:5], scores, inside)
    with pytest.raises(ValueError, match="inside holds what is neither true nor false"):
        likelihood_ratio(target, scores, scores)
    with pytest.raises(SettingError, match="variant is 'median'; choose one of gaussian, kernel, offline, rank"):
        likelihood_ratio(target, scores, inside, "median")
    with pytest.raises(
        ValueError, match="one reference for each image was trained with it, which shows no variance; add ref"
    ):
        likelihood_ratio(target, scores[:2], inside[:2])
    scores[0, 0] = np.inf
    with pytest.raises(ValueError, match="references: 1 of 48 are NaN or infinite"):
        likelihood_ratio(target, scores, inside)


def test_references_that_all_agree_give_finite_scores():
    inside = halves(4, 4)
    ratio = likelihood_ratio(np.full(4, 120.0), np.where(inside, 120.0, 20.0), inside)
    assert np.isfinite(ratio).all()
    assert (ratio > 0).all()


@pytest.mark.parametrize("images", [10, 11])
def test_each_image_is_in_half_of_the_references_and_more_of_them_change_none(images):
    inside = halves(images, 8, seed=3)
    assert (inside.sum(0) == 4).all()
    assert set(inside.sum(1)) == {images // 2, images - images // 2}
    assert len({row.tobytes() for row in inside}) == 8
    assert (halves(images, 16, seed=3)[:8] == inside).all()
    assert (halves(images, 8, seed=4) != inside).any()


@pytest.mark.parametrize("references", [0, 2, 5, -4, 4.0, True])
def test_an_odd_or_small_number_of_references_is_refused(references):
    with pytest.raises(SettingError, match="give an even number, at least 4, such as 16"):
        halves(10, references)


def test_a_summary_has_a_row_for_each_attack_and_says_what_the_non_members_resolve():
    target, scores, inside, member = simulated(100, 16, 4.0, between=10.0)
    columns = attacked(
        {"psnr_erased": target, "own_psnr": -target}, {"psnr_erased": scores, "own_psnr": -scores}, inside
    )
    summary = summarised(pd.DataFrame(columns).assign(member=member)).set_index("attack")
    assert list(summary.index) == list(titles()) == [*dict.fromkeys(summary.index)]
    assert set(columns) == set(titles())
    assert summary["fpr"].unique().tolist() == [1 / 50]
    own = statistics.auc(columns["lira"][member], columns["lira"][~member])
    assert summary.loc["lira", ["auc", "auc_low", "auc_high"]].tolist() == list(own)
    allowed = np.sort(columns["lira"][~member])[-2]
    assert summary.loc["lira", "tpr"] == (columns["lira"][member] > allowed).mean()
    assert summary.loc["lira", "auc"] > 0.95 > 0.8 > summary.loc["psnr_erased", "auc"]
    assert resolved(50).startswith("50 non-members resolve a false positive rate of 2 % and none below")
    alone = summarised(pd.DataFrame(columns).assign(member=True))
    assert alone[["auc", "tpr", "fpr"]].isna().all(axis=None)
    assert resolved(0) == "There are no non-members: no false positive rate is resolved."


@pytest.fixture(scope="module")
def found():
    """Members, non-members, what the references were trained on, the autoencoders, and what `lira` finds."""
    images = problems.images(24, seed=5, dtype=torch.float32)
    members, others = images[:10], images[10:]
    inside = halves(24, 8, seed=1)
    target = problems.projection(members)
    references = [problems.projection(images[torch.from_numpy(row)]) for row in inside]
    asked = {"recovery": PnPADMM(max_iterations=20), "progress": False, "batch_size": 7}
    return members, others, inside, (target, references), lira(target, members, others, references, inside, **asked)


def test_each_model_is_asked_the_same_measurements_and_its_scores_are_those_of_an_audit(found):
    members, others, inside, (target, references), attacked_ = found
    asked = {"recovery": PnPADMM(max_iterations=20), "progress": False, "batch_size": 7}
    scores = [audit(model, members, others, **asked).results["psnr_erased"] for model in (target, *references)]
    scores = np.clip(np.array(scores), 0, 120)
    table = attacked_.table
    assert table["member"].tolist() == [True] * 10 + [False] * 14
    assert table["psnr_erased"].to_numpy() == pytest.approx(scores[0])
    assert table["lira"].to_numpy() == pytest.approx(likelihood_ratio(scores[0], scores[1:], inside))
    assert table["lira_rank"].to_numpy() == pytest.approx(likelihood_ratio(scores[0], scores[1:], inside, "rank"))


def test_the_loss_is_that_of_the_image_itself(found):
    members, others, *_, attacked_ = found
    images = torch.cat([members, others]).double()
    losses = [float((problems.projection(members.double())(x[None]) - x).square().mean()) for x in images]
    own = attacked_.table["own_psnr"].to_numpy()
    assert own[10:] == pytest.approx(-10 * np.log10(losses[10:]), rel=1e-4)
    assert (own[:10] > 100).all()
    broken = scores_of(pd.DataFrame({"psnr_erased": [30.0, np.nan, 40.0], "status": [*"cc", "diverged"]}), own[:3])
    assert broken["psnr_erased"].tolist() == [30, 0, 0]


def test_an_autoencoder_in_double_precision_is_scored(found):
    network = build("fc", found[0].shape[1:], centre=True, seed=0)
    expected = own_psnr(network, found[0])
    assert own_psnr(network.double(), found[0]) == pytest.approx(expected, abs=1e-4)


def test_what_was_found_is_told_in_lines(found):
    lines = str(found[-1]).splitlines()
    assert lines[0] == "Membership inference with 8 references:"
    assert re.fullmatch(r"loss threshold +AUC 1.000 \(.*\)  TPR 100 % \(.*\) at FPR 7.14 %", lines[1])
    assert len(lines) == 2 + len(titles())
    assert lines[-1].startswith("14 non-members resolve a false positive rate of 7.14 %")


def test_references_that_cannot_be_used_are_named(found):
    members, others, inside, (target, references), _ = found
    with pytest.raises(ValueError, match=re.escape("inside is (7, 24); give (8, 24): references, images")):
        lira(target, members, others, references, inside[:7])
    with pytest.raises(ValueError, match="inside: no reference was trained without image 0"):
        lira(target, members, others, references, inside | (np.arange(24) == 0))
    many, alone = halves(24, 64), np.arange(64) == 5
    many[:, 3] = alone
    with pytest.raises(ValueError, match="inside: only one reference was trained with image 3"):
        lira(target, members, others, [lambda _: pytest.fail("recovered before it was refused")] * 64, many)
    with pytest.raises(ValueError, match="reference 1: "):
        lira(target, members, others, [references[0], lambda x: x[:, :, 1:], *references[2:]], inside)
