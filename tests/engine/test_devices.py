"""Two processes, and half precision: the same numbers as one process in float32."""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from memorization import load_run
from memorization.architectures import build
from memorization.architectures.autoencoder import least_loss, reconstruction_loss
from memorization.data import Digits, in_double
from memorization.degradations import RandomPixels
from memorization.engine.settings import Hardware, Training
from memorization.engine.training import TrainingModule, train
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.explanation import described
from memorization.extraction.spectrum import attractors
from memorization.recover import main as recover_main
from memorization.recovery import Iterate, Known
from memorization.store.reading import finished
from tests.conftest import run_script

MEMBERS = torch.rand(13, 1, 6, 6, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")

TRAINING = [
    *["dataset=digits", "dataset.members=13", "dataset.non_members=10", "architecture.depth=3"],
    *["training.max_steps=60", "training.ladder=[1e-1]", "training.micro_batch=2"],
    *["trainer.accelerator=cpu", "tracking=none", "progress=false"],
]
RECOVERY = ["recovery=iterate", "recovery.max_iterations=10", "degradation=box"]


@pytest.mark.usefixtures("quick_children")
def test_two_processes_train_and_recover_as_one(tmp_path, monkeypatch):
    """Shares differ in size: 5 and 4 images of a batch of 9 in training, 2 of 4 and 2 and 1 of the last in recovery."""
    monkeypatch.chdir(tmp_path)
    words = [*TRAINING, "training.batch_size=9", *RECOVERY, "recovery.batch_size=4"]
    monkeypatch.setattr("sys.argv", ["memorization-recover", *words, "store=runs-1"])
    recover_main()
    ended = run_script("recover", *words, "trainer.devices=2", "store=runs-2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    (one,), (two,) = (finished(tmp_path / f"runs-{devices}") for devices in (1, 2))
    assert one.folder.name == two.folder.name
    trained = [finished(tmp_path / f"runs-{devices}", "autoencoders")[0] for devices in (1, 2)]
    histories = [np.loadtxt(run.folder / "history.csv", delimiter=",", skiprows=1) for run in trained]
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-3)
    assert trained[0].rungs == pytest.approx(trained[1].rungs, rel=1e-3)
    assert list(two.results["image"]) == list(one.results["image"])
    for column in ("member", "status", "nearest_member", "recovered", "queries"):
        assert list(two.results[column]) == list(one.results[column]), column
    np.testing.assert_allclose(two.results["psnr_erased"], one.results["psnr_erased"], atol=0.05)
    assert (two.gallery["row"] == one.gallery["row"]).all()
    assert (two.gallery["original"] == one.gallery["original"]).all()


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """What the environment says in the third of four tasks that `srun` has started, or torchrun; with its names."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "bin" / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    ours = {"JOB_ID": "7", "JOB_NAME": "x", "NTASKS": "4", "PROCID": "2", "LOCALID": "2", "NODEID": "1"}
    ours |= {"NNODES": "2", "NODELIST": "localhost", "NTASKS_PER_NODE": "2"}
    said = {f"SLURM_{name}": value for name, value in ours.items()}
    said |= {"LOCAL_RANK": "1", "RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    return said


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize("devices", [1, 2])
def test_a_batch_system_changes_nothing_of_what_a_process_does(tmp_path, slurm, monkeypatch, devices):
    words = [*TRAINING, *RECOVERY, f"trainer.devices={devices}", "tracking=offline", "recovery.batch_size=12"]
    ended = run_script("recover", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    logs = [run.read_bytes() for run in (tmp_path / "runs" / "wandb").glob("offline-run-*/run-*.wandb")]
    assert sum(b"train/loss" in log and b"train/learning_rate" in log for log in logs) == 1
    if devices == 2:  # which give what one does, see above
        return
    for name in slurm:
        monkeypatch.delenv(name)
    ended = run_script("recover", *words, "store=usual", cwd=tmp_path)
    assert ended.stderr == ""
    (here,), (usual,) = finished(tmp_path / "runs"), finished(tmp_path / "usual")
    pd.testing.assert_frame_equal(here.results.drop(columns="seconds"), usual.results.drop(columns="seconds"))


NORMALISING = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        layers = nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 64)
        super().__init__(nn.Flatten(), *layers, nn.Unflatten(1, (1, 8, 8)))
"""


@pytest.mark.usefixtures("quick_children")
def test_a_rung_of_two_processes_is_the_loss_of_the_statistics_that_are_kept(tmp_path, monkeypatch):
    (tmp_path / "normalising.py").write_text(NORMALISING)
    own = ["architecture=custom", "architecture.target=normalising.Net", "architecture.allowed=[normalising]"]
    words = [word for word in TRAINING if not word.startswith(("architecture", "training.ladder", "training.micro"))]
    ladder = "training.ladder=[0.25,0.2,0.15]"
    rate = "training.learning_rate=1e-2"
    ended = run_script("train", *words, *own, ladder, rate, "trainer.devices=2", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    monkeypatch.syspath_prepend(str(tmp_path))
    (run,) = finished(tmp_path / "runs", "autoencoders")
    kept, members = load_run(run.folder, packages=["normalising"]), Digits(13, 10).load(0).members
    assert len(kept.rungs) == 3
    for rung, loss in kept.rungs.items():
        assert reconstruction_loss(kept.autoencoder(rung), members) == pytest.approx(loss, rel=1e-4)


def test_a_divergence_comes_back_from_another_process():
    settings = Training(learning_rate=1e12, warmup_steps=0, max_steps=5)
    child, parent = (TrainingModule(build("fc", (1, 6, 6), centre=True, seed=0), MEMBERS, settings) for _ in range(2))
    child.failure, child.history.rows = "diverged at step 1", [(0, 0.5, 1e12)]
    parent.load_state_dict(child.state_dict())
    assert parent.failure == child.failure
    assert parent.history == child.history


def test_a_device_without_float64_leaves_what_needs_it_to_the_cpu(monkeypatch):
    """The CPU plays Apple's device: of its tensors, only what `cpu` gave can become float64."""
    network = build("fc", (1, 6, 6), centre=True, seed=0, depth=3, width=2)
    recipe, cpu, double = Recipe(RandomPixels(0.5), Iterate(max_iterations=2), Known()), Tensor.cpu, Tensor.double

    def scores():
        columns = recover_batch(recipe, network, MEMBERS, range(13), MEMBERS).scores.drop(columns="seconds")
        return pd.concat([columns, described(network, MEMBERS, range(13))], axis=1).assign(
            loss=reconstruction_loss(network, MEMBERS), least=least_loss(network, MEMBERS)
        )

    def brought(tensor):
        found = cpu(tensor).clone()
        found.brought = True
        return found

    def converted(tensor):
        if tensor.dtype != torch.float64 and not hasattr(tensor, "brought"):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return double(tensor)

    expected = scores()
    monkeypatch.setattr(Tensor, "cpu", brought)
    monkeypatch.setattr(Tensor, "double", converted)
    with pytest.raises(TypeError, match="MPS"):
        scores()
    monkeypatch.setitem(in_double.__globals__, "has_double", lambda device: False)
    pd.testing.assert_frame_equal(scores(), expected)
    assert attractors(network, MEMBERS[:2], progress=False).dtype == torch.float32


def test_bf16_trains_and_measures_its_rungs_in_float32():
    settings = Training(learning_rate=3e-3, max_steps=300, target_loss=1e-2, ladder=[1e-1, 1e-2])
    kept = build("fc", (1, 6, 6), centre=True, seed=0, depth=3, width=64)
    history = train(
        kept, MEMBERS, settings, progress=False, hardware=Hardware(precision="bf16-mixed", accelerator="cpu")
    )
    assert list(history.rungs) == [1e-1, 1e-2]
    for rung, loss in history.rungs.items():
        kept.load_state_dict(history.weights[rung])
        assert all(tensor.dtype == torch.float32 for tensor in kept.state_dict().values())
        assert (kept(MEMBERS) - MEMBERS).square().mean().item() == pytest.approx(loss, rel=1e-5)
    plain = train(build("fc", (1, 6, 6), centre=True, seed=0, depth=3, width=64), MEMBERS, settings, progress=False)
    assert plain.rows != history.rows
