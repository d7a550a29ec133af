"""The one loop that drives every recovery method.

Each image of a batch has its own residual and status. Images that converged or diverged leave the batch, so that they
cost nothing more, and cannot harm or be changed by their batch mates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from memorization.degradations import Mask, Measurement
from memorization.recovery.operator import Known, OperatorKnowledge
from memorization.recovery.problem import Autoencoder, Method, Problem, neutral_image, rms

CONVERGED, ITERATION_LIMIT, DIVERGED = "converged", "iteration_limit", "diverged"
DIVERGENCE = 100.0  # an answer whose root mean square exceeds this has left the image range [0, 1] for good


@dataclass
class Recovery:
    """The answers of a batch, one entry an image.

    images: (B, C, H, W), finite, clipped to [0, 1].
    status: `converged`, `iteration_limit` or `diverged` (then the image is the last finite one).
    iterations, queries: int64 (B,); queries counts evaluations of the autoencoder.
    residual: (B,), as the method defines it.
    mask: (B, 1, H, W), the estimated mask of observed pixels, None unless the operator is a mask.
    trace: residuals of all images after each iteration (B, iterations), NaN once an image has left; None unless asked.
    """

    images: Tensor
    status: list[str]
    iterations: Tensor
    queries: Tensor
    residual: Tensor
    mask: Tensor | None = None
    trace: Tensor | None = field(default=None, repr=False)


@torch.no_grad()
def solve(
    autoencoder: Autoencoder,
    measurement: Measurement,
    method: Method,
    operator: OperatorKnowledge | None = None,
    *,
    trace: bool = False,
    on_iteration: Callable[[int], None] | None = None,
) -> Recovery:
    """Recover the images behind `measurement` with `method`; `operator` says what it knows of `H` (default: all).

    The autoencoder must be in eval mode and map (B, C, H, W) to the same shape. Numerical failure is a status of the
    image concerned, never an exception. `on_iteration` is called with the number of iterations gone by (in all,
    `max_iterations`), for a progress bar.
    """
    knowledge = operator or Known()
    y = measurement.y
    size, device = len(y), y.device
    active = torch.arange(size, device=device)  # the images still in the batch
    queries = torch.zeros(size, dtype=torch.int64, device=device)

    def query(x: Tensor) -> Tensor:
        queries[active] += 1
        return autoencoder(x)

    neutral = neutral_image(autoencoder, (y.shape[1], *measurement.erased.shape[2:]), y)
    h = knowledge.start(measurement)
    state = method.start(Problem(y, h.operator, h.sigma, query, neutral))

    images = method.answer(state).clone()
    status = [ITERATION_LIMIT] * size
    iterations = torch.zeros(size, dtype=torch.int64, device=device)
    residual = torch.full((size,), float("inf"), device=device, dtype=y.dtype)
    mask = h.operator.weight.clone() if isinstance(h.operator, Mask) else None
    history: list[Tensor] = []

    for k in range(method.max_iterations):
        progress = k / method.max_iterations
        if k > 0:
            h = knowledge.update(h, y, method.answer(state), k, progress)
        previous, state = state, method.step(Problem(y, h.operator, h.sigma, query, neutral), state, progress)
        answer, change = method.answer(state), method.residual(previous, state)

        finite = torch.isfinite(answer.flatten(1)).all(1) & torch.isfinite(change)
        diverged = ~finite | (rms(answer) > DIVERGENCE)
        converged = ~diverged & (change <= method.tolerance)
        images[active] = torch.where(diverged.view(-1, 1, 1, 1), images[active], answer)
        residual[active] = torch.where(diverged, torch.inf, change)
        iterations[active] = k + 1
        if mask is not None and isinstance(h.operator, Mask):
            mask[active] = h.operator.weight
        if trace:
            history.append(torch.full_like(residual, torch.nan).index_copy(0, active, residual[active]))

        if on_iteration:
            on_iteration(1)
        done = converged | diverged
        if done.any():
            for i, failed in zip(active[done].tolist(), diverged[done].tolist(), strict=True):
                status[i] = DIVERGED if failed else CONVERGED
            keep = ~done
            active, y, h = active[keep], y[keep], h.select(keep)
            state = type(state)(*(tensor[keep] for tensor in state))
            if len(active) == 0:
                if on_iteration:
                    on_iteration(method.max_iterations - k - 1)
                break

    return Recovery(
        images=images.detach().clamp(0, 1),
        status=status,
        iterations=iterations,
        queries=queries,
        residual=residual,
        mask=mask,
        trace=torch.stack(history, 1) if trace else None,
    )
