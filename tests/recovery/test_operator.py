"""What blind methods make of the measurement."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from memorization.components import SettingError
from memorization.degradations import Half, Mask, Measurement, RandomPixels, image_seeds
from memorization.recovery import Alternating, Energy, Known, NullSpace, PnPADMM, Robust, solve
from memorization.recovery.knowledge.alternating import repeated_value
from memorization.recovery.knowledge.robust import _fill, _von_neumann_ratio
from tests import problems

IMAGES = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def measure(**settings):
    return RandomPixels(**{"fraction": 0.5, **settings})(IMAGES, image_seeds(0, range(3)))


@pytest.mark.parametrize(("fill", "value"), [("zero", 0.0), ("grey", 0.5)])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_the_repeated_value_is_the_fill(fill, value, noise):
    found = repeated_value(measure(fill=fill, noise=noise).y)
    torch.testing.assert_close(found, torch.full_like(found, value), atol=0.01, rtol=0)


@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_alternating_is_the_exact_minimiser_pixel_by_pixel(tau):
    """No other 0/1 choice at any pixel has a smaller |image - y|^2 where observed, |c - y|^2 + tau where erased."""
    measured, knowledge = measure(fill="grey"), Alternating(tau=tau)
    start = knowledge.start(measured)
    image = torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(1))
    mask = knowledge.update(start, measured.y, image, 1, 0.0).operator.weight
    by_image = (image - measured.y).square().sum(1, keepdim=True)
    by_fill = (start.details["fill"] - measured.y).square().sum(1, keepdim=True) + tau
    chosen = mask * by_image + (1 - mask) * by_fill
    assert torch.equal(chosen, torch.minimum(by_image, by_fill))
    assert set(mask.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("fill", ["zero", "grey", "mean", "random"])
def test_robust_finds_the_mask_once_the_image_is_right(fill):
    measured, knowledge = measure(fill=fill), Robust()
    estimate = knowledge.start(measured)
    for k in range(20):
        estimate = knowledge.update(estimate, measured.y, IMAGES, k, 1.0)
    wrong = ((estimate.operator.weight > 0.5) == measured.erased).flatten(1).float().mean(1)
    assert wrong.max() < 0.02


def gradients(count):
    """(count, 3, 24, 24) images in which neighbours are close, as in photographs; no colour is repeated."""
    ramp = torch.linspace(0.2, 0.8, 24)
    channels = torch.stack([ramp.expand(24, 24), ramp.view(24, 1).expand(24, 24), 1 - ramp.expand(24, 24)])
    return channels.expand(count, -1, -1, -1)


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.8])
def test_robust_reads_the_share_observed_off_the_smoothness(fraction):
    measured = RandomPixels(fraction, fill="random")(gradients(20), image_seeds(0, range(20)))
    uniform = Robust().start(measured, 1).details["uniform"]
    assert abs(uniform.mean() - fraction) < 0.05


@pytest.mark.parametrize(("noise", "fill"), [(0.02, "zero"), (0.05, "grey"), (0.05, "random"), (0.1, "zero")])
def test_robust_measures_the_noise_once_the_image_is_right(noise, fill):
    images = gradients(4)
    measured = RandomPixels(0.5, fill, noise)(images, image_seeds(0, range(4)))
    knowledge, steps = Robust(), 100
    estimate = knowledge.start(measured)
    for k in range(steps):
        estimate = knowledge.update(estimate, measured.y, images, k, k / steps)
    torch.testing.assert_close(estimate.sigma, torch.full((4,), noise), rtol=0.1, atol=0.002)
    assert (
        (estimate.mask < 0.5) != measured.erased
    ).float().mean() < 0.05  # some pixels of the ramps are grey themselves


def posterior(y, image, belief, deviation):
    """(B, 1, H, W): Bayes' rule with SciPy's densities."""
    near, fill = (
        stats.norm.pdf(y, centre, scale).prod(1, keepdims=True)
        for centre, scale in ((image, deviation), (belief["fill"].numpy(), belief["deviation"].numpy()))
    )
    observed = (1 - belief["constant"] - belief["uniform"]).numpy() * near
    return observed / (observed + belief["constant"].numpy() * fill + belief["uniform"].numpy())


@pytest.mark.parametrize("smooth", [False, True])  # and then nothing is "anything"
@pytest.mark.parametrize(("progress", "deviation"), [(0.15, 0.15), (0.475, (0.15 * 0.05) ** 0.5), (0.8, 0.05)])
def test_robust_weighs_a_pixel_by_bayes_rule_with_an_annealed_deviation(progress, deviation, smooth):
    images = gradients(len(IMAGES)) if smooth else IMAGES
    measured = RandomPixels(0.5, "grey", 0.03)(images, image_seeds(0, range(len(images))))
    knowledge = Robust(first_phase=0.15)
    belief = knowledge.start(measured)
    assert (belief.details["uniform"] == 0).all() == smooth
    image = (images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1))).double()
    found = knowledge.update(belief, measured.y.double(), image, 1, progress)
    expected = posterior(measured.y.double().numpy(), image.numpy(), belief.details, deviation)
    torch.testing.assert_close(found.operator.weight, torch.from_numpy(expected), rtol=1e-3, atol=1e-4)


def test_robust_knows_in_which_part_of_the_image_the_fill_is():
    measured = Half(0.5)(gradients(8), image_seeds(0, range(8)))
    knowledge = Robust()
    share = knowledge.update(knowledge.start(measured), measured.y, gradients(8), 1, 1.0).details["constant"]
    assert share[..., :6, :].max() < 0.05
    assert share[..., -6:, :].min() > 0.95


def test_the_fill_s_deviation_is_about_its_own_mean():
    y, weight = 0.4 + 0.2 * IMAGES[:1], torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(2))
    before = torch.full((1, 3, 1, 1), 0.45)
    found = _fill(y, weight, before, (y - before).square().sum(1, keepdim=True))
    pixels, weights = y.flatten(2)[0].numpy(), weight.flatten().numpy()
    np.testing.assert_allclose(found["fill"].flatten(), np.average(pixels, axis=1, weights=weights), rtol=1e-5)
    variance = np.cov(pixels, aweights=weights, ddof=0).diagonal().mean()
    np.testing.assert_allclose(found["deviation"].item(), variance**0.5, rtol=1e-4)


@pytest.mark.parametrize("smooth", [False, True])
def test_the_misfit_of_robust_is_the_squared_distance_of_observed_pixels(smooth):
    images = gradients(len(IMAGES)) if smooth else IMAGES
    measured, knowledge = RandomPixels(0.5)(images, image_seeds(0, range(len(images)))), Robust()
    estimate = knowledge.start(measured)
    for k in range(20):
        estimate = knowledge.update(estimate, measured.y, images, k, 1.0)
    own, moved = (knowledge.misfit(estimate, measured.y, images + step) for step in (0.0, 0.02))
    squares = 3 * 0.02**2 * (~measured.erased).flatten(1).sum(1)
    torch.testing.assert_close(moved - own, squares, rtol=0.1, atol=0)


def test_known_trusts_noisy_data_less():
    clean, noisy = (Known().start(measure(noise=noise)) for noise in (0.0, 0.1))
    first, second = (Known().misfit(estimate, clean.y, IMAGES.flip(0)) for estimate in (clean, noisy))
    torch.testing.assert_close(second, first / 2)


def test_robust_sees_where_an_image_is_smooth_and_where_it_holds_anything():
    measured = Half(0.5, fill="random")(gradients(8), image_seeds(0, range(8)))
    weight = Robust().start(measured, 1).operator.weight
    assert (weight[..., :6, :] > 0.9).all()
    assert (weight[..., -6:, :] < 0.02).all()


def test_robust_measures_the_image_in_the_mean():
    """Over many draws of what was erased and of what it was filled with, (y - 1/2) / g + 1/2 has the mean x."""
    x = gradients(400)
    measured = RandomPixels(0.5, fill="random")(x, image_seeds(0, range(400)))
    y = Robust().start(measured, 1).y
    torch.testing.assert_close(y.mean(0), x[0], atol=0.15, rtol=0)  # five standard errors of a pixel
    torch.testing.assert_close(y.mean((0, 2)), x[0].mean(1), atol=0.04, rtol=0)


def test_robust_supposes_a_fill_first_and_none_then():
    measured = RandomPixels(0.5, fill="grey", noise=0.05)(gradients(3), image_seeds(0, range(3)))
    fill, none = (Robust().start(measured, hypothesis).operator.weight for hypothesis in (0, 1))
    assert fill[measured.erased].mean() < 0.02
    assert none[measured.erased].mean() > 0.2


@pytest.mark.parametrize(("fill", "only"), [("zero", True), ("grey", True), ("mean", True), ("random", False)])
@pytest.mark.parametrize("degradation", [Half, RandomPixels])
def test_robust_takes_all_that_the_fill_leaves_for_observed_where_it_is_smooth(degradation, fill, only):
    measured = degradation(0.5, fill=fill, noise=0.03)(gradients(6), image_seeds(0, range(6)))
    first, second = (Robust().start(measured, hypothesis) for hypothesis in (0, 1))
    assert (first.details["anything"] == (0 if only else 1)).all()
    assert (second.details["anything"] == 1).all()
    if only:
        assert (first.operator.weight[~measured.erased] == 1).float().mean() > 0.85  # some pixels are grey themselves


def test_robust_takes_no_gradual_sky_for_a_fill_that_noise_was_added_to():
    """All deviate by 0.05 from a colour; noise is independent from pixel to pixel, a gradient and a texture are not."""
    top = gradients(4)[:, :, :12].shape
    noise = torch.randn(top, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1, count_include_pad=False)
    for deviation, only in ((torch.linspace(-1.7, 1.7, 24).expand(top), 0), (texture / texture.std(), 0), (noise, 1)):
        y = gradients(4).clone()
        y[:, :, :12] = 1.0 + 0.05 * deviation
        details = Robust().start(Measurement(y, Mask(torch.ones_like(y[:, :1])), 0.0, None)).details
        assert (details["constant"].mean((2, 3)) > 0.3).all()  # a repeated colour in each of them
        assert (details["anything"] == 1 - only).all()


def test_the_von_neumann_ratio_is_two_for_noise_and_small_for_a_gradient():
    noise = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    ramp = torch.linspace(-1, 1, 64).expand(2, 3, 64, 64)
    half = (torch.arange(64) < 32).view(1, 1, 1, 64).expand(2, 1, 64, 64)
    torch.testing.assert_close(_von_neumann_ratio(noise, half), torch.full((2, 1, 1, 1), 2.0), atol=0.08, rtol=0)
    of_ramp = (2 / 63) ** 2 / 2 / ramp.square().mean()  # neighbours in a row differ, those in a column do not
    torch.testing.assert_close(_von_neumann_ratio(ramp, half | True), torch.full((2, 1, 1, 1), float(of_ramp)))
    assert (_von_neumann_ratio(torch.where(half, 0, noise), half) == 0).all()
    board = (torch.arange(64).view(64, 1) + torch.arange(64)).remainder(2).bool().expand(2, 1, 64, 64)
    assert (_von_neumann_ratio(ramp, board) == 2).all()  # no neighbours


def test_a_wrong_image_does_not_make_robust_give_up_what_was_observed_nor_pass_for_noise():
    measured, knowledge = RandomPixels(0.5, fill="zero", noise=0.03)(gradients(4), image_seeds(0, range(4))), Robust()
    estimate = knowledge.start(measured)
    for k in range(20):
        estimate = knowledge.update(estimate, measured.y, 1 - gradients(4), k, 0.5)
    assert ((estimate.mask < 0.5) != measured.erased).float().mean() < 0.01
    assert (estimate.sigma <= 0.05).all()


def test_robust_allows_for_anything_from_when_the_image_explains_what_was_observed():
    """Not from when it explains the fill; and never less than before."""
    measured, knowledge = RandomPixels(0.5, fill="zero")(gradients(4), image_seeds(0, range(4))), Robust()
    estimate = knowledge.start(measured)
    for image, allowed in ((torch.zeros_like(measured.y), 0), (gradients(4), 1), (1 - gradients(4), 1)):
        estimate = knowledge.update(estimate, measured.y, image, 0, 0.5)
        assert (estimate.details["anything"] == allowed).all()


def smooth(count, channels, side, generator):
    """(count, channels, side, side) random images in which neighbours are close."""
    coarse = torch.rand(count, channels, side // 4, side // 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


to_the_end = pytest.mark.parametrize(
    "method",
    [
        Energy(max_iterations=500, tolerance=1e-9, ending=False),
        PnPADMM(max_iterations=1500, tolerance=1e-11),
        NullSpace(max_iterations=2000, tolerance=1e-11),
    ],
    ids=lambda method: type(method).__name__,
)


def missed_by_robust(method, members, measurement, apart):
    """The pixels that `robust` misjudged, where it was nowhere `apart` from `known`; f projects onto the members."""
    known, robust = (
        solve(problems.projection(members), measurement, method, knowledge) for knowledge in (Known(), Robust())
    )
    torch.testing.assert_close(robust.images, known.images, atol=apart, rtol=0)
    return (robust.mask < 0.5) != measurement.erased


@to_the_end
@pytest.mark.parametrize(("fill", "apart"), [(0.0, 1e-3), (0.5, 1e-3), (3.0, 1e-6)])
def test_robust_and_known_agree_on_smooth_images_whatever_the_fill(method, fill, apart):
    """All but the pixels of the fill's own colour are told; the others determine the image."""
    members = smooth(5, 1, 16, torch.Generator().manual_seed(1))
    draws = [problems.erase(members, 0.5, seed, fill) for seed in range(6)]  # solved as one batch
    y, weight, erased = (
        torch.cat(parts) for parts in zip(*((each.y, each.operator.weight, each.erased) for each in draws), strict=True)
    )
    missed = missed_by_robust(method, members, Measurement(y, Mask(weight), 0.0, erased), apart)
    assert ((members.repeat(6, 1, 1, 1) - fill).abs()[missed] < 0.02).all()


