"""A blur or a gain of unknown size, fitted together with the image."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from memorization.degradations import Blur, Chain, Downsample, Gain, RandomPixels, image_seeds
from memorization.degradations.operators import Convolution
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.recovery import Alternating, Energy, Estimated, Iterate, Known, PnPADMM, Robust, solve
from tests import problems

IMAGES = torch.rand(6, 3, 24, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def measure(degradation):
    return degradation(IMAGES, image_seeds(0, range(6)))


@pytest.mark.parametrize("width", [0.5, 1.0, 2.3])
def test_the_width_is_found_once_the_image_is_right(width):
    measured, knowledge = measure(Blur(width)), Estimated("blur")
    estimate = knowledge.update(knowledge.start(measured), measured.y, IMAGES, 1, 0.5)
    torch.testing.assert_close(knowledge.report(estimate)["width"], torch.full((6,), width).double(), rtol=0.02, atol=0)
    assert (knowledge.report(estimate)["noise"] < 0.01).all()


@pytest.mark.parametrize("shape", [(3, 24, 20), (1, 15, 17)])
def test_the_width_is_the_best_of_a_fine_grid(shape):
    """Against |K image - y|^2 itself, for an image that is not the right one."""
    image, other = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = Blur(1.4)(other + image, [0]).y
    found = float(Estimated._width(y, image))
    grid = torch.linspace(0.3, min(shape[1:]) / 4, 400, dtype=torch.float64)
    misfits = [float(Convolution.gaussian(w[None], *shape[1:]).misfit(image, y)) for w in grid]
    assert found == pytest.approx(float(grid[misfits.index(min(misfits))]), abs=0.05)


def test_the_gain_is_found_once_the_image_is_right():
    measured, knowledge = measure(Gain(noise=0.02)), Estimated("gain")
    estimate = knowledge.update(knowledge.start(measured), measured.y, IMAGES, 1, 0.5)
    torch.testing.assert_close(knowledge.report(estimate)["gain"], measured.operator.gain.flatten(), atol=0.005, rtol=0)
    torch.testing.assert_close(knowledge.report(estimate)["noise"], torch.full((6,), 0.02).double(), atol=0.003, rtol=0)


@pytest.mark.parametrize(("family", "degradation"), [("blur", Blur(1.5)), ("gain", Gain())])
def test_the_perfect_memory_answers_as_with_the_operator_known(family, degradation):
    measured, f = measure(degradation), problems.nearest(IMAGES)
    known = solve(f, measured, PnPADMM(), Known())
    answer = solve(f, measured, PnPADMM(), Estimated(family), starts=3)
    torch.testing.assert_close(known.images, IMAGES)
    torch.testing.assert_close(answer.images, IMAGES)


@pytest.mark.parametrize("family", ["blur", "gain"])
def test_nothing_but_the_measured_pixels_is_used(family):
    measured = measure(Blur(1.0))
    blank = dataclasses.replace(measured, operator=None, sigma=float("nan"))
    answer = solve(lambda x: 0.9 * x, measured, Energy(max_iterations=5), Estimated(family), starts=3)
    again = solve(lambda x: 0.9 * x, blank, Energy(max_iterations=5), Estimated(family), starts=3)
    assert torch.equal(answer.images, again.images)


@pytest.mark.parametrize("family", ["blur", "gain"])
def test_an_image_s_estimate_does_not_depend_on_its_batch(family):
    measured, knowledge = measure(Blur(1.0)), Estimated(family)
    together = knowledge.update(knowledge.start(measured), measured.y, IMAGES.flip(0), 1, 0.5)
    one = dataclasses.replace(measured, y=measured.y[2:3], erased=measured.erased[2:3])
    alone = knowledge.update(knowledge.start(one), one.y, IMAGES.flip(0)[2:3], 1, 0.5)
    for name, value in knowledge.report(alone).items():
        torch.testing.assert_close(value, knowledge.report(together)[name][2:3])


@pytest.mark.parametrize("knowledge", [Alternating(), Robust(), Estimated()], ids=lambda k: type(k).__name__)
def test_a_supposition_that_the_shape_rules_out_is_named(knowledge):
    for smaller in (Downsample(2), Chain(Downsample(2), RandomPixels(0.5))):
        with pytest.raises(ValueError, match="makes images smaller"):
            Recipe(smaller, PnPADMM(), knowledge)
    with pytest.raises(ValueError, match=r"cannot suppose what made a measurement of 12x10 pixels .*Known"):
        solve(lambda x: x, measure(Downsample(2)), PnPADMM(), knowledge)
    Recipe(Downsample(2), Iterate(), knowledge)  # which does not ask
    told, untold = (solve(lambda x: 0.9 * x, measure(Downsample(2)), Iterate(), k) for k in (Known(), knowledge))
    assert torch.equal(told.images, untold.images)


def test_what_was_estimated_is_in_the_scores():
    table = recover_batch(Recipe(Gain(), PnPADMM(), Estimated("gain")), lambda x: x, IMAGES, range(6), IMAGES).scores
    assert {"estimated_gain", "estimated_noise"} <= set(table.columns)
    table = recover_batch(Recipe(RandomPixels(0.5), PnPADMM(), Robust()), lambda x: x, IMAGES, range(6), IMAGES).scores
    assert {"estimated_erased", "estimated_noise"} <= set(table.columns)


def test_an_unknown_family_is_named():
    with pytest.raises(ValueError, match=r"^family is 'box'; choose one of blur, gain"):
        Estimated("box")
