"""Every method against a problem whose answer is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from memorization.degradations import Mask, Measurement
from memorization.recovery import METHODS, Alternating, Energy, Iterate, Known, PnPADMM, solve
from tests import problems

MEMBERS = problems.images(4, seed=1)


def linear_problem(seed: int = 2):
    """Images in the span of the members, half erased: the measurement determines them."""
    weights = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)
    originals = (weights @ MEMBERS.flatten(1)).view(2, *problems.SHAPE)
    return originals, problems.erase(originals, 0.5, seed)


@pytest.mark.parametrize(
    "method",
    [PnPADMM(max_iterations=2000, tolerance=1e-12), Energy(max_iterations=500, tolerance=1e-9)],
    ids=lambda method: type(method).__name__,
)
def test_projection_onto_the_span_is_solved_exactly(method):
    originals, measurement = linear_problem()
    answer = solve(problems.projection(MEMBERS), measurement, method)
    torch.testing.assert_close(answer.images, originals, atol=1e-6, rtol=0)


def test_admm_minimises_the_misfit_over_the_range_of_the_projection():
    """Where no image in the span fits the measurement, the limit is the least-squares fit on the observed pixels."""
    originals = problems.images(3, seed=5)
    measurement = problems.erase(originals, 0.5, seed=6)
    answer = solve(problems.projection(MEMBERS), measurement, PnPADMM(max_iterations=5000, tolerance=1e-12))
    expected = problems.least_squares(measurement, MEMBERS).clamp(0, 1)
    torch.testing.assert_close(answer.images, expected, atol=1e-6, rtol=0)


def test_energy_has_the_minimiser_of_its_quadratic():
    """With a projection P, E(x) = |M(x - y)|^2 + lambda |(I - P) x|^2; the answer is P x at the minimum."""
    originals = problems.images(3, seed=5)
    measurement = problems.erase(originals, 0.5, seed=6)
    weight = 0.7
    p = problems.span(MEMBERS)
    answers = []
    for y, erased in zip(measurement.y, measurement.erased, strict=True):
        mask = torch.diag((~erased.expand_as(y)).flatten().to(y.dtype))
        x = torch.linalg.solve(mask + weight * (torch.eye(len(p), dtype=p.dtype) - p), mask @ y.flatten())
        answers.append((p @ x).view_as(y))
    method = Energy(weight=weight, max_iterations=4000, tolerance=1e-9)
    answer = solve(problems.projection(MEMBERS), measurement, method)
    torch.testing.assert_close(answer.images, torch.stack(answers).clamp(0, 1), atol=1e-5, rtol=0)


def test_iterate_applies_the_autoencoder_until_it_rests():
    halve = lambda x: 0.5 * x + 0.25  # noqa: E731  # contracts to 0.5
    originals, measurement = linear_problem()
    answer = solve(halve, measurement, Iterate(tolerance=1e-10))
    torch.testing.assert_close(answer.images, torch.full_like(originals, 0.5), atol=1e-9, rtol=0)
    expected = torch.ceil(torch.log2((measurement.y - 0.5).flatten(1).square().mean(1).sqrt() / 1e-10))
    assert torch.equal(answer.iterations, expected.long())


@pytest.mark.parametrize(("fill", "fraction"), [(0.0, 0.25), (0.5, 0.5)])
def test_blind_recovery_with_a_perfect_memory_is_exact(fill, fraction):
    measurement = problems.erase(MEMBERS, fraction, seed=3, fill=fill)
    answer = solve(problems.nearest(MEMBERS), measurement, PnPADMM(), Alternating())
    torch.testing.assert_close(answer.images, MEMBERS)
    assert torch.equal(answer.mask < 0.5, measurement.erased)


@pytest.mark.parametrize("name", METHODS)
def test_queries_are_counted_per_image_and_stop_with_it(name):
    calls = []

    def autoencoder(x):
        calls.append(len(x))
        return 0.5 * x

    y = torch.stack([torch.zeros(problems.SHAPE), torch.ones(problems.SHAPE)]).double()
    observed = Mask(torch.ones_like(y[:, :1]) * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    measurement = Measurement(y, observed, 0.0, observed.weight < 0.5)
    answer = solve(autoencoder, measurement, METHODS[name]())
    assert answer.queries.sum() == sum(calls)
    assert answer.status == ["converged"] * 2
    assert answer.queries[0] != answer.queries[1]  # one left before the other, and its queries stopped


def test_known_and_true_mask_are_the_same_problem_whatever_the_fill():
    _, measurement = linear_problem()
    other = dataclasses.replace(measurement, y=torch.where(measurement.erased, 0.9, measurement.y))
    for method in (PnPADMM(max_iterations=500, tolerance=1e-12), Energy(max_iterations=2000, tolerance=1e-10)):
        first = solve(problems.projection(MEMBERS), measurement, method, Known())
        second = solve(problems.projection(MEMBERS), other, method, Known())
        torch.testing.assert_close(first.images, second.images, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("setting", [{"max_iterations": 0}, {"tolerance": -1.0}])
def test_settings_out_of_range_are_named(name, setting):
    (key,) = setting
    with pytest.raises(ValueError, match=f"recovery.{key} is"):
        METHODS[name](**setting)
