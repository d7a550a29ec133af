"""Every method against a problem whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from skimage.restoration import inpaint_biharmonic

from memorization.components import SettingError
from memorization.degradations import Blur, Mask, Measurement, Operator
from memorization.recovery import (
    METHODS,
    Alternating,
    Anderson,
    Energy,
    Inpaint,
    Iterate,
    Known,
    NullSpace,
    PnPADMM,
    Robust,
    solve,
)
from memorization.recovery.problem import NOISE_SCALE, Problem, rms
from tests import problems

MEMBERS = problems.images(4, seed=1)


def linear_problem(seed: int = 2):
    """Images in the span of the members, half erased: the measurement determines them."""
    weights = torch.tensor([[0.4, 0.3, 0.2, 0.1], [0.1, 0.1, 0.1, 0.7]], dtype=torch.float64)
    originals = (weights @ MEMBERS.flatten(1)).view(2, *problems.SHAPE)
    return originals, problems.erase(originals, 0.5, seed)


@pytest.mark.parametrize(
    "method",
    [
        PnPADMM(max_iterations=2000, tolerance=1e-12),
        NullSpace(max_iterations=5000, tolerance=1e-12),
        Energy(max_iterations=500, tolerance=1e-9),
    ],
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


def dense(measurement: Measurement, equations) -> torch.Tensor:
    """What solves a linear system an image, in [0, 1]; `equations` makes it of the weights and the data, trusted."""
    t, answers = 1 / (1 + (measurement.sigma / NOISE_SCALE) ** 2), []
    for y, weight in zip(measurement.y, measurement.operator.weight, strict=True):
        w = torch.diag(t * weight.expand_as(y).flatten())
        answers.append(torch.linalg.solve(*equations(w, w @ y.flatten())).view_as(y))
    return torch.stack(answers)


EYE = torch.eye(problems.SHAPE[1] * problems.SHAPE[2], dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("weight", [0.2, 0.7])
def test_energy_has_the_minimiser_of_its_quadratic(sigma, weight):
    """With `f(x) = A x`, E(x) = w |M(x - y)|^2 + lambda |(I - A) x|^2; the answer is A x at the minimum."""
    measurement = dataclasses.replace(problems.erase(problems.images(3, seed=5), 0.5, seed=6), sigma=sigma)
    a = problems.contraction(symmetric=False)
    x = dense(measurement, lambda w, wy: (w + weight * (EYE - a).T @ (EYE - a), wy))
    method = Energy(weight=weight, max_iterations=4000, tolerance=1e-10, ending=False)
    answer = solve(problems.linear(a), measurement, method)
    torch.testing.assert_close(answer.images, problems.linear(a)(x).clamp(0, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("penalty", [0.3, 1.0])
def test_admm_has_the_minimiser_of_what_its_autoencoder_is_the_proximal_map_of(sigma, penalty):
    """A symmetric A with eigenvalues in (0, 1) is that of `rho / 2 x^T (A^-1 - I) x` at the penalty `rho`."""
    measurement = dataclasses.replace(problems.erase(problems.images(3, seed=5), 0.5, seed=6), sigma=sigma)
    a = problems.contraction(symmetric=True)
    expected = dense(measurement, lambda w, wy: (w + penalty * (torch.linalg.inv(a) - EYE), wy))
    method = PnPADMM(penalty=penalty, max_iterations=5000, tolerance=1e-13)
    answer = solve(problems.linear(a), measurement, method)
    torch.testing.assert_close(answer.images, expected.clamp(0, 1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("relaxation", [0.5, 1.0, 1.9])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_null_space_weighs_pixels_by_the_mask_and_all_data_by_the_noise(sigma, relaxation):
    """Its fixed points are `z = A (z + t w (y - z))`, w the weights of the mask."""
    measurement = dataclasses.replace(problems.erase(problems.images(3, seed=5), 0.5, seed=6), sigma=sigma)
    generator = torch.Generator().manual_seed(3)
    weight = measurement.operator.weight * torch.rand(measurement.operator.weight.shape, generator=generator)
    measurement = dataclasses.replace(measurement, operator=Mask(weight))
    a = problems.contraction(symmetric=False)
    expected = dense(
        measurement, lambda w, wy: (EYE - a @ (EYE - relaxation * w), relaxation * a @ wy)
    ).clamp(0, 1)  # fmt: skip
    method = NullSpace(20000, 1e-13, relaxation)
    answer = solve(problems.linear(a), measurement, method)
    torch.testing.assert_close(answer.images, expected, atol=1e-8, rtol=0)


def test_energy_takes_the_steps_of_adam():
    """torch's own, on the energy written out, with both schedules."""
    f, method = problems.linear(problems.contraction(symmetric=False)), Energy(max_iterations=10)
    measurement = dataclasses.replace(problems.erase(problems.images(3, seed=5), 0.5, seed=6), sigma=0.05)
    sigma = torch.full((3,), 0.05).double()
    problem = Problem(measurement.y, measurement.y, measurement.operator, sigma, f, MEMBERS[0])
    state = method.start(problem)
    x = state.x.clone().requires_grad_()
    adam = torch.optim.Adam([x], betas=(0.9, 0.99))
    for k in range(8):
        progress = k / 10
        weight = 0.01 ** max(0.0, 1 - 2 * progress)
        adam.param_groups[0]["lr"] = 0.1 * 0.01**progress
        adam.zero_grad()
        misfit = (measurement.operator.weight * (x - measurement.y).square()).sum() / (1 + 0.5**2)
        (misfit + weight * (x - f(x)).square().sum()).backward()
        state = method.step(problem, state, progress)
        torch.testing.assert_close(state.residual, rms(x.grad) / weight)
        adam.step()
        torch.testing.assert_close(state.x, x.detach())


