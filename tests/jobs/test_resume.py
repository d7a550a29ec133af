"""Work that was stopped goes on and ends with the same bits; the run store never takes half a run for a whole one."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from pytorch_lightning.loggers.logger import DummyLogger
from safetensors.torch import load_file, save_file
from torch import nn

from memorization.architectures import build
from memorization.cli import store
from memorization.engine import checkpoint, interruption
from memorization.engine.settings import Training
from memorization.engine.training import TrainingModule, train
from memorization.jobs import plan
from memorization.store import files, lock, reading
from memorization.store.reading import finished
from tests.conftest import experiment_of, run_script
from tests.preloaded import PYTHON

MEMBERS = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
SETTINGS = Training(learning_rate=3e-3, max_steps=120, target_loss=1e-5, ladder=[1e-1, 1e-2, 1e-9])
ONE = ["experiment=smoke", "recovery=energy", "recovery.batch_size=4", "degradation=box", "tracking=none"]
STEPS = random.Random(5).sample(range(1, 118), 2)  # where a training is stopped
pytestmark = [
    pytest.mark.usefixtures("composed_once"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*"),
]


def model():
    return build("fc", (1, 6, 6), centre=True, seed=0, depth=3, width=64)


@pytest.fixture
def signals():
    """The handlers of a console script, for the time of a test."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    for signum, usual in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(signum, usual)  # a background process ignores the latter
    interruption.handle()
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


class Stopping(DummyLogger):
    """Sends this process a signal when a step is logged."""

    def __init__(self, step, signum):
        super().__init__()
        self.step, self.signum = step, signum

    def log_metrics(self, metrics, step=None):
        if step == self.step:
            os.kill(os.getpid(), self.signum)


def stop(autoencoder, folder, step, signum, settings=SETTINGS, members=MEMBERS):
    """Train until a step (a multiple of 10, which are logged), then send this process a signal."""
    with pytest.raises(interruption.Interrupted, match=signum.name):
        train(
            autoencoder, members, settings, loggers=[Stopping(step, signum)], progress=False, folder=folder,
        )  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("changes", [{}, {"batch_size": 5, "micro_batch": 2, "ema": 0.9}])
def test_a_stopped_training_ends_with_the_same_bits(signals, tmp_path, changes, step):
    settings = dataclasses.replace(SETTINGS, **changes)
    whole, broken = model(), model()
    expected = train(whole, MEMBERS, settings, progress=False)

    stop(broken, tmp_path, step - step % 10, signal.SIGTERM, settings)
    state = torch.load(tmp_path / files.CHECKPOINT, weights_only=True)
    assert state["step"] == step - step % 10 + 1  # within one step
    torch.save(state | {"seconds": 1000.0}, tmp_path / files.CHECKPOINT)
    again = model()
    history = train(again, MEMBERS, settings, progress=False, folder=tmp_path)
    assert (history.rows, history.rungs, history.steps) == (expected.rows, expected.rungs, expected.steps)
    assert history.seconds > 1000 > state["seconds"] > 0
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    for rung, weights in expected.weights.items():
        assert all(torch.equal(history.weights[rung][name], tensor) for name, tensor in weights.items())


