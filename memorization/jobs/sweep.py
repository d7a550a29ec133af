"""A sweep: which of its jobs are done, found in the store, running or failed, and how much time is left.

Each job notes how it stands in `<store>/sweeps/<time>/.jobs/<number>.json`, in whatever process and on whatever machine
it runs, and whatever its own folder is called; the process that began the sweep reads the notes. When the sweep ends
they become one table, `jobs.csv`; only the folders of failed jobs stay, with their `error.txt`.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import filter_overrides
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from memorization.engine import interruption
from memorization.jobs.outcome import Outcome, Standing
from memorization.store import files

NOTES, QUEUE = ".jobs", "queue.json"  # how jobs stand; which of them a batch system was given
Jobs = dict[int, Sequence[str]]  # the overrides of jobs by their numbers


def job_folder() -> Path | None:
    """The folder of this process's current job, if it is one of a sweep."""
    config = HydraConfig.get()
    return Path(config.runtime.output_dir) if config.mode == RunMode.MULTIRUN else None


def note(outcome: Outcome, objective: float = math.nan) -> None:
    """Note how the current job stands, if it is one of a sweep, and what an optimising sweeper is told of it."""
    if (folder := job_folder()) and Sweep.notes:
        noted = {**asdict(outcome), "objective": objective, "folder": str(folder)}
        files.write(note_of(Sweep.notes, HydraConfig.get().job.num), json.dumps(noted), durable=False)


def note_of(folder: Path, number: int) -> Path:
    """The note of a job of the sweep in `folder`."""
    return folder / NOTES / f"{number}.json"


def named(overrides: Sequence[str]) -> str:
    """A job's name, of its overrides."""
    return " ".join(filter_overrides(overrides))


def varied(jobs: Jobs) -> dict[int, str]:
    """The settings in which jobs differ, such as `every=2`, but for choices and erased shares: names have those."""
    settings = {n: dict(word.lstrip("+").split("=", 1) for word in job if "=" in word) for n, job in jobs.items()}
    keys = [key for key in dict.fromkeys(itertools.chain(*settings.values())) if key == "seed" or "." in key]
    told = [k for k in keys if not k.endswith(".fraction") and len({own.get(k) for own in settings.values()}) > 1]
    return {
        n: " ".join(f"{key.rpartition('.')[2]}={own[key]}" for key in told if key in own) for n, own in settings.items()
    }


def count_jobs(config: DictConfig) -> int | None:
    """How many jobs a sweep has, as far as its sweeper tells beforehand."""
    sweeper = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    assert isinstance(sweeper, dict)
    if "n_trials" in sweeper:
        return int(sweeper["n_trials"])
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        return None
    words = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*words, *config.hydra.overrides.task])
    return len(BasicSweeper.split_arguments(overrides, None)[0])