@pytest.mark.parametrize("method", [Energy(), PnPADMM(), NullSpace()], ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("beside", ["sky", "fill"])
def test_robust_finds_few_random_values_beside_a_constant(method, beside):
    """The constant is taken for a fill and the rest, smooth as it is, for observed, until the image tells better."""
    generator = torch.Generator().manual_seed(1)
    members = smooth(6, 3, 24, generator)
    constant = (torch.arange(24) < 8).view(1, 1, 24, 1).expand(6, 1, 24, 24)
    if beside == "sky":
        members[:, :, :8] = 0.9
    replaced = torch.rand(constant.shape, generator=generator) < 0.2
    erased = replaced | constant if beside == "fill" else replaced
    y = torch.where(replaced, torch.rand(members.shape, generator=generator, dtype=torch.float64), members)
    if beside == "fill":
        y[:, :, :8] = 0.0
    measurement = Measurement(y, Mask((~erased).double()), 0.0, erased)
    assert (Robust().start(measurement).details["anything"] == 0).float().mean() > 0.6
    found = solve(problems.projection(members), measurement, method, Robust())
    assert (found.images - members).square().mean().sqrt() < 0.02
    assert (found.mask[replaced & ~constant] < 0.5).float().mean() > 0.95


def test_the_likelihood_prefers_the_image_to_another_and_to_everything_erased():
    measured, knowledge = measure(fill="random"), Robust()
    right = wrong = knowledge.start(measured, 1)
    other = IMAGES.flip(0)
    for k in range(20):
        right = knowledge.update(right, measured.y, IMAGES, k, 1.0)
        wrong = knowledge.update(wrong, measured.y, other, k, 1.0)
    assert (knowledge.report(wrong)["erased"][[0, 2]] > 0.9).all()
    better = knowledge.misfit(right, measured.y, IMAGES) < knowledge.misfit(wrong, measured.y, other)
    assert better[[0, 2]].all()
    assert (knowledge.misfit(right, measured.y, IMAGES) < 0).all()  # "anything" everywhere has a misfit of 0


def test_robust_weighs_every_pixel_alike_whatever_its_batch():
    measured, knowledge = measure(fill="mean"), Robust()
    estimate = knowledge.start(measured)
    together = knowledge.update(estimate, measured.y, IMAGES, 1, 0.5)
    alone = knowledge.update(estimate.select(torch.tensor([1])), measured.y[1:2], IMAGES[1:2], 1, 0.5)
    torch.testing.assert_close(alone.operator.weight, together.operator.weight[1:2])


@to_the_end
@pytest.mark.parametrize(("fill", "apart"), [(3.0, 1e-8), (0.0, 1e-3), (0.5, 2e-3)])
def test_robust_and_known_agree_without_noise(method, fill, apart):
    """Of rough images, where it can: exactly with a fill far outside the images; within them to 54 dB or better, since
    an observed pixel may look like the fill."""
    members = problems.images(4, seed=1)
    missed = missed_by_robust(method, members, problems.erase(members, 0.4, seed=3, fill=fill), apart).sum()
    assert missed == 0 if fill == 3.0 else missed <= 1


def test_before_there_is_an_image_the_belief_is_a_probability():
    """Not the weight of the data, which counts how much a pixel that was probably observed says of the image."""
    measured, knowledge = RandomPixels(0.5, fill="random")(gradients(8), image_seeds(0, range(8))), Robust()
    erased = knowledge.report(knowledge.start(measured, 1))["erased"]
    torch.testing.assert_close(erased, torch.full((8,), 0.5), atol=0.1, rtol=0)


def test_settings_out_of_range_are_named():
    with pytest.raises(SettingError, match=r"^narrowest is 0; it must be above 0 and at most widest, 0.15"):
        Robust(narrowest=0)
    with pytest.raises(SettingError, match=r"^narrowest is 'x'"):
        Robust(narrowest="x")
    with pytest.raises(SettingError, match=r"^repeated is 2"):
        Robust(repeated=2)
    with pytest.raises(SettingError, match=r"^first_phase is 0.9"):
        Robust(first_phase=0.9)
    with pytest.raises(SettingError, match=r"^every is 0"):
        Alternating(every=0)


def test_the_repeated_colour_of_an_image_does_not_depend_on_how_many_there_are():
    y = torch.rand(19, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    for i, image in enumerate(y):
        image[:, : 4 + i % 5] = i / 19
    many = repeated_value(y)
    torch.testing.assert_close(many[:, 0, 0, 0], torch.arange(19) / 19, rtol=0, atol=0.01)
    torch.testing.assert_close(many, torch.cat([repeated_value(image[None]) for image in y]))


def test_the_alternation_starts_from_the_repeated_colour():
    measured = measure(fill="grey")
    observed = Alternating().start(measured).operator.weight
    assert (observed[measured.erased] == 0).all()
    assert observed[~measured.erased].mean() > 0.9


def test_robust_may_suppose_a_background_of_the_fill_s_colour():
    """Then what is bright was observed, however rough, and dark pixels are evidence for nothing."""
    image = problems.images(1, seed=1) * (problems.images(1, seed=2) > 0.5)  # bright spots on black
    measurement = problems.erase(image, 0.5, seed=3)
    bright = measurement.y > 0.06
    first, flat = (Robust().start(measurement, k) for k in (0, 2))
    assert torch.equal(flat.mask > 0.5, bright)
    assert (flat.mask[bright] == 1).all()
    assert (first.mask[bright] < 0.6).any()  # which the first hypothesis doubts
    torch.testing.assert_close(flat.y, measurement.y)
    later = Robust().update(flat, measurement.y, image, 150, 0.9)
    assert (later.mask[bright] > 0.9).all()
    unknown = (measurement.y == 0) & (image == 0)
    sharp = Robust().update(first, measurement.y, image, 150, 0.9)
    assert (later.mask[unknown] > 10 * sharp.mask[unknown]).all()  # erased or not: as the shares have it


def test_robust_tells_the_right_one_of_many_images_from_few_pixels():
    """A twentieth of the pixels is observed, the others hold random values: a sharp deviation finds the image."""
    images = torch.rand(3, 1, 25, 25, generator=torch.Generator().manual_seed(1))
    bank = torch.rand(50, 1, 25, 25, generator=torch.Generator().manual_seed(2))
    bank[[7, 20, 49]] = images
    measurement = RandomPixels(0.93, fill="random")(images, range(3))
    assert Robust().unlikely(measurement, bank).argmin(1).tolist() == [7, 20, 49]


@pytest.mark.parametrize("fill", ["random", "zero"])
def test_an_image_that_leaves_smooth_pixels_unexplained_has_not_solved_its_measurement(fill):
    """However much it explains: what was erased to random values is not smooth. Of one that is right on one half."""
    images = gradients(4)
    measurement = RandomPixels(0.5, fill=fill)(images, image_seeds(0, range(4)))
    half = torch.cat([images[..., :4], (images[..., 4:] + 0.5) % 1], 3)
    knowledge, y = Robust(), measurement.y
    right, wrong = (knowledge.solved(knowledge.recall(measurement, x), y, x, 1e-3) for x in (images, half))
    assert right.all()
    assert not wrong.any()
