"""Linear operators `H` on a batch of images, with what the recovery methods need of them.

All but `Composition` solve the proximal step and the pseudo-inverse in closed form: pixel by pixel, block by block or
frequency by frequency. Tensors keep their dtype and device. A parameter with a batch axis of length one is shared by
all images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Operator(Protocol):
    """A linear operator `H` on a batch of images (B, C, H, W).

    iterated: `solve` and `pinv` iterate, and may not end where they are ill-conditioned.
    """

    iterated: ClassVar[bool] = False

    @property
    def mask(self) -> Tensor | None:
        """(B or 1, 1 or C, H, W): the weights of a `Mask`, None of any other operator."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """`H x`."""

    def adjoint(self, y: Tensor) -> Tensor:
        """`H^T y`."""

    def pinv(self, y: Tensor) -> Tensor:
        """`H^+ y`, the least-squares image of smallest norm."""

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        """The proximal step `argmin_x 1/2 |H x - y|^2 + rho/2 |x - v|^2`; `rho` is a number or (B, 1, 1, 1)."""

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        """`|H x - y|^2` of each image, shape (B,)."""
        return (self.forward(x) - y).flatten(1).square().sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Half the gradient of `misfit` with respect to `x`: `H^T (H x - y)`."""
        return self.adjoint(self.forward(x) - y)

    def select(self, keep: Tensor) -> Operator:
        """The operator of the images that `keep` (a mask or indices over the batch) names."""


def _select(parameter: Tensor, keep: Tensor) -> Tensor:
    """The rows `keep` of a parameter, or all of one that the images share."""
    return parameter if len(parameter) == 1 else parameter[keep]


@dataclass(frozen=True)
class Mask(Operator):
    """Pixel-wise weights in [0, 1], shape (B, 1 or C, H, W): 1 where a pixel is observed, 0 where it is erased.

    Erased pixels of `y` carry a fill value, so the misfit counts observed pixels only. A weight between 0 and 1 (of an
    estimated mask) scales the squared misfit of its pixel.
    """

    weight: Tensor

    @property
    def mask(self) -> Tensor:
        return self.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.weight * y

    def pinv(self, y: Tensor) -> Tensor:
        return torch.where(self.weight > 0, y / self.weight.clamp_min(1e-12), 0)

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        return torch.lerp(v, y, self.weight / (self.weight + rho))  # (weight y + rho v) / (weight + rho) in one pass

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.weight * (x - y) ** 2).flatten(1).sum(1)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.weight * (x - y)

    def select(self, keep: Tensor) -> Mask:
        return Mask(_select(self.weight, keep))


@dataclass(frozen=True)
class Scaling(Operator):
    """`H x = g x` with one gain an image, (B or 1, 1, 1, 1)."""

    gain: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x

    def adjoint(self, y: Tensor) -> Tensor:
        return self.gain * y

    def pinv(self, y: Tensor) -> Tensor:
        return torch.where(self.gain == 0, 0, y / self.gain)

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        return (self.gain * y + rho * v) / (self.gain.square() + rho)

    def select(self, keep: Tensor) -> Scaling:
        return Scaling(_select(self.gain, keep))


