"""What one iteration of each recovery method costs, beside the passes through the autoencoder that it cannot avoid.

Budget: an iteration takes at most 1.15 times one forward pass of the same batch, with the backward pass to the input
for methods with gradients; memory grows with the batch, not with the number of iterations or images.

The case is that of the studies: images of 64 x 64 RGB, a fully connected autoencoder of depth 10 and width 512. Its
weights are random and its output scaled down, so that no image diverges and leaves the batch; the cost of a pass does
not depend on the weights. After every iteration of the solver the reference pass of the same batch is timed, so that
both see the same machine; the ratio is the median of those of neighbours. Biharmonic inpainting, which has neither
iterations nor passes, is left out.

A step of training is compared with one of a bare loop of the same mathematics, on images of three sizes. The two take
turns; a step costs the difference of a long and a short training, so that what is done once does not count.

Eight trainings in turn are compared with the same eight as one batched model, their set-up included, on digits.

Run it with `make bench`; seconds mean nothing elsewhere, ratios do.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import warnings
from dataclasses import dataclass, field
from itertools import accumulate, product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import timer

from memorization import architectures
from memorization.cli.entry import NOISE
from memorization.data import Digits, Split
from memorization.degradations import Measurement, RandomPixels
from memorization.engine.ensemble import operations, train_together
from memorization.engine.recovery import recover
from memorization.engine.settings import Hardware, Training
from memorization.engine.training import train
from memorization.evaluation.batch import Recipe
from memorization.recovery import METHODS, OPERATORS, Anderson, Method, OperatorKnowledge, solve

BUDGET = 1.15
SHAPE = (3, 64, 64)
KNOWLEDGE = ("known", "robust")
# Members of digits, depth, width, and steps of each of eight trainings; the last is the default.
ENSEMBLES = (
    (10, 3, 128, 300),
    (10, 5, 64, 300),
    (20, 5, 64, 300),
    (50, 5, 64, 300),
    (50, 10, 128, 50),
    (50, 10, 512, 10),
)


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
    whole = {"energy": {"ending": False}}
    plain = {
        name: method(max_iterations=iterations, tolerance=0.0, **whole.get(name, {}))
        for name, method in METHODS.items()
    }
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
        if len(self.references) < len(self.iterations):
            self.references.append(self.resumed - begun)


def cost(
    model: nn.Module, measurement: Measurement, method: Method, operator: OperatorKnowledge, repeats: int
) -> tuple[float, ...]:
    """Medians of an iteration and of its reference, in seconds, and of their ratio."""
    watch = Stopwatch(model, measurement.y, method.access)
    for _ in range(repeats):
        watch.resumed = None
        solution = solve(model, measurement, method, operator, on_iteration=watch)
        if not (solution.iterations == method.max_iterations).all():
            raise RuntimeError(f"{method}: an image left the batch early, so that its iterations cannot be compared")
    ratios = [own / reference for own, reference in zip(watch.iterations, watch.references, strict=True)]
    return statistics.median(watch.iterations), statistics.median(watch.references), statistics.median(ratios)


def peak(name: str, operator: str, iterations: int, batch: int, count: int) -> float:
    """MB of tensors held at once at most while `count` images are recovered in batches of `batch`, without scores."""
    model, originals = autoencoder(), images(count)
    half = list(range(count // 2))
    split = Split(originals[: count // 2], originals[count // 2 :], half, half)
    recipe = Recipe(RandomPixels(0.8), methods(iterations)[name], OPERATORS[operator]())
    with (
        tempfile.TemporaryDirectory() as folder,
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as log,
    ):
        recover(model, split, recipe, Path(folder), batch_size=batch, hardware=Hardware("cpu"))
    assert log.profiler is not None
    assert log.profiler.kineto_results is not None
    events = [event for event in log.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes: list[int] = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes)) / 2**20


def trained(members: Tensor, steps: int) -> float:
    """Seconds of a training of `steps` steps as in the studies."""
    model = architectures.build("fc", tuple(members.shape[1:]), centre=True, seed=0, depth=10, width=512)
    begun = timer()
    train(model, members, Training(max_steps=steps), progress=False, hardware=Hardware("cpu"))
    return timer() - begun


def looped(members: Tensor, steps: int) -> float:
    """Seconds of the same in a bare loop, with the schedule of the learning rate and the loss on the host."""
    model = architectures.build("fc", tuple(members.shape[1:]), centre=True, seed=0, depth=10, width=512)
    settings = Training()
    begun = timer()
    optimiser = torch.optim.Adam(model.parameters(), settings.learning_rate, betas=tuple(settings.betas))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, settings.final_rate ** (1 / settings.max_steps))
    for _ in range(steps):
        optimiser.zero_grad()
        loss = functional.mse_loss(model(members), members)
        loss.backward()
        optimiser.step()
        schedule.step()
        float(loss.detach())
    return timer() - begun


def step_costs(shape: tuple[int, int, int], count: int, repeats: int) -> tuple[float, ...]:
    """Medians of a step of `train` and of a bare loop, in seconds, and of their ratio."""
    members = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    steps = 40 if members[0].numel() > 1000 else 200
    own, bare = [], []
    for _ in range(repeats):
        for costs, run in ((own, trained), (bare, looped)):
            short = run(members, 10)
            costs.append((run(members, 10 + steps) - short) / steps)
    ratios = [one / other for one, other in zip(own, bare, strict=True)]
    return statistics.median(own), statistics.median(bare), statistics.median(ratios)


def ensembles(members: int, depth: int, width: int, steps: int, repeats: int) -> tuple[float, ...]:
    """Medians of 8 trainings in turn and as one ensemble, in seconds, and of their ratio; last, a step's operations."""
    settings, here = Training(max_steps=steps, target_loss=1e-30), Hardware("cpu")
    images = [Digits(members, 1).load(seed).members for seed in range(8)]

    def models() -> list[nn.Module]:
        return [
            architectures.build("fc", (1, 8, 8), centre=True, seed=seed, depth=depth, width=width) for seed in range(8)
        ]

    def in_turn() -> None:
        for model, own in zip(models(), images, strict=True):
            train(model, own, settings, progress=False, hardware=here)

    turns, ensemble = [], []
    for _ in range(repeats):
        for times, run in (
            (turns, in_turn),
            (ensemble, lambda: train_together(models(), images, settings, progress=False, hardware=here)),
        ):
            begun = timer()
            run()
            times.append(timer() - begun)
    ratios = [one / other for one, other in zip(turns, ensemble, strict=True)]
    work = operations(models()[0], images[0])
    return statistics.median(turns), statistics.median(ensemble), statistics.median(ratios), work


