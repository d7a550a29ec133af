"""The fixed point of an autoencoder near an image: plain iteration where it attracts, Newton where it does not.

All images of a batch move together; each keeps its own step and leaves when it is done. A step of Newton's method
solves `(I - J) d = f(x) - x` by GMRES (Saad and Schultz, 1986), as far as is needed ("inexact Newton", Dembo, Eisenstat
and Steihaug, 1982), and is halved until the residual falls. It finds fixed points that repel as well.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from memorization.extraction.jacobian import Flat, Linearised
from memorization.recovery.problem import rms

SETTLING = 50  # plain iterations while the residual falls
ITERATIONS = 200  # and of those that may pass a hump, where Newton's method is stuck
NEWTON_STEPS = 25
HALVINGS = 6
SUBSPACE = 80  # vectors of GMRES
BASES = 2**30  # bytes of them, of the images that are solved for together; bounds the memory
FORCING = 1e-3  # of its residual
SOLVED = 1e-13  # rms in pixels of [0, 1], below which nothing more is gained in float64
SINGLE_SOLVED = 1e-7


def near_fixed_points(function: Flat, images: Tensor, near: float, tolerance: float) -> Tensor:
    """Fixed points (B, P) of `function` within `near` of `images` (B, P), both rms in pixels of [0, 1].

    A row is the point of the least residual that was found; it is no fixed point if that is above `tolerance`. No
    iterate leaves the ball of radius `near` about its image.
    """
    search = _Search(function, images, near, SOLVED if function.dtype == torch.float64 else SINGLE_SOLVED)
    x = search.settled(images, SETTLING, falling=True)
    x = search.newton(x)
    if (stuck := search.rms(x) > tolerance).any():
        rest = _Search(function, images[stuck], near, search.solved)
        x[stuck] = rest.better(x[stuck], rest.newton(rest.settled(images[stuck], ITERATIONS, falling=False)))
    return x


class _Search:
    """The search about `images` (B, P) within the distance `near`, until the residual is below `solved`."""

    def __init__(self, function: Flat, images: Tensor, near: float, solved: float) -> None:
        self.function, self.images, self.near, self.solved = function, images, near, solved

    @torch.no_grad()
    def rms(self, x: Tensor) -> Tensor:
        """(B,): `|f(x) - x|`, infinite where it is no number."""
        return rms(self.function(x) - x).nan_to_num(nan=torch.inf)

    def better(self, a: Tensor, b: Tensor) -> Tensor:
        """Of each image the point with the smaller residual."""
        return torch.where((self.rms(b) < self.rms(a)).unsqueeze(1), b, a)

    @torch.no_grad()
    def settled(self, start: Tensor, iterations: int, falling: bool) -> Tensor:
        """The best points of `x <- f(x)` in the ball; with `falling`, as long as each is better than the last."""
        best, active = start.clone(), torch.arange(len(start), device=start.device)
        least = torch.full_like(start[:, 0], torch.inf)
        x = start
        for _ in range(iterations + 1):
            value = self.function(x)
            residual = rms(value - x).nan_to_num(nan=torch.inf)
            lower = residual < least[active]
            best[active[lower]], least[active[lower]] = x[lower], residual[lower]
            go_on = (residual > self.solved) & residual.isfinite()
            go_on &= rms(value - self.images[active]) <= self.near
            if falling:
                go_on &= lower
            active, x = active[go_on], value[go_on]
            if not len(active):
                break
        return best

    def newton(self, start: Tensor) -> Tensor:
        """Newton's method from `start` (B, P); a point that no part of a step makes better stays."""
        x, residual = start.clone(), self.rms(start)
        active = (residual > self.solved) & residual.isfinite()
        at_once = max(1, BASES // (8 * (SUBSPACE + 1) * x.shape[1]))
        for _ in range(NEWTON_STEPS):
            where = active.nonzero().squeeze(1)
            if not len(where):
                break
            step = torch.cat([self._correction(part) for part in x[where].split(at_once)])
            moved, found = self._step(x[where], step, self.images[where], residual[where])
            stays = found >= residual[where]
            x[where], residual[where] = moved, found
            active[where[stays]] = False
            active &= residual > self.solved
        return x

    def _correction(self, x: Tensor) -> Tensor:
        """The step (B, P) of Newton's method from `x`."""
        at = Linearised(self.function, x)
        return gmres(at.complement, at.values - x)

    @torch.no_grad()
    def _step(self, x: Tensor, step: Tensor, images: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The points after as much of each `step` as makes them better, and their residuals."""
        best, least, share = x.clone(), residual.clone(), 1.0
        for _ in range(HALVINGS + 1):
            left = (least >= residual).nonzero().squeeze(1)
            if not len(left):
                break
            tried = x[left] + share * step[left]
            found = rms(self.function(tried) - tried).nan_to_num(nan=torch.inf)
            good = (found < residual[left]) & (rms(tried - images[left]) <= self.near)
            best[left[good]], least[left[good]] = tried[good], found[good]
            share /= 2
        return best, least


def gmres(product: Callable[[Tensor], Tensor], b: Tensor, size: int = SUBSPACE, forcing: float = FORCING) -> Tensor:
    """`d` (B, P) of least `|A d - b|` in the Krylov space of up to `size` vectors, B systems at once.

    product: `A v` of (B, P). It ends when all are solved to `forcing`, relative to `|b|`. Finite, whatever `A` is.
    """
    count, pixels = b.shape
    size = min(size, pixels)
    length = b.norm(dim=1)  # (B,)
    basis = b.new_zeros(count, size + 1, pixels)
    basis[:, 0] = b / length.clamp_min(torch.finfo(b.dtype).tiny).unsqueeze(1)
    hessenberg = b.new_zeros(count, size + 1, size)
    weights = b.new_zeros(count, 0)
    for j in range(size):
        w = product(basis[:, j]).nan_to_num(0, 0, 0)
        for _ in range(2):  # Gram-Schmidt, twice for orthogonality
            overlap = torch.einsum("bkp,bp->bk", basis[:, : j + 1], w)
            hessenberg[:, : j + 1, j] += overlap
            w = w - torch.einsum("bkp,bk->bp", basis[:, : j + 1], overlap)
        scale = w.norm(dim=1)
        ended = scale <= 1e-14 * hessenberg[:, : j + 1, j].norm(dim=1).clamp_min(torch.finfo(b.dtype).tiny)
        scale = torch.where(ended, 0, scale)
        hessenberg[:, j + 1, j] = scale
        basis[:, j + 1] = torch.where(ended.unsqueeze(1), 0, w / scale.clamp_min(torch.finfo(b.dtype).tiny)[:, None])
        if (j + 1) % 5 and j + 1 < size and not ended.all():
            continue
        h = hessenberg[:, : j + 2, : j + 1]
        weights = torch.linalg.pinv(h, rtol=1e-13)[:, :, 0] * length.unsqueeze(1)
        missing = (h @ weights.unsqueeze(2)).squeeze(2)
        missing[:, 0] -= length
        if (missing.norm(dim=1) <= forcing * length).all() or ended.all():
            break
    return torch.einsum("bk,bkp->bp", weights, basis[:, : weights.shape[1]])
