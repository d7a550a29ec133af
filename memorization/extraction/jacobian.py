"""Products with the Jacobian `J` of an autoencoder at given images, in float64 where it can be had.

`J^T u` is one backward pass. `J v` is the derivative of `J^T u` by `u` (double backward), which needs no rule of
forward-mode differentiation and no new forward pass; where a layer has no second derivative, it is a central
difference. The images of a batch do not interact (see `contract.check_contract`), so that one pass serves all.
"""

import copy

import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import Autoencoder
from memorization.data import in_double

ROWS_AT_ONCE = 128  # of a dense Jacobian; bounds the memory
STEP: float = torch.finfo(torch.float64).eps ** (1 / 3)  # of a central difference, in units of a vector of norm 1
SINGLE_STEP: float = torch.finfo(torch.float32).eps ** (1 / 3)


class UndifferentiableError(ValueError):
    """An autoencoder gives no derivatives."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or NO_DERIVATIVES)


class Flat:
    """`autoencoder` as a map of flat images (B, P), float64 in and out.

    A module is copied and the copy converted to float64; a callable is called with float64. What does not take it, or
    does not answer in it, is called as it is, in the dtype of `images`: then `dtype` says so. Where the device of
    `images` has no float64, the flat images are on the CPU.
    """

    def __init__(self, autoencoder: Autoencoder, images: Tensor) -> None:
        self.shape, self.device = images.shape[1:], images.device
        self.dtype = torch.float64
        self.function = autoencoder
        try:
            if isinstance(autoencoder, nn.Module):
                self.function = copy.deepcopy(autoencoder).double().requires_grad_(False)
            with torch.no_grad():
                answer: object = self.function(images[:1].double())
            taken = isinstance(answer, Tensor) and answer.dtype == torch.float64
        except Exception:  # of the user's code, which need not take float64
            taken = False
        if not taken:
            self.function, self.dtype = autoencoder, images.dtype

    def __call__(self, x: Tensor) -> Tensor:
        answer = self.function(x.view(-1, *self.shape).to(self.dtype).to(self.device))
        return in_double(answer.reshape(x.shape))


class Linearised:
    """The Jacobians `J` of `function` at `x` (B, P), as products with one vector an image, (B, P) each.

    Raises `UndifferentiableError` if `function` gives no derivatives. `values` are `function(x)`.
    """

    def __init__(self, function: Flat, x: Tensor) -> None:
        self.function = function
        with torch.enable_grad():
            self.x = x.detach().clone().requires_grad_()
            y = function(self.x)
        if not y.requires_grad:
            raise UndifferentiableError
        self.y, self.values = y, y.detach()
        self.u = self.dual = y  # a `u` and the graph of `J^T u`, once they are asked for
        self.twice: bool | None = None  # is there a right second derivative? None: not yet known

    def transposed(self, u: Tensor) -> Tensor:
        """`J^T u`."""
        return self._backward(u, graph=False)

    def forward(self, v: Tensor) -> Tensor:
        """`J v`."""
        if self.twice is None:
            self.twice = self._is_twice_differentiable()
        return self._double_backward(v) if self.twice else self._difference(v)

    def complement(self, v: Tensor) -> Tensor:
        """`(I - J) v`."""
        return v - self.forward(v)

    def _is_twice_differentiable(self) -> bool:
        """Is `<u, J v> = <J^T u, v>`? A layer's own backward pass may have no derivative, or a wrong one."""
        generator = torch.Generator().manual_seed(0)
        u, v = torch.randn(2, *self.values.shape, generator=generator, dtype=torch.float64).to(self.values)
        self.u = torch.zeros_like(self.values).requires_grad_()
        try:
            self.dual = self._backward(self.u, graph=True)
            image = self._double_backward(v)
        except (RuntimeError, ValueError):  # a layer that is differentiable once
            return False
        back = self.transposed(u)
        error = (image * u).sum(1) - (back * v).sum(1)
        scale = image.norm(dim=1) * u.norm(dim=1) + back.norm(dim=1) * v.norm(dim=1)
        tolerance = torch.finfo(self.function.dtype).eps ** 0.5
        return not bool((error.abs() > tolerance * scale).any())

    def _double_backward(self, v: Tensor) -> Tensor:
        if not self.dual.requires_grad:  # `J^T u` is 0 for all u
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(self.dual, self.u, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if product is None else product.detach()

    def _backward(self, u: Tensor, graph: bool) -> Tensor:
        try:
            with torch.enable_grad():
                found = torch.autograd.grad(self.y, self.x, u, retain_graph=True, create_graph=graph, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # a layer without a derivative
            raise UndifferentiableError from error
        product: Tensor | None = found[0]
        if product is None:
            raise UndifferentiableError
        return product

    @torch.no_grad()
    def _difference(self, v: Tensor) -> Tensor:
        length = v.norm(dim=1, keepdim=True)
        step = STEP if self.function.dtype == torch.float64 else SINGLE_STEP
        along = v / length.clamp_min(torch.finfo(v.dtype).tiny) * step
        x = self.x.detach()
        product: Tensor = (self.function(x + along) - self.function(x - along)) / (2 * step) * length
        return product


def dense(function: Flat, x: Tensor) -> Tensor:
    """(P, P): the Jacobian at one image `x` (P,), from backward passes of up to `ROWS_AT_ONCE` rows each."""
    pixels = len(x)
    rows = min(ROWS_AT_ONCE, pixels)
    at = Linearised(function, x.expand(rows, -1))
    matrix = x.new_zeros(pixels, pixels)
    for first in range(0, pixels, rows):
        count = min(rows, pixels - first)
        unit = x.new_zeros(rows, pixels)
        unit[torch.arange(count), torch.arange(first, first + count)] = 1
        matrix[first : first + count] = at.transposed(unit)[:count]
    return matrix


NO_DERIVATIVES = (
    "the autoencoder gives no gradients, which the spectrum of its Jacobian needs; "
    "give a module or a function that is differentiable, not one that is detached or under torch.no_grad()"
)
