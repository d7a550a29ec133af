"""Problems with known answers: autoencoders for which the limit of a recovery method can be computed."""

from __future__ import annotations

import torch
from torch import Tensor

from memorization.degradations import Mask, Measurement

SHAPE = (1, 8, 8)


def images(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """(count, 1, 8, 8) random images in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPE, generator=generator, dtype=dtype)


def span(members: Tensor) -> Tensor:
    """(P, P) orthogonal projection onto the span of the members (N, C, H, W), P pixels."""
    basis, _ = torch.linalg.qr(members.flatten(1).T)
    return basis @ basis.T


def projection(members: Tensor):
    """The linear autoencoder that projects orthogonally onto the span of the members; exact on them."""
    matrix = span(members)
    return lambda x: (x.flatten(1) @ matrix).view_as(x)


def contraction(symmetric: bool) -> Tensor:
    """(P, P) of full rank with singular values from 0.2 to 0.95; eigenvalues if it is `symmetric`."""
    generator = torch.Generator().manual_seed(11)
    pixels = SHAPE[1] * SHAPE[2]
    left, right = (torch.linalg.qr(torch.randn(pixels, pixels, generator=generator).double())[0] for _ in range(2))
    return left @ torch.diag(torch.linspace(0.2, 0.95, pixels).double()) @ (left if symmetric else right).T


def linear(matrix: Tensor):
    """The autoencoder `x -> matrix x`."""
    return lambda x: (x.flatten(1) @ matrix.T).view_as(x)


def nearest(members: Tensor):
    """The perfect associative memory: the member closest to the input."""
    return lambda x: members[torch.cdist(x.flatten(1), members.flatten(1)).argmin(1)]


def erase(x: Tensor, fraction: float, seed: int, fill: float = 0.0) -> Measurement:
    """A measurement of `x` (B, C, H, W) with `fraction` of the pixels erased to `fill`, in the dtype of `x`."""
    generator = torch.Generator().manual_seed(seed)
    erased = torch.rand(len(x), 1, *x.shape[2:], generator=generator) < fraction
    y = torch.where(erased, torch.tensor(fill, dtype=x.dtype), x)
    return Measurement(y=y, operator=Mask((~erased).to(x.dtype)), sigma=0.0, erased=erased)


def least_squares(measurement: Measurement, members: Tensor) -> Tensor:
    """The image in the span of the members that fits the observed pixels best, by NumPy-style least squares."""
    answers = []
    for y, erased in zip(measurement.y, measurement.erased, strict=True):
        seen = ~erased.expand_as(y).flatten()
        basis = members.flatten(1).T  # (P, N)
        coefficients = torch.linalg.lstsq(basis[seen], y.flatten()[seen].unsqueeze(1)).solution
        answers.append((basis @ coefficients).view_as(y))
    return torch.stack(answers)
