"""Every operator against the definition of what it offers, and against dense and foreign implementations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.measure import block_reduce

from memorization.degradations.operators import Composition, Convolution, Downsampling, Mask, Scaling, compose

SHAPES = [(3, 1, 25, 23), (2, 3, 12, 16), (4, 1, 9, 9)]
NAMES = ["mask", "scaling", "convolution", "shared convolution", "downsampling", "composition", "smaller composition"]


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def operator_of(name, shape, dtype=torch.float64):
    batch, _, height, width = shape
    mask = Mask((rand(batch, 1, height, width, seed=3) > 0.4).to(dtype))
    delta = torch.zeros(1, 1, 5, 4, dtype=dtype)
    delta[0, 0, 2, 2] = 1
    kernel = delta + 0.5 * rand(batch, 1, 5, 4, seed=4, dtype=dtype) / 10  # well-conditioned, not symmetric
    match name:
        case "mask":
            return mask
        case "scaling":
            return Scaling((0.2 + rand(batch, 1, 1, 1)).to(dtype))
        case "convolution":
            return Convolution.from_kernel(kernel, height, width)
        case "shared convolution":
            return Convolution.from_kernel(kernel[:1], height, width)
        case "downsampling":
            return Downsampling(4, height, width)
        case "composition":
            return Composition(mask, Convolution.from_kernel(kernel, height, width))
        case "smaller composition":
            return Composition(Downsampling(2, height, width), Convolution.from_kernel(kernel[:1], height, width))


def dot(a, b):
    return (a * b).flatten(1).sum(1)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def case(request, name):
    """An operator, an image and a measurement that is not in its range."""
    operator, x = operator_of(name, request.param), rand(*request.param, seed=1)
    return operator, x, rand(*operator.forward(x).shape, seed=2)


def test_adjoint(case):
    operator, x, y = case
    torch.testing.assert_close(dot(operator.forward(x), y), dot(x, operator.adjoint(y)), rtol=1e-12, atol=0)


def test_pseudo_inverse(case):
    operator, x, y = case
    image, back = operator.forward(x), operator.pinv(y)
    torch.testing.assert_close(operator.forward(operator.pinv(image)), image, rtol=0, atol=1e-10)
    torch.testing.assert_close(operator.pinv(operator.forward(back)), back, rtol=0, atol=1e-10)
    for projection, a, b in (
        (lambda v: operator.forward(operator.pinv(v)), y, image),
        (lambda v: operator.pinv(operator.forward(v)), x, back + 0.1),
    ):  # both projections are orthogonal
        torch.testing.assert_close(dot(projection(a), b), dot(a, projection(b)), rtol=1e-8, atol=0)


@pytest.mark.parametrize("rho", [0.01, 1.0, 30.0, "per image"])
def test_solve_is_stationary(case, rho):
    """The gradient of the proximal objective vanishes: H^T (H x - y) + rho (x - v) = 0."""
    operator, x, y = case
    if rho == "per image":
        rho = torch.logspace(-3, 2, len(x), dtype=x.dtype).view(-1, 1, 1, 1)
    solved = operator.solve(y, x, rho)
    assert (operator.adjoint(operator.forward(solved) - y) + rho * (solved - x)).abs().max() < 1e-10


def test_misfit(case):
    operator, x, y = case
    difference = operator.forward(x) - y
    if isinstance(operator, Mask):
        difference = operator.weight * difference
    if isinstance(operator, Composition) and isinstance(operator.outer, Mask):
        difference = operator.outer.weight * difference
    torch.testing.assert_close(operator.misfit(x, y), dot(difference, difference))


def test_gradient_is_half_that_of_the_misfit(case):
    operator, x, y = case
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(operator.misfit(leaf, y).sum(), leaf)
    torch.testing.assert_close(2 * operator.gradient(x, y), expected)


@pytest.mark.parametrize("keep", [[0], [1, 0], [False, True]])
def test_select(case, keep):
    operator, x, y = case
    keep = torch.tensor(keep + [False] * (len(x) - 2) if isinstance(keep[0], bool) else keep)
    part = operator.select(keep)
    torch.testing.assert_close(part.forward(x[keep]), operator.forward(x)[keep])
    torch.testing.assert_close(part.solve(y[keep], x[keep], 0.1), operator.solve(y, x, 0.1)[keep])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(name, dtype):
    shape = SHAPES[0]
    operator, x = operator_of(name, shape, dtype), rand(*shape, dtype=dtype)
    y = operator.forward(x)
    rho = torch.full((len(x), 1, 1, 1), 0.5, dtype=dtype)
    solved = operator.solve(y, 1 - x, rho)
    for tensor in (y, operator.adjoint(y), operator.pinv(y), solved, operator.misfit(x, y)):
        assert tensor.dtype == dtype
    exact = operator_of(name, shape).solve(y.double(), 1 - x.double(), 0.5)
    torch.testing.assert_close(solved.double(), exact, rtol=0, atol=1e-5)


def dense(operator, height, width):
    """The matrix of an operator on one image of one channel."""
    basis = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return torch.cat([operator.forward(column[None]).view(1, -1) for column in basis]).T


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 6)])
def test_against_the_dense_matrix(name, height, width):
    operator = operator_of(name, (1, 1, height, width))
    h = dense(operator, height, width)
    v = rand(1, 1, height, width, seed=5)
    y = rand(*operator.forward(v).shape, seed=6)
    torch.testing.assert_close(operator.pinv(y).flatten(), torch.linalg.pinv(h) @ y.flatten(), rtol=0, atol=1e-10)
    for rho in (0.01, 1.0):
        left = h.T @ h + rho * torch.eye(height * width, dtype=torch.float64)
        expected = torch.linalg.solve(left, h.T @ y.flatten() + rho * v.flatten())
        torch.testing.assert_close(operator.solve(y, v, rho).flatten(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("size", [(3, 3), (5, 4), (1, 7), (12, 31)])
def test_convolution_is_that_of_scipy(size):
    """Also with a kernel larger than the image, and of even sides."""
    x, kernel = rand(1, 1, 11, 10), rand(1, 1, *size, seed=1)
    ours = Convolution.from_kernel(kernel, 11, 10).forward(x)[0, 0]
    expected = ndimage.convolve(x[0, 0].numpy(), kernel[0, 0].numpy(), mode="wrap")
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


def test_the_pseudo_inverse_of_a_convolution_cuts_what_underflows():
    """Of two frequencies, one lies above the threshold and comes back, the other below it and is left out."""
    for dtype, threshold in ((torch.float64, 1.5e-8), (torch.float32, 3.5e-4)):
        columns = torch.arange(16, dtype=dtype)
        low, high = (torch.cos(2 * torch.pi * k * columns / 16).expand(1, 1, 4, 16) for k in (1, 5))
        transfer = torch.ones(1, 1, 4, 9, dtype=dtype.to_complex())
        transfer[..., 1], transfer[..., 5] = 2 * threshold, threshold / 2
        operator = Convolution(transfer)
        torch.testing.assert_close(operator.pinv(operator.forward(low + high)), low, rtol=0, atol=1e-2)


@pytest.mark.parametrize("factor", [2, 3, 6])
def test_downsampling_is_that_of_scikit_image(factor):
    x = rand(2, 3, 12, 18)
    expected = block_reduce(x.numpy(), (1, 1, factor, factor), np.mean)
    np.testing.assert_allclose(Downsampling(factor, 12, 18).forward(x).numpy(), expected, atol=1e-14)


def test_blocks_at_the_edge_are_smaller():
    x = rand(1, 1, 25, 23)
    y = Downsampling(4, 25, 23).forward(x)
    assert y.shape == (1, 1, 7, 6)
    torch.testing.assert_close(y[0, 0, 6, 5], x[0, 0, 24, 20:].mean())
    torch.testing.assert_close(y[0, 0, 2, 5], x[0, 0, 8:12, 20:].mean())


def test_images_of_a_composition_converge_each_on_its_own():
    """An image that needs no iteration, and one that diverged, leave their batch mate alone."""
    operator = operator_of("composition", (3, 1, 8, 8))
    y, v = rand(3, 1, 8, 8, seed=1), rand(3, 1, 8, 8, seed=2)
    y[1], v[1], v[2] = 0, 0, torch.nan
    first = torch.tensor([0])
    together = operator.solve(y, v, 0.01)
    torch.testing.assert_close(together[:1], operator.select(first).solve(y[:1], v[:1], 0.01), rtol=0, atol=1e-13)
    assert (together[1] == 0).all()
    assert together[2].isnan().all()


def test_gradients_of_the_misfit():
    operator, x = operator_of("smaller composition", (2, 1, 7, 6)), rand(2, 1, 7, 6).requires_grad_()
    y = rand(*operator.forward(x).shape, seed=1)
    (gradient,) = torch.autograd.grad(operator.misfit(x, y).sum(), x)
    torch.testing.assert_close(gradient, 2 * operator.adjoint(operator.forward(x) - y).detach())


def test_two_convolutions_are_one():
    """In closed form; a mask after a convolution is not, and stays two operators."""
    own, shared = (operator_of(name, (3, 1, 8, 9)) for name in ("convolution", "shared convolution"))
    x, y = rand(3, 1, 8, 9, seed=1), rand(3, 1, 8, 9, seed=2)
    one, two = compose(own, shared), Composition(own, shared)
    assert type(one) is Convolution
    torch.testing.assert_close(one.forward(x), two.forward(x))
    torch.testing.assert_close(one.pinv(y), two.pinv(y), rtol=0, atol=1e-10)
    mask = operator_of("mask", (3, 1, 8, 9))
    assert compose(mask, own) == Composition(mask, own)
