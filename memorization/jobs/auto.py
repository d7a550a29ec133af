"""`cluster=auto`: in how many processes the jobs that are left end soonest, by those that have ended in this one."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn

from memorization.config.experiment import Experiment
from memorization.jobs.plan import training_of
from memorization.jobs.sweep import Jobs
from memorization.store import files

START = 7.0  # seconds that processes take to start
GAIN = 2 / 3  # a job's speed grows with its threads to this power: 1.6 times with two, measured on the faces


class Pace:
    """What the jobs of a sweep take, by the last that has ended here: its autoencoder's training, and the rest."""

    def __init__(self, experiments: Mapping[int, Experiment | None]) -> None:
        known = {number: experiment for number, experiment in experiments.items() if experiment}
        self.autoencoders = {number: training_of(experiment).folder for number, experiment in known.items()}
        self.alone = not _side_by_side(known.values())
        self.training = self.rest = 0.0
        self.loading = START  # what the first job takes to load is no pace

    @contextmanager
    def timing(self, number: int) -> Iterator[None]:
        """Take the time of a job."""
        folder, begin = self.autoencoders.get(number), time.monotonic()
        trains = folder and not files.is_done(folder)
        yield
        self.rest = time.monotonic() - begin
        if folder and trains and files.is_done(folder):
            self.training = files.read_done(folder).get("seconds", 0.0)
            self.rest -= self.training
        self.rest, self.loading = max(0.0, self.rest - self.loading), 0.0

    def processes(self, left: Collection[int], wanted: int) -> int:
        """How many processes end the jobs that are left soonest; 1 stands for this one. wanted: joblib's `n_jobs`."""
        if self.alone or len(left) < 2:
            return 1
        import torch
        from joblib import cpu_count, effective_n_jobs

        folders = {self.autoencoders[number] for number in left if number in self.autoencoders}
        seconds = len(left) * self.rest + self.training * sum(not files.is_done(folder) for folder in folders)
        threads, cores, most = torch.get_num_threads(), cpu_count(), min(len(left), effective_n_jobs(wanted))

        def lasts(count: int) -> float:
            if count == 1:
                return seconds
            share = min(threads, max(1, cores // count))
            slower: float = (threads / share) ** GAIN
            return START + math.ceil(len(left) / count) * seconds / len(left) * slower

        return min(range(1, most + 1), key=lasts)


def _side_by_side(experiments: Collection[Experiment]) -> bool:
    """Do all jobs compute on the processor alone, each in one process? Others would share a GPU."""
    from memorization.engine import hardware

    asked = {repr(experiment.hardware): experiment.hardware for experiment in experiments}
    try:
        return all(map(hardware.is_one_processor, asked.values()))
    except Exception:  # of what this machine lacks, which the job is to say
        return False


def launch(launcher: Any, count: int, jobs: Jobs) -> Sequence[JobReturn]:
    """What joblib's `launcher` does, in `count` processes, but that jobs keep their numbers where these have gaps."""
    from hydra_plugins.hydra_joblib_launcher._core import process_joblib_cfg
    from joblib import Parallel, delayed

    settings = {**launcher.joblib, "n_jobs": count, "backend": "loky"}
    process_joblib_cfg(settings)
    shared = (launcher.hydra_context, launcher.config, launcher.task_function, Singleton.get_state())
    done: list[JobReturn] = Parallel(**settings)(delayed(_run)(*job, *shared) for job in jobs.items())
    return done


def _run(*job: Any) -> JobReturn:
    """Run a job; without its configuration, whose classes would come back changed: copies of `dataclasses.MISSING`."""
    from hydra_plugins.hydra_joblib_launcher._core import execute_job

    done = execute_job(*job)
    return JobReturn(status=done.status, _return_value=done._return_value)
