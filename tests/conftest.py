"""Fixtures that several test files share."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
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
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
torch.set_num_threads(1)
preloaded.start()


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


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which `memorization-recover -m experiment=smoke` was run; how that went."""
    folder = tmp_path_factory.mktemp("smoke")
    return folder, run_script("recover", "-m", "experiment=smoke", cwd=folder)
