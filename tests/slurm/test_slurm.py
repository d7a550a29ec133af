"""Sweeps on a real SLURM, which `cluster.sh up` has started on this machine: `make test-slurm`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from memorization.store.reading import finished, load_results

CONF = "/run/memorization-slurm/slurm.conf"
HERE = Path(__file__).parents[2]
SMALL = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
TINY = [
    *["dataset=digits", "dataset.members=5", "dataset.non_members=5", "architecture.depth=2", "training.max_steps=5"],
    *["training.ladder=[1.0]", "training.target_loss=1.0", "tracking=none", "progress=false"],
]
LONG = ["training.max_steps=10000000", "training.target_loss=1e-30"]


@pytest.fixture(autouse=True)
def cluster(monkeypatch):
    monkeypatch.setenv("SLURM_CONF", CONF)
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell starts with `&` ignores
    yield
    subprocess.run(["scancel", "--me"], check=True)
    wait_until(lambda: not queue())


def command(script: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"memorization.{script}", *words]


def run(script: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(script, *words), cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


def start(cwd: Path, *words: str) -> subprocess.Popen[str]:
    """A sweep of trainings on the cluster, in the background; what it says goes to the file `said`."""
    with (cwd / "said").open("a") as said:
        return subprocess.Popen(
            command("train", "-m", *TINY, "cluster=slurm", *SMALL, *words), cwd=cwd, stdout=said, stderr=said, text=True
        )


def queue() -> dict[str, str]:
    said = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True, check=True)
    return dict(line.split() for line in said.stdout.splitlines())


def wait_until(holds, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def statuses(folder: Path) -> list[str]:
    (table,) = (folder / "runs" / "sweeps").glob("*/jobs.csv")
    return list(pd.read_csv(table)["status"])


def test_a_sweep_gives_the_bits_of_one_process_and_is_not_queued_again(tmp_path, monkeypatch):
    sweep = ["-m", "experiment=smoke", "recovery=iterate", "degradation=box,half", "tracking=none", "progress=false"]
    ended = run("recover", *sweep, "cluster=slurm", *SMALL, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    assert re.search(r"queued 2 jobs: \d+_\[0-1\] \(scancel \d+ ends them\)", ended.stdout)
    assert "2 of 2 jobs: 2 done" in ended.stdout
    again = run("recover", *sweep, "cluster=slurm", *SMALL, "seed=0,1", cwd=tmp_path)
    assert "queued 2 jobs" in again.stdout
    assert "4 of 4 jobs: 2 found, 2 done" in again.stdout
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the tasks have
    assert run("recover", *sweep, "store=here", "seed=0,1", cwd=tmp_path).returncode == 0
    one, two = (load_results(tmp_path / store).drop(columns="seconds") for store in ("runs", "here"))
    order = ["signature", "rung", "member", "image"]
    pd.testing.assert_frame_equal(*(table.sort_values(order, ignore_index=True) for table in (one, two)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_queued_jobs_go_on_without_the_command_and_the_next_one_watches_them(tmp_path, number):
    blocking = ["sbatch", "--exclusive", "--output=/dev/null", "--parsable", "--wrap", "sleep 600"]
    blocker = subprocess.run(blocking, capture_output=True, text=True, check=True).stdout.strip()
    sweep = start(tmp_path, "seed=0,1")
    wait_until(lambda: len(queue()) == 3)
    wait_until(lambda: " pending since " in (tmp_path / "said").read_text())
    sweep.send_signal(number)
    assert sweep.wait(60) == 128 + number
    said = (tmp_path / "said").read_text()
    assert re.search(
        r"\d+_\[0-1\] pending since [-\d]+ [:\d]+: \w+ \(hydra.launcher asks for 1 CPUs, 1G and 4:00:00", said
    )
    assert re.search(rf"stopped by {number.name}; the jobs \d+_\[0-1\] go on \(scancel \d+ ends them\)", said)
    second = start(tmp_path, "seed=0,1,-1")
    wait_until(lambda: "an equal sweep has 2 jobs that go on" in (tmp_path / "said").read_text())
    wait_until(lambda: len(queue()) == 4)
    subprocess.run(["scancel", blocker], check=True)
    assert second.wait(200) == 1
    assert statuses(tmp_path) == ["done", "done", "failed"]


def test_a_job_that_is_cancelled_is_told_and_the_others_go_on(tmp_path):
    sweep = start(tmp_path, *LONG[1:], "training.max_steps=10000000,5", "checkpoint_seconds=0")
    wait_until(lambda: list((tmp_path / "runs").rglob("last.ckpt")) and len(queue()) == 1)
    (name,) = queue()
    subprocess.run(["scancel", name], check=True)
    assert sweep.wait(120) == 1
    assert statuses(tmp_path) == ["failed", "done"]
    assert f"job {name} ended without a result: CANCELLED" in (tmp_path / "said").read_text()
    assert "Traceback" not in (tmp_path / "said").read_text()


OWN = """
import os, torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, gigabytes=0):
        super().__init__(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
        print("threads", torch.get_num_threads(), flush=True)
        held = [bytearray(os.urandom(1000)) * 1000000 for _ in range(gigabytes)]
        while held:
            pass
"""


def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    model = ["architecture=custom", "architecture.target=own.Net", "architecture.allowed=[own]"]
    tiny = [word for word in TINY if not word.startswith("architecture.")]
    return run("train", "-m", *tiny, *model, "cluster=slurm", *SMALL, *words, cwd=tmp_path)


def test_a_job_that_takes_too_much_memory_is_told_with_the_way_out(tmp_path, monkeypatch):
    ended = own(tmp_path, monkeypatch, "architecture.kwargs={gigabytes:2},{gigabytes:0}")
    assert ended.returncode == 1
    assert statuses(tmp_path) == ["failed", "done"]
    (line,) = ended.stderr.splitlines()
    assert "ended without a result: " in line
    assert line.endswith("raise hydra.launcher.mem_gb")


@pytest.mark.parametrize("cpus", [1, 2])
def test_threads_follow_the_cpus_of_a_task(tmp_path, monkeypatch, cpus):
    ended = own(tmp_path, monkeypatch, f"hydra.launcher.cpus_per_task={cpus}")
    assert ended.returncode == 0, ended.stderr
    (log,) = (tmp_path / "runs").rglob("*_log.out")
    assert set(re.findall(r"^threads (\d+)$", log.read_text(), re.MULTILINE)) == {str(cpus)}


def test_what_no_node_can_give_is_told(tmp_path):
    sweep = start(tmp_path, "hydra.launcher.cpus_per_task=4")
    wait_until(lambda: " pending since " in (tmp_path / "said").read_text())
    assert "asks for 4 CPUs, 1G and 4:00:00 each: .cpus_per_task, .mem_gb" in (tmp_path / "said").read_text()
    sweep.terminate()
    assert sweep.wait(60) == 143


def test_a_wrong_partition_is_one_line(tmp_path):
    ended = run("train", "-m", *TINY, "cluster=slurm", *SMALL, "hydra.launcher.partition=nope", cwd=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: SLURM refuses the jobs (invalid partition specified: nope;")
    assert not list((tmp_path / "runs").rglob("*.pkl"))


def test_a_job_that_meets_its_time_limit_goes_on_from_the_notice(tmp_path):
    """No checkpoint is written but on the notice."""
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20", "hydra.launcher.max_num_timeout=1"]
    sweep = start(tmp_path, *LONG, *limit, "checkpoint_seconds=10000")
    assert sweep.wait(600) == 1
    log = "".join(path.read_text() for path in (tmp_path / "runs").rglob("*_log.out"))
    (step,) = re.findall(r"the training goes on from step (\d+)", log)
    assert int(step) > 100
    assert "timed-out too many times" in (tmp_path / "said").read_text()
    assert statuses(tmp_path) == ["failed"]


@pytest.mark.parametrize("inside", [["salloc", "--ntasks=2"], ["srun", "--ntasks=2"]])
def test_inside_an_allocation_processes_are_ours(tmp_path, inside):
    words = [*TINY, "trainer.accelerator=cpu", "trainer.devices=2"]
    ended = subprocess.run(
        [*inside, *command("train", *words)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(finished(tmp_path / "runs", "autoencoders")) == 1
