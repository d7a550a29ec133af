"""One attempt at a batch: the loop that drives every recovery method from one starting point.

Each image of a batch has its own residual and status. An image that converged or diverged leaves the batch: it costs
nothing more, and it cannot change the other images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from memorization.architectures.autoencoder import Autoencoder
from memorization.components import Status
from memorization.degradations import Measurement
from memorization.recovery.knowledge.estimate import Estimate, OperatorKnowledge
from memorization.recovery.problem import Access, Method, Problem, neutral_image, rms
from memorization.recovery.tries import Source, Start

FIXED = 1e-3  # in pixels of [0, 1]: a fixed point moves by no more under the autoencoder, root mean square
MOVED, SETTLING = 0.025, 10  # a solved image that is none yet settles at one no farther away in so many iterations
LEEWAY = 3.0  # times the root of the train loss: how far from fixed points an autoencoder holds its members
LEVEL = 0.6  # an image is ended if `x - f(x)`, root mean square, is no more than this share of the train loss's root,
EXACT, CLOSE = 3e-4, 0.01  # or the first of these, and no more than the second
ENDINGS = (0.15, 0.2, 0.3, 0.5, 0.85)  # shares of the iterations after which images that are near are tried to be ended
DIVERGENCE = 100.0  # an answer whose root mean square exceeds this has left the image range [0, 1] for good
STATUSES = tuple(status.value for status in Status)


@dataclass
class Recovery:
    """The answers of a batch, one entry an image.

    trace: residuals of all images after each iteration (B, iterations), NaN once an image has left; None unless asked.
    path: answers (B, P, C, H, W) after the P numbers of iterations asked for, clipped to [0, 1]; NaN from the iteration
        on at which an image left. 0 iterations are the start.
    """

    images: Tensor  # (B, C, H, W), finite, clipped to [0, 1] unless `solve` was told otherwise
    status: list[str]  # words of `Status`; the image of `diverged` is the last finite one, or the neutral one
    iterations: Tensor  # int64 (B,)
    queries: Tensor  # int64 (B,): evaluations of the autoencoder, over all starts
    residual: Tensor  # (B,), as the method defines it
    start: Tensor  # int64 (B,), the number of the start that won; below 0 images of the bank, then settled answers
    hypothesis: Tensor  # int64 (B,), of the operator knowledge, in that start
    energy: Tensor  # (B,): misfit + |x - f(x)|^2 of the answer x, by which it won; NaN if only one start was planned
    solved: Tensor  # bool (B,): needs no other start, see `solve`; False unless restarts are automatic
    estimates: dict[str, Tensor] = field(default_factory=dict)  # what the knowledge reports of its estimate, (B,) each
    mask: Tensor | None = None  # (B, 1, H, W), the belief that a pixel was observed, None unless the operator is a mask
    trace: Tensor | None = field(default=None, repr=False)
    path: Tensor | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Task:
    """A batch to recover and what with; `attempt` recovers it from one starting point.

    rate: is the answers' energy asked for? judge: and is it asked whether they are solved?
    level: how far from fixed points the autoencoder holds images, by its train loss.
    For the others see `solve`.
    """

    autoencoder: Autoencoder
    measurement: Measurement
    method: Method
    knowledge: OperatorKnowledge
    rate: bool = False
    trace: bool = False
    path: tuple[int, ...] = ()
    bounded: bool = True
    on_iteration: Callable[[int], None] | None = None
    judge: bool = False
    level: float = 0.0

    @torch.no_grad()
    def attempt(self, start: Start, image: Tensor | None = None) -> Recovery:
        """The recovery from one start, with its hypothesis; `image` (B, C, H, W) is that to start from, if any."""
        attempt = _Attempt(self, start, image)
        attempt.run()
        return attempt.finish()

    def of(self, rows: Tensor) -> "Task":
        """The same for the images `rows` alone."""
        if len(rows) == len(self.measurement.y):
            return self
        whole = self.measurement
        part = Measurement(whole.y[rows], whole.operator.select(rows), whole.sigma, whole.erased[rows])
        return replace(self, measurement=part)

    def tell(self, count: int) -> None:
        """`count` iterations have gone by."""
        if self.on_iteration:
            self.on_iteration(count)

    def query(self, x: Tensor) -> Tensor:
        """`f(x)`; raises `ValueError` if `f` breaks its contract."""
        version = x._version
        output = self.autoencoder(x)
        if output.shape != x.shape or output.dtype != x.dtype:
            given, got = (f"{tuple(images.shape)}, {images.dtype}" for images in (x, output))
            raise ValueError(f"the autoencoder maps {given} to {got}; it must keep shape and dtype")
        if x._version != version:
            raise ValueError("the autoencoder changes its input in place; give lambda x: autoencoder(x.clone())")
        if x.requires_grad and not output.requires_grad:
            raise ValueError("the autoencoder gives no gradients; choose a method that only queries it, as PnPADMM()")
        return ordinary(output)


class _Attempt:
    """A batch on its way from one starting point. Images that are done leave it; what was found of them is kept.

    first: the iteration to begin with.
    active: indices of the images still in the batch. `y`, `estimate` and `state` are those of these images alone.
    found, status: the recovery so far, and the index into `STATUSES` of each image.
    slow: did the last steps of each image not settle? They are not tried again.
    """

    def __init__(self, task: Task, start: Start, image: Tensor | None = None, estimate: Estimate | None = None) -> None:
        self.first = start.first_iteration(task.method)
        self.task, self.y = task, task.measurement.y
        self.active = torch.arange(len(self.y), device=self.y.device)
        self.queries = torch.zeros_like(self.active)
        shape = (self.y.shape[1], *task.measurement.erased.shape[2:])
        self.neutral = neutral_image(task.autoencoder, task.method.access, shape, self.y)
        knowledge, hypothesis = task.knowledge, start.hypothesis or 0
        if image is None:
            self.estimate = knowledge.start(task.measurement, hypothesis)
            self.state = task.method.start(self._problem(), start.index)
        else:
            self.estimate = estimate or knowledge.recall(task.measurement, image, hypothesis)
            self.state = task.method.start(replace(self._problem(), recalled=image), -1)
        self.status = torch.zeros_like(self.active)
        self.slow = torch.zeros_like(self.active, dtype=torch.bool)
        self.found = self._nothing_found(start.number(knowledge.hypotheses), hypothesis)
        self.last: Method | None = getattr(task.method, "last", None)  # others' methods may lack what is optional
        longest = task.method.max_iterations + (self.last.max_iterations if self.last else 0)
        self.trace = self.y.new_full((len(self.y), longest if task.trace else 0), torch.nan)
        # a method that asks the autoencoder for nothing takes one step, on the first estimate
        self.annealed = 0.0 if task.method.access == Access.none else task.knowledge.annealed

    def run(self) -> Recovery:
        """Iterate until all images have left."""
        task, count = self.task, self.first
        task.tell(count)
        while len(self.active):
            self.step(count)
            count += 1
            task.tell(1)
        task.tell(task.method.max_iterations - count)
        return self.found

    def step(self, k: int) -> None:
        """Iteration `k`, from 0 on; the images that are done after it leave, after the last one all of them."""
        method = self.task.method
        progress = k / method.max_iterations
        if k > self.first:
            answer = method.answer(self.state)
            self.estimate = self.task.knowledge.update(self.estimate, self.y, answer, k, progress)
        previous, self.state = self.state, method.step(self._problem(), self.state, progress)
        answer, change = method.answer(self.state), method.residual(previous, self.state)

        diverged = ~(rms(answer) <= DIVERGENCE) | ~torch.isfinite(change)  # NaN is never below
        converged = ~diverged & (change <= method.tolerance) & (progress >= self.annealed)
        found, residual = self.found, torch.where(diverged, torch.inf, change)
        found.residual[self.active], found.iterations[self.active] = residual, k + 1 - self.first
        if self.task.trace:
            self.trace[self.active, k - self.first] = residual
        if hasattr(method, "stalled") and progress >= self.annealed:
            converged |= method.stalled(self.state) & ~diverged
        done = converged | diverged
        leaving = torch.ones_like(done) if k == method.max_iterations - 1 else done
        if leaving.any():
            before = _finite(method.answer(previous)[leaving], self.neutral)
            images = torch.where(diverged[leaving].view(-1, 1, 1, 1), before, answer[leaving])
            images = images.clamp(0, 1) if self.task.bounded else images
            self._leave(leaving, images, (converged + 2 * diverged)[leaving])
        for place, count in enumerate(self.task.path):
            if count == k + 1 - self.first and found.path is not None:
                found.path[self.active, place] = method.answer(self.state).clamp(0, 1)
        if self.last and k + 1 in {round(share * method.max_iterations) for share in ENDINGS}:
            self._end(self.last, k)

    def _end(self, method: Method, k: int) -> None:
        """Take the last steps of the images that are near their answers with `method`; those that it solves leave."""
        near = self.task.method.near(self.state) & ~self.slow[self.active]
        if not near.any():
            return
        which = self.active[near]
        task = replace(self.task.of(which), method=method, rate=True, judge=True, path=(), on_iteration=None)
        start = Start(hypothesis=int(self.found.hypothesis[0]), source=Source.bank)
        attempt = _Attempt(task, start, self.state.x[near], self.estimate.select(near))
        ended = attempt.run()
        gap = rms(ended.images - task.query(ended.images))
        self.queries[which] += ended.queries + 1
        solved = ended.solved & (gap <= max(EXACT, min(LEVEL * self.task.level / LEEWAY, CLOSE)))
        settled = attempt.status == STATUSES.index(Status.converged)
        self.slow[which], solved = ~settled, solved & settled
        self._keep(which[solved], ended, solved)
        if self.task.trace:
            after = k + 1 - self.first
            self.trace[which[solved], after : after + attempt.trace.shape[1]] = attempt.trace[solved]
        self._drop(near.masked_scatter(near, solved))

    def _keep(self, rows: Tensor, ended: Recovery, solved: Tensor) -> None:
        """Take the answers of the images `rows` from `ended`, where they are those of `solved`."""
        found = self.found
        pairs = [(found.images, ended.images), (found.residual, ended.residual)]
        pairs += [(found.estimates[name], value) for name, value in ended.estimates.items()]
        if found.mask is not None and ended.mask is not None:
            pairs.append((found.mask, ended.mask))
        if self.task.rate:
            pairs.append((found.energy, ended.energy))
        for into, values in pairs:
            into[rows] = values[solved]
        found.solved[rows] = self.task.judge
        found.iterations[rows] += ended.iterations[solved]
        self.status[rows] = STATUSES.index(Status.converged)

    def finish(self) -> Recovery:
        """What was found, once all images have left."""
        found = self.found
        found.status = [STATUSES[code] for code in self.status.tolist()]
        if self.task.trace:
            found.trace = self.trace[:, : int(found.iterations.max())]
        if self.task.rate:
            found.queries += 1
            difference = found.images - self.task.query(found.images)
            if self.task.judge:
                found.solved &= self._is_held(difference)
            gap = difference.flatten(1).square().sum(1)
            found.energy = (found.energy + gap).nan_to_num(nan=torch.inf, posinf=torch.inf)
        return found

    def _is_held(self, difference: Tensor) -> Tensor:
        """(B,) bool: is each answer `x` a fixed point, or does it settle near by? difference: `x - f(x)`."""
        level, found = self.task.level, self.found
        held = rms(difference) <= max(FIXED, level)
        rows = (found.solved & ~held & difference.flatten(1).isfinite().all(1)).nonzero().flatten()
        if len(rows):
            image = found.images[rows]
            before = image
            for _ in range(SETTLING):
                before, image = image, self.task.query(image)
            found.queries[rows] += SETTLING
            moved, change = rms(image - found.images[rows]), rms(image - before)
            held[rows] = (moved <= max(MOVED, level)) & (change <= max(FIXED, level))
        return held

    def _query(self, x: Tensor) -> Tensor:
        self.queries[self.active] += 1
        return self.task.query(x)

    def _problem(self) -> Problem:
        h = self.estimate
        return Problem(self.y, h.y, h.operator, h.sigma, self._query, self.neutral)

    def _nothing_found(self, start: int, hypothesis: int) -> Recovery:
        """The recovery before the first step, whose images are the starting ones."""
        images, mask = _finite(self.task.method.answer(self.state), self.neutral), self.estimate.mask
        size, nowhere = len(images), images.new_full((len(images),), torch.nan)
        at = [torch.full_like(images, torch.nan) if count else images.clamp(0, 1) for count in self.task.path]
        report = self.task.knowledge.report(self.estimate)
        return Recovery(
            images=images,
            status=[],
            iterations=torch.zeros_like(self.queries),
            queries=self.queries,
            residual=torch.full_like(nowhere, torch.inf),
            start=torch.full_like(self.queries, start),
            hypothesis=torch.full_like(self.queries, hypothesis),
            energy=nowhere,
            solved=torch.zeros_like(self.queries, dtype=torch.bool),
            estimates={name: torch.full_like(value, torch.nan) for name, value in report.items()},
            mask=None if mask is None else mask.expand(size, -1, -1, -1).clone(),
            path=torch.stack(at, 1) if at else None,
        )

    def _leave(self, leaving: Tensor, images: Tensor, status: Tensor) -> None:
        """Keep the answers `images` (L, C, H, W), in [0, 1], of the L images that `leaving` (B,) names, and drop them.

        status: (L,), indices into `STATUSES`.
        """
        knowledge, found = self.task.knowledge, self.found
        which, estimate = self.active[leaving], self.estimate.select(leaving)
        found.images[which] = images
        self.status[which] = status
        for name, value in knowledge.report(estimate).items():
            found.estimates[name][which] = value
        if found.mask is not None and estimate.mask is not None:
            found.mask[which] = estimate.mask
        if self.task.rate:
            misfit = knowledge.misfit(estimate, self.y[leaving], images)
            failed = status == STATUSES.index(Status.diverged)
            found.energy[which] = torch.where(failed, torch.inf, misfit)
            if self.task.judge:
                explained = knowledge.solved(estimate, self.y[leaving], images, max(FIXED, self.task.level))
                found.solved[which] = ~failed & explained
        self._drop(leaving)

    def _drop(self, leaving: Tensor) -> None:
        """Go on without the images that `leaving` (B,) names."""
        keep = ~leaving
        self.active, self.y, self.estimate = self.active[keep], self.y[keep], self.estimate.select(keep)
        self.state = type(self.state)(*(tensor[keep] for tensor in self.state))


def _finite(images: Tensor, neutral: Tensor) -> Tensor:
    """A copy of `images` (B, C, H, W) with `neutral` (C, H, W) in the place of each that holds NaN or infinity."""
    return torch.where(images.flatten(1).isfinite().all(1).view(-1, 1, 1, 1), images, neutral)


def ordinary(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy of one made under `torch.inference_mode()`, which autograd does not take."""
    return tensor.clone() if tensor.is_inference() else tensor
