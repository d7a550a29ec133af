"""Attractors: fixed points near images, and the spectrum of the Jacobian there."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from memorization import attractors
from memorization.extraction import fixed_points, jacobian, spectrum
from memorization.extraction.fixed_points import gmres
from memorization.extraction.jacobian import Flat, Linearised
from tests import problems

PIXELS = math.prod(problems.SHAPE)


def about(centre, matrix):
    """The affine map `x -> centre + matrix (x - centre)` of images, whose fixed point is `centre` (1, C, H, W)."""
    return lambda x: centre + ((x - centre).flatten(1) @ matrix.T).view_as(x)


def table(autoencoder, images, **settings):
    return attractors(autoencoder, images, progress=False, **settings).table


def similar(blocks, pixels=PIXELS, seed=0):
    """A matrix (pixels, pixels) with the eigenvalues of `blocks`, and zero elsewhere, in a skewed basis."""
    generator = torch.Generator().manual_seed(seed)
    diagonal = torch.block_diag(*[torch.as_tensor(block, dtype=torch.float64) for block in blocks])
    whole = torch.zeros(pixels, pixels, dtype=torch.float64)
    whole[: len(diagonal), : len(diagonal)] = diagonal
    basis = torch.eye(pixels).double() + 0.05 * torch.randn(pixels, pixels, generator=generator).double()
    return basis @ whole @ basis.inverse()


def rotation(radius, angle):
    return radius * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def network(shape, seed, gain=1.0, activation=nn.Tanh):
    """A small network without a fixed point that is known."""
    pixels = math.prod(shape)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inner = nn.Linear(pixels, 40), activation(), nn.Linear(40, pixels)
        for layer in inner[::2]:
            nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
        return nn.Sequential(nn.Flatten(), *inner, nn.Unflatten(1, shape))


class Fixing(nn.Module):
    """`f(x) = x + n(x) - n(centre) - pull (x - centre)`: `centre` (1, C, H, W) is a fixed point of it."""

    def __init__(self, inner, centre, pull):
        super().__init__()
        self.inner, self.pull = inner, pull
        self.register_buffer("centre", centre)

    def forward(self, x):
        return x + self.inner(x) - self.inner(self.centre) - self.pull * (x - self.centre)


def dense_jacobian(module, x):
    """(P, P) in float64 at `x` (1, C, H, W), by an implementation that is not ours."""
    double = copy.deepcopy(module).double().eval()
    found = torch.autograd.functional.jacobian(double, x.double())
    return found.reshape(x.numel(), x.numel())


# linear maps with prescribed spectra


@pytest.mark.parametrize(
    ("blocks", "radius", "verdict"),
    [
        ([[[0.9]], [[-0.5]]], 0.9, "attracting"),
        ([[[-1.3]], [[0.5]]], 1.3, "repelling"),
        ([rotation(0.97, 1.0), [[0.9]]], 0.97, "attracting"),
        ([rotation(1.02, 2.0), [[0.9]]], 1.02, "repelling"),
        ([rotation(1.0, 0.3)], 1.0, "neutral"),
        ([[[0.8, 1.0], [0.0, 0.8]]], 0.8, "attracting"),  # defective
        ([[[0.0, 1.0], [0.0, 0.0]]], 0.0, "attracting"),  # nilpotent
    ],
)
def test_the_spectrum_of_a_linear_map_is_that_of_its_matrix(blocks, radius, verdict):
    matrix, centre = similar(blocks), problems.images(1, 0)
    row = table(about(centre, matrix), centre).iloc[0]
    assert row["spectral_radius"] == pytest.approx(radius, abs=3e-7)  # a defective pair moves by sqrt(eps)
    assert row["singular_value"] == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), abs=1e-9)
    assert row["attractor"] == verdict
    assert (row["residual"], row["distance"]) == pytest.approx((0, 0), abs=1e-15)
    assert row["converged"]


def test_the_identity_and_a_projection_are_neutral_and_the_zero_map_attracts():
    members = problems.images(3, 0)
    for autoencoder in (lambda x: x * 1, problems.projection(members)):
        found = table(autoencoder, members)
        assert found["attractor"].tolist() == ["neutral"] * 3
        assert np.allclose(found[["spectral_radius", "singular_value"]], 1, atol=1e-12)
    zero = attractors(lambda x: x * 0, torch.stack([torch.zeros(problems.SHAPE), torch.full(problems.SHAPE, 0.03)]))
    assert zero.table["attractor"].tolist() == ["attracting"] * 2
    assert (zero.table[["spectral_radius", "singular_value"]] == 0).all(axis=None)
    assert (zero.points == 0).all()
    assert zero.table["distance"].tolist() == pytest.approx([0, 0.03])


def test_an_image_outside_the_span_of_a_projection_is_taken_to_it():
    members = problems.images(3, 0)
    images = members + 0.01 * (problems.images(3, 1) - 0.5)
    found = attractors(problems.projection(members), images.clamp(0, 1), progress=False)
    expected = problems.projection(members)(images.clamp(0, 1))
    assert torch.allclose(found.points, expected, atol=1e-12)
    assert (found.table["attractor"] == "neutral").all()


def test_a_map_that_is_locally_constant_has_radius_zero():
    members = problems.images(5, 0)
    memory = problems.nearest(members)
    noisy = (members + 0.02 * torch.randn(members.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    found = attractors(lambda x: memory(x) + 0 * x, noisy, progress=False)
    assert torch.equal(found.points, members)
    assert (found.table["spectral_radius"] == 0).all()
    assert np.allclose(found.table["residual"], found.table["distance"])
    with pytest.raises(ValueError, match="gives no gradients"):
        attractors(memory, members)


def test_what_a_cycle_visits_is_not_fixed():
    grey, off = torch.full((1, *problems.SHAPE), 0.5).double(), torch.full((1, *problems.SHAPE), 0.53).double()
    found = attractors(lambda x: 1 - x, torch.cat([grey, off, off - 0.4]), progress=False)
    assert found.table["attractor"].tolist() == ["neutral", "neutral", "none"]  # the last one is too far from 0.5
    assert torch.allclose(found.points[:2], grey.expand(2, -1, -1, -1), atol=1e-13)
    assert found.points[2].isnan().all()
    assert found.table.loc[2, ["fixed_residual", "distance"]].isna().all()
    assert found.table.loc[2, "spectral_radius"] == pytest.approx(1)
    cycle = torch.cat([torch.full((1, *problems.SHAPE), value).double() for value in (0.1, 0.9)])
    assert (table(lambda x: 1 - x, cycle)["attractor"] == "none").all()


# fixed points that have to be found


def test_a_fixed_point_that_repels_is_found_by_newtons_method():
    centre = problems.images(1, 0, torch.float32)
    module = Fixing(network(problems.SHAPE, 1, gain=0.5), centre, pull=-0.8)
    near = centre + 0.01 * torch.randn(6, *problems.SHAPE, generator=torch.Generator().manual_seed(2))
    found = attractors(module, near.clamp(0, 1), progress=False)
    assert torch.allclose(found.points, centre.double().expand_as(found.points), atol=1e-9)
    expected = torch.linalg.eigvals(dense_jacobian(module, centre)).abs().max()
    assert expected > 1.5
    assert (found.table["attractor"] == "repelling").all()
    assert np.allclose(found.table["spectral_radius"], float(expected), atol=1e-9)


def test_the_repelling_point_beside_an_image_is_not_left_for_an_attracting_one_in_the_ball():
    """Of each pixel, 0.5 repels with a slope of 1.5, and 0.47 and 0.53 attract with a slope of 0."""
    off = torch.tensor([0.0, 0.001, 0.029, 0.035]).double().view(-1, 1, 1, 1).expand(-1, *problems.SHAPE)
    found = attractors(lambda x: x + 0.5 * (x - 0.5) * (1 - ((x - 0.5) / 0.03) ** 2), 0.5 + off, progress=False)
    assert found.table["attractor"].tolist() == ["repelling"] * 2 + ["attracting"] * 2
    assert found.points.mean((1, 2, 3)).tolist() == pytest.approx([0.5, 0.5, 0.53, 0.53], abs=1e-9)
    assert found.table["spectral_radius"].tolist() == pytest.approx([1.5, 1.5, 0, 0], abs=1e-7)


def test_a_slow_fixed_point_is_reached_and_a_far_one_is_not_taken():
    centre = torch.full((1, *problems.SHAPE), 0.5).double()
    slow = about(centre, similar([0.9999 * torch.eye(PIXELS)]))
    images = centre + torch.tensor([0.04, 0.05, 0.07, 0.3]).double().view(-1, 1, 1, 1)
    found = attractors(slow, images, progress=False)
    assert found.table["attractor"].tolist() == ["attracting", "attracting", "none", "none"]
    assert torch.allclose(found.points[:2], centre.expand(2, -1, -1, -1), atol=1e-8)
    assert (table(slow, images, near=1.0)["attractor"] == "attracting").all()
    assert (table(slow, images, near=0.0)["attractor"] == "none").all()


def test_an_image_does_not_change_what_is_found_of_another():
    centre = problems.images(1, 0)
    module = Fixing(network(problems.SHAPE, 1), centre.float(), pull=0.9)
    images = (centre + 0.02 * torch.randn(5, *problems.SHAPE, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    together, alone = table(module, images), table(module, images, batch_size=1)
    assert together["attractor"].tolist() == alone["attractor"].tolist()
    numbers = ["residual", "distance", "spectral_radius", "singular_value"]
    assert np.allclose(together[numbers], alone[numbers], atol=1e-9)


def test_memory_limits_for_how_many_images_at_once_newtons_method_is_solved(monkeypatch):
    centre, solved = problems.images(1, 0, torch.float32), []
    module = Fixing(network(problems.SHAPE, 1, gain=0.5), centre, pull=-0.8)
    images = (centre + 0.01 * torch.randn(5, *problems.SHAPE, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    monkeypatch.setattr(fixed_points, "gmres", lambda product, b: solved.append(len(b)) or gmres(product, b))
    together = attractors(module, images, progress=False)
    assert max(solved) == 5
    monkeypatch.setattr(fixed_points, "BASES", 2 * 8 * 81 * PIXELS)
    solved.clear()
    parts = attractors(module, images, progress=False)
    assert max(solved) == 2
    assert together.table["attractor"].tolist() == parts.table["attractor"].tolist() == ["repelling"] * 5
    assert torch.allclose(together.points, parts.points, atol=1e-11)


# against dense matrices


SHAPES = [(1, 1, 1), (2, 1, 1), (1, 1, 3), (1, 4, 5), (1, 11, 11), (3, 8, 8)]
LARGE = [shape for shape in SHAPES if math.prod(shape) > spectrum.BASIS]  # ARPACK is asked for no fewer pixels


@pytest.mark.parametrize(
    ("shape", "matrix_free"), [*((shape, False) for shape in SHAPES), *((shape, True) for shape in LARGE)]
)
@pytest.mark.parametrize("activation", [nn.Tanh, nn.LeakyReLU, nn.ELU])
def test_the_spectrum_of_a_network_is_that_of_its_dense_jacobian(monkeypatch, shape, activation, matrix_free):
    if matrix_free:
        monkeypatch.setattr(spectrum, "DENSE", 0)
    module = network(shape, 3, activation=activation)
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(4))
    found = table(module, images, near=0.0)
    for image, (_, row) in zip(images, found.iterrows(), strict=True):
        matrix = dense_jacobian(module, image[None])
        assert row["spectral_radius"] == pytest.approx(float(torch.linalg.eigvals(matrix).abs().max()), abs=1e-9)
        assert row["singular_value"] == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), abs=1e-9)
        assert row["converged"]


@pytest.mark.parametrize("scale", [0.0, 1e-200, 1.0, math.nan])
def test_a_spectrum_by_products_is_told_whatever_the_matrix(monkeypatch, scale):
    monkeypatch.setattr(spectrum, "DENSE", 0)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(150, 150, generator=generator).double() / 150**0.5 * scale
    found = spectrum.spectrum(Flat(problems.linear(matrix), torch.rand(1, 1, 10, 15).double()), torch.zeros(150))
    if math.isnan(scale):
        assert found == (pytest.approx(math.nan, nan_ok=True), pytest.approx(math.nan, nan_ok=True), False)
    else:
        expected = float(torch.linalg.eigvals(matrix).abs().max()), float(torch.linalg.svdvals(matrix)[0])
        assert found[:2] == pytest.approx(expected, rel=1e-6)


def test_where_arpack_fails_ritz_values_are_told_as_such(monkeypatch):
    monkeypatch.setattr(spectrum, "DENSE", 0)
    monkeypatch.setattr(spectrum, "RESTARTS", 1)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(400, 400, generator=generator).double())[0] * 0.9  # all moduli are 0.9
    function = Flat(problems.linear(matrix), torch.rand(1, 1, 20, 20).double())
    found = spectrum.spectrum(function, torch.zeros(400).double())
    assert not found.converged
    assert found.spectral_radius == pytest.approx(0.9, abs=0.01)
    row = table(problems.linear(matrix), torch.zeros(1, 1, 20, 20).double()).iloc[0]
    assert row["attractor"] == "unknown"
    monkeypatch.setattr(spectrum, "STEPS", 400)  # the whole space
    assert spectrum.spectrum(function, torch.zeros(400).double()) == pytest.approx((0.9, 0.9, True), abs=1e-9)


def test_gmres_solves_linear_systems_together():
    generator = torch.Generator().manual_seed(0)
    matrices = torch.eye(30).double() + 0.1 * torch.randn(4, 30, 30, generator=generator).double()
    b = torch.randn(4, 30, generator=generator).double()
    found = gmres(lambda v: torch.einsum("bij,bj->bi", matrices, v), b, forcing=1e-13)
    assert torch.allclose(found, torch.linalg.solve(matrices, b), atol=1e-10)
    singular = gmres(lambda v: v * (torch.arange(30) < 15), torch.ones(2, 30).double())  # the nearest there is
    assert torch.allclose(singular[:, :15], torch.ones(2, 15).double())
    assert gmres(lambda v: v * math.nan, b).isfinite().all()
    assert (gmres(lambda v: v, b * 0) == 0).all()


# what autoencoders can be


class Once(torch.autograd.Function):
    """`tanh` with a derivative but no second one, and no rule for the forward mode."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.tanh() ** 2)


