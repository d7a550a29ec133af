"""Jobs in SLURM's queue, with commands that stand in for SLURM's; `make test-slurm` has the real one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from memorization.jobs import slurm
from tests.preloaded import PYTHON

COMMANDS = {
    "srun": "",
    "sbatch": "echo Submitted batch job 7",
    "squeue": 'test -e {folder}/deaf && echo >>{folder}/deaf && exit 1; cat "{folder}/queue"',
    "scontrol": 'echo "JobId=7 JobState=CANCELLED Reason=None ExitCode=0:15 Command=x"',
}
WAITING = "7_{}|PENDING|Resources|2026-01-02T03:04:05|4|16G|4:00:00\n"
SWEEP = """
import sys
from memorization.jobs import queue
queue.ASK = queue.OnSlurm.patience = 0.5
sys.argv = ["memorization-train", "-m", "dataset=digits", "seed=0,1", "cluster=slurm", "tracking=none", *sys.argv[1:]]
from memorization.train import main
main()
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder whose file `queue` is what `squeue` prints, and which makes it fail if it has a file `deaf`."""
    folder = tmp_path / "cluster"
    (folder / "bin").mkdir(parents=True)
    for name, text in COMMANDS.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text.format(folder=folder)}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "queue").write_text(WAITING.format(0) + WAITING.format(1))
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    return folder


def start(cwd: Path, *words: str) -> subprocess.Popen[str]:
    with (cwd / "said").open("w") as said:
        return subprocess.Popen([*PYTHON, "-c", SWEEP, *words], cwd=cwd, stdout=said, stderr=said, text=True)


def wait_for(cwd: Path, text: str, file: str = "said") -> None:
    deadline = time.monotonic() + 120
    while text not in (said := (cwd / file).read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def test_jobs_stay_queued_without_the_command_and_the_next_one_watches_them(cluster, tmp_path):
    sweep = start(tmp_path)
    wait_for(tmp_path, "(scancel 7 ends them)")
    wait_for(tmp_path, "7_[0-1] pending since 2026-01-02 03:04:05: Resources (hydra.launcher asks for 4 CPUs, 16G and ")
    sweep.send_signal(signal.SIGTERM)
    assert sweep.wait(60) == 128 + signal.SIGTERM
    told = "stopped by SIGTERM; the jobs 7_[0-1] go on (scancel 7 ends them), and the same command watches them"
    assert (tmp_path / "said").read_text().splitlines()[-1] == told
    pickles = sorted((tmp_path / "runs").rglob("7_[01]_submitted.pkl"))
    assert len(pickles) == 2
    again = start(tmp_path, "progress=false")
    wait_for(tmp_path, "an equal sweep has 2 jobs that go on: 7_[0-1]; they are watched")
    (cluster / "deaf").touch()  # that SLURM does not answer says nothing of the jobs
    (cluster / "queue").write_text(WAITING.format(1))
    wait_for(cluster, "\n\n\n\n", "deaf")  # asked four times, which is longer than a note is waited for
    assert "CANCELLED" not in (tmp_path / "said").read_text()
    (cluster / "deaf").unlink()
    wait_for(tmp_path, "job 7_0 ended without a result: CANCELLED, signal 15; the same command queues it again")
    (cluster / "queue").write_text("")
    assert again.wait(60) == 1
    (table,) = (tmp_path / "runs" / "sweeps").glob("*/jobs.csv")
    assert list(pd.read_csv(table)["status"]) == ["failed", "failed"]
    assert "queued 2 jobs" not in (tmp_path / "said").read_text()
    assert sorted((tmp_path / "runs").rglob("7_[01]_submitted.pkl")) == pickles


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(cluster, tmp_path):
    refusing = "#!/bin/sh\necho 'sbatch: error: invalid partition specified: x' >&2\nexit 1\n"
    (cluster / "bin" / "sbatch").write_text(refusing)
    assert start(tmp_path).wait(120) == 1
    (line,) = [line for line in (tmp_path / "said").read_text().splitlines() if "HYDRA" not in line]
    assert line == (
        "error: SLURM refuses the jobs (invalid partition specified: x); sinfo lists what hydra.launcher can name"
    )
    assert not (tmp_path / "runs").exists()


def test_without_slurm_a_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert start(tmp_path).wait(120) == 1
    assert "error: cluster=slurm: there is no srun here; " in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("names", "told"),
    [(["7"], "7"), (["7_3", "7_1", "7_2", "9", "7_5"], "7_[1-3,5] 9"), (["8_0"], "8_[0]"), ([], "")],
)
def test_jobs_are_named_as_scancel_takes_them(names, told):
    assert slurm.numbers(names) == told
    assert re.fullmatch(r"scancel( \d+)*", slurm.ended_by(names).strip())


@pytest.mark.parametrize(
    ("scontrol", "sacct", "cause"),
    [
        ("echo JobState=OUT_OF_MEMORY Reason=Memory ExitCode=0:125", "exit 1", "OUT_OF_MEMORY, Memory, signal 125"),
        ("echo JobState=FAILED Reason=None ExitCode=10:0", "exit 1", "FAILED, exit status 10"),
        ("exit 1", "echo 'TIMEOUT|0:0'", "TIMEOUT"),
        ("exit 1", "echo 'CANCELLED by 0|0:15'", "CANCELLED by 0, signal 15"),
        ("exit 1", "true", "SLURM has forgotten it"),
        ("exit 1", "exit 1", "SLURM has forgotten it"),
    ],
)  # fmt: skip
def test_the_cause_is_that_of_scontrol_or_of_the_accounts(cluster, scontrol, sacct, cause):
    for name, text in (("scontrol", scontrol), ("sacct", sacct)):
        (cluster / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (cluster / "bin" / name).chmod(0o755)
    assert slurm.cause("7") == cause
