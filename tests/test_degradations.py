"""Operators and measurements."""

from __future__ import annotations

import pytest
import torch

from memorization.degradations import DEGRADATIONS, FILLS, Box, Half, Noise, RandomPixels, image_seeds

IMAGES = torch.rand(5, 3, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SEEDS = image_seeds(0, range(5))
ERASURES = {name: kind for name, kind in DEGRADATIONS.items() if hasattr(kind, "fill")}


@pytest.fixture(params=DEGRADATIONS)
def measured(request):
    return DEGRADATIONS[request.param]()(IMAGES, SEEDS)


def dot(a, b):
    return (a * b).flatten(1).sum(1)


def test_adjoint(measured):
    operator = measured.operator
    y = torch.rand(measured.y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(dot(operator.forward(IMAGES), y), dot(IMAGES, operator.adjoint(y)), rtol=1e-12, atol=0)


def test_pseudo_inverse(measured):
    operator = measured.operator
    once = operator.forward(IMAGES)
    torch.testing.assert_close(operator.forward(operator.pinv(once)), once, rtol=1e-10, atol=1e-12)
    back = operator.pinv(once)
    torch.testing.assert_close(operator.pinv(operator.forward(back)), back, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rho", [0.01, 1.0, 30.0])
def test_solve_is_stationary(measured, rho):
    """The gradient of the proximal objective vanishes: H^T (H x - y) + rho (x - v) = 0."""
    operator = measured.operator
    v = torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = operator.forward(IMAGES)
    x = operator.solve(y, v, rho)
    gradient = operator.adjoint(operator.forward(x) - y) + rho * (x - v)
    assert gradient.abs().max() < 1e-8


def test_misfit_of_the_truth_is_the_noise_on_observed_pixels(measured):
    observed = ~measured.erased
    expected = ((measured.y - IMAGES).square() * observed).flatten(1).sum(1)
    torch.testing.assert_close(measured.operator.misfit(IMAGES, measured.y), expected)


def test_selected_operator_is_the_operator_of_the_selection(measured):
    keep = torch.tensor([True, False, True, False, True])
    torch.testing.assert_close(
        measured.operator.select(keep).forward(IMAGES[keep]), measured.operator.forward(IMAGES)[keep]
    )


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_a_measurement_depends_on_the_image_and_its_seed_alone(name):
    degradation = DEGRADATIONS[name](noise=0.1)
    together = degradation(IMAGES, SEEDS)
    for i in (3, 0):
        alone = degradation(IMAGES[i : i + 1], SEEDS[i : i + 1])
        assert torch.equal(alone.y[0], together.y[i])
        assert torch.equal(alone.erased[0], together.erased[i])
    assert not torch.equal(degradation(IMAGES, image_seeds(1, range(5))).y, together.y)


@pytest.mark.parametrize("name", ERASURES)
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_the_fraction_erased_is_as_asked(name, fraction):
    erased = ERASURES[name](fraction=fraction)(IMAGES, SEEDS).erased
    share = erased.flatten(1).double().mean(1)
    assert (share - fraction).abs().max() < 0.03


@pytest.mark.parametrize("fill", FILLS)
def test_fills(fill):
    measured = RandomPixels(0.5, fill=fill)(IMAGES, SEEDS)
    erased = measured.erased.expand_as(IMAGES)
    assert torch.equal(measured.y[~erased], IMAGES[~erased])
    filled = measured.y[erased]
    match fill:
        case "zero":
            assert (filled == 0).all()
        case "grey":
            assert (filled == 0.5).all()
        case "mean":
            expected = IMAGES.mean((2, 3), keepdim=True).expand_as(IMAGES)[erased]
            torch.testing.assert_close(filled, expected)
        case "random":
            assert 0 <= filled.min() < 0.01
            assert 0.99 < filled.max() <= 1
            assert abs(filled.mean() - 0.5) < 0.02


def test_noise_has_its_standard_deviation_on_every_pixel():
    for degradation in (Noise(0.2), RandomPixels(0.5, noise=0.2)):
        images = torch.full((4, 3, 64, 64), 0.5)
        measured = degradation(images, image_seeds(0, range(4)))
        error = (measured.y - images * ~measured.erased).flatten(1).std(1)
        assert measured.sigma == 0.2
        assert (error - 0.2).abs().max() < 0.01


def test_a_box_is_one_rectangle_and_moves_with_the_seed():
    erased = Box(0.36)(IMAGES, SEEDS).erased[:, 0]
    places = set()
    for mask in erased:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert mask.sum() == len(rows) * len(columns) == 12 * 14
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert columns[-1] - columns[0] + 1 == len(columns)
        places.add((int(rows[0]), int(columns[0])))
    assert len(places) > 1


@pytest.mark.parametrize("side", ["bottom", "top", "left", "right"])
def test_half_erases_its_side(side):
    erased = Half(side=side)(IMAGES, SEEDS).erased[0, 0]
    inner = {
        "bottom": erased[10:].all() & ~erased[:10].any(),
        "top": erased[:10].all() & ~erased[10:].any(),
        "left": erased[:, :12].all() & ~erased[:, 12:].any(),
        "right": erased[:, 12:].all() & ~erased[:, :12].any(),
    }
    assert inner[side]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_a_fraction_out_of_range_is_named(fraction):
    with pytest.raises(ValueError, match=r"degradation\.fraction is"):
        RandomPixels(fraction)


def test_other_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"'red'.*zero, grey, mean, random"):
        Box(fill="red")
    with pytest.raises(ValueError, match=r"'up'.*bottom"):
        Half(side="up")
    with pytest.raises(ValueError, match=r"degradation\.noise is -1"):
        Noise(-1)
    with pytest.raises(ValueError, match=r"degradation\.noise is nan"):
        RandomPixels(0.5, noise=float("nan"))
