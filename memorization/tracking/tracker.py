"""Weights & Biases: one run for a training and one for each recovery, offline unless asked otherwise.

Each run is opened, filled and finished in one `with` block, so that a sweep in one process never merges two. With
`tracking=none` nothing of wandb is imported. A server that does not answer costs `OPEN_SECONDS` once, and
`CLOSE_SECONDS` where it went away during a run; the run is on disk all the same, and `wandb sync` sends it later.
W&B's own environment (`WANDB_...`) says where its server and its folders are, and who you are. What it says of a run (
its id, name, project, mode, or that it goes on from another) is not read: it is of one run, a command has several.
Lightning's `WandbLogger` logs to the run that is opened here: by itself it would neither fall back nor finish in time.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd
import torch
from torch import Tensor

from memorization.components import Record
from memorization.config.schema import Mode, Tracking
from memorization.data import as_picture
from memorization.tracking import unreached
from memorization.tracking.curves import CURVES, GALLERIES, STEPS

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

OPEN_SECONDS, CLOSE_SECONDS = 20.0, 60.0
DATA = "WANDB_DATA_DIR"  # where W&B keeps the pictures of tables, which wait to be sent: in the store, not in the home

OF_ONE_RUN = """
    CONFIG FORK_FROM JOB_TYPE LAUNCH LAUNCH_CONFIG_PATH MODE NAME PROJECT RESUME RESUME_FROM RUN_GROUP RUN_ID
    RUN_JOB_TYPE RUN_NAME RUN_STORAGE_ID RUN_TAGS SWEEP_ID SWEEP_PARAM_PATH TAGS
"""  # variables that speak of one run, without their prefix


@dataclass(frozen=True)
class Details:
    """What a run is called and listed by: its kind (train, recover or extract), name, study, tags and configuration."""

    kind: str
    name: str
    study: str
    tags: list[str]
    config: Record


class Tracker:
    """Where the metrics, the final figures and the pictures of one run go; nowhere without a `run`."""

    unreachable: ClassVar[bool] = False  # asked once a process, so that a sweep does not wait for each of its runs

    def __init__(self, run: Any = None) -> None:
        self.run = run

    @property
    def loggers(self) -> list[Logger]:
        """The run for Lightning's Trainer."""
        if not self.run:
            return []
        from pytorch_lightning.loggers import WandbLogger

        return [WandbLogger(experiment=self.run)]

    def log(self, metrics: dict[str, Any]) -> None:
        """Add a point to curves."""
        if self.run:
            self.run.log(metrics)

    def summarise(self, metrics: dict[str, Any]) -> None:
        """Set final figures."""
        if self.run:
            self.run.summary.update(metrics)

    def gallery(self, kind: str, pictures: dict[str, Tensor], scores: pd.DataFrame, captions: list[str]) -> None:
        """Show pictures by name (N, C, H, W) in uint8, with the scores and captions of these N images.

        kind: that of the run, which has a gallery in `GALLERIES`.
        """
        if not self.run:
            return
        import wandb

        def image(picture: Tensor, caption: str | None = None) -> wandb.Image:
            return wandb.Image(as_picture(picture), caption=caption)

        rows = scores.to_dict("records")
        strips = torch.cat(list(pictures.values()), dim=3)  # (N, C, H, names * W)
        captions = [f"{caption} ({', '.join(pictures)})" for caption in captions]
        shown, listed = GALLERIES[kind]
        table = wandb.Table(columns=[*map(str, scores.columns), *pictures])
        for row, *images in zip(rows, *pictures.values(), strict=True):
            table.add_data(*row.values(), *map(image, images))
        self.run.log({shown: [*map(image, strips, captions)], listed: table})


@contextlib.contextmanager
def tracking(settings: Tracking, store: Path, details: Details) -> Iterator[Tracker]:
    """A tracker of one run, finished at the end of the block, failed on an exception."""
    if settings.mode is Mode.none:
        yield Tracker()
        return
    logging.getLogger("wandb").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        if DATA not in os.environ:  # which is the user's own choice
            os.environ[DATA] = str((store / "wandb").resolve())
            stack.callback(os.environ.pop, DATA)
        run = _opened(settings, store, details)
        run.define_metric(STEPS[details.kind], hidden=True)
        for curve in CURVES[details.kind]:
            run.define_metric(curve, step_metric=STEPS[details.kind])
        try:
            yield Tracker(run)
        except BaseException:
            _finish(run, exit_code=1)
            raise
        _finish(run, exit_code=0)


@contextlib.contextmanager
def _without_one_run() -> Iterator[None]:
    """In this block the environment says nothing of a run."""
    names = [name for word in OF_ONE_RUN.split() if (name := f"WANDB_{word}") in os.environ]
    said = {name: os.environ.pop(name) for name in names}
    try:
        yield
    finally:
        os.environ.update(said)


@_without_one_run()
def _opened(settings: Tracking, store: Path, details: Details) -> Any:
    """A W&B run; offline, and one line that says so, if it should be online and the server or the key is missing."""
    import wandb

    quiet = wandb.Settings(
        silent=True,
        console="off",
        init_timeout=OPEN_SECONDS,
        finish_timeout=CLOSE_SECONDS,
        finish_timeout_raises=True,
    )
    opened = partial(
        wandb.init,
        dir=store.resolve(),  # whoever writes it may have begun in another folder
        reinit="create_new",
        settings=quiet,
        project=settings.project,
        entity=settings.entity,
        job_type=details.kind,
        group=details.study,
        name=details.name,
        tags=list(dict.fromkeys(tag[:64] for tag in details.tags)),  # the longest that W&B takes
        config=details.config,
    )
    if settings.mode is Mode.online and not Tracker.unreachable:
        try:
            return opened(mode="online")
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            Tracker.unreachable = True
            runs = store / "wandb" / "offline-run-*"
            print(f"note: {unreached(error)}; nothing is lost, send it later: wandb sync {runs}", flush=True)
    return opened(mode="offline")


def _finish(run: Any, exit_code: int) -> None:
    """Send what is left, within `CLOSE_SECONDS`; one line says where it lies if the server does not take it."""
    folder = Path(run.settings.sync_dir)
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        print(f"note: W&B did not answer; nothing is lost, send it later: wandb sync {folder}", flush=True)