class Noisy(nn.Module):
    """An autoencoder whose steps draw random numbers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(36, 64), nn.Dropout(0.2), nn.Linear(64, 36))

    def forward(self, images):
        return self.layers(images).view_as(images)


def test_a_stopped_training_goes_on_with_its_random_numbers(signals, tmp_path):
    def make():
        torch.manual_seed(3)
        return Noisy()

    expected = train(make(), MEMBERS, SETTINGS, progress=False)
    stop(make(), tmp_path, 50, signal.SIGINT)
    assert train(make(), MEMBERS, SETTINGS, progress=False, folder=tmp_path).rows == expected.rows


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: data[:900] + b"x" + data[901:]])
def test_a_damaged_checkpoint_is_not_gone_on_from(signals, tmp_path, capsys, damage):
    stop(model(), tmp_path, 50, signal.SIGINT)
    path = tmp_path / files.CHECKPOINT
    path.write_bytes(damage(path.read_bytes()))
    history = train(model(), MEMBERS, SETTINGS, progress=False, folder=tmp_path)
    assert "last.ckpt or one of its weight files is corrupt" in capsys.readouterr().out
    assert history.rows == train(model(), MEMBERS, SETTINGS, progress=False).rows


@pytest.mark.parametrize("change", ["width", "depth", "ema", "frozen"])
def test_a_checkpoint_of_another_model_is_not_gone_on_from(signals, tmp_path, capsys, change):
    stop(model(), tmp_path, 50, signal.SIGINT)
    settings = dataclasses.replace(SETTINGS, ema=0.9) if change == "ema" else SETTINGS

    def other():
        sizes = {"depth": 3, "width": 64} | {"width": {"width": 32}, "depth": {"depth": 4}}.get(change, {})
        made = build("fc", (1, 6, 6), centre=True, seed=0, **sizes)
        if change == "frozen":  # what was learned is a constant now
            last = [part for part in made.modules() if isinstance(part, nn.Linear)][-1]
            bias = last.bias.detach()
            del last.bias
            last.register_buffer("bias", bias)
        return made

    history = train(other(), MEMBERS, settings, progress=False, folder=tmp_path)
    assert "last.ckpt is of another model, or of other code; the training begins anew" in capsys.readouterr().out
    assert history.rows == train(other(), MEMBERS, settings, progress=False).rows


def test_weights_of_an_attempt_before_are_no_part_of_the_training(signals, tmp_path):
    stop(model(), tmp_path, 50, signal.SIGINT)
    stale = tmp_path / "weights" / "1e-09.safetensors"
    shutil.copyfile(tmp_path / "weights" / "1e-01.safetensors", stale)
    train(model(), MEMBERS, SETTINGS, progress=False, folder=tmp_path).write(tmp_path)
    assert [path.stem for path in stale.parent.iterdir()] == ["1e-01"]  # which it went on from


def test_a_training_that_is_stopped_at_its_last_step_has_its_last_row_once(signals, tmp_path):
    stop(model(), tmp_path, SETTINGS.max_steps - 1, signal.SIGINT)
    history = train(model(), MEMBERS, SETTINGS, progress=False, folder=tmp_path)
    assert [row[0] for row in history.rows] == [*range(0, 120, 10), 119]


@pytest.mark.parametrize("content", [[1, 2], {"written": []}, {"written": {}}, {"step": 3}])
def test_a_file_that_is_no_checkpoint_is_not_gone_on_from(tmp_path, capsys, content):
    torch.save(content, tmp_path / files.CHECKPOINT)
    assert not checkpoint.resume(TrainingModule(model(), MEMBERS, SETTINGS), tmp_path)
    assert "the training begins anew" in capsys.readouterr().out
    assert not (tmp_path / files.CHECKPOINT).exists()


def test_what_failed_is_told_whatever_its_note_holds(tmp_path):
    (tmp_path / "error.txt").write_bytes(b"failed: \xff\xfe\n")
    assert files.failure(tmp_path) == ("failed", 2 * "\ufffd")
    (tmp_path / "error.txt").unlink()
    (tmp_path / "error.txt").mkdir()
    assert "error.txt cannot be read (Is a directory)" in files.failure(tmp_path)[1]


def killing(cwd: Path, when: str, *arguments: str, number: int = signal.SIGKILL) -> subprocess.CompletedProcess[str]:
    """`memorization-recover`, which sends itself a signal; `when` is the code that has it sent by `die()`."""
    code = (
        "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # the background ignores it
        f"die = lambda: os.kill(os.getpid(), {int(number)})\n{when}\n"
        f"import sys; sys.argv = ['memorization-recover', *{[*arguments, *ONE]!r}]\n"
        "from memorization.recover import main; main()"
    )
    command = [*PYTHON, "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


TRAINING = """
from memorization.engine import callbacks
end = callbacks.Recorder.on_train_batch_end
def on_train_batch_end(self, trainer, module, *args):
    end(self, trainer, module, *args)
    module.step == {step} and die()
callbacks.Recorder.on_train_batch_end = on_train_batch_end
"""
RECOVERY = """
from memorization.engine import recovery as module
solve, calls = module.recover_batch, []
def recover_batch(*args, **kwargs):
    def counting(n):
        calls.append(0)
        len(calls) == {step} and die()
    return solve(*args, **{{**kwargs, "on_iteration": counting}})