def test_energy_takes_a_derivative_that_is_a_view():
    answer = solve(lambda x: x.transpose(2, 3), problems.erase(MEMBERS, 0.5, seed=3), Energy(max_iterations=3))
    assert answer.images.isfinite().all()


@dataclasses.dataclass(frozen=True)
class Pool(Operator):
    """Sums of neighbouring columns: an operator that is no mask, and whose adjoint is not its pseudo-inverse."""

    def forward(self, x):
        return x[..., ::2] + x[..., 1::2]

    def adjoint(self, y):
        return y.repeat_interleave(2, 3)

    def pinv(self, y):
        return self.adjoint(y) / 2

    def solve(self, y, v, rho):
        return v + self.adjoint(y - self.forward(v)) / (2 + rho)

    def misfit(self, x, y):
        return (self.forward(x) - y).square().flatten(1).sum(1)

    def select(self, keep):
        return self


@pytest.mark.parametrize("relaxation", [1.0, 1.9])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_null_space_agrees_with_a_measurement_of_another_shape(sigma, relaxation):
    """Without noise every corrected image meets `H x = y`; with noise it lies the ridge's share of the way there."""
    z, h = problems.images(2, seed=5), Pool()
    y = h.forward(problems.images(2, seed=6))
    seen = []
    problem = Problem(y, y, h, torch.full((2,), sigma).double(), lambda x: seen.append(x) or x, z[0])
    method = NullSpace(relaxation=relaxation)
    state = method.start(problem)
    method.step(problem, state, 0.0)
    (x,) = seen
    share = relaxation * 2 / (2 + (sigma / NOISE_SCALE) ** 2)
    expected = h.forward(state.x) + share * (y - h.forward(state.x))
    torch.testing.assert_close(h.forward(x), expected, atol=1e-6, rtol=0)
    null = lambda image: image - h.pinv(h.forward(image))
    torch.testing.assert_close(null(x), null(state.x))


def never(x):
    raise AssertionError("the control queried the autoencoder")


def test_inpainting_is_the_library_s_and_never_queries_the_autoencoder():
    originals = torch.rand(3, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    measurement = problems.erase(originals, 0.5, seed=4, fill=0.9)
    answer = solve(never, measurement, Inpaint())
    for image, y, erased in zip(answer.images, measurement.y, measurement.erased, strict=True):
        expected = inpaint_biharmonic(y.permute(1, 2, 0).numpy(), erased[0].numpy(), channel_axis=-1)
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected.clip(0, 1), atol=1e-5)
    assert answer.status == ["converged"] * 3
    assert answer.queries.tolist() == [0] * 3
    assert answer.iterations.tolist() == [1] * 3


