"""How the jobs of a sweep are launched: whatever one of them does to its process or its launcher, the others are done.

A launcher of Hydra's gives up at the first exception that is not the job's own: a configuration that cannot be
composed, a folder that cannot be made, a worker that was killed. Here the jobs that may have been the cause are then
launched alone, which tells whose fault it was, and the rest as before.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from memorization.config.messages import one_line
from memorization.jobs import queue
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.sweep import Jobs, Sweep, named, varied

if TYPE_CHECKING:
    from memorization.config.experiment import Experiment

# Optuna's warnings and errors are about its trials that failed, each of which has been told already.
logging.getLogger("hydra_plugins.hydra_optuna_sweeper._impl").addFilter(lambda record: record.levelno < logging.WARNING)
# With `cluster=auto` one job after the other is launched in this process.
LOG = logging.getLogger("hydra._internal.core_plugins.basic_launcher")
LOG.addFilter(lambda record: not record.getMessage().startswith("Launching 1 jobs"))
ENSEMBLE = "training.ensemble"
Launch = Callable[[Jobs], Sequence[JobReturn]]


class Surviving(Launcher):
    """Another launcher, each of whose jobs ends with a note, and with a value that says if it failed: None."""

    def __init__(self, launcher: Any, here: Launcher | None = None) -> None:
        """here: that of this process, with which `cluster=auto` begins."""
        self.launcher, self.here = launcher, here

    def setup(self, **context: Any) -> None:
        self.launcher.setup(**context)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Launch jobs and wait for them; none of their failures is raised."""
        jobs: Jobs = dict(enumerate(job_overrides, initial_job_idx))
        self.sweep.varied |= varied(jobs)
        words = {word.lstrip("+").partition("=")[0]: word.partition("=")[2] for job in job_overrides for word in job}
        if not self.here and words.get(ENSEMBLE, "1") != "1" and "plan" not in words:
            print(f"note: jobs train each by itself; {ENSEMBLE} needs cluster=auto, the default", flush=True)
        if queue.is_queue(self.launcher):
            queue.launch(self.launcher, jobs, self.sweep)
        elif self.here:
            self._launch_auto(jobs, partial(_in_a_row, self.here))
        else:
            self._launch_all(jobs, partial(_in_a_row, self.launcher))
        return [self._returned(number) for number in jobs]

    @property
    def sweep(self) -> Sweep:
        assert Sweep.current
        return Sweep.current

    def _launch_auto(self, jobs: Jobs, here: Launch) -> None:
        """Tell what is found; launch the rest one by one with `here`, and beside each other once that pays."""
        experiments = queue.find(self.launcher, jobs, self.sweep)
        left = {number: jobs[number] for number in self.sweep.unfinished(jobs)}
        if not left:
            return
        from memorization.jobs import auto

        left = self._train_together(left, experiments)
        pace = auto.Pace({number: experiments[number] for number in left})
        while left:
            number = min(left)
            with pace.timing(number):
                self._launch_all({number: left.pop(number)}, here)
            if (count := pace.processes(left, self.launcher.joblib["n_jobs"])) > 1:
                print(f"the other {len(left)} jobs run in {count} processes", flush=True)
                self._launch_all(left, partial(auto.launch, self.launcher, count))
                return

    def _train_together(self, jobs: Jobs, experiments: Mapping[int, Experiment | None]) -> Jobs:
        """Train what jobs ask to train as one batched model; returns the jobs that have more to do than that."""
        from memorization.jobs import together
        from memorization.jobs.plan import training_of

        trainings = {number: training_of(experiment) for number in jobs if (experiment := experiments[number])}
        made = {run.folder: run for run in together.train(trainings.values())}
        for number, training in trainings.items():
            if training.folder in made and not training.experiment.recovering and not training.experiment.extracting:
                self.sweep.settle(number, *training.told(made[training.folder], made=True))
        return {number: jobs[number] for number in self.sweep.unfinished(jobs)}

    def _launch_all(self, jobs: Jobs, launch: Launch) -> None:
        while jobs:
            try:
                self._launch(jobs, launch)
                return
            except Exception:  # of the launcher: a job took its process down
                jobs = {number: jobs[number] for number in self.sweep.unfinished(jobs)}
                suspects = self.sweep.begun(jobs) or list(jobs)[:1]
                for number in suspects:
                    self._launch_alone(number, jobs.pop(number), launch)

    def _launch(self, jobs: Jobs, launch: Launch) -> None:
        for number, job in zip(jobs, launch(jobs), strict=True):
            error = job._return_value if job.status is JobStatus.FAILED else None
            self._settle(number, jobs[number], error)

    def _launch_alone(self, number: int, overrides: Sequence[str], launch: Launch) -> None:
        try:
            self._launch({number: overrides}, launch)
        except Exception as error:
            self._settle(number, overrides, error)

    def _settle(self, number: int, overrides: Sequence[str], error: Exception | None) -> None:
        """A job that has not noted how it ended has failed."""
        if self.sweep.unfinished([number]):
            detail = one_line(error) if error else "its process ended and did not say how"
            self.sweep.settle(number, Outcome(named(overrides), Standing.failed, detail))

    def _returned(self, number: int) -> JobReturn:
        """What a sweeper is told of a job; Optuna takes None for a failed trial, and goes on."""
        value = self.sweep.objective(number)
        return JobReturn(status=JobStatus.COMPLETED, _return_value=None if value != value else value)


def _in_a_row(launcher: Launcher, jobs: Jobs) -> list[JobReturn]:
    """What a launcher of Hydra's returns of jobs, whose numbers it takes to have no gaps."""
    returned: list[JobReturn] = []
    for _, group in itertools.groupby(enumerate(jobs), key=lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        returned += launcher.launch([jobs[number] for number in numbers], numbers[0])
    return returned