def _is_child(number: int) -> bool:
    """Is this the number of a process that this one has started, and that has not ended? Its status is not kept."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(number, os.WNOHANG) == (0, 0)
    return False


class Sweep(Callback):
    """Hydra's callback for a sweep: keeps the notes, and prints a line for each job that ends and for all."""

    current: ClassVar[Sweep | None] = None  # the sweep that this process began
    notes: ClassVar[Path | None] = None  # the folder of the sweep that this process's jobs belong to

    def __init__(self, folder: Path | None = None, began_by: int = 0) -> None:
        self.folder = folder or Path()
        self.began_by = began_by or os.getpid()  # the process
        self.outcomes: dict[int, Outcome] = {}
        self.noted: dict[int, dict[str, Any]] = {}
        self.varied: dict[int, str] = {}  # `varied` of the jobs that were launched together
        self.queued: dict[int, str] = {}  # the names that a batch system gave to jobs that it still has
        self.lock = threading.RLock()
        self.ended = threading.Event()

    def __reduce__(self) -> tuple[type[Sweep], tuple[Path, int]]:
        return Sweep, (self.folder, self.began_by)  # to another process, which only notes

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.folder = Path(config.hydra.sweep.dir).absolute()
        self.made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]  # innermost first
        shutil.rmtree(self.folder / NOTES, ignore_errors=True)  # of an earlier sweep in the same folder
        self.total = count_jobs(config)
        self.begin = self.shown = time.monotonic()
        Sweep.current = self
        threading.Thread(target=self._watch, daemon=True).start()

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        Sweep.notes = self.folder
        if os.getpid() != self.began_by and os.environ.get("SUBMITIT_EXECUTOR") != "slurm":
            interruption.end_with(self.began_by)
        note(Outcome(" ".join(HydraConfig.get().overrides.task), Standing.running))

    def _watch(self) -> None:
        """Of jobs in other processes; those in this one call `look` themselves."""
        while not self.ended.wait(1):
            self.look()

    def look(self) -> None:
        """Read the notes and print what is new."""
        with self.lock, contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted((self.folder / NOTES).glob("*.json"), key=lambda path: int(path.stem)):
                number = int(path.stem)
                before = self.outcomes.get(number)
                if before and before.status is not Standing.running:
                    continue
                self.noted[number] = noted = json.loads(path.read_bytes())
                outcome = Outcome(noted["name"], Standing(noted["status"]), noted["detail"])
                self.outcomes[number] = outcome
                if outcome.status is not Standing.running:
                    self._tell(number, outcome)

    def _tell(self, number: int, outcome: Outcome) -> None:
        words = "" if outcome.failed else self.varied.get(number, "")  # the name of a failed job has them
        print(replace(outcome, name=f"{outcome.name} {words}".strip()), flush=True)
        self._show()

    def settle(self, number: int, outcome: Outcome, objective: float = math.nan) -> None:
        """Say of a job how it ended, which it has not noted itself."""
        with self.lock:
            self.outcomes[number] = outcome
            self.noted.setdefault(number, {})["objective"] = objective
            self._tell(number, outcome)

    def begun(self, numbers: Iterable[int]) -> list[int]:
        """Those of some jobs that have begun and have not ended, by their notes."""
        return [number for number in self.unfinished(numbers) if number in self.outcomes]

    def unfinished(self, numbers: Iterable[int]) -> list[int]:
        """Those of some jobs that have not ended, by their notes."""
        self.look()
        ended = {number for number, outcome in self.outcomes.items() if outcome.status is not Standing.running}
        return [number for number in numbers if number not in ended]

    def objective(self, number: int) -> float:
        """What an optimising sweeper is told of a job that has ended; NaN if it failed."""
        return float(self.noted.get(number, {}).get("objective", math.nan))

    def cancel(self, seconds: float = 60.0) -> list[int]:
        """End the jobs of `cluster=submitit_local`, processes of their own whose ids name folders in `.submitit`.

        Returns those that go on after `seconds`. They are told every five, for a job that just begins does not listen.
        """
        going = [int(path.name) for path in self.folder.glob(".submitit/*") if path.name.isdecimal()]
        begin = told = time.monotonic()
        while (going := [number for number in going if _is_child(number)]) and told - begin < seconds:
            for number in going:
                os.kill(number, signal.SIGTERM)
            while time.monotonic() - told < 5 and any(map(_is_child, going)):
                time.sleep(0.05)
            told = time.monotonic()
        return going

    def _show(self) -> None:
        now = time.monotonic()
        if now - self.shown >= 1 and len(self.outcomes) != self.total:
            self.shown = now
            print(f"  {self.table()}", flush=True)

    def table(self) -> str:
        """How many jobs are in which state, and the time left by the pace of those that did work."""
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        ended = sum(counts.values()) - counts[Standing.running]
        text = f"{ended} of {self.total or '?'} jobs: " + ", ".join(f"{n} {status}" for status, n in counts.items())
        worked = ended - counts[Standing.found] - counts[Standing.missing]
        if self.total and worked and ended < self.total:
            left = (time.monotonic() - self.begin) / worked * (self.total - ended)
            text += f"; about {math.ceil(left / 60)} min left" if left > 60 else "; less than a minute left"
        return text

    def finish(self) -> list[Outcome]:
        """Turn the notes into `jobs.csv`; without any (no job could begin), remove the folder. Returns all outcomes.

        Of a folder that was there before the sweep, nothing is removed but what Hydra and this class write. While a
        batch system has jobs of the sweep, which are still to read it, nothing is removed at all.
        """
        self.ended.set()
        self.look()
        Sweep.current = None
        outcomes = [self.outcomes[number] for number in sorted(self.outcomes)]
        if self.queued:
            return outcomes
        if not outcomes:
            if self.made:
                shutil.rmtree(self.folder, ignore_errors=True)
            else:
                (self.folder / "multirun.yaml").unlink(missing_ok=True)
            for path in self.made[1:]:
                with contextlib.suppress(OSError):
                    path.rmdir()
            return outcomes
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["job", "name", "status", "detail"])
        for number, outcome in sorted(self.outcomes.items()):
            status = "interrupted" if outcome.status is Standing.running else outcome.status
            writer.writerow([number, outcome.name, status, outcome.detail])
        for noted in self.noted.values():
            folder = Path(noted.get("folder", self.folder))
            with contextlib.suppress(OSError):
                for path in (folder, *folder.parents):
                    if path == self.folder or self.folder not in path.parents:
                        break
                    path.rmdir()
        shutil.rmtree(self.folder / NOTES, ignore_errors=True)
        (self.folder / QUEUE).unlink(missing_ok=True)
        files.write(self.folder / "jobs.csv", text.getvalue())
        return outcomes