def print_ensembles(repeats: int) -> None:
    """The table of trainings in turn and as one."""
    print(f"\n{'8 trainings on digits':<41}  {'MFLOP a step':>12}  {'in turn':>8}  {'ensemble':>8}  {'ratio':>5}")
    for members, depth, width, steps in ENSEMBLES:
        turns, ensemble, ratio, work = ensembles(members, depth, width, steps, repeats)
        name = f"{members} members, depth {depth}, width {width}, {steps} steps"
        print(f"{name:<41}  {work / 1e6:>12.1f}  {turns:>6.2f} s  {ensemble:>6.2f} s  {ratio:>5.2f}", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 25], help="batch sizes (default: 100 25)")
    parser.add_argument("--repeats", type=int, default=3, help="solves of 10 timed iterations each (default: 3)")
    parser.add_argument("--ensembles", action="store_true", help="only eight trainings in turn and as one")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)

    if options.ensembles:
        print_ensembles(options.repeats)
        return
    model = autoencoder()
    print("fully connected, depth 10, width 512, random weights; 64x64 RGB, 80 % erased; one thread")
    print(f"\n{'batch':>5}  {'method':<22}  {'operator':<8}  {'iteration':>9}  {'reference':>9}  {'ratio':>5}")
    above = []
    for batch in options.batches:
        measurement = measure(batch)
        reference_pass(model, measurement.y, "gradients")  # warm-up
        for name, method in methods(11).items():
            for operator in KNOWLEDGE if method.uses_operator else ("none",):
                knowledge = OPERATORS.get(operator, OPERATORS["known"])()
                own, reference, ratio = cost(model, measurement, method, knowledge, options.repeats)
                print(
                    f"{batch:>5}  {name:<22}  {operator:<8}  {1e3 * own:>6.1f} ms  {1e3 * reference:>6.1f} ms  "
                    f"{ratio:>5.2f}{'  above the budget' if ratio > BUDGET else ''}",
                    flush=True,
                )
                above += [name] if ratio > BUDGET else []
    print(f"\nreference: a forward pass, for energy with the backward pass to the input; budget {BUDGET}")

    print(f"\n{'training':<24}  {'step':>9}  {'bare loop':>9}  {'ratio':>5}")
    for shape, count in (((1, 8, 8), 100), ((1, 64, 64), 50), (SHAPE, 100)):
        own, bare, ratio = step_costs(shape, count, options.repeats)
        name = f"{count} images of {'x'.join(map(str, shape))}"
        print(f"{name:<24}  {1e3 * own:>6.1f} ms  {1e3 * bare:>6.1f} ms  {ratio:>5.2f}", flush=True)

    print_ensembles(options.repeats)

    print(f"\n{'method':<8}  {'operator':<8}  {'batch':>5}  {'images':>6}  {'iterations':>10}  peak of tensors")
    for name, operator in product(("pnp_admm", "energy"), KNOWLEDGE):
        for batch, count, iterations in ((25, 50, 5), (25, 50, 50), (25, 100, 5), (100, 200, 5)):
            used = peak(name, operator, iterations, batch, count)
            print(f"{name:<8}  {operator:<8}  {batch:>5}  {count:>6}  {iterations:>10}  {used:>8.0f} MB", flush=True)
    print(f"\n100 images are {100 * images(1).nbytes / 2**20:.1f} MB themselves, and are held twice")


if __name__ == "__main__":
    main()