module.recover_batch = recover_batch
"""


SEALING = """
from memorization.store import files
seal = files.seal
files.seal = lambda folder, *rest, **how: die() if folder.parent.name == "recoveries" else seal(folder, *rest, **how)
"""


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The store of `ONE`."""
    folder = tmp_path_factory.mktemp("unbroken")
    ended = run_script("recover", *ONE, "recovery.max_iterations=20", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder / "runs"


def test_a_recovery_killed_at_its_very_end_keeps_its_batches(tmp_path):
    ended = killing(tmp_path, SEALING, "recovery.max_iterations=20")
    assert ended.returncode == -signal.SIGKILL
    (folder,) = [f for f in (tmp_path / "runs" / "recoveries").iterdir() if f.is_dir()]
    assert len(list((folder / "shards").rglob("*.parquet"))) == 2 * 5  # rungs, and batches of 4 of 20 images
    ended = run_script("recover", *ONE, "recovery.max_iterations=20", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "shards").exists()
    files.verify(folder)


def assert_frames_equal(table: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True)


def assert_same(store: Path, expected: Path) -> None:
    (run,), (reference,) = finished(store), finished(expected)
    assert run.folder.name == reference.folder.name
    assert_frames_equal(run.results, reference.results)
    assert (
        files.read_done(run.folder)["checksums"]["gallery.safetensors"]
        == reference.done["checksums"]["gallery.safetensors"]
    )
    (trained,), (wanted,) = finished(store, "autoencoders"), finished(expected, "autoencoders")
    same = {name: digest for name, digest in wanted.done["checksums"].items() if name != "config.yaml"}
    assert {name: trained.done["checksums"].get(name) for name in same} == same
    assert not list(store.rglob("*.ckpt"))
    assert not list(store.rglob("shards"))


def test_a_training_and_a_recovery_killed_several_times_end_with_the_same_bits(unbroken, tmp_path):
    """Each attempt goes on from the one before: a training of 300 steps, a recovery of 210 calls of `RECOVERY`."""
    chosen = random.Random(2)
    quick = ["recovery.max_iterations=20", "checkpoint_seconds=0"]
    killed = [TRAINING.format(step=step) for step in sorted(chosen.sample(range(1, 299), 3))]
    killed += [RECOVERY.format(step=step) for step in (chosen.randrange(30, 110), chosen.randrange(2, 80))]
    told = []
    for when in killed:
        ended = killing(tmp_path, when, *quick)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert not finished(tmp_path / "runs")
        told.append(ended.stdout)
    assert ["the training goes on from step" in text for text in told] == [False, True, True, True, False]
    (folder,) = (tmp_path / "runs" / "recoveries").glob("[!.]*")
    assert files.status(folder) == "interrupted"
    shards = {path: path.stat().st_mtime_ns for path in folder.rglob("scores.parquet")}
    assert shards
    ended = run_script("recover", *ONE, *quick, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_same(tmp_path / "runs", unbroken)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_sweep_not_its_job_alone(tmp_path, number):
    sweep = ["-m", "recovery.max_iterations=20,21"]
    ended = killing(tmp_path, RECOVERY.format(step=30), *sweep, number=number)
    assert ended.returncode == 128 + number, ended.stderr
    assert f"stopped by {number.name}; the same command goes on from here" in ended.stderr
    assert "0 of 2 jobs: 1 running" in ended.stdout
    assert not finished(tmp_path / "runs")
    (trained,) = finished(tmp_path / "runs", "autoencoders")
    then = run_script("recover", *sweep, *ONE, cwd=tmp_path)
    assert then.returncode == 0, then.stderr
    assert "2 of 2 jobs: 2 done" in then.stdout
    assert "training fc-digits" not in then.stdout
    assert [run.folder for run in finished(tmp_path / "runs", "autoencoders")] == [trained.folder]


def test_a_run_of_a_checkout_that_is_not_installed_is_sealed(tmp_path, monkeypatch):
    def version(name):
        if name == "memorization":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    with files.creating(tmp_path / "run", {}, {}):
        pass
    assert files.read_done(tmp_path / "run")["versions"] == {
        "memorization": "unknown", "torch": "1.0", "pytorch-lightning": "1.0"
    }  # fmt: skip


def test_a_flipped_bit_of_done_json_is_noticed_wherever_it_is(tmp_path):
    """Be it in the name of its own checksum; a file of an older store, which has none, is read."""
    with files.creating(tmp_path / "run", {}, {"name": "x"}):
        pass
    path = tmp_path / "run" / "done.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        with pytest.raises(files.StoreError, match=r"done\.json is damaged"):
            files.read_done(path.parent)
    older = {key: value for key, value in json.loads(whole).items() if key != "checksum"}
    path.write_text(json.dumps(older))
    assert files.read_done(path.parent) == older


BEGUN = """
from pathlib import Path
from memorization.jobs import sweep
from memorization.store import files
look = sweep.Sweep.look
def seen(self):
    if sum(files.status(f) == "running" for f in Path("runs", "autoencoders").glob("[!.]*")) == 2:
        sweep.Sweep.look = look
        die()
sweep.Sweep.look = seen
"""


@pytest.mark.usefixtures("quick_children")
def test_a_signal_ends_the_jobs_that_submitit_started(tmp_path):
    long = ["training.max_steps=1000000", "training.target_loss=1e-30", "checkpoint_seconds=0", "progress=false"]
    sweep = ["-m", *long, "seed=0,1", "cluster=submitit_local"]
    ended = killing(tmp_path, BEGUN, *sweep, number=signal.SIGTERM)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert ended.stderr == "stopped by SIGTERM; the same command goes on from here\n"
    assert "0 of 2 jobs: 2 running" in ended.stdout
    folders = [folder for _, folder in store.folders(tmp_path / "runs")]
    assert [files.status(folder) for folder in folders] == ["interrupted", "interrupted"]


@pytest.mark.parametrize("cluster", ["joblib", "submitit_local"])
def test_the_jobs_of_a_sweep_that_was_killed_end_with_it(tmp_path, request, cluster):
    if cluster == "submitit_local":  # whose jobs are no children of the sweep, as those of joblib are
        request.getfixturevalue("quick_children")
    long = ["training.max_steps=1000000", "training.target_loss=1e-30", "checkpoint_seconds=0", "progress=false"]
    ended = killing(tmp_path, BEGUN, "-m", *long, "seed=0,1", f"cluster={cluster}")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    folders = [folder for _, folder in store.folders(tmp_path / "runs")]
    assert len(folders) == 2
    deadline = time.monotonic() + 20
    while any(files.status(folder) == "running" for folder in folders):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def again(store: Path, **changes: object) -> str:
    """Do what `memorization-recover` does for the run in `store`, with some keys of `recovery` changed: its status."""
    (run,) = finished(store)
    config = {**run.config, "store": str(store), "progress": False}
    config["recovery"] = {**config["recovery"], **changes}
    return plan.run(experiment_of(config))[0].status


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name", ["config.yaml", "results.parquet", "gallery.safetensors", "done.json"])
def test_a_damaged_recovery_is_made_anew_and_its_autoencoder_kept(unbroken, tmp_path, capsys, name, damage):
    shutil.copytree(unbroken, tmp_path / "runs")
    (run,), (trained,) = finished(tmp_path / "runs"), finished(tmp_path / "runs", "autoencoders")
    config, before = run.config, (trained.folder / "done.json").stat().st_mtime_ns
    damage(run.folder / name)
    config = {**config, "store": str(tmp_path / "runs"), "progress": False}
    assert plan.run(experiment_of(config))[0].status == "done"
    assert f"{name} is damaged" in capsys.readouterr().out
    assert (trained.folder / "done.json").stat().st_mtime_ns == before
    assert_same(tmp_path / "runs", unbroken)
    assert again(tmp_path / "runs") == "found"


@pytest.mark.parametrize("name", ["config.yaml", "history.csv", "weights/1e-01.safetensors", "done.json"])
def test_a_damaged_autoencoder_is_trained_anew_and_recoveries_kept(unbroken, tmp_path, capsys, name):
    shutil.copytree(unbroken, tmp_path / "runs")
    (run,), (trained,) = finished(tmp_path / "runs"), finished(tmp_path / "runs", "autoencoders")
    expected, before = trained.done["checksums"], (run.folder / "done.json").stat().st_mtime_ns
    cut(trained.folder / name)
    assert again(tmp_path / "runs", max_iterations=1) == "done"
    told = capsys.readouterr().out
    assert f"{name} is damaged" in told
    assert told.count("training fc-digits") == 1
    (anew,) = finished(tmp_path / "runs", "autoencoders")
    for file in expected.keys() - {"config.yaml"}:
        assert anew.done["checksums"][file] == expected[file]
    assert (run.folder / "done.json").stat().st_mtime_ns == before


def retrain(store: Path) -> Path:
    """The weights of the one autoencoder in `store`, made anew with other bits, as on another machine."""
    (trained,) = finished(store, "autoencoders")
    path = trained.folder / "weights" / "1e-01.safetensors"
    save_file({name: tensor * 1.001 for name, tensor in load_file(path).items()}, path)
    sealed = trained.done
    (trained.folder / "done.json").unlink()
    files.seal(trained.folder, {key: value for key, value in sealed.items() if key != "checksums"})
    return path


def test_a_recovery_whose_autoencoder_was_made_anew_with_other_bits_is_redone(unbroken, tmp_path, capsys):
    shutil.copytree(unbroken, tmp_path / "runs")
    (run,) = finished(tmp_path / "runs")
    assert reading.load_run(run.folder).autoencoder() is not None
    before, path = run.results, retrain(tmp_path / "runs")
    told = rf"was made with other weights than autoencoders/\w+/weights/{path.name}, which was made anew; run the same"
    for load in (reading.load_run, lambda folder: reading.load_results(folder.parents[1]), lambda _: run.autoencoder()):
        with pytest.raises(files.StoreError, match=told):
            load(run.folder)
    assert store.verified(tmp_path / "runs") == 1
    assert f"damaged: {run.folder} was made with other weights" in capsys.readouterr().out
    assert again(tmp_path / "runs") == "done"
    assert "was made with other weights" in capsys.readouterr().out
    assert store.verified(tmp_path / "runs") == 0
    assert not before["psnr"].equals(reading.load_run(run.folder).results["psnr"])


def test_a_merge_takes_no_recovery_of_other_weights(unbroken, tmp_path, capsys):
    shutil.copytree(unbroken / "autoencoders", tmp_path / "runs" / "autoencoders")
    retrain(tmp_path / "runs")
    assert store.merged(tmp_path / "runs", unbroken) == 1
    assert "was made with other weights" in capsys.readouterr().out
    assert not finished(tmp_path / "runs")


def test_shards_made_with_other_weights_are_not_gone_on_from(tmp_path):
    ended = killing(tmp_path, SEALING, "recovery.max_iterations=20")
    assert ended.returncode == -signal.SIGKILL
    retrain(tmp_path / "runs")
    ended = run_script("recover", *ONE, "recovery.max_iterations=20", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    broken = reading.load_results(tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "recoveries")
    assert run_script("recover", *ONE, "recovery.max_iterations=20", cwd=tmp_path).returncode == 0
    assert_frames_equal(reading.load_results(tmp_path / "runs"), broken)


def test_two_that_need_the_same_autoencoder_train_it_once(tmp_path):
    command = [*PYTHON, "-m", "memorization.recover", *ONE, "progress=false"]
    both = [
        subprocess.Popen(
            [*command, f"recovery.max_iterations={count}"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        for count in (1, 2)
    ]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(told).count("training fc-digits") == 1
    assert len(finished(tmp_path / "runs", "autoencoders")) == 1
    assert len(finished(tmp_path / "runs")) == 2


def test_a_store_that_cannot_be_written_is_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    for arguments in (ONE, ["-m", *ONE]):
        ended = run_script("recover", *arguments, f"store={tmp_path / 'file' / 'runs'}", cwd=tmp_path)
        assert ended.returncode == 1
        assert ended.stderr.strip().count("\n") == 0
        assert "can be written" in ended.stderr or "cannot write there" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("executor", [None, "local", "slurm"])
def test_a_notice_that_is_no_signal_ends_no_command(signals, monkeypatch, executor):
    monkeypatch.setenv("SUBMITIT_PREEMPT_SIGNAL", "USER2")
    if executor:
        monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    if executor != "slurm":
        monkeypatch.delattr(signal, "SIGUSR2")  # as on Windows
    interruption.handle()


def test_a_signal_that_came_before_a_failure_is_not_lost(signals):
    def failing(number=None):
        with interruption.deferred():
            if number:
                os.kill(os.getpid(), number)
            raise RuntimeError("of the training")

    with pytest.raises(interruption.Interrupted, match="SIGTERM") as stopped:
        failing(signal.SIGTERM)
    assert isinstance(stopped.value.__context__, RuntimeError)
    with pytest.raises(RuntimeError, match="of the training"):
        failing()


def test_a_sweep_does_not_go_on_past_a_signal_that_came_before_a_failure(tmp_path):
    failing = """
from memorization.engine import training
def training_step(self, batch, index):
    die()
    raise RuntimeError("of the training")
training.TrainingModule.training_step = training_step
"""
    ended = killing(tmp_path, failing, "-m", "seed=0,1", number=signal.SIGTERM)
    assert ended.returncode == 128 + signal.SIGTERM, ended.stderr
    assert "seed=1" not in ended.stdout


WAITING = """
import sys, time
from pathlib import Path
from memorization.store import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("named", [True, False])
def test_whoever_waits_for_a_lock_says_for_whom(tmp_path, monkeypatch, capsys, named):
    folder = tmp_path / "recoveries" / "run"
    command = [sys.executable, "-c", WAITING, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        if not named:
            (folder.parent / ".run.holder").unlink()
        monkeypatch.setattr(lock, "PATIENCE", 0.1)
        threading.Timer(1.0, lambda: (holder.stdin.write("\n"), holder.stdin.flush())).start()
        with lock.held(folder):
            pass
    said = capsys.readouterr().out
    assert said.startswith(f"waiting for process {holder.pid} on " if named else "waiting for another process, ")
    assert said.endswith(f", which works on {folder}\n")
    assert not list(folder.parent.glob("*.holder"))
