"""Jobs that submitit queues: with SLURM, or, with `cluster=submitit_local`, as processes of this machine.

Each is watched until it has noted how it ended, or has gone without a word; then it is said why. What the store has is
not queued on a cluster, and a job of an equal sweep that is still queued or running is watched in the place of another.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
import shutil
import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from omegaconf import OmegaConf, open_dict

from memorization.jobs import slurm
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.sweep import QUEUE, Jobs, Sweep, named, note_of
from memorization.store import files

if TYPE_CHECKING:
    from memorization.config.experiment import Experiment

ASK = 10.0  # seconds between two questions to the batch system
PATIENCE = 10.0  # seconds that a job's note may take to be seen here, once the job is gone
REMEDIES = {  # by what a batch system or a log says of a job that died
    "TIMEOUT": "raise hydra.launcher.timeout_min",
    "memory": "raise hydra.launcher.mem_gb",
    "CANCELLED": "the same command queues it again",
}


@dataclass(frozen=True)
class Queued:
    """A job that was queued: its number in this sweep and its name; the folder and the number under which it notes.

    id: what the batch system calls it. key: what it is to make. log: what it writes.
    """

    number: int
    name: str
    folder: str
    noted: int
    id: str
    key: str
    log: str


def is_queue(launcher: Any) -> bool:
    """Is this a launcher of submitit's?"""
    return hasattr(launcher, "_EXECUTOR")


def launch(launcher: Any, jobs: Jobs, sweep: Sweep) -> None:
    """Queue what is missing of some jobs, and wait until each has ended, which `sweep` is told."""
    if launcher._EXECUTOR != "slurm":
        here = Here(dict(_submit(launcher, jobs, sweep.folder, {})))
        _watch(list(here.processes), sweep, here)
        return
    experiments = find(launcher, jobs, sweep)
    keys = {number: _key(experiments[number]) for number in sweep.unfinished(jobs)}
    watched = _live(sweep.folder, keys)
    missing = {number: jobs[number] for number in keys.keys() - {job.number for job in watched}}
    queued = [job for job, _ in _submit(launcher, dict(sorted(missing.items())), sweep.folder, keys)]
    if watched:
        names = slurm.numbers(job.id for job in watched)
        print(f"an equal sweep has {len(watched)} jobs that go on: {names}; they are watched", flush=True)
    if queued:
        files.write(sweep.folder / QUEUE, json.dumps([asdict(job) for job in queued]))
        ids = [job.id for job in queued]
        print(f"queued {len(queued)} jobs: {slurm.numbers(ids)} ({slurm.ended_by(ids)} ends them)", flush=True)
    _watch(watched + queued, sweep, OnSlurm(sweep))


def find(launcher: Any, jobs: Jobs, sweep: Sweep) -> dict[int, Experiment | None]:
    """Tell `sweep` of the jobs that the store has; returns what each stands for, None if the job is to say why."""
    experiments = {number: _experiment(launcher, overrides) for number, overrides in jobs.items()}
    for number, experiment in experiments.items():
        if experiment and (found := _found(experiment)):
            sweep.settle(number, *found)
    return experiments


def _experiment(launcher: Any, overrides: Sequence[str]) -> Experiment | None:
    """What a job stands for; None if it cannot be said here, and the job is to say why."""
    from memorization.config.experiment import resolve

    try:
        config = launcher.hydra_context.config_loader.load_sweep_config(launcher.config, list(overrides))
        with open_dict(config):
            del config["hydra"]
        return resolve(config)
    except Exception:  # of settings that the job itself will refuse
        return None


def _key(experiment: Experiment | None) -> str:
    silent = ("progress", "plan", "checkpoint_seconds")
    record = {key: value for key, value in experiment.record.items() if key not in silent} if experiment else {}
    return json.dumps(record, sort_keys=True, default=str) if record else ""


def _found(experiment: Experiment) -> tuple[Outcome, float] | None:
    """How a job ends that the store has, and what a sweeper is told of it."""
    from memorization.jobs import plan

    try:
        return plan.run(experiment) if plan.is_found(experiment) else None
    except Exception:  # of what this machine lacks, a GPU for instance
        return None


