"""`cluster=auto`: what the store has is told here, and the rest goes to several processes only where that pays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

from memorization import recover
from memorization.engine import hardware
from memorization.engine.settings import Hardware
from memorization.jobs import auto, launching
from memorization.jobs.auto import Pace
from memorization.store import files
from memorization.store.reading import finished
from tests.conftest import experiment_of

pytestmark = pytest.mark.usefixtures("composed_once")
SWEEP = ["experiment=smoke", "recovery.max_iterations=20", "tracking=none", "progress=false"]
ON_GPU = SimpleNamespace(root_device=torch.device("cuda", 0))
SHORT = ["recovery=iterate,energy", "degradation=box,random_50"]


@pytest.fixture
def sweep(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[int]]:
    """Runs a sweep in this process; returns how many jobs were given to several processes, each time."""
    given: list[int] = []
    launch = auto.launch

    def counted(launcher: Any, count: int, jobs: Any) -> Any:
        assert count == 2
        given.append(len(jobs))
        return launch(launcher, count, jobs)

    def run(*words: str, cost: float = 0.0, cores: int = 2) -> list[int]:
        monkeypatch.setattr(auto, "launch", counted)
        monkeypatch.setattr(auto, "START", cost)
        monkeypatch.setattr("joblib.cpu_count", lambda: cores)
        monkeypatch.setattr("joblib.effective_n_jobs", lambda wanted: cores if wanted < 0 else wanted)
        monkeypatch.setattr("sys.argv", ["memorization-recover", "-m", *SWEEP, *words])
        recover.main()
        return given

    monkeypatch.chdir(tmp_path)
    return run


def tables(store: Path) -> dict[str, pd.DataFrame]:
    return {run.folder.name: run.results.drop(columns="seconds") for run in finished(store)}


def test_jobs_that_are_found_start_no_process(smoke, sweep, monkeypatch, capsys):
    def launched(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(launching.Surviving, "_launch_all", launched)
    assert sweep(f"store={smoke[0] / 'runs'}") == []
    said = capsys.readouterr().out
    assert said.count("found  ") == 6
    assert said.endswith("6 of 6 jobs: 6 found\n")


def test_quick_jobs_stay_in_this_process(sweep, tmp_path, capsys):
    assert sweep(*SHORT, cost=1e6) == []
    assert "4 of 4 jobs: 4 done" in capsys.readouterr().out
    assert len(finished(tmp_path / "runs")) == 4


@pytest.mark.usefixtures("quick_children")
def test_slow_jobs_go_to_several_processes_and_their_tables_are_the_same(smoke, sweep, tmp_path, capsys):
    """Those that are missing between others that the store has keep their numbers."""
    shutil.copytree(smoke[0] / "runs", tmp_path / "runs")
    expected = tables(tmp_path / "runs")
    again = [run.folder for run in finished(tmp_path / "runs") if run.config["degradation"]["name"] == "box"]
    assert len(again) == 3
    for folder in again:
        shutil.rmtree(folder)
    assert sweep("hydra.sweep.dir=swept") == [2]
    said = capsys.readouterr().out
    assert "the other 2 jobs run in 2 processes" in said
    assert said.endswith("6 of 6 jobs: 3 found, 3 done\n")
    jobs = pd.read_csv("swept/jobs.csv").set_index("job")["status"].to_dict()
    assert jobs == {0: "found", 1: "done", 2: "found", 3: "done", 4: "found", 5: "done"}
    for name, table in tables(tmp_path / "runs").items():
        pd.testing.assert_frame_equal(table, expected.pop(name), check_exact=True)
    assert not expected


@pytest.mark.usefixtures("quick_children")
def test_a_failure_elsewhere_is_told_as_here(sweep, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        sweep("recovery=iterate", "degradation=box", "architecture.width=128,-1", "seed=0,1", "rungs=[1e-1]")
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert "the other 3 jobs run in 2 processes" in said.out
    assert said.out.endswith("4 of 4 jobs: 2 done, 2 failed\n")
    assert said.err.count("error: ") == 2
    assert "architecture.width=-1" in said.err


def test_one_core_or_one_process_asked_for_runs_all_jobs_here(sweep):
    assert sweep("recovery=iterate", "degradation=box,random_50", cores=1) == []
    assert sweep("recovery=iterate", "degradation=box,random_50", "seed=1", "hydra.launcher.n_jobs=1") == []


class Clock:
    """Stands for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def paced(smoke, monkeypatch, tmp_path) -> Callable[..., int]:
    """In how many processes jobs go on, once the first (`took`) and the second have ended, on two cores.

    seeds: how many autoencoders the jobs have. trains: the part of a job that trains its own, where it is new.
    """
    config = {**finished(smoke[0] / "runs")[0].config, "store": str(tmp_path)}
    clock = Clock()
    monkeypatch.setattr(auto, "time", clock)
    monkeypatch.setattr("joblib.cpu_count", lambda: 2)
    monkeypatch.setattr("joblib.effective_n_jobs", lambda wanted: 2)

    def processes(jobs: int, *took: float, seeds: int = 1, trains: float = 0.0, threads: int = 2, **on: Any) -> int:
        monkeypatch.setattr("torch.get_num_threads", lambda: threads)
        trainer = vars(Hardware(**{"accelerator": "cpu", **on}))
        asked = {n: experiment_of({**config, "seed": n % seeds, "trainer": trainer}) for n in range(jobs)}
        pace = Pace(asked)
        for number, seconds in enumerate(took):
            folder = pace.autoencoders[number]
            with pace.timing(number):
                if trains and not files.is_done(folder):
                    with files.creating(folder, {}, {"seconds": trains}):
                        clock.now += trains
                clock.now += seconds
        return pace.processes(range(len(took), jobs), -1)

    return processes


def test_processes_start_where_they_save_more_than_their_start(paced):
    assert paced(28, 12.0) == 2
    assert paced(28, 8.0) == 1  # nearly all of the first was to load what a job needs
    assert paced(28, 8.0, 8.0) == 2
    assert paced(28, 8.0, 0.5) == 1
    assert paced(28, 8.0, 1.0, threads=1) == 2  # a second core is idle
    assert paced(2, 100.0) == 1
    assert paced(4, 100.0, 100.0) == 2
    assert paced(4, 100.0) == 1  # two and one, each slower than here


def test_a_training_counts_for_those_that_lack_their_autoencoder(paced):
    assert paced(28, 8.0, 0.2, trains=60.0) == 1
    assert paced(28, 8.0, 0.2, trains=60.0, seeds=28) == 2


@pytest.mark.parametrize("on", [{"accelerator": "cpu", "devices": 2}, {"accelerator": "nothing"}])
def test_jobs_of_several_processes_stay_here(paced, on):
    assert paced(28, 100.0, **on) == 1


def test_jobs_on_a_gpu_stay_here(paced, monkeypatch):
    monkeypatch.setattr(hardware, "trainer_on", lambda _: SimpleNamespace(strategy=ON_GPU))
    assert paced(28, 100.0) == 1