def test_inpainting_takes_an_estimated_mask_by_halves():
    smooth = torch.nn.functional.interpolate(MEMBERS[..., :2, :2], problems.SHAPE[1:], mode="bilinear")
    originals = 0.4 + 0.2 * smooth  # neighbours are close, as those of the estimate must be
    measurement = problems.erase(originals, 0.4, seed=3, fill=3.0)
    known = solve(never, measurement, Inpaint())
    torch.testing.assert_close(solve(never, measurement, Inpaint(), Robust()).images, known.images)
    soft = dataclasses.replace(measurement, operator=Mask(0.2 + 0.6 * measurement.operator.weight))
    torch.testing.assert_close(solve(never, soft, Inpaint()).images, known.images)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_inpainting_nothing_or_everything_gives_the_measurement(weight):
    observed = torch.full_like(MEMBERS[:, :1], weight)
    measurement = Measurement(MEMBERS, Mask(observed), 0.0, observed < 0.5)
    torch.testing.assert_close(solve(never, measurement, Inpaint()).images, MEMBERS)


def test_inpainting_of_other_operators_is_nearly_their_pseudo_inverse():
    measurement = Measurement(Pool().forward(MEMBERS), Pool(), 0.0, torch.zeros_like(MEMBERS[:, :1], dtype=torch.bool))
    answer = solve(never, measurement, Inpaint()).images
    torch.testing.assert_close(answer, Pool().pinv(measurement.y), rtol=0, atol=1e-3)


def test_inpainting_does_not_blow_noise_up():
    measurement = Blur(2.0, noise=0.05)(problems.images(4, seed=1), range(4))
    answer = solve(never, measurement, Inpaint())
    assert answer.status == ["converged"] * 4
    assert rms(answer.images - measurement.y).max() < 0.3


def test_iterate_applies_the_autoencoder_until_it_rests():
    halve = lambda x: 0.5 * x + 0.25  # contracts to 0.5
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


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.access != "none"])
def test_queries_are_counted_per_image_and_stop_with_it(name):
    calls = []

    def autoencoder(x):
        calls.append(len(x))
        return 0.5 * x

    y = torch.stack([torch.zeros(problems.SHAPE), torch.ones(problems.SHAPE)]).double()
    observed = Mask(torch.ones_like(y[:, :1]) * torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    measurement = Measurement(y, observed, 0.0, observed.weight < 0.5)
    answer = solve(autoencoder, measurement, METHODS[name](**({"ending": False} if name == "energy" else {})))
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
@pytest.mark.parametrize(
    "setting", [{"max_iterations": 0}, {"max_iterations": 2.5}, {"tolerance": -1.0}, {"tolerance": "1"}]
)
def test_settings_out_of_range_are_named(name, setting):
    (key,) = setting
    with pytest.raises(SettingError, match=rf"^{key} is .*; it must be"):
        METHODS[name](**setting)


@pytest.mark.parametrize(("relaxation", "escapes"), [(1.0, False), (1.9, True), (2.0, True)])
def test_a_long_correction_leaves_a_member_that_contradicts_the_measurement(relaxation, escapes):
    """Black and white are all that f knows, 26 of 64 pixels of white were observed, and the answer is black.

    Corrected, they are t: black is 26 t^2 away and white 26 (t - 1)^2 + 38, which is nearer from t = 1.23 on.
    """
    black, white = members = torch.stack([torch.zeros(problems.SHAPE), torch.ones(problems.SHAPE)]).double()
    erased = (torch.arange(64) >= 26).view(1, *problems.SHAPE)
    y, h = torch.where(erased, 0.0, white.unsqueeze(0)), Mask((~erased).double())
    problem = Problem(y, y, h, torch.zeros(1).double(), problems.nearest(members), MEMBERS[0])
    method = NullSpace(relaxation=relaxation)
    state = method.start(problem)._replace(x=black.unsqueeze(0))
    for _ in range(3):
        state = method.step(problem, state, 0.0)
    assert torch.equal(method.answer(state)[0], white if escapes else black)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: PnPADMM(penalty="1"), "penalty is '1'; it must be from"),
        (lambda: NullSpace(relaxation=None), "relaxation is None; it must be above 0 and at most 2"),
        (lambda: Anderson(Iterate(), "3"), "depth is '3'; it must be a whole number, at least 1"),
        (lambda: Anderson(Iterate, 3), "method is <class .*Iterate'>; give an object, such as Iterate()"),
    ],
)
def test_settings_of_a_wrong_type_are_named(made, message):
    with pytest.raises(SettingError, match=f"^{message}"):
        made()


@pytest.mark.parametrize("relaxation", [0.0, -1.0, 2.1, float("nan")])
def test_a_relaxation_out_of_range_is_named(relaxation):
    with pytest.raises(SettingError, match=rf"^relaxation is {relaxation:g}; it must be above 0 and at most 2"):
        NullSpace(relaxation=relaxation)
