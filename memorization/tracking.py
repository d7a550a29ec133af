"""Weights & Biases: one run for a training and one for each recovery, offline unless asked otherwise.

Each run is opened, filled and finished in one `with` block, so that a sweep in one process never merges two. With
`tracking=none` nothing of wandb is imported.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from torch import Tensor

MODES = ("offline", "online", "none")


class Tracker(Protocol):
    """Where the metrics, the final figures and the pictures of one run go."""

    def log(self, metrics: dict[str, Any]) -> None: ...
    def summarise(self, metrics: dict[str, Any]) -> None: ...
    def image(self, name: str, picture: Tensor, caption: str) -> None: ...


class _Nothing:
    """Takes metrics and does nothing with them."""

    def log(self, metrics: dict[str, Any]) -> None:
        pass

    def summarise(self, metrics: dict[str, Any]) -> None:
        pass

    def image(self, name: str, picture: Tensor, caption: str) -> None:
        pass


class _WandB:
    def __init__(self, run: Any) -> None:
        self.run = run

    def log(self, metrics: dict[str, Any]) -> None:
        self.run.log(metrics)

    def summarise(self, metrics: dict[str, Any]) -> None:
        self.run.summary.update(metrics)

    def image(self, name: str, picture: Tensor, caption: str) -> None:
        import wandb

        array = picture.permute(1, 2, 0).numpy()
        self.run.log({name: wandb.Image(array.squeeze(2) if array.shape[2] == 1 else array, caption=caption)})


def check(settings: dict[str, Any]) -> None:
    """Raise `ValueError` for an unknown mode."""
    if settings["mode"] not in MODES:
        raise ValueError(f"tracking.mode is {settings['mode']!r}; choose one of {', '.join(MODES)}")


@contextlib.contextmanager
def tracking(
    settings: dict[str, Any], store: Path, *, kind: str, name: str, study: str, tags: list[str], config: dict[str, Any]
) -> Iterator[Tracker]:
    """A tracker of one run of `kind` (train or recover), finished at the end of the block, failed on an exception."""
    if settings["mode"] == "none":
        yield _Nothing()
        return
    import wandb

    logging.getLogger("wandb").setLevel(logging.ERROR)
    run = wandb.init(
        project=settings["project"],
        entity=settings["entity"],
        mode=settings["mode"],
        dir=store,
        job_type=kind,
        group=study,
        name=name,
        tags=tags,
        config=config,
        reinit="create_new",
        settings=wandb.Settings(silent=True, console="off"),
    )
    if kind == "train":
        run.define_metric("train/step")
        run.define_metric("train/*", step_metric="train/step")
    else:
        run.define_metric("train_loss")
        for group in ("members", "non_members", "excess"):
            run.define_metric(f"{group}/*", step_metric="train_loss")
    try:
        yield _WandB(run)
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def rung_metrics(row: pd.Series) -> dict[str, float]:
    """What is logged for one rung, from its row of `summary.summarise`."""
    metrics = {"train_loss": float(row["train_loss"])}
    for group in ("members", "non_members"):
        metrics[f"{group}/recovered"] = float(row[f"{group}_recovered"])
        metrics[f"{group}/median_psnr_erased"] = float(row[f"{group}_median_psnr"])
    metrics["excess/recovered"] = float(row["excess"])
    return metrics
