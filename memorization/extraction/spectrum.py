"""Is an image an attractor of the autoencoder? The fixed point near it, and the Jacobian there.

Iteration of `f` returns to a fixed point from all around if the spectral radius of the Jacobian `J` is below 1, and
leaves it if the radius is above 1 (Radhakrishnan, Belkin and Uhler, 2020, "Overparameterized neural networks implement
associative memory"). `J` is not normal: a largest singular value above 1 says that a perturbation may grow before it
shrinks, so that the basin can be small although the radius is below 1. A member of a training that ended early is no
fixed point, hence the search for the one near it.

Up to `DENSE` pixels the Jacobian is computed as a matrix; beyond, ARPACK (Lehoucq, Sorensen and Yang, 1998) takes
products with it. The eigenvalues are those of `J^T`, which are the same and cost a backward pass a product.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, LinearOperator, eigs, eigsh
from torch import Tensor
from tqdm import tqdm

from memorization.architectures.autoencoder import Autoencoder, taken_by
from memorization.architectures.external.adapted import Adapted, Description, adapted
from memorization.architectures.external.contract import check_contract, evaluating
from memorization.components import SLOW, SettingError, number
from memorization.data import as_float, in_double
from memorization.data.split import check_images, check_tensor
from memorization.degradations.checks import check_flag, check_whole
from memorization.extraction.fixed_points import near_fixed_points
from memorization.extraction.jacobian import Flat, Linearised, UndifferentiableError, dense
from memorization.recovery.problem import rms

REVISION = 1  # of what counts as a fixed point near an image, and of the columns
NEAR = 10 ** (-25 / 20)  # rms in pixels of [0, 1]: 25 dB, from which an answer counts as the image
FIXED = 1e-9  # rms of `f(x) - x` below which a point is fixed, in float64
NEUTRAL = 1e-6  # how near to 1 a radius cannot be told from it, in float64
SINGLE_FIXED, SINGLE_NEUTRAL = 1e-5, 1e-3  # the same in float32, and other dtypes
DENSE = 1024  # pixels up to which the matrix is computed
SMALL = 100  # pixels up to which all of its eigenvalues are
BASIS = 48  # vectors of ARPACK
RESTARTS = 200
STEPS = 300  # of the Arnoldi iteration where ARPACK does not converge
ACCURACY, SINGLE_ACCURACY = 1e-10, 1e-5  # of an eigenvalue, relative
ROUGH = 1e-6  # where the radius alone is asked for
INVARIANT = 1e-13  # what a vector must keep beside a basis to be outside of it, relative

Floats = NDArray[np.float64]
Product = Callable[[Floats], Floats]  # (P,) to (P,)

# What an image is to the autoencoder. none: no fixed point was found near it. neutral: the radius is 1, as of a
# continuum of fixed points. unknown: a fixed point whose spectral radius was not found.
Stability = StrEnum("Stability", ["attracting", "neutral", "repelling", "none", "unknown"])


@dataclass(frozen=True)
class Attractors:
    """What `attractors` found.

    table: one row an image, in order, with the columns

    - `residual`: rms of `f(x) - x` at the image, in pixels of [0, 1], as all distances here;
    - `fixed_residual`: the same at the fixed point, NaN without one;
    - `distance`: rms between the fixed point and the image, NaN without one;
    - `spectral_radius`, `singular_value`: the largest modulus of an eigenvalue of the Jacobian, and its largest
      singular value, at the fixed point, and without one at the image; NaN where the Jacobian is not finite;
    - `converged`: whether both are exact for a matrix that differs from the Jacobian by at most a relative 1e-10 (1e-5
      in float32). Then the radius is exact to about that times the eigenvalue's condition number, which is large where
      `J` is far from normal: of a single convolution, two solvers may differ by 1e-2. Else they are rough estimates,
      the largest Ritz values;
    - `attractor`: a word of `Stability`.

    points: (N, C, H, W) float64, the fixed points, NaN where there is none.
    dtype: what the autoencoder computed in, float64 wherever it can.
    """

    table: pd.DataFrame
    points: Tensor
    dtype: torch.dtype


@torch.inference_mode(False)  # under which no gradient could be taken
def attractors(
    autoencoder: Autoencoder,
    images: Tensor,
    *,
    near: float = NEAR,
    batch_size: int = 50,
    progress: bool = True,
    **description: Unpack[Description],
) -> Attractors:
    """Which of `images` (N, C, H, W), float in [0, 1] or uint8, does `autoencoder` hold as attracting fixed points?

    For each image, the fixed point near it is sought: within an rms distance of `near` (pixels of [0, 1]; the default
    is 25 dB), from the image by plain iteration as long as that gets closer to fixed, then by Newton's method, which
    also finds fixed points that repel. No iterate leaves that ball, so a fixed point far away is never taken for one
    near. If there are several in the ball, it is the first that is found, not always the nearest. A point is fixed if
    the rms of `f(x) - x` is at most 1e-9, and its radius is 1 if it differs by at most 1e-6.

    The autoencoder, a module or any callable, is called in eval mode and left as it was. A copy of a module computes in
    float64, and a callable is given float64. One that does not take it computes as it is, with tolerances of 1e-5 and
    1e-3 in their place. It is asked for up to `batch_size` images at once, and for 128 rows of a Jacobian.

    progress: show a bar on stderr if it takes longer than a few seconds.
    description: how the autoencoder is called, and how it takes and gives images, see `adapted`.

    Raises `ValueError` for images or settings out of range, for an autoencoder that breaks its contract (see
    `contract.check_contract`) or gives no derivatives (`UndifferentiableError`). Numerical failure is told in the
    table, never an exception: see `Attractors`.
    """
    check_whole("batch_size", batch_size, 1)
    check_flag("progress", progress)
    autoencoder = adapted(autoencoder, **description)
    if not 0 <= number(near) < np.inf:
        raise SettingError("near", near, "it is a distance in pixels of [0, 1], at least 0 and finite")
    check_tensor(images, "images")
    images = as_float(images.detach()).clone()
    check_images(images, "images")
    every = 0.5 if sys.stderr.isatty() else 10
    settings = {"unit": "image", "delay": SLOW, "mininterval": every, "disable": not progress}
    parts, bar = [], tqdm(None, "attractors", len(images), **settings)
    with evaluating(autoencoder), bar:
        own = taken_by(autoencoder, images)
        check_contract(autoencoder, own)
        if isinstance(autoencoder, Adapted) and autoencoder.returned:
            way = "which has no derivatives; give a function of tensors"
            raise UndifferentiableError(f"the autoencoder returns a {autoencoder.returned}, {way}")
        function = Flat(autoencoder, own)
        for part in in_double(images).flatten(1).split(batch_size):
            parts.append(_Found.near(function, part, near, bar.update))
    table = pd.concat([part.table for part in parts], ignore_index=True)
    return Attractors(table, torch.cat([part.points for part in parts]).view(images.shape), function.dtype)


@torch.inference_mode(False)
def spectral_radii(autoencoder: Autoencoder, points: Tensor, *, progress: bool = True) -> Floats:
    """(K,): the spectral radius of the Jacobian of `autoencoder` at each of `points` (K, C, H, W), of whatever range.

    NaN where it does not converge, and everywhere for an autoencoder without derivatives. For the singular values, and
    the fixed points near images, see `attractors`, which takes longer.
    """
    points = points.detach().clone()
    every = 0.5 if sys.stderr.isatty() else 10
    bar = tqdm(points, "spectral radii", unit="end", delay=SLOW, mininterval=every, disable=not progress)
    if not len(points):
        return np.empty(0)
    with evaluating(autoencoder), bar:
        function = Flat(autoencoder, taken_by(autoencoder, points))
        try:
            return np.array([_radius(function, in_double(point).flatten()) for point in bar])
        except ValueError:  # no derivatives
            return np.full(len(points), np.nan)


def _radius(function: Flat, x: Tensor) -> float:
    """The spectral radius at one image `x` (P,)."""
    if len(x) <= DENSE:
        return spectrum(function, x).spectral_radius
    transposed = _on_arrays(Linearised(function, x.unsqueeze(0)).transposed, x)
    first = transposed(_start(len(x)))
    if not np.isfinite(first).all() or not first.any():
        return 0.0 if np.isfinite(first).all() else np.nan
    try:
        return _largest_modulus(transposed, len(x), ROUGH)
    except ArpackError:
        radius, accurate = _ritz(transposed, len(x), ROUGH)
        return radius if accurate else np.nan


class _Found(NamedTuple):
    """What was found of a batch: rows of the table, and points (B, P)."""

    table: pd.DataFrame
    points: Tensor

    @classmethod
    def near(cls, function: Flat, images: Tensor, near: float, on_image: Callable[[], Any]) -> "_Found":
        """See `attractors`; `images` (B, P) in float64."""
        double = function.dtype == torch.float64
        tolerance, neutral = (FIXED, NEUTRAL) if double else (SINGLE_FIXED, SINGLE_NEUTRAL)
        Linearised(function, images[:1]).transposed(images[:1])  # raises if there are no derivatives
        points = near_fixed_points(function, images, near, tolerance)
        with torch.no_grad():
            residual, fixed_residual = (rms(function(x) - x) for x in (images, points))
        fixed = fixed_residual <= tolerance
        points[~fixed] = torch.nan
        table = pd.DataFrame(
            {
                "residual": residual.cpu().numpy(),
                "fixed_residual": fixed_residual.where(fixed, torch.nan).cpu().numpy(),
                "distance": rms(points - images).cpu().numpy(),
            }
        )
        spectra = []
        for x in torch.where(fixed.unsqueeze(1), points, images):
            spectra.append(spectrum(function, x))
            on_image()
        for name in Spectrum._fields:
            table[name] = [getattr(found, name) for found in spectra]
        verdicts = [_verdict(*pair, neutral).value for pair in zip(fixed.tolist(), spectra, strict=True)]
        return cls(table.assign(attractor=verdicts), points)


class Spectrum(NamedTuple):
    """The largest modulus of an eigenvalue and the largest singular value of a Jacobian; see `Attractors`."""

    spectral_radius: float
    singular_value: float
    converged: bool


UNKNOWN = Spectrum(np.nan, np.nan, False)


def _verdict(fixed: bool, found: Spectrum, neutral: float) -> Stability:
    if not fixed:
        return Stability.none
    if not found.converged:
        return Stability.unknown
    if abs(found.spectral_radius - 1) <= neutral:
        return Stability.neutral
    return Stability.attracting if found.spectral_radius < 1 else Stability.repelling


def spectrum(function: Flat, x: Tensor) -> Spectrum:
    """The spectral radius and the largest singular value of the Jacobian of `function` at one image `x` (P,)."""
    accuracy = ACCURACY if function.dtype == torch.float64 else SINGLE_ACCURACY
    if len(x) > DENSE:
        at = Linearised(function, x.unsqueeze(0))
        return _of_products(_on_arrays(at.transposed, x), _on_arrays(at.forward, x), len(x), accuracy)
    matrix = dense(function, x)
    if not matrix.isfinite().all():
        return UNKNOWN
    if len(x) > SMALL:
        values = matrix.cpu().numpy()
        found = _of_products(lambda u: u @ values, lambda v: values @ v, len(x), accuracy)
        if found.converged:
            return found
    with contextlib.suppress(RuntimeError):  # LAPACK did not converge
        singular = float(torch.linalg.matrix_norm(matrix, 2))
        return Spectrum(float(torch.linalg.eigvals(matrix).abs().max()), singular, True)
    return UNKNOWN


def _on_arrays(product: Callable[[Tensor], Tensor], like: Tensor) -> Product:
    """A product with (1, P) tensors as `like` for ARPACK."""
    return lambda v: product(torch.from_numpy(v.reshape(1, -1)).to(like)).squeeze(0).cpu().numpy()


def _of_products(transposed: Product, forward: Product, pixels: int, accuracy: float) -> Spectrum:
    """The same from `J^T u` and `J v` of arrays (P,). Where ARPACK fails, the Ritz values of one Arnoldi iteration."""
    first = transposed(_start(pixels))
    if not np.isfinite(first).all():
        return UNKNOWN
    if not first.any():  # `J^T` takes a random vector to 0: it is 0
        return Spectrum(0.0, 0.0, True)
    found = []
    for product, largest in ((transposed, _largest_modulus), (lambda v: transposed(forward(v)), _largest_of_symmetric)):
        try:
            found.append((largest(product, pixels, accuracy), True))
        except ArpackError as error:  # it did not converge, or found no basis
            ritz, accurate = _ritz(product, pixels, accuracy)
            found.append((max([ritz, *np.abs(getattr(error, "eigenvalues", []))]), accurate))
    (radius, one), (square, two) = found
    return Spectrum(float(radius), float(square) ** 0.5, one and two)


def _largest_modulus(product: Product, pixels: int, accuracy: float) -> float:
    """The spectral radius; two values are asked for, so that a complex pair is not torn. Raises `ArpackError`."""
    settings = {"ncv": BASIS, "maxiter": RESTARTS, "tol": accuracy, "v0": _start(pixels)}
    values = eigs(_operator(product, pixels), 2, which="LM", return_eigenvectors=False, **settings)
    return float(np.abs(values).max())


def _largest_of_symmetric(product: Product, pixels: int, accuracy: float) -> float:
    """The largest eigenvalue of `J^T J`, as `svds` takes it. Raises `ArpackError`."""
    settings = {"ncv": BASIS, "maxiter": RESTARTS, "tol": accuracy, "v0": _start(pixels)}
    values = eigsh(_operator(product, pixels), 1, which="LM", return_eigenvectors=False, **settings)
    return float(np.abs(values).max())


def _operator(product: Product, pixels: int) -> Any:
    return LinearOperator((pixels, pixels), matvec=product, dtype=np.float64)


def _start(pixels: int) -> Floats:
    """The same random vector (P,) whenever one is asked for, so that figures repeat."""
    return np.random.default_rng(0).standard_normal(pixels)


def _ritz(product: Product, pixels: int, accuracy: float) -> tuple[float, bool]:
    """The largest modulus of a Ritz value after `STEPS` steps of Arnoldi's iteration, and whether it is accurate.

    It is if the residual of its Ritz pair is at most `accuracy` times the modulus, as ARPACK takes it, or if the space
    is invariant. NaN if a product is not finite.
    """
    size = min(STEPS, pixels)
    basis, hessenberg = np.zeros((size + 1, pixels)), np.zeros((size + 1, size))
    start = _start(pixels)
    basis[0] = start / np.linalg.norm(start)
    for j in range(size):
        w = product(basis[j])
        if not np.isfinite(w).all():
            return np.nan, False
        before = np.linalg.norm(w)
        for _ in range(2):
            overlap = basis[: j + 1] @ w
            hessenberg[: j + 1, j] += overlap
            w = w - overlap @ basis[: j + 1]
        outside = float(np.linalg.norm(w))
        if outside <= INVARIANT * before or j + 1 == pixels:
            outside = 0.0
        if outside == 0 or j + 1 == size:
            break
        hessenberg[j + 1, j], basis[j + 1] = outside, w / outside
    values, vectors = np.linalg.eig(hessenberg[: j + 1, : j + 1])
    largest = np.abs(values).argmax()
    radius = float(np.abs(values[largest]))
    return radius, bool(outside * np.abs(vectors[-1, largest]) <= accuracy * radius)
