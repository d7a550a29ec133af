"""Sweeps: in whatever processes their jobs run, each is done once, and what failed is said and done again."""

from __future__ import annotations

import copy
import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict
from PIL import Image

from memorization.cli import entry, store
from memorization.config import schema
from memorization.config.experiment import resolve
from memorization.jobs import plan
from memorization.jobs.identity import Identity
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.sweep import Sweep, _is_child, varied
from memorization.store import files, lock, reading
from memorization.store.files import StoreError
from memorization.store.reading import finished, load_results
from memorization.store.signature import signature_of
from tests.conftest import experiment_of, run_script
from tests.preloaded import PYTHON
from tests.report.store import write_run

pytestmark = pytest.mark.usefixtures("composed_once")
SWEEP = ["-m", "experiment=smoke", "recovery.max_iterations=20", "tracking=none", "progress=false"]


def test_jobs_of_a_sweep_are_told_apart_by_the_settings_in_which_they_differ():
    common = ["dataset=digits", "training.max_steps=9", "study=a.b"]
    jobs = {3: ["seed=0", "degradation=box", "degradation.fraction=0.2", "+recovery.penalty=1e-3", *common]}
    jobs[4] = ["seed=1", "degradation=half", "degradation.fraction=0.3", "recovery.penalty=0.5", *common]
    jobs[5] = ["seed=1", "degradation=box", *common]
    assert varied(jobs) == {3: "seed=0 penalty=1e-3", 4: "seed=1 penalty=0.5", 5: "seed=1"}
    assert varied({0: jobs[3]}) == {0: ""}


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize("cluster", ["joblib", "submitit_local"])
def test_every_launcher_gives_the_same_tables(smoke, tmp_path, cluster):
    chosen = ["recovery=iterate,energy", "degradation=box", f"cluster={cluster}"]
    if cluster == "joblib":
        chosen.append("hydra.launcher.n_jobs=2")
    ended = run_script("recover", *SWEEP, *chosen, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("2 of 2 jobs: 2 done") == 1
    if cluster == "joblib":
        assert ended.stdout.count("training fc-digits") == 1
    assert len(finished(tmp_path / "runs", "autoencoders")) == 1
    for run in finished(tmp_path / "runs"):
        expected = reading.load_run(smoke[0] / "runs" / "recoveries" / run.folder.name).results
        pd.testing.assert_frame_equal(
            run.results.drop(columns="seconds"), expected.drop(columns="seconds"), check_exact=True
        )


def test_a_second_sweep_runs_exactly_what_failed(tmp_path):
    """The failure is of the machine, not of the configuration: no file may be larger than 60 kB."""
    small = tmp_path / "small"
    sweep = [*SWEEP, "recovery=iterate", "degradation=box", "architecture.width=16,128", "rungs=[1e-1]"]
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000));"
        "from memorization.recover import main; sys.argv[0] = 'memorization-recover'; main()"
    )
    command = [*PYTHON, "-c", code, *sweep, f"store={small}"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "File too large); make room or choose another store=FOLDER" in ended.stderr
    (done,) = finished(small, "autoencoders")
    assert done.config["architecture"]["width"] == 16
    statuses = {folder.name: files.status(folder) for _, folder in store.folders(small)}
    assert sorted(statuses.values()) == ["done", "done", "failed"]
    (noted,) = (small / "sweeps").rglob("error.txt")
    assert "Traceback" in noted.read_text()
    again = run_script("recover", *sweep, f"store={small}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 jobs: 1 found, 1 done" in again.stdout
    assert again.stdout.count("training fc-digits") == 1


TINY = [
    *["dataset=digits", "dataset.members=5", "dataset.non_members=5", "architecture.depth=2", "training.max_steps=5"],
    *["training.ladder=[1.0]", "training.target_loss=1.0", "tracking=none", "progress=false"],
]
TINY_RECOVERY = [*TINY, "recovery=iterate", "recovery.max_iterations=2"]


def told(store: Path) -> pd.DataFrame:
    """How each job of the one sweep in a store ended."""
    (table,) = (store / "sweeps").glob("*/jobs.csv")
    jobs = pd.read_csv(table)
    assert list(jobs["job"]) == [*range(len(jobs))]
    return jobs


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize(
    ("cluster", "subdir"),
    [("local", "a/${seed}/b"), ("local", "same"), ("joblib", "s_${seed}"), ("submitit_local", "s_${seed}")],
)
def test_a_failure_is_told_whatever_its_folder_is_called(tmp_path, cluster, subdir):
    folder = f"hydra.sweep.subdir={subdir}"
    ended = run_script("train", "-m", *TINY, folder, f"cluster={cluster}", "seed=0,-1", cwd=tmp_path)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: ")
    assert "seed=-1: seed is -1;" in line
    assert list(told(tmp_path / "runs")["status"]) == ["done", "failed"]
    (sweep,) = (tmp_path / "runs" / "sweeps").iterdir()
    (cause,) = sweep.rglob("error.txt")
    assert cause.parent.relative_to(sweep).as_posix() == subdir.replace("${seed}", "-1")
    assert not list(sweep.rglob("job*.json"))


def test_a_job_whose_folder_cannot_be_made_is_one_failure(tmp_path):
    (tmp_path / "file").write_text("")
    places = [f"hydra.sweep.dir={tmp_path}", "hydra.sweep.subdir=${store}/x"]
    ended = run_script("train", "-m", *TINY, *places, "seed=0", "store=one,file,two", cwd=tmp_path)
    assert ended.returncode == 1
    assert "file" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    table = pd.read_csv(tmp_path / "jobs.csv")
    assert list(table["status"]) == ["done", "failed", "done"]


DYING = """
import os, signal
from torch import nn

class Net(nn.Sequential):
    def __init__(self, dies):
        super().__init__(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize("cluster", ["joblib", "submitit_local"])
def test_a_job_that_is_killed_is_one_failure(tmp_path, monkeypatch, cluster):
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    own = ["architecture=custom", "architecture.target=dying.Net", "architecture.allowed=[dying]"]
    words = [word for word in TINY if not word.startswith("architecture.")]
    swept = ["architecture.kwargs={dies:true},{dies:false}", "seed=0", f"cluster={cluster}"]
    ended = run_script("train", "-m", *words, *own, *swept, cwd=tmp_path)
    assert ended.returncode == 1
    assert list(told(tmp_path / "runs")["status"]) == ["failed", "done"], ended.stderr
    assert sum(line.startswith("error: ") for line in ended.stderr.splitlines()) == 1
    assert "Traceback" not in ended.stderr


def test_a_trial_that_fails_does_not_end_an_optuna_search(tmp_path):
    search = ["hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=6"]
    space = ["training.learning_rate=choice(1e-3,1e30)", "dataset=choice(digits,nothing)"]
    words = [word for word in TINY_RECOVERY if word != "dataset=digits" and "loss" not in word]
    seeded = ["hydra.sweeper.sampler.seed=5", "hydra.sweeper.n_jobs=3"]
    ended = run_script("recover", "-m", *words, *search, *seeded, *space, cwd=tmp_path)
    assert ended.returncode == 1
    jobs = told(tmp_path / "runs")
    assert len(jobs) == 6
    assert {"done", "diverged", "failed"} <= set(jobs["status"])
    assert jobs.loc[jobs["name"].str.contains("nothing"), "detail"].str.contains("there is no such choice").all()
    assert "Best value: " in ended.stdout
    assert "Failed experiment" not in ended.stdout
    lines = [line for line in ended.stderr.splitlines() if "A new study created" not in line]
    assert all(line.startswith("error: ") for line in lines)
    assert len(lines) == (~jobs["status"].isin(["done", "found"])).sum()


def test_a_folder_that_was_there_keeps_what_was_in_it(smoke, tmp_path):
    """Whether no job can begin (one choice of two is wrong) or all end; earlier notes are not told again."""
    folder = tmp_path / "precious"
    (folder / "0").mkdir(parents=True)
    (folder / ".jobs").mkdir()
    for place in (folder / "thesis.txt", folder / "0" / "thesis.txt"):
        place.write_text("keep")
    (folder / ".jobs" / "0.json").write_text(json.dumps({"name": "old", "status": "failed", "detail": "of yesterday"}))
    chosen = [f"hydra.sweep.dir={folder}", "recovery=iterate", "degradation=box", f"store={smoke[0] / 'runs'}"]
    ended = run_script("recover", *SWEEP, *chosen, "dataset=digits,nope", cwd=tmp_path)
    assert ended.returncode == 1
    ended = run_script("recover", *SWEEP, *chosen, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "1 of 1 jobs: 1 found" in ended.stdout
    assert "of yesterday" not in ended.stdout + ended.stderr
    assert len(list(folder.rglob("thesis.txt"))) == 2


@pytest.mark.parametrize(("seconds", "left"), [(10, "less than a minute left"), (100, "about 4 min left")])
def test_the_time_left_is_told_by_the_pace_of_the_jobs(seconds, left):
    sweep = Sweep()
    sweep.total, sweep.begin = 3, time.monotonic() - seconds
    sweep.outcomes = {0: Outcome("first", Standing.done)}
    assert sweep.table() == f"1 of 3 jobs: 1 done; {left}"


def test_jobs_are_told_to_end_where_there_is_no_waitid(tmp_path, monkeypatch):
    """As on macOS before Python 3.13."""
    monkeypatch.delattr(os, "waitid", raising=False)
    with subprocess.Popen(["sleep", "60"]) as child, subprocess.Popen(["true"]) as done:
        for number in (child.pid, done.pid, os.getpid()):  # the last is no child
            (tmp_path / ".submitit" / str(number)).mkdir(parents=True)
        assert Sweep(tmp_path).cancel(20) == []
        assert not _is_child(child.pid)


def test_a_plan_tells_no_time_left():
    sweep = Sweep()
    sweep.total = 3
    sweep.outcomes = {0: Outcome("first", Standing.missing), 1: Outcome("second", Standing.found)}
    assert sweep.table() == "2 of 3 jobs: 1 missing, 1 found"


def test_a_plan_writes_nothing(smoke, tmp_path):
    ended = run_script("recover", *SWEEP, "cluster=slurm", "hydra.launcher.partition=NAME", "--plan", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "6 of 6 jobs: 6 missing" in ended.stdout
    assert not list(tmp_path.iterdir())
    assert "6 of 6 jobs: 6 found" in run_script("recover", *SWEEP, "--plan", cwd=smoke[0]).stdout


def test_a_plan_counts_controls_and_probes(composed, tmp_path):
    config = composed("dataset=digits", "controls=true", "probes=2", f"store={tmp_path}")
    experiment = resolve(without_hydra(config))
    planned = plan.plan(experiment)
    assert planned.status == "missing"
    named = [Path(part.split()[0]) for part in planned.detail.split("→ ")[1:]]
    folders = [Path(str(path).rstrip(";")) for path in named]
    assert Counter(folder.parent.name for folder in folders) == {"recoveries": 5, "autoencoders": 2, "probes": 1}
    for folder in folders[:-1]:
        with files.creating(folder, {}, {"reached": [], "recovered_rungs": []}):
            pass
    assert plan.plan(experiment).status == "missing"
    with files.creating(folders[-1], {}, {}):
        pass
    assert plan.plan(experiment).status == "found"


def test_optuna_is_told_what_was_recovered(tmp_path):
    search = [argument for argument in SWEEP if not argument.startswith("experiment=")]
    small = [
        "dataset=digits",
        "dataset.members=5",
        "dataset.non_members=5",
        "architecture.depth=2",
        "training.max_steps=5",
    ]
    ended = run_script(
        "recover", *search, *small, "training.ladder=[1.0]", "training.target_loss=1.0", "recovery.max_iterations=2",
        "threshold_db=-20", "hydra/sweeper=optuna", "hydra.sweeper.direction=maximize", "hydra.sweeper.n_trials=3",
        "recovery.penalty=tag(log, interval(0.05, 2))", cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "3 of 3 jobs: 3 done" in ended.stdout
    penalties = {run.config["recovery"]["penalty"] for run in finished(tmp_path / "runs")}
    assert len(penalties) == 3
    assert all(0.05 <= penalty <= 2 for penalty in penalties)
    best = max(run.results.query("member")["recovered"].mean() for run in finished(tmp_path / "runs"))
    assert best > 0
    assert f"Best value: {best}" in ended.stdout


@pytest.fixture
def composed():
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        yield lambda *overrides: compose("recover", overrides=list(overrides), return_hydra_config=True)


def test_slurm_composes_and_requeues(composed):
    launcher = composed("cluster=slurm", "hydra.launcher.partition=gpu").hydra.launcher
    assert launcher._target_.endswith("SlurmLauncher")
    assert (launcher.partition, launcher.max_num_timeout) == ("gpu", 20)


# Keys that cannot change a number of a table; everything else must change the signature.
SILENT = {
    "store", "study", "progress", "checkpoint_seconds", "gallery", "objective", "controls", "probes", "plan", "rungs",
    "attractors", "references", "tracking.mode", "tracking.project", "tracking.entity", "trainer.accelerator",
    "trainer.devices", "training.ensemble",
}  # fmt: skip
ALSO_SILENT = {  # of some choices: images and files count by their content, and a blind method alone uses an operator
    "dataset": {f"dataset.{key}" for key in ("path", "unusable")},
    "architecture=custom": {"architecture.allowed"},
    "recovery=iterate": {"operator.every", "operator.tau"},
}
REFUSED = {  # by some degradations and methods, by a folder of images, by a centred autoencoder, and without a clip
    "architecture.value_range", "training.privacy_noise",
    "degradation.first.noise", "recovery.extrapolation", "recovery.recall", "recovery.starts",
    "dataset.column", "dataset.split", "dataset.subset",
}  # fmt: skip
OTHER = {
    "training.axes": "principal",
    "rungs": "last", "control": "untrained", "trainer.precision": "bf16-mixed", "training.betas": [0.8, 0.9],
    "references": 4, "recovery.starts": 2,  # one is what most methods do by themselves
    "training.ladder": [0.5], "architecture.activation": "elu", "architecture.initialisation": "orthogonal",
    "architecture.output": "sigmoid", "degradation.fill": "grey", "degradation.second.fill": "grey",
    "degradation.side": "left", "degradation.direction": "vertical", "degradation.angle": 30.0, "dataset.path": "copy",
    "operator.family": "gain", "tracking.mode": "none", "objective": "minus_recovered",
    "training.ema": 0.9, "architecture.channels": [8, 16], "dataset.unusable": "skip",
    "dataset.mode": "L", "dataset.duplicates": "exact", "dataset.size": 16, "architecture.skips": "inner",
    "architecture.allowed": ["x"], "architecture.layout": "flat", "dataset.shape": [1, 4, 4],
}  # fmt: skip
ELSEWHERE = {
    "name",
    "weights",
    "export",
    "others",
}  # choices of a group, and files: see tests/architectures and tests/data
GROUPS = ("architecture", "dataset", "training", "degradation", "recovery", "operator", "tracking", "cluster")
CROSSING = ("architecture", "recovery", "operator")  # whose choices decide what keys of other groups change
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((entry.CONF / group).glob("*.yaml"))]


def without_hydra(config):
    with open_dict(config):
        config.pop("hydra")
    return config


def leaves(config, prefix=""):
    """Dotted keys and values."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def another(key, value):
    if key in OTHER:
        return OTHER[key]
    if isinstance(value, bool):
        return not value
    if isinstance(value, (str, list)):
        return "x"
    return value / 2 if isinstance(value, float) and value else (value or 0) + 1


def identified(config):
    """Of a recovery, or of a control and what it belongs to."""
    identity = Identity.of(experiment_of(config))
    return signature_of(identity.record)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """`here`, a folder of images, and `copy`, one of the same."""
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("here/a.png")
    shutil.copytree("here", "copy")


@pytest.mark.parametrize("choice", CHOICES)
def test_the_signature_is_made_of_what_can_change_a_number_and_of_nothing_else(composed, pictures, choice):
    more = ["operator=known"] if choice == "degradation=downsample" else []  # no other can suppose a smaller image
    config = OmegaConf.to_container(composed(choice, *more))
    del config["hydra"]
    expected = SILENT | ALSO_SILENT.get(choice, set())
    if "path" in config["dataset"]:
        config["dataset"]["path"] = "here"
        expected = expected | ALSO_SILENT["dataset"]
    before, silent, refused, passed = identified(config), set(), set(), set()
    for key, value in leaves(config):
        *path, last = key.split(".")
        if last in ELSEWHERE:
            continue
        if path and path[0] != choice.split("=")[0] and not choice.startswith(CROSSING):
            passed.add(key)  # which choices of other groups tell
            continue
        changed = copy.deepcopy(config)
        functools.reduce(dict.__getitem__, path, changed)[last] = another(key, value)
        try:
            if identified(changed) == before:
                silent.add(key)
        except ValueError:  # the value is out of range: it is looked at
            refused.add(key)
    assert silent == expected - passed
    assert refused <= REFUSED
    if choice.startswith(("tracking", "cluster")):
        assert before == identified(OmegaConf.to_container(without_hydra(composed())))


def test_listing_a_store_does_not_wait_for_torch():
    code = "import sys, memorization.cli.store; print({'torch', 'pandas', 'pyarrow', 'hydra'} & {*sys.modules})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "set()\n"


def test_all_results_are_those_of_each_run_with_text_as_categories(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PART", 2)
    for seed in range(5):
        write_run(tmp_path, {"seed": seed, "degradation.fill": f"fill {seed}"})
    table = load_results(tmp_path)
    assert isinstance(table["signature"].dtype, pd.CategoricalDtype)
    for run, (_, rows) in zip(finished(tmp_path), table.groupby("signature", sort=True), strict=True):
        rows = rows.reset_index(drop=True).astype(run.results.dtypes)
        pd.testing.assert_frame_equal(rows, run.results, check_exact=True)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["results.parquet", "gallery.safetensors", "config.yaml"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-9]), Path.unlink])
