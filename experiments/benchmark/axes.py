"""Write `axes.csv`: what `training.axes=principal` saves and changes: `python experiments/benchmark/axes.py PATH`.

PATH is a data set as `dataset.path` takes it, such as a copy of Tiny ImageNet. A row a seed, axes and rung: the steps
and the CPU seconds of the training until then, and three measures of what the autoencoder holds of its 100 members:
those that iterating from 200 images of noise finds, those that `energy` recovers from 5 % of their pixels and those
that `pnp_admm` recovers from half of them (known mask, one start, 25 dB on the erased pixels).
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from torch import Tensor, nn

from memorization import architectures
from memorization.cli.entry import NOISE
from memorization.data import Images, as_float
from memorization.degradations import Degradation, Half, RandomPixels, image_seeds
from memorization.engine.settings import Axes, Training
from memorization.engine.training import train
from memorization.evaluation.metrics import psnr
from memorization.recovery import Energy, Method, PnPADMM, solve

SEEDS, RUNGS, STARTS, ITERATIONS, SCALE = (7, 8, 9), [1e-4, 1e-8], 200, 60, 5.0
FOUND, SETTLED = 25.0, 3e-3  # dB; root mean square of the last step


class Clock(DummyLogger):
    """The CPU seconds at which each row of a training was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.seconds = time.process_time(), dict[int, float]()

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.seconds[step or 0] = time.process_time() - self.began


@torch.no_grad()
def found(model: nn.Module, members: Tensor) -> int:
    """How many members iterating from noise ends at."""
    noise = torch.randn(STARTS, *members.shape[1:], generator=torch.Generator().manual_seed(0))
    x = 0.5 + SCALE * noise
    for _ in range(ITERATIONS):
        before, x = x, model(x)
    settled = (x - before).flatten(1).square().mean(1).sqrt() < SETTLED
    if not settled.any():
        return 0
    best, which = torch.stack([psnr(x[settled], member) for member in members]).max(0)
    return len(which[best >= FOUND].unique())


def recovered(model: nn.Module, members: Tensor, degradation: Degradation, method: Method) -> int:
    """How many members come back."""
    measurement = degradation(members, image_seeds(0, range(len(members))))
    answers = solve(model, measurement, method, starts=1).images
    return int((psnr(answers, members, measurement.erased) >= FOUND).sum())


def rows(path: str, seed: int, axes: Axes) -> Iterator[dict[str, Any]]:
    """Those of one training."""
    split = Images(path=path, members=100, non_members=20).load(seed)
    members, clock = as_float(split.members), Clock()
    model = architectures.build("fc", split.shape, centre=True, seed=seed)
    settings = dataclasses.replace(Training(), ladder=RUNGS, axes=axes)
    history = train(model, split.members, settings, seed=seed, loggers=[clock], progress=False)
    reached = {rung: next(step for step, loss, _ in history.rows if loss <= rung) for rung in history.rungs}
    model.eval().requires_grad_(False)
    for rung, step in reached.items():
        model.load_state_dict(history.weights[rung])
        yield {
            "seed": seed,
            "axes": axes.value,
            "rung": rung,
            "steps": step,
            "cpu_seconds": round(clock.seconds[step], 1),
            "from_noise": found(model, members),
            "energy_random_95": recovered(model, members, RandomPixels(fraction=0.95), Energy()),
            "pnp_admm_half": recovered(model, members, Half(), PnPADMM()),
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    table: list[dict[str, Any]] = []
    for seed in SEEDS:
        for axes in Axes:
            for row in rows(sys.argv[1], seed, axes):
                print(row, flush=True)
                table.append(row)
                pd.DataFrame(table).to_csv(Path(__file__).with_name("axes.csv"), index=False)
