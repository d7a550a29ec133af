"""Images that are ended before the last iteration: solved ones by a quasi-Newton descent, others where they stall."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from memorization.recovery import Energy, Robust, solve
from memorization.recovery.methods.quasi_newton import QuasiNewton
from memorization.recovery.problem import Problem, rms
from tests import problems

MEMBERS, OTHERS = problems.images(20, seed=1), problems.images(10, seed=2)
HALF = problems.erase(torch.cat([MEMBERS, OTHERS]), 0.5, seed=3)
IS_MEMBER = torch.arange(30) < 20


def memory(x: torch.Tensor) -> torch.Tensor:
    """A smooth map with the members as attracting fixed points: attention over them (Ramsauer et al., 2021)."""
    weights = (-5 * torch.cdist(x.flatten(1), MEMBERS.to(x).flatten(1)).square()).softmax(1)
    return (weights @ MEMBERS.to(x).flatten(1)).view_as(x)


@pytest.mark.parametrize("knowledge", [None, Robust()], ids=["known", "robust"])
def test_ended_images_have_the_answers_of_the_whole_descent_for_half_of_its_passes(knowledge):
    whole, ended = (
        solve(memory, HALF, Energy(ending=ending), knowledge, starts=1, loss=1e-6) for ending in (False, True)
    )
    exact = rms(whole.images[:20] - MEMBERS) < 1e-3
    assert exact.float().mean() > 0.9
    torch.testing.assert_close(ended.images[:20][exact], whole.images[:20][exact], atol=1e-3, rtol=0)
    cost, before = (answer.queries[:20][exact].double().mean() for answer in (ended, whole))
    assert cost < 0.5 * before
    assert {status for status, same in zip(ended.status, exact.tolist(), strict=False) if same} == {"converged"}


def test_what_stalls_is_given_up_with_the_energy_that_it_would_have_had():
    whole, ended = (solve(memory, HALF, Energy(ending=ending), loss=1e-6) for ending in (False, True))
    unsolved = rms(whole.images - torch.cat([MEMBERS, OTHERS])) > 0.05
    assert unsolved[20:].all()
    assert ended.queries[unsolved].max() <= 150 < whole.queries[unsolved].min()
    assert rms(ended.images[unsolved] - whole.images[unsolved]).median() < 0.02


def test_a_try_that_fails_costs_its_passes_and_changes_nothing():
    """A map without any fixed point near: the last steps are tried and come to nothing."""
    shift = 0.02 * torch.ones(problems.SHAPE, dtype=torch.float64)  # x - f(x), near by the method's own bound
    method = Energy(max_iterations=90)  # given up, if at all, after the last try
    plain, tried = (
        solve(lambda x: x - shift, HALF, dataclasses.replace(method, ending=ending), path=(44,))
        for ending in (False, True)
    )
    assert torch.equal(tried.path, plain.path)
    assert (tried.queries > tried.iterations).all()


def test_the_trace_goes_on_through_the_last_steps():
    answer = solve(memory, HALF, Energy(), trace=True, loss=1e-6)
    assert (answer.trace.isfinite().sum(1) == answer.iterations).all()
    last = answer.trace.gather(1, answer.iterations.unsqueeze(1) - 1).squeeze(1)
    torch.testing.assert_close(last, answer.residual)


def test_no_image_is_taken_for_solved_that_does_not_explain_its_measurement():
    """What is a fixed point, or near one, must still fit `y`: with noise that nobody told of, no member does."""
    noise = 0.2 * torch.randn(HALF.y.shape, generator=torch.Generator().manual_seed(0))
    clean, noisy = (
        solve(memory, dataclasses.replace(HALF, y=y), Energy(), loss=1e-6).iterations[IS_MEMBER]
        for y in (HALF.y, HALF.y + HALF.operator.weight * noise)
    )
    assert clean.double().mean() < 70
    assert (noisy > 100).all()


@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_quasi_newton_has_the_minimiser_of_a_quadratic_in_a_few_steps(sigma):
    """As many steps as the Hessian of the energy has separate eigenvalues would do, were each line search exact."""
    a = problems.span(MEMBERS[:4])
    measurement = dataclasses.replace(problems.erase(OTHERS, 0.5, seed=6), sigma=sigma)
    trust = 1 / (1 + (sigma / 0.1) ** 2)
    eye, method = torch.eye(64, dtype=torch.float64), QuasiNewton(tolerance=1e-9)
    problem = Problem(
        measurement.y,
        measurement.y,
        measurement.operator,
        torch.full((10,), sigma).double(),
        problems.linear(a),
        torch.full(problems.SHAPE, 0.5).double(),
        recalled=OTHERS,
    )
    state = method.start(problem, -1)
    for _ in range(40):
        state = method.step(problem, state, 0.9)
    for x, y, weight in zip(state.x, measurement.y, measurement.operator.weight, strict=True):
        w = trust * torch.diag(weight.flatten())
        least = torch.linalg.solve(w + (eye - a).T @ (eye - a), w @ y.flatten())
        torch.testing.assert_close(x.flatten(), least, atol=1e-5, rtol=0)