def test_the_store_is_verified_and_cleaned(tmp_path, capsys, name, damage):
    folder = tmp_path / "recoveries" / write_run(tmp_path, {})
    assert store.verified(tmp_path) == 0
    damage(folder / name)
    assert store.verified(tmp_path) == 1
    assert f"{name} is" in capsys.readouterr().out
    assert not files.is_intact(folder, remove=True)
    assert not folder.exists()


def test_a_run_in_the_place_of_another_is_no_run(tmp_path, capsys):
    one, two = (tmp_path / "recoveries" / write_run(tmp_path, {"seed": seed}) for seed in range(2))
    shutil.rmtree(one)
    shutil.copytree(two, one)
    assert store.verified(tmp_path) == 1
    assert f"{one} holds another run, {two.name}" in capsys.readouterr().out
    with pytest.raises(StoreError, match="holds another run"):
        load_results(tmp_path)
    assert not files.is_intact(one, remove=True)
    assert not one.exists()


def test_what_a_kill_at_the_very_end_left_can_go_once_the_run_is_found(tmp_path):
    folder = tmp_path / "recoveries" / write_run(tmp_path, {})
    (folder / files.SHARDS / "00000000").mkdir(parents=True)
    (folder / files.CHECKPOINT).touch()
    assert files.is_intact(folder, remove=True)  # it may be about to grow: then its shards are needed
    assert all((folder / name).exists() for name in files.UNFINISHED)
    files.tidy(folder)
    assert files.is_intact(folder)
    assert not any((folder / name).exists() for name in files.UNFINISHED)


