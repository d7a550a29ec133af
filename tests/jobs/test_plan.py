"""A plan makes the checks of a run and does nothing, whatever launches its jobs; a run finds what another has made."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir

from memorization.cli import entry
from memorization.config import schema
from memorization.config.experiment import resolve
from memorization.jobs.extraction import ExtractionJob
from memorization.jobs.recovery import RecoveryJob
from memorization.store import files, lock
from memorization.store.reading import finished, load_results
from tests.conftest import run_script
from tests.preloaded import PYTHON

pytestmark = pytest.mark.usefixtures("composed_once")
SMALL = ["experiment=smoke", "recovery=energy", "recovery.max_iterations=5", "tracking=none", "progress=false"]


@pytest.mark.parametrize(
    "launched",
    [
        "  - override /cluster: joblib",
        "  - override /hydra/launcher: joblib",
        "  - override /cluster: joblib\n\nhydra:\n  launcher:\n    n_jobs: 2",
        "  - override /hydra/launcher: submitit_slurm",
    ],
)
def test_no_launcher_runs_what_is_only_planned(tmp_path, launched):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    text = f"# @package _global_\ndefaults:\n  - override /dataset: digits\n{launched}\n"
    (tmp_path / "own" / "experiment" / "planned.yaml").write_text(text)
    words = ["-m", f"--config-dir={tmp_path / 'own'}", "experiment=planned", "seed=0,1", *SMALL[1:]]
    ended = run_script("recover", *words, "--plan", cwd=tmp_path)
    assert "2 of 2 jobs: 2 missing" in ended.stdout, ended.stderr
    assert ended.returncode == 0
    assert {path.name for path in tmp_path.iterdir()} == {"own"}


REFUSED = {
    "control=none_such": "control is 'none_such'; choose one of none, untrained",
    "probes=-1": "probes is -1; it must be at least 0",
    "objective=foo": "objective is 'foo'; choose one of recovered, minus_recovered",
    "trainer.precision=16-mixed": "trainer.precision is '16-mixed'; it is not supported",
    "tracking.mode=wandb": "tracking.mode is 'wandb'; choose one of offline, online, none",
    "dataset.members=90": "dataset.members is 90; with dataset.non_members 50 it needs 140 images; faces has 100",
    "degradation.fraction=1e-9": "degradation.fraction is 1e-09; it erases 0 of the 625 pixels",
    "architecture.activation=swish": "architecture.activation is 'swish'; choose one of",
    "rungs=[1e-9]": "rungs is [1e-09]; choose among the rungs",
    "recovery.batch_size=0": "recovery.batch_size is 0; it must be at least 1",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", REFUSED)
def test_a_plan_refuses_what_a_run_refuses(tmp_path, monkeypatch, capsys, mistake):
    from memorization import recover

    monkeypatch.chdir(tmp_path)
    said = []
    for plan in ([], [entry.PLAN]):
        monkeypatch.setattr("sys.argv", ["memorization-recover", "tracking=none", "progress=false", mistake, *plan])
        with pytest.raises(SystemExit) as ended:
            recover.main()
        assert ended.value.code == 1
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert REFUSED[mistake] in said[0]
    assert not list(tmp_path.iterdir())


def test_first_weights_are_drawn_for_a_training_alone(tmp_path, monkeypatch):
    from memorization import recover
    from memorization.architectures import Architecture

    monkeypatch.chdir(tmp_path)
    drawn, build = [], Architecture.build
    monkeypatch.setattr(Architecture, "build", lambda *args, **kwargs: drawn.append(1) or build(*args, **kwargs))
    for words in (["plan=true"], [], ["recovery.max_iterations=6"], ["plan=true"]):
        monkeypatch.setattr("sys.argv", ["memorization-recover", *SMALL, *words])
        recover.main()
        assert len(drawn) == (words != ["plan=true"] or len(drawn) > 0)


def test_a_rung_that_a_run_has_is_found_and_one_that_it_lacks_is_added(tmp_path):
    """`last` after `all` is found; `all` after `last` adds the other rungs, and ends with the same table."""
    for store, first, second in (("whole", "all", "last"), ("grown", "last", "all")):
        once = run_script("recover", *SMALL, f"rungs={first}", f"store={store}", cwd=tmp_path)
        assert once.stdout.splitlines()[-1].startswith("done  energy"), once.stderr
        again = run_script("recover", *SMALL, f"rungs={second}", f"store={store}", cwd=tmp_path)
        expected = "found  energy" if first == "all" else "done  energy"
        assert again.stdout.splitlines()[-1].startswith(expected), again.stderr
        assert "training" not in again.stdout
    (whole,), (grown,) = finished(tmp_path / "whole"), finished(tmp_path / "grown")
    assert whole.folder.name == grown.folder.name
    left, right = (run.results.drop(columns="seconds") for run in (whole, grown))
    pd.testing.assert_frame_equal(left, right, check_exact=True)
    assert whole.config["rungs"] == grown.config["rungs"] == "all"
    assert whole.gallery.keys() == grown.gallery.keys()
    assert all((picture == grown.gallery[name]).all() for name, picture in whole.gallery.items())
    assert not (grown.folder / files.SHARDS).exists()


def test_a_run_that_is_killed_as_it_grows_keeps_what_it_had(tmp_path):
    assert run_script("recover", *SMALL, "rungs=last", cwd=tmp_path).returncode == 0
    (run,) = finished(tmp_path / "runs")
    before = run.results
    files.reopen(run.folder)  # and no more: killed here
    assert files.status(run.folder) == "interrupted"
    grown = run_script("recover", *SMALL, "rungs=all", cwd=tmp_path)
    assert grown.returncode == 0, grown.stderr
    (run,) = finished(tmp_path / "runs")
    kept = run.results[run.results["rung"] == 0.01].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before, check_exact=True)  # `seconds` as well: it was not made anew


def test_a_run_that_grows_is_whole_until_the_rest_is_there(tmp_path):
    """Killed with the other rungs recovered and not yet written: asked for what it had, it is found all the while."""
    assert run_script("recover", *SMALL, "rungs=last", "gallery=4", cwd=tmp_path).returncode == 0
    killed = (
        "import os, sys\nfrom memorization.store import files\n"
        "files.reopen = lambda folder: os.kill(os.getpid(), 9)\n"
        f"sys.argv = ['memorization-recover', *{[*SMALL, 'rungs=all', 'gallery=1']!r}]\n"
        "from memorization.recover import main; main()"
    )
    assert subprocess.run([*PYTHON, "-c", killed], cwd=tmp_path, check=False).returncode == -9
    assert len(load_results(tmp_path / "runs")) == 20
    again = run_script("recover", *SMALL, "rungs=last", cwd=tmp_path)
    assert again.stdout.splitlines()[-1].startswith("found  energy"), again.stderr
    (run,) = finished(tmp_path / "runs")
    files.reopen(run.folder)  # killed at the next moment
    again = run_script("recover", *SMALL, "rungs=[1e-2]", cwd=tmp_path)
    assert again.stdout.splitlines()[-1].startswith("done  energy"), again.stderr
    grown = run_script("recover", *SMALL, "rungs=all", "gallery=1", cwd=tmp_path)
    assert grown.returncode == 0, grown.stderr
    (run,) = finished(tmp_path / "runs")
    assert len(run.results) == 40
    assert {len(run.gallery[name]) for name in run.gallery if name != "steps"} == {8}  # of the first time: 4 of each
    assert run_script("report", "--store", "runs", cwd=tmp_path).returncode == 0


def test_a_rung_that_was_not_reached_is_told_as_such(tmp_path):
    assert run_script("recover", *SMALL, cwd=tmp_path).returncode == 0
    missing = run_script("recover", *SMALL, "rungs=[1e-3]", cwd=tmp_path)
    assert "rungs: the training did not reach 0.001 of its ladder: it ended at a loss of" in missing.stderr


def test_optuna_is_planned(tmp_path):
    words = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.params=null", *SMALL]
    planned = run_script("recover", *words, "recovery.weight=interval(0.5, 2)", "--plan", cwd=tmp_path)
    assert "2 of 2 jobs: 2 missing" in planned.stdout, planned.stderr
    assert planned.returncode == 0, planned.stderr


def test_of_several_banks_one_that_another_process_makes_comes_last(tmp_path, monkeypatch):
    schema.register()
    words = ["dataset=faces", "recovery=energy", "operator=robust", "rungs=[1e-4,1e-8]", f"store={tmp_path}"]
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        job = RecoveryJob(resolve(compose("recover", overrides=words)))
    made, losses = [], {1e-2: 9e-3, 1e-4: 9e-5, 1e-8: 8e-9}
    ends = SimpleNamespace(ends={"ends": torch.full((2,), 1.5)})
    monkeypatch.setattr(ExtractionJob, "run", lambda bank: ("", made.append(bank.rung) or ends))
    banks = job._recalled(losses, losses)
    assert made == [1e-4, 1e-8]  # at 1e-2 no image is held
    assert {rung: bank.tolist() for rung, bank in banks.items()} == {1e-4: [1, 1], 1e-8: [1, 1]}  # cut to images
    with lock.held(job.bank(1e-4).folder):
        assert job._recalled(losses, losses).keys() == banks.keys()
    assert made[2:] == [1e-8, 1e-4]
