"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import functools
import inspect
import json
import os
import shutil
import subprocess
import tempfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything is imported that asks where the user's cache is: tests leave it alone.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="memorization-tests-")

import pytest
import torch
from omegaconf import OmegaConf, open_dict

from memorization.config.composing import once
from memorization.config.experiment import Experiment, resolve
from memorization.config.groups import GROUPS
from memorization.config.schema import RecoverConfig, TrainConfig, schema_of
from tests import preloaded

atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
os.environ["WANDB_SILENT"] = "true"
# The tests run side by side; and the same bits are promised for the same number of threads, which joblib lowers.
for library in ("OMP", "MKL", "OPENBLAS"):  # of the processes that tests start
    os.environ[f"{library}_NUM_THREADS"] = "1"
torch.set_num_threads(1)
preloaded.start()


# Tests that compute for many seconds, as `pytest --durations` shows.
SLOW = {
    "test_robust_and_known_agree_on_smooth_images_whatever_the_fill",
    "test_robust_and_known_agree_without_noise",
    "test_robust_finds_few_random_values_beside_a_constant",
    "test_energy_has_the_minimiser_of_its_quadratic",
    "test_known_and_true_mask_are_the_same_problem_whatever_the_fill",
    "test_the_column_that_decides_is_found_and_the_others_are_not",
}
# Names in the code of what starts a command, or composes its configuration.
STARTING = {"subprocess", "run_script", "PYTHON", "main", "compose"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each test is one of `browser`, `cli`, `slow` and `unit`, as its fixtures, its code and its name tell."""
    starts = functools.cache(starts_a_command)
    for item in items:
        assert isinstance(item, pytest.Function)
        used = [known[-1].func for name, known in item._fixtureinfo.name2fixturedefs.items()]
        kind = "unit"
        if "browser" in item.fixturenames:
            kind = "browser"
        elif any(map(starts, [item.function, *used])):
            kind = "cli"
        elif item.originalname in SLOW:
            kind = "slow"
        item.add_marker(kind)


def starts_a_command(function: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Does the code of a function, or of one of the tests' own that it calls, start a command?"""
    function = inspect.unwrap(function)
    names = {name for code in codes(function.__code__) for name in code.co_names}
    called = {function.__globals__.get(name) for name in names if inspect.isfunction(function.__globals__.get(name))}
    own = {one for one in called - seen if one.__module__.startswith("tests.")}
    return not names.isdisjoint(STARTING) or any(starts_a_command(one, seen | own) for one in own)


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function and of those within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from codes(inner)


def run_script(module: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `python -m memorization.<module>` as a user would, but for the time that imports take."""
    command = [*preloaded.PYTHON, "-m", f"memorization.{module}", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)


@functools.cache
def node(group: str, settings: str) -> Any:
    """The settings of a group, as JSON, as a configuration holds them: only to be copied, as is what is put into it."""
    settings = json.loads(settings)
    typed = OmegaConf.structured(schema_of(group, settings["name"]))
    with open_dict(typed):
        for key, value in settings.items():
            typed[key] = node(group, json.dumps(value)) if isinstance(value, dict) and "name" in value else value
    return typed


def experiment_of(config: dict[str, Any]) -> Experiment:
    """The experiment of a configuration as a run keeps it."""
    root = OmegaConf.structured(RecoverConfig if "recovery" in config else TrainConfig)
    for key, value in config.items():
        OmegaConf.update(root, key, node(key, json.dumps(value)) if key in GROUPS else value, merge=key not in GROUPS)
    return resolve(root)


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """In the file that uses this, a set of choices is composed once by all commands that run in this process."""
    with once():
        yield


@pytest.fixture
def quick_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes that commands start are forked as well: joblib's, submitit's, Lightning's. See `preloaded`."""
    monkeypatch.setenv(preloaded.CHILDREN, preloaded.executable())
    monkeypatch.setattr("sys.executable", preloaded.executable())


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """`memorization-recover` in this process and in `tmp_path`: the lines that it printed."""
    from memorization.recover import main

    def call(*arguments: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["memorization-recover", *arguments])
        main()
        return capsys.readouterr().out.splitlines()

    return call


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Once it is called, no store can be written to; the modes of files would not stop root."""

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    def call() -> None:
        for name in ("memorization.store.lock.on", "memorization.store.files.write", "tempfile.TemporaryFile"):
            monkeypatch.setattr(name, refused)

    return call


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which `memorization-recover -m experiment=smoke` was run; how that went."""
    folder = tmp_path_factory.mktemp("smoke")
    return folder, run_script("recover", "-m", "experiment=smoke", cwd=folder)