def test_only_what_was_being_written_is_removed_and_what_others_hide_is_no_part_of_a_run(tmp_path):
    folder = tmp_path / "recoveries" / "run"
    hidden = [folder / ".DS_Store", folder / "weights" / ".ipynb_checkpoints" / "notes.txt"]
    for path in [*hidden, folder / ".results.parquet.4711", folder / "weights" / ".1e-02.safetensors.12"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with files.creating(folder, {}, {}):
        files.write(folder / "results.parquet", "")
    assert {path for path in folder.rglob("*") if path.is_file() and path not in hidden} == {
        folder / name for name in ("config.yaml", "done.json", "results.parquet")
    }
    assert all(path.exists() for path in hidden)
    assert files.read_done(folder)["checksums"].keys() == {"config.yaml", "results.parquet"}


def test_a_folder_in_the_place_of_a_file_is_damage(tmp_path):
    folder = tmp_path / "recoveries" / write_run(tmp_path, {})
    (folder / "done.json").unlink()
    (folder / "done.json").mkdir()
    with pytest.raises(StoreError, match=r"done\.json is damaged"):
        load_results(tmp_path)
    assert store.verified(tmp_path) == 1


def test_stores_merge_and_nothing_whole_is_replaced(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    shared = write_run(one, {})
    assert write_run(two, {}) == shared
    write_run(two, {"seed": 1})
    damaged = write_run(two, {"seed": 2})
    flip(two / "recoveries" / damaged / "results.parquet")
    assert store.merged(one, two) == 1
    assert "1 already there" in capsys.readouterr().out
    assert len(finished(one)) == 2
    assert len(load_results(one)) == 2 * len(finished(one)[0].results)


def test_a_merge_replaces_what_is_damaged_or_has_some_of_the_rungs_alone(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    rungs = {"damaged": ([0.1], [0.1]), "smaller": ([0.1], [0.1, 0.01]), "larger": ([0.1, 0.01], [0.1])}
    rungs["differs"] = ([0.1, 0.01], [0.1, 0.001])
    for name, both in rungs.items():
        for root, own in zip((one, two), both, strict=True):
            with files.creating(root / "recoveries" / name, {}, {"recovered_rungs": own}) as folder:
                files.write(folder / "results.parquet", f"{name} {own}")
    flip(one / "recoveries" / "damaged" / "results.parquet")
    assert store.merged(one, two) == 1
    *_, said, counted = capsys.readouterr().out.splitlines()
    assert sorted(counted.split(", ")) == ["1 already there", "1 differs", "2 replaced"]
    expected = f"differs: {one / 'recoveries' / 'differs'} lacks the rungs 0.001 of {two / 'recoveries' / 'differs'}, "
    assert said.startswith(expected)
    assert store.verified(one) == 0
    found = {folder.name: files.read_done(folder)["recovered_rungs"] for _, folder in store.folders(one)}
    both = [0.1, 0.01]
    assert found == {"damaged": [0.1], "smaller": both, "larger": both, "differs": both}


def test_gc_removes_only_what_no_recovery_refers_to(tmp_path, capsys):
    for name in ("needed", "loose"):
        with files.creating(tmp_path / "autoencoders" / name, {}, {"rungs": {}}) as folder:
            files.write(folder / "history.csv", "x")
    with files.creating(tmp_path / "recoveries" / "r", {}, {"autoencoder": "needed"}):
        pass
    store.collected(tmp_path, remove=False)
    assert (tmp_path / "autoencoders" / "loose").exists()
    store.collected(tmp_path, remove=True)
    assert [path.name for _, path in store.folders(tmp_path)] == ["needed", "r"]
    (tmp_path / "recoveries" / "unfinished").mkdir()
    with pytest.raises(StoreError, match="is not finished"):
        store.collected(tmp_path, remove=True)


def test_gc_reads_again_only_what_is_new_or_changed(tmp_path, monkeypatch):
    for name in "abcd":
        with files.creating(tmp_path / "autoencoders" / name, {}, {"rungs": {}}):
            pass

    def recovered(name, autoencoder):
        with files.creating(tmp_path / "recoveries" / name, {}, {"autoencoder": autoencoder}):
            pass

    for name in "rstu":
        recovered(name, "")
    read, on, read_done = [], lock.on, files.read_done
    changes = {"b": lambda: recovered("r", "b"), "c": lambda: recovered("new", "c")}
    monkeypatch.setattr(lock, "on", lambda folder: changes.get(folder.name, int)() or on(folder))
    monkeypatch.setattr(files, "read_done", lambda folder: read.append(folder.name) or read_done(folder))
    store.collected(tmp_path, remove=True)
    assert [folder.name for kind, folder in store.folders(tmp_path) if kind == "autoencoders"] == ["b", "c"]
    assert read == [*"rstu", "r", "new"]


def test_gc_looks_again_when_it_holds_an_autoencoder(tmp_path, monkeypatch):
    with files.creating(tmp_path / "autoencoders" / "wanted", {}, {"rungs": {}}):
        pass
    on = lock.on

    def beaten(folder):
        """Another process finishes a recovery of the autoencoder just before `gc` gets its lock."""
        with files.creating(tmp_path / "recoveries" / "r", {}, {"autoencoder": "wanted"}):
            pass
        return on(folder)

    monkeypatch.setattr(lock, "on", beaten)
    store.collected(tmp_path, remove=True)
    assert (tmp_path / "autoencoders" / "wanted").exists()


def test_a_lock_survives_its_dead_holder_and_shows_a_live_one(tmp_path):
    folder = tmp_path / "recoveries" / "run"
    code = (
        "import sys; from pathlib import Path; from memorization.store import lock; "
        f"held = lock.on(Path({str(folder)!r})); held.acquire(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    folder.mkdir()
    assert files.status(folder) == "running"
    holder.kill()
    holder.communicate()
    assert files.status(folder) == "interrupted"
    with lock.on(folder).acquire(timeout=5):
        pass
