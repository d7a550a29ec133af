"""Checks in environments that are not `.venv`: other Pythons, the lowest and the newest packages, an installed wheel.

`nox -s lowest -- tests/evaluation/test_scores.py` runs one session with some tests. Torch comes first and
from pip, so that its CPU build is taken where one lies at hand.
"""

import tempfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False  # they are skipped
nox.options.sessions = ["tests", "lowest", "wheel"]  # `newest` may fail for reasons that are not ours

PYTHONS = ["3.11", "3.12", "3.13"]
LOCK = ("--constraint", "requirements.lock")
TORCH = next(line for line in Path("requirements.lock").read_text().splitlines() if line.startswith("torch=="))
ALL = ("-n", "2", "--dist", "worksteal")  # what is run of the tests, unless something is named


def run_tests(session: nox.Session) -> None:
    """All tests, or those named after `--`."""
    session.run("pytest", *(session.posargs or ALL), env={"PYTHONPATH": None})


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests with the versions of requirements.lock."""
    session.install(TORCH)
    session.install(*LOCK, "--editable", ".[test]")
    run_tests(session)


@nox.session
def lowest(session: nox.Session) -> None:
    """The tests with the lowest versions that pyproject.toml allows, but for torch."""
    session.install(TORCH, "uv")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as pinned:
        pinned.write(TORCH)
        pinned.flush()
        lowest_direct = ("--resolution", "lowest-direct", "--constraint", pinned.name)
        session.run("uv", "pip", "install", "--quiet", *lowest_direct, "--editable", ".[test]")
    run_tests(session)


@nox.session
def newest(session: nox.Session) -> None:
    """The tests with the newest versions that there are, of torch too."""
    session.install("--upgrade", "--upgrade-strategy", "eager", "--editable", ".[test]")
    run_tests(session)


@nox.session(python=PYTHONS)
def wheel(session: nox.Session) -> None:
    """The smoke experiment and its report with the wheel, in an environment and a folder that have nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        session.run("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".")
        (built,) = Path(folder).glob("*.whl")
        session.install(TORCH)
        session.install(*LOCK, str(built))
        alone = {"PYTHONPATH": None, "XDG_CACHE_HOME": folder}
        with session.chdir(folder):
            recover = ("memorization-recover", "-m", "experiment=smoke", "tracking=none", "store=s")
            session.run(*recover, env={**alone, "OMP_NUM_THREADS": "1"})
            session.run("memorization-report", "--store", "s", env=alone)