class Wrong(torch.autograd.Function):
    """The same, with a backward pass that hides what it depends on."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(gradient.detach().numpy() * (1 - x.detach().numpy() ** 2 * 0) / x.cosh().numpy() ** 2)


@pytest.mark.parametrize("layer", [Once, Wrong])
def test_a_layer_without_a_second_derivative_is_differenced(monkeypatch, layer):
    monkeypatch.setattr(spectrum, "DENSE", 0)
    matrix = similar([0.8 * torch.eye(100)], 150) + 0.1
    images = torch.rand(2, 1, 10, 15, generator=torch.Generator().manual_seed(0)).double()
    linear = problems.linear(matrix / 10)
    found = table(lambda x: layer.apply(linear(x)), images, near=0.0)
    expected = table(lambda x: linear(x).tanh(), images, near=0.0)
    columns = ["spectral_radius", "singular_value"]
    assert np.allclose(found[columns], expected[columns], atol=1e-7)


def test_products_with_the_jacobian_and_its_transpose():
    images = torch.rand(3, *problems.SHAPE, generator=torch.Generator().manual_seed(0))
    module = network(problems.SHAPE, 0)
    function, x = Flat(module, images), images.double().flatten(1)
    u, v = torch.randn(2, 3, PIXELS, generator=torch.Generator().manual_seed(1)).double()
    at = Linearised(function, x)
    for i in range(3):
        matrix = dense_jacobian(module, images[i : i + 1])
        assert torch.allclose(at.forward(v)[i], matrix @ v[i], atol=1e-12)
        assert torch.allclose(at.transposed(u)[i], matrix.T @ u[i], atol=1e-12)
        assert torch.allclose(jacobian.dense(function, x[i]), matrix, atol=1e-12)


def test_a_module_is_left_as_it_was_and_asked_in_eval_mode():
    module = nn.Sequential(network(problems.SHAPE, 0), nn.BatchNorm2d(1), nn.Dropout(0.5))
    module[1].running_mean.fill_(0.1)
    module[0].eval()
    before = copy.deepcopy(module.state_dict())
    images = torch.rand(4, *problems.SHAPE, generator=torch.Generator().manual_seed(0))
    found = attractors(module, images, progress=False, near=0.0)
    assert [part.training for part in module] == [False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in module.parameters())
    assert found.dtype == torch.float64
    matrix = dense_jacobian(module, images[:1])
    assert found.table.loc[0, "singular_value"] == pytest.approx(float(torch.linalg.svdvals(matrix)[0]), abs=1e-9)
    with torch.inference_mode():
        again = attractors(module, images.clone(), progress=False, near=0.0)
    assert again.table.equals(found.table)


def test_what_only_takes_float32_is_asked_in_it():
    centre = problems.images(1, 0, torch.float32)
    module = Fixing(network(problems.SHAPE, 1), centre, pull=0.9)
    images = (centre + 0.01 * torch.randn(3, *problems.SHAPE, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    single = attractors(lambda x: module(x), images, progress=False)
    double = attractors(module, images, progress=False)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert single.table["attractor"].tolist() == double.table["attractor"].tolist()
    assert "none" not in single.table["attractor"].tolist()
    columns = ["distance", "spectral_radius", "singular_value"]
    assert np.allclose(single.table[columns], double.table[columns], atol=1e-4)


def test_8_bit_images_are_taken_and_numerical_failure_is_told_in_the_table():
    images = torch.randint(0, 256, (4, *problems.SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[3] = 255

    def breaks(x):
        return torch.where(x.flatten(1).mean(1).view(-1, 1, 1, 1) == 1, torch.nan, x * 0.5)

    found = table(breaks, images)
    assert found["attractor"].tolist() == ["none"] * 4
    assert found["residual"].isna().tolist() == [False] * 3 + [True]
    assert found["spectral_radius"].isna().sum() == 0  # where x is 1 and f is NaN, the derivative is that of a constant


@pytest.mark.parametrize("matrix_free", [False, True])
def test_a_fixed_point_without_a_finite_jacobian_is_unknown(monkeypatch, matrix_free):
    if matrix_free:
        monkeypatch.setattr(spectrum, "DENSE", 0)
    row = table(lambda x: x.square().sqrt() / 2, torch.zeros(1, *problems.SHAPE)).iloc[0]
    assert row["attractor"] == "unknown"
    assert row["fixed_residual"] == 0
    assert np.isnan(row["spectral_radius"])
    assert not row["converged"]


@pytest.mark.parametrize(
    ("autoencoder", "images", "settings", "said"),
    [
        (lambda x: x, torch.rand(2, 4), {}, "must have the shape"),
        (lambda x: x, torch.rand(2, 1, 4, 4) * 2, {}, "scale them"),
        (lambda x: x, torch.zeros(2, 1, 4, 4, dtype=torch.int64), {}, "give float32"),
        (lambda x: x, [0.5], {}, "give a tensor"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"near": -1.0}, "near is -1"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"near": "1"}, "near is '1'; it is a distance"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"near": True}, "near is True"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"progress": "no"}, "progress is 'no'; it must be true or false"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"batch_size": 0}, "batch_size is 0"),
        (lambda x: x, torch.rand(2, 1, 4, 4), {"batch_size": True}, "batch_size is True"),
        (lambda x: x.detach(), torch.rand(2, 1, 4, 4), {}, "gives no gradients"),
        (lambda x: x.detach().numpy(), torch.rand(2, 1, 4, 4), {}, "returns a ndarray"),
        (lambda x: x[:, :, :2], torch.rand(2, 1, 4, 4), {}, "keep the shape"),
        (lambda x: x * torch.nan, torch.rand(2, 1, 4, 4), {}, "NaN"),
    ],
)
def test_what_cannot_be_used_is_said(autoencoder, images, settings, said):
    with pytest.raises(ValueError, match=said):
        attractors(autoencoder, images, **settings)
