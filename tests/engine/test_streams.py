"""What becomes of the standard streams changes no result and no exit status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from memorization.store.reading import finished
from tests.preloaded import PYTHON

TINY = ["dataset=digits", "architecture.width=8", "training.max_steps=2", "training.ladder=[1e3]", "tracking=none"]
TINY += ["progress=false", "recovery=iterate", "recovery.max_iterations=2"]
LONG = "print('→' * 200_000)"  # more than any buffer
CODE = f"""
import sys
from memorization.engine import streams
if sys.argv[1] == "prints":
    with streams.printing():
        {LONG}
        print("warning →", file=sys.stderr)
else:
    streams.settle()
    {LONG}
    print("warning →", file=sys.stderr)
open("result", "w").write("kept")
sys.exit(int(sys.argv[2]))
"""


def ended(redirected, folder, *words, **environment):
    """How a command ends whose streams are `redirected` as a shell does it: its status, and what it said."""
    command = ["bash", "-c", f'"$@" {redirected}; exit ${{PIPESTATUS[0]}}', "bash", *words]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, timeout=300)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize(
    "redirected", [">&-", "2>&-", "<&- >&- 2>&-", "| true", ">/dev/full", ">/dev/full 2>/dev/full"]
)
def test_work_goes_on_whatever_becomes_of_its_output(tmp_path, redirected, buffered):
    words = [sys.executable, "-c", CODE, "works"]
    for expected in (0, 1):
        status, said = ended(redirected, tmp_path, *words, str(expected), PYTHONUNBUFFERED=buffered)
        assert status == expected
        assert said in ("", "warning ?\n", "warning →\n")
        assert (tmp_path / "result").read_text() == "kept"
        (tmp_path / "result").unlink()


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_command_that_prints_its_result_ends_where_that_is_lost(tmp_path, buffered):
    words = [sys.executable, "-c", CODE, "prints", "0"]
    assert ended("| true", tmp_path, *words, PYTHONUNBUFFERED=buffered) == (141, "")
    status, said = ended(">/dev/full", tmp_path, *words, PYTHONUNBUFFERED=buffered)
    assert (status, said) == (1, "error: the output cannot be written (No space left on device)\n")
    assert not (tmp_path / "result").exists()
    assert ended(">&-", tmp_path, *words, PYTHONUNBUFFERED=buffered)[0] == 0
    assert ended(">/dev/null 2>/dev/full", tmp_path, *words, PYTHONUNBUFFERED=buffered)[0] == 0


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "ascii:strict", "cp1252"])
@pytest.mark.parametrize("kind", ["works", "prints"])
def test_what_a_terminal_cannot_show_is_replaced(tmp_path, kind, encoding):
    command = [sys.executable, "-c", CODE, kind, "0"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"warning ?\n")
    assert done.stdout == b"?" * 200_000 + b"\n"


def test_a_sweep_that_nobody_watches_does_all_its_jobs(tmp_path):
    sweep = [*PYTHON, "-m", "memorization.recover", "-m", *TINY, "seed=0,1"]
    for redirected, found in (("| true", "done"), (">/dev/full", "found")):
        assert ended(redirected, tmp_path, *sweep) == (0, "")
        assert len(finished(tmp_path / "runs")) == 2
        *_, last = sorted((tmp_path / "runs" / "sweeps").glob("*/jobs.csv"))
        assert [line.split(",")[2] for line in last.read_text().splitlines()[1:]] == [found, found]
    # Of a terminal that is not UTF-8, whose files are not either.
    old = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "memorization.recover"]
    assert ended(">&1", tmp_path, *words, *TINY, "controls=true", **old) == (0, "")
    assert ended(">&1", tmp_path, *words, "--help", **old) == (0, "")
    assert ended(">&- 2>&-", tmp_path, *words, *TINY, "seed=2") == (0, "")
    assert ended(">&- 2>&-", tmp_path, *words, "seed=x") == (1, "")


@pytest.mark.parametrize("module", ["memorization.cli.store", "memorization.report", "memorization.tracking.dashboard"])
def test_help_that_nobody_reads_is_no_error(tmp_path, module):
    assert ended("| true", tmp_path, *PYTHON, "-m", module, "--help") in [(0, ""), (141, "")]