@dataclass(frozen=True)
class Convolution(Operator):
    """Circular convolution of every channel, given by its transfer function.

    transfer: (B or 1, 1, H, W // 2 + 1) complex, what `torch.fft.rfft2` makes of the kernel.

    A blur's transfer function falls below the rounding error of the images, so that an exact pseudo-inverse would
    return noise. `pinv` cuts frequencies whose magnitude is at most `sqrt(eps)` times the largest (1.5e-8 in float64,
    3.5e-4 in float32), where the signal lost and the rounding error amplified are of one size.
    """

    transfer: Tensor

    @classmethod
    def from_kernel(cls, kernel: Tensor, height: int, width: int) -> Convolution:
        """The operator on images `height` x `width` of a kernel (B or 1, 1, h, w) whose centre is (h // 2, w // 2).

        A kernel larger than the image wraps around it.
        """
        rows, columns = kernel.shape[2:]
        row = (torch.arange(rows, device=kernel.device) - rows // 2) % height
        column = (torch.arange(columns, device=kernel.device) - columns // 2) % width
        wrapped = kernel.new_zeros(len(kernel), 1, height, columns).index_add_(2, row, kernel)
        wrapped = kernel.new_zeros(len(kernel), 1, height, width).index_add_(3, column, wrapped)
        return cls(torch.fft.rfft2(wrapped))

    @classmethod
    def gaussian(cls, deviation: Tensor, height: int, width: int) -> Convolution:
        """Gaussian blurs of standard deviation (B,) in pixels, normalised, on images `height` x `width`.

        In the dtype of `deviation`. The kernel is sampled at the pixels, and wraps around the image.
        """

        def line(length: int) -> Tensor:  # (B, length)
            turns = math.ceil(9 * float(deviation.max()) / length)  # exp(-9^2 / 2) is below the rounding of float64
            position = torch.arange(-turns * length, (turns + 1) * length, device=deviation.device)
            kernel = torch.exp(-0.5 * (position / deviation.unsqueeze(1)).square())
            kernel = kernel.view(len(deviation), -1, length).sum(1)
            return kernel / kernel.sum(1, keepdim=True)

        down, across = torch.fft.fft(line(height)), torch.fft.rfft(line(width))
        return cls((down.unsqueeze(2) * across.unsqueeze(1)).unsqueeze(1))

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        y: Tensor = torch.fft.irfft2(transfer * torch.fft.rfft2(x), s=x.shape[-2:])
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self.transfer.conj())

    def pinv(self, y: Tensor) -> Tensor:
        magnitude = self.transfer.abs()
        cut = torch.finfo(y.dtype).eps ** 0.5 * magnitude.amax((1, 2, 3), keepdim=True)
        return self._filter(y, torch.where(magnitude > cut, 1 / self.transfer, 0))

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        right = self.transfer.conj() * torch.fft.rfft2(y) + rho * torch.fft.rfft2(v)
        x: Tensor = torch.fft.irfft2(right / (self.transfer.abs().square() + rho), s=v.shape[-2:])
        return x

    def select(self, keep: Tensor) -> Convolution:
        return Convolution(_select(self.transfer, keep))


@dataclass(frozen=True)
class Downsampling(Operator):
    """Means over blocks of `factor` x `factor` pixels, smaller ones at the lower and right edge where they do not fit.

    `H H^T` is diagonal: one over the number of pixels of a block. height, width: of the image, in pixels.
    """

    factor: int
    height: int
    width: int

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, self.factor, ceil_mode=True, count_include_pad=False)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.pinv(y / self._counts(y))

    def pinv(self, y: Tensor) -> Tensor:
        """Each block filled with its mean."""
        large = y.repeat_interleave(self.factor, 2).repeat_interleave(self.factor, 3)
        return large[:, :, : self.height, : self.width]

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        # argmin = v + H^T (H H^T + rho)^-1 (y - H v)
        return v + self.adjoint((y - self.forward(v)) / (1 / self._counts(y) + rho))

    def select(self, keep: Tensor) -> Downsampling:
        return self

    def _counts(self, y: Tensor) -> Tensor:
        """(h, w): the number of pixels of each block."""
        sides = (
            (side - self.factor * torch.arange(blocks, device=y.device)).clamp(max=self.factor)
            for side, blocks in ((self.height, y.shape[2]), (self.width, y.shape[3]))
        )
        return torch.outer(*sides).to(y.dtype)


@dataclass(frozen=True)
class Composition(Operator):
    """`H = outer inner`: the image passes through `inner` first. A mask in it has weights 0 and 1 only.

    `solve` and `pinv` are conjugate gradients on the normal equations (CGLS; Hestenes and Stiefel, 1952), one image
    independent of the next. They end where the gradient is below 10 eps times `H^T y + rho v`, or after `limit`
    iterations. `pinv` starts from zero, so that it tends to the solution of smallest norm; of an ill-conditioned
    operator, the parts with the smallest singular values are missing from it.
    """

    outer: Operator
    inner: Operator
    limit: int = 500

    iterated: ClassVar[bool] = True

    def forward(self, x: Tensor) -> Tensor:
        return self.outer.forward(self.inner.forward(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.adjoint(y))

    def pinv(self, y: Tensor) -> Tensor:
        return self.solve(y, torch.zeros_like(self.adjoint(y)), 0.0)

    def solve(self, y: Tensor, v: Tensor, rho: float | Tensor) -> Tensor:
        def dot(a: Tensor) -> Tensor:
            return a.square().sum((1, 2, 3), keepdim=True)  # (B, 1, 1, 1)

        target = (10 * torch.finfo(v.dtype).eps) ** 2 * dot(self.adjoint(y) + rho * v)
        x, residual = v, y - self.forward(v)
        gradient = direction = self.adjoint(residual)
        size = dot(gradient)
        for _ in range(self.limit):
            active = size > target
            if not active.any():
                break
            image = self.forward(direction)
            step = torch.where(active, size / (dot(image) + rho * dot(direction)), 0)
            x, residual = x + step * direction, residual - step * image
            gradient = self.adjoint(residual) - rho * (x - v)
            previous, size = size, torch.where(active, dot(gradient), size)
            direction = gradient + torch.where(active, size / previous, 0) * direction
        return x

    def misfit(self, x: Tensor, y: Tensor) -> Tensor:
        return self.outer.misfit(self.inner.forward(x), y)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.inner.adjoint(self.outer.gradient(self.inner.forward(x), y))

    def select(self, keep: Tensor) -> Composition:
        return Composition(self.outer.select(keep), self.inner.select(keep), self.limit)


def compose(outer: Operator, inner: Operator) -> Operator:
    """`H = outer inner`, in closed form where both are convolutions or masks, or `outer` is a mask that erases nothing.

    The measurement of two masks must hold zero where the inner one alone erases.
    """
    if isinstance(outer, Mask) and (outer.weight == 1).all():
        return inner
    if isinstance(outer, Mask) and isinstance(inner, Mask):
        return Mask(outer.weight * inner.weight)
    if isinstance(outer, Convolution) and isinstance(inner, Convolution):
        return Convolution(outer.transfer * inner.transfer)
    return Composition(outer, inner)
