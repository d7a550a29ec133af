"""Trainings of several jobs as one batched model; each lands in the store as the ordinary run that it stands for.

A signature knows nothing of an ensemble: jobs find their autoencoders as if they had trained them. What cannot, or need
not, go on together is left to its job, which trains it by itself: what has a setting that is not batched, a training
that has a checkpoint, images or an autoencoder that cannot be had, and one that diverged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from memorization.jobs.training import TrainingJob
from memorization.store import files, lock
from memorization.store.reading import Run

if TYPE_CHECKING:
    from memorization.engine.history import History


def train(jobs: Iterable[TrainingJob]) -> list[Run]:
    """Train those of some jobs together that are alike and that the store lacks; returns what was made.

    A line says why alike ones are left to their jobs.
    """
    made: list[Run] = []
    for alike in _groups(jobs):
        from memorization.engine.ensemble import UnbatchableError

        most = alike[0].experiment.training.ensemble
        count = -(-len(alike) // most)  # of ensembles, which are then of about the same size
        try:
            for number in range(count):
                for part in _of_one_shape(alike[number::count]):
                    made += _train(part)
        except UnbatchableError as error:
            print(f"note: the trainings of {alike[0].name} go on each by itself: {error}", flush=True)
    return made


def _groups(jobs: Iterable[TrainingJob]) -> list[list[TrainingJob]]:
    """Those that the store lacks and that differ in nothing but what they draw, two at least."""
    alike: dict[str, dict[str, TrainingJob]] = {}
    for job in jobs:
        own = job.experiment
        if own.training.ensemble > 1 and not own.architecture.given and not files.is_done(job.folder):
            settings = (own.dataset, own.architecture, own.training, own.hardware, job.swap)
            if not (job.folder / files.CHECKPOINT).exists():
                alike.setdefault(repr(settings), {})[job.folder.name] = replace(job)  # with images of its own to drop
    return [list(group.values()) for group in alike.values() if len(group) > 1]


def _of_one_shape(jobs: Iterable[TrainingJob]) -> list[list[TrainingJob]]:
    """Those whose training can begin, by the shape and type of their images, number included; two at least."""
    parts: dict[object, list[TrainingJob]] = {}
    for job in filter(_is_usable, jobs):
        images = job.images(job.split)
        parts.setdefault((images.shape, images.dtype), []).append(job)
    return [part for part in parts.values() if len(part) > 1]


def _train(jobs: Sequence[TrainingJob]) -> list[Run]:
    """Raises `UnbatchableError`."""
    from memorization.engine.ensemble import UnbatchableError, refusal, train_together

    with ExitStack() as stack:
        for job in sorted(jobs, key=lambda job: job.folder):  # as all do who hold several locks
            stack.enter_context(lock.held(job.folder))
        usable = [job for job in jobs if not files.is_intact(job.folder, remove=True)]
        if len(usable) < 2:
            return []
        first, models = usable[0].experiment, [job.model for job in usable]
        members = [job.images(job.split) for job in usable]
        if reason := refusal(models[0], members[0], first.training, first.hardware):
            raise UnbatchableError(reason)
        for job in usable:
            job.announce()
        print(f"these {len(usable)} go on as one batched model", flush=True)
        found = train_together(models, members, first.training, progress=first.progress, hardware=first.hardware)
        return [run for job, ended in zip(usable, found, strict=True) if (run := _kept(job, ended, len(usable)))]


def _is_usable(job: TrainingJob) -> bool:
    """Can its training begin? If not, the job is to say why."""
    try:
        job.check()
        job.prepare()
        files.check_writable(job.experiment.store)
    except Exception:
        return False
    return True


def _kept(job: TrainingJob, ended: History | str, together: int) -> Run | None:
    """The run that the store now has of a training of an ensemble; None if its job is to train it by itself."""
    if isinstance(ended, str):
        print(f"note: {job.title}: {ended}; it is trained by itself", flush=True)
        return None
    try:
        job.keep(ended, together)
    except Exception as error:  # the others are not to be lost with it
        print(f"note: {job.title} could not be stored ({error}); it is trained by itself", flush=True)
        return None
    return job.made()