def _submit(launcher: Any, jobs: Jobs, folder: Path, keys: dict[int, str]) -> list[tuple[Queued, Any]]:
    """Queue jobs, in SLURM as an array, with submitit's own of each. Raises `ValueError` if they are refused."""
    if not jobs:
        return []
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    kind, parameters = launcher._EXECUTOR, dict(launcher.params)
    if kind == "slurm" and not shutil.which("srun"):
        raise ValueError(
            "cluster=slurm: there is no srun here; log in to a node of the cluster, or take cluster=joblib"
        )
    own = {"folder": parameters.pop("submitit_folder")}
    if "max_num_timeout" in parameters:
        own[f"{kind}_max_num_timeout"] = parameters.pop("max_num_timeout")
    if "signal_delay_s" in parameters:  # before the limit, which is no use before the job has begun its work
        parameters["signal_delay_s"] = min(parameters["signal_delay_s"], 60 * parameters["timeout_min"] // 2)
    common = set(OmegaConf.structured(BaseQueueConf))
    executor = submitit.AutoExecutor(cluster=kind, **own)
    executor.update_parameters(
        **{name if name in common else f"{kind}_{name}": value for name, value in parameters.items()}
    )
    folder.mkdir(parents=True, exist_ok=True)
    state = Singleton.get_state()
    calls = [(list(words), "hydra.sweep.dir", number, f"job_id_for_{number}", state) for number, words in jobs.items()]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # where submitit repeats what sbatch says
            submitted = executor.map_array(launcher, *zip(*calls, strict=True))
    except submitit.core.utils.FailedJobError as error:
        said = "; ".join(re.findall(r"sbatch: error: (.*)", str(error))) or " ".join(str(error).split())
        raise ValueError(f"SLURM refuses the jobs ({said}); sinfo lists what hydra.launcher can name") from error
    return [
        (
            Queued(number, named(words), str(folder), number, job.job_id, keys.get(number, ""), str(job.paths.stderr)),
            job,
        )
        for (number, words), job in zip(jobs.items(), submitted, strict=True)
    ]


def _live(folder: Path, keys: dict[int, str]) -> list[Queued]:
    """Jobs of other sweeps in the same place, by our numbers, that are to make the same and have not ended."""
    found, states = {}, slurm.states() or {}
    for path in sorted(folder.parent.glob(f"*/{QUEUE}")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            for job in (Queued(**noted) for noted in json.loads(path.read_bytes())):
                if job.key and job.id in states and path.parent != folder:
                    found[job.key] = job
    numbers = {number: found[key] for number, key in keys.items() if key in found}
    return [replace(job, number=number) for number, job in numbers.items()]


class OnSlurm:
    """Which jobs SLURM still has, asked every `ASK` seconds; says what waits, and why."""

    patience = PATIENCE

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self.asked, self.told = -math.inf, ""
        self.states: dict[str, slurm.State] | None = None

    def going(self, left: Iterable[Queued]) -> Container[str] | None:
        """The names of all jobs that have not ended; None if that is not known."""
        self.sweep.queued = {job.number: job.id for job in left}
        if time.monotonic() - self.asked >= ASK:
            self.states, self.asked = slurm.states(), time.monotonic()
            states, ids = self.states or {}, {job.id for job in left}
            ours = {name: state for name, state in states.items() if name in ids}
            if (text := slurm.waiting(ours)) and text != self.told:
                print(text, flush=True)
            self.told = text
        return self.states

    def cause(self, job: Queued) -> str:
        """Why a job has ended."""
        return slurm.cause(job.id)


class Here:
    """Which processes of this machine still run, each of submitit's."""

    patience = 1.0

    def __init__(self, processes: dict[Queued, Any]) -> None:
        self.processes = processes

    def going(self, left: Iterable[Queued]) -> Container[str]:
        """The names of all jobs that have not ended."""
        return {job.id for job in left if not self.processes[job].done()}

    def cause(self, job: Queued) -> str:
        """How a job's process has ended."""
        return "its process is gone"


def _watch(jobs: Sequence[Queued], sweep: Sweep, place: OnSlurm | Here) -> None:
    """Wait until each of some jobs has ended."""
    left, gone = {job.number: job for job in jobs}, dict.fromkeys((job.number for job in jobs), math.inf)
    while left:
        time.sleep(0.5)
        for job in left.values():
            _carry_note(job, sweep)
        left = {number: left[number] for number in sweep.unfinished(left)}
        going, now = place.going(left.values()), time.monotonic()
        if going is None:
            continue
        for number, job in list(left.items()):
            gone[number] = math.inf if job.id in going else min(gone[number], now)
            if now - gone[number] >= place.patience:
                sweep.settle(number, Outcome(job.name, Standing.failed, _explained(job, place.cause(job))))
                del left[number]
    sweep.queued = {}


def _carry_note(job: Queued, sweep: Sweep) -> None:
    """The note of a job of another sweep becomes one of ours."""
    if job.folder != str(sweep.folder):
        with contextlib.suppress(OSError):
            content = note_of(Path(job.folder), job.noted).read_bytes()
            files.write(note_of(sweep.folder, job.number), content, durable=False)


def _explained(job: Queued, cause: str) -> str:
    """The line on a job that ended without a word, with the last error in its log."""
    last = ""
    with contextlib.suppress(OSError):
        lines = [line.strip() for line in Path(job.log).read_text(errors="replace").splitlines()]
        errors = [line for line in lines if re.search(r"error|killed", line, re.IGNORECASE)]
        last = next((line for line in errors if "memory" in line.lower()), *errors[-1:]) if errors else ""
    remedies = [remedy for word, remedy in REMEDIES.items() if word.lower() in f"{cause} {last}".lower()]
    text = f"job {job.id} ended without a result: {cause}" + (f" ({last})" if last else "")
    return "; ".join([text, *(remedies[:1] or [f"its log is {job.log}"])])
