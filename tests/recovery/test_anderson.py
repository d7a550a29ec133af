"""Anderson extrapolation against problems whose fixed point and speed are known."""

from __future__ import annotations

import pytest
import torch

from memorization.components import SettingError
from memorization.degradations import Mask, Measurement, RandomPixels
from memorization.evaluation.batch import Recipe
from memorization.recovery import Alternating, Anderson, Energy, Inpaint, Iterate, Known, NullSpace, PnPADMM, solve
from memorization.recovery.problem import Problem
from tests import problems

MEMBERS = problems.images(4, seed=1)
RATES = torch.linspace(0.5, 0.98, 64, dtype=torch.float64).view(problems.SHAPE)


def contraction(x):
    """Pixel i approaches 0.5 by the factor RATES[i]: linear, and slow where the rate is near 1."""
    return 0.5 + RATES * (x - 0.5)


def everything_observed(images):
    observed = torch.ones_like(images[:, :1])
    return Measurement(images, Mask(observed), 0.0, observed < 0.5)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_a_slow_contraction_settles_at_the_same_point_in_fewer_iterations(depth):
    method = Iterate(max_iterations=2000, tolerance=1e-10)
    plain = solve(contraction, everything_observed(MEMBERS), method)
    fast = solve(contraction, everything_observed(MEMBERS), Anderson(method, depth))
    torch.testing.assert_close(fast.images, torch.full_like(MEMBERS, 0.5), atol=1e-7, rtol=0)
    assert fast.status == ["converged"] * 4
    assert (fast.iterations < 0.6 * plain.iterations).all()
    assert torch.equal(fast.queries, fast.iterations)


def test_one_step_back_solves_a_contraction_of_one_rate():
    """With one rate for all pixels the secant of depth 1 hits the fixed point, up to the ridge."""
    answer = solve(lambda x: 0.5 + 0.9 * (x - 0.5), everything_observed(0.5 + 1e-3 * MEMBERS), Anderson(Iterate(), 1))
    torch.testing.assert_close(answer.images, torch.full_like(MEMBERS, 0.5), atol=1e-6, rtol=0)
    assert answer.iterations.max() <= 4


@pytest.mark.parametrize("method", [PnPADMM(max_iterations=5000, tolerance=1e-10), NullSpace(5000, 1e-10)])
@pytest.mark.parametrize("depth", [1, 3])
def test_methods_keep_their_fixed_point(method, depth):
    originals = problems.projection(MEMBERS)(problems.images(3, seed=5)).clamp(0, 1)
    measurement = problems.erase(originals, 0.5, seed=6)
    plain = solve(problems.projection(MEMBERS), measurement, method)
    fast = solve(problems.projection(MEMBERS), measurement, Anderson(method, depth))
    torch.testing.assert_close(fast.images, plain.images, atol=1e-6, rtol=0)
    assert (fast.iterations <= plain.iterations).all()
    assert fast.iterations.sum() < 0.9 * plain.iterations.sum()


@pytest.mark.parametrize("method", [Iterate(), PnPADMM(), NullSpace()])
def test_an_image_does_not_depend_on_its_batch(method):
    measurement = problems.erase(problems.images(6, seed=9), 0.5, seed=10)
    together = solve(problems.projection(MEMBERS), measurement, Anderson(method))
    for i in range(6):
        one = Measurement(
            measurement.y[i : i + 1], measurement.operator.select(torch.tensor([i])), 0.0, measurement.erased[i : i + 1]
        )
        alone = solve(problems.projection(MEMBERS), one, Anderson(method))
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-9, rtol=0)
        assert alone.iterations[0] == together.iterations[i]


def test_a_blind_mask_may_change_on_the_way():
    measurement = problems.erase(MEMBERS, 0.5, seed=3, fill=0.5)
    answer = solve(problems.nearest(MEMBERS), measurement, Anderson(PnPADMM()), Alternating())
    torch.testing.assert_close(answer.images, MEMBERS)


def test_far_from_a_fixed_point_the_method_takes_its_own_way():
    method = Iterate(max_iterations=6, tolerance=0)
    plain = solve(contraction, everything_observed(MEMBERS), method, trace=True)
    assert plain.trace.min() > 1e-3
    fast = solve(contraction, everything_observed(MEMBERS), Anderson(method))
    assert torch.equal(fast.images, plain.images)


def test_where_the_residual_doubles_the_past_is_forgotten():
    """Three steps with set residuals; the third image alone sees its residual grow, and takes the plain step."""
    pattern = 1e-4 * torch.sign(MEMBERS[:3] - 0.5)
    sizes = iter([[1.0, 1.0, 1.0], [0.9, 0.9, 0.9], [0.8, 0.8, 2.0]])
    scripted = lambda x: x + torch.tensor(next(sizes)).view(3, 1, 1, 1) * pattern
    measurement = everything_observed(MEMBERS[:3])
    zeros = torch.zeros(3, dtype=torch.float64)
    problem = Problem(measurement.y, measurement.y, measurement.operator, zeros, scripted, MEMBERS[0])
    method = Anderson(Iterate(), 2)
    state = method.start(problem)
    for _ in range(3):
        state = method.step(problem, state, 0.0)
    plain = (state.point[:, 0] == state.x).flatten(1).all(1)
    assert plain.tolist() == [False, False, True]
    assert not state.images[2].any()


def test_a_recipe_turns_it_on():
    assert Recipe(RandomPixels(), Iterate(), Known(), extrapolation=2).solving == Anderson(Iterate(), 2)
    assert Recipe(RandomPixels(), Iterate(), Known()).solving == Iterate()


@pytest.mark.parametrize(("method", "depth"), [(Energy(), 1), (Inpaint(), 1), (Iterate(), -1), (Iterate(), 51)])
def test_what_cannot_be_extrapolated_is_named(method, depth):
    with pytest.raises(SettingError, match=rf"^depth is {depth}; it "):
        Anderson(method, depth)
