"""What one iteration of each recovery method costs, beside the passes through the autoencoder that it cannot avoid.

Budget: an iteration takes at most 1.15 times one forward pass of the same batch, with the backward pass to the input
for methods with gradients; memory grows with the batch, not with the number of iterations or images.

The case is that of the studies: images of 64 x 64 RGB, a fully connected autoencoder of depth 10 and width 512. Its
weights are random and its output scaled down, so that no image diverges and leaves the batch; the cost of a pass does
not depend on the weights. After every iteration of the solver the reference pass of the same batch is timed, so that
both see the same machine; the ratio is the median of those of neighbours. Biharmonic inpainting, which has neither
iterations nor passes, is left out. Run it with `make bench`; seconds mean nothing elsewhere, ratios do.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.benchmark import timer

from memorization import architectures
from memorization.data import Split
from memorization.degradations import Measurement, RandomPixels
from memorization.recovery import METHODS, OPERATORS, Anderson, Method, OperatorKnowledge, solve
from memorization.recovery.experiment import Recipe
from memorization.recovery.module import recover

BUDGET = 1.15
SHAPE = (3, 64, 64)
KNOWLEDGE = ("known", "robust")


def autoencoder() -> nn.Module:
    """The autoencoder of the studies, untrained, as `RecoveryModule` hands it to the solver."""
    model = architectures.build("fc", SHAPE, centre=True, seed=0, depth=10, width=512)
    with torch.no_grad():
        list(model.parameters())[-2].mul_(0.1)  # the weights of the last layer
    return model.eval().requires_grad_(False)


def images(count: int) -> Tensor:
    """(count, C, H, W) random images."""
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0))


def measure(count: int) -> Measurement:
    """The measurement of `count` images with 80 % of their pixels erased."""
    return RandomPixels(0.8)(images(count), range(count))


def methods(iterations: int) -> dict[str, Method]:
    """Every method that asks the autoencoder, on a budget that no image ends before."""
    plain = {name: method(max_iterations=iterations, tolerance=0.0) for name, method in METHODS.items()}
    asking = {name: method for name, method in plain.items() if method.access != "none"}
    return asking | {"pnp_admm, extrapolated": Anderson(plain["pnp_admm"])}


def reference_pass(model: nn.Module, x: Tensor, access: str) -> None:
    """The passes that one iteration on the batch `x` cannot avoid."""
    if access == "queries":
        with torch.no_grad():
            model(x)
    else:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            torch.autograd.grad(model(x).sum(), x)


@dataclass
class Stopwatch:
    """The solver's `on_iteration`: times the iteration that ended, then the reference pass."""

    model: nn.Module
    x: Tensor
    access: str
    iterations: list[float] = field(default_factory=list)  # seconds
    references: list[float] = field(default_factory=list)
    resumed: float | None = None

    def __call__(self, steps: int) -> None:
        ended = timer()
        if self.resumed is not None:  # the first iteration, which has no operator to renew, is not counted
            self.iterations.append(ended - self.resumed)
        begun = timer()
        reference_pass(self.model, self.x, self.access)
        self.resumed = timer()
        if self.iterations:
            self.references.append(self.resumed - begun)


def cost(model: nn.Module, measurement: Measurement, method: Method, operator: OperatorKnowledge) -> tuple[float, ...]:
    """Medians of an iteration and of its reference, in seconds, and of their ratio."""
    watch = Stopwatch(model, measurement.y, method.access)
    solution = solve(model, measurement, method, operator, on_iteration=watch)
    if not (solution.iterations == method.max_iterations).all():
        raise RuntimeError(f"{method}: an image left the batch early, so that its iterations cannot be compared")
    ratios = [own / reference for own, reference in zip(watch.iterations, watch.references, strict=True)]
    return statistics.median(watch.iterations), statistics.median(watch.references), statistics.median(ratios)


def peak() -> float:
    """The largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth(name: str, iterations: int, batch: int, count: int) -> float:
    """MB that recovering `count` images in batches of `batch` adds to the peak of this process."""
    torch.set_num_threads(1)
    model, originals = autoencoder(), images(count)
    split = Split(originals[: count // 2], originals[count // 2 :], list(range(count // 2)), list(range(count // 2)))
    recipe = Recipe(RandomPixels(0.8), methods(iterations)[name], OPERATORS["robust"]())
    with tempfile.TemporaryDirectory() as folder:
        warm = replace(recipe, method=methods(1)["iterate"])
        tiny = Split(originals[:1], originals[1:2], [0], [1])
        recover(model, tiny, warm, Path(folder) / "warm", batch_size=2, trainer={"accelerator": "cpu"})
        before = peak()
        recover(model, split, recipe, Path(folder) / "own", batch_size=batch, trainer={"accelerator": "cpu"})
    return peak() - before


def in_new_process(*arguments: object) -> float:
    """`growth` in a process of its own, as a process's peak only rises."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(growth, arguments)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 25], help="batch sizes (default: 100 25)")
    parser.add_argument("--iterations", type=int, default=31, help="iterations timed of each (default: 31)")
    options = parser.parse_args()
    torch.set_num_threads(1)

    model = autoencoder()
    print("fully connected, depth 10, width 512, random weights; 64x64 RGB, 80 % erased; one thread")
    print(f"\n{'batch':>5}  {'method':<22}  {'operator':<8}  {'iteration':>9}  {'reference':>9}  {'ratio':>5}")
    above = []
    for batch in options.batches:
        measurement = measure(batch)
        reference_pass(model, measurement.y, "gradients")  # warm-up
        for name, method in methods(options.iterations).items():
            for operator in KNOWLEDGE if method.uses_operator else ("none",):
                knowledge = OPERATORS.get(operator, OPERATORS["known"])()
                own, reference, ratio = cost(model, measurement, method, knowledge)
                print(
                    f"{batch:>5}  {name:<22}  {operator:<8}  {1e3 * own:>6.1f} ms  {1e3 * reference:>6.1f} ms  "
                    f"{ratio:>5.2f}{'  above the budget' if ratio > BUDGET else ''}",
                    flush=True,
                )
                above += [name] if ratio > BUDGET else []
    print(f"\nreference: a forward pass, for energy with the backward pass to the input; budget {BUDGET}")

    print(f"\n{'method':<10}  {'batch':>5}  {'images':>6}  {'iterations':>10}  peak, above the start")
    for name in ("pnp_admm", "energy"):
        for batch, count, iterations in ((25, 50, 5), (25, 50, 50), (25, 200, 5), (100, 200, 5)):
            used = in_new_process(name, iterations, batch, count)
            print(f"{name:<10}  {batch:>5}  {count:>6}  {iterations:>10}  {used:>6.0f} MB", flush=True)
    print(f"\n100 images are {100 * images(1).nbytes / 2**20:.1f} MB themselves, and are held twice")


if __name__ == "__main__":
    main()
