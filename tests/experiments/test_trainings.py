"""The table of trainings of `experiments/architectures`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from memorization import train
from memorization.store.reading import finished
from tests.preloaded import PYTHON

SCRIPT = Path(__file__).parents[2] / "experiments" / "architectures" / "trainings.py"
WORDS = ["dataset=digits", "dataset.members=3", "dataset.non_members=3", "tracking=none", "progress=false"]
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")


def test_a_row_tells_a_training_and_the_step_at_which_each_loss_was_met(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["architecture.depth=2", "architecture.width=64"]
    for settings in (["architecture=conv", "training.max_steps=2"], small, [*small, "training.batch_size=2"]):
        monkeypatch.setattr("sys.argv", ["memorization-train", *WORDS, "training.target_loss=1e-4", *settings])
        train.main()
    subprocess.run([*PYTHON, SCRIPT, "runs", "table.csv"], check=True, capture_output=True)
    conv, fc, in_batches = pd.read_csv("table.csv").sort_values(["architecture", "batch_size"]).to_dict("records")
    assert (conv["architecture"], conv["members"], conv["shape"], conv["steps"]) == ("conv", 3, "1x8x8", 1)
    assert (fc["depth"], fc["width"], fc["learning_rate"], fc["seed"]) == (2, 64, 1e-3, 0)
    (run,) = (run for run in finished("runs", "autoencoders") if run.folder.name == fc["signature"])
    assert fc["seconds"] == pytest.approx(run.done["seconds"], rel=1e-3)
    assert fc["step_1e-04"] == fc["steps"] == run.done["steps"]
    assert 0 < fc["step_1e-03"] < fc["steps"]
    assert pd.isna(fc["step_1e-05"])
    assert pd.isna(conv["step_1e-03"])
    assert in_batches["batch_size"] == 2
    assert in_batches["train_loss"] <= 1e-4
    assert pd.isna(in_batches["step_1e-03"])  # its history has the loss of one batch


def test_a_store_without_trainings_is_named(tmp_path):
    ended = subprocess.run([*PYTHON, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"{tmp_path} holds no finished training" in ended.stderr
