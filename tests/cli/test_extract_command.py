"""`memorization-extract`: its table, its refusals, and an extraction that was killed and ends with the same bits."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import subprocess
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from memorization import extract as extract_from
from memorization import load_run
from memorization.cli import entry, store
from memorization.data import Digits
from memorization.evaluation.extraction import curve, summarised
from memorization.extraction import Noise, Search
from memorization.jobs import plan
from memorization.jobs.outcome import Standing
from memorization.report.command import summary
from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.store import files
from memorization.store.reading import finished
from tests.conftest import run_script
from tests.preloaded import PYTHON

pytestmark = [
    pytest.mark.usefixtures("composed_once"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*"),
]
COMMON = ["dataset=digits", "dataset.members=6", "dataset.non_members=5", "progress=false", "tracking=none"]
SEARCH = ["search.queries=8000", "search.batch_size=10", "search.max_iterations=60", "search.unseen=0"]
TRAINING = ["architecture.depth=5", "architecture.width=64", "training.max_steps=800", "training.learning_rate=3e-3"]
TRAINING += ["training.target_loss=1e-6"]
TINY = [*COMMON, *SEARCH, *TRAINING, "training.ladder=[1e-1,1e-3,1e-30]"]
SPLIT = Digits(members=6, non_members=5).load(0)
COLUMNS = {
    *("end", "nearest_member", "psnr", "is_member", "nearest_non_member", "psnr_non_member", "hits", "queries"),
    *("residual", "period", "spectral_radius", "found_by", "image", "dataset", "architecture", "prior", "rung"),
    *("control", "seed", "threshold_db", "study", "signature", "train_loss"),
}


class Memory(nn.Module):
    """Holds six digits and forgets none: near the nearest one, of a soft choice."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.members = nn.Parameter(torch.zeros(6, shape[0] * shape[1] * shape[2]))

    def forward(self, x):
        closeness = -10 * torch.cdist(x.flatten(1), self.members).square()
        return (closeness.softmax(1) @ self.members).view_as(x)


def memory(kind=Memory):
    made = kind((1, 8, 8))
    made.members.data = SPLIT.members.flatten(1).float() / (255 if SPLIT.members.dtype == torch.uint8 else 1)
    return made


OWN = ["architecture=custom", f"architecture.target={__name__}.Memory", "architecture.allowed=[tests]"]
OWN += ["architecture.weights=own.safetensors"]


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`memorization-extract` in this process and in `tmp_path`: its exit status, what it printed, its line of error."""

    def call(*words: str, folder: Path = tmp_path) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr("sys.argv", ["memorization-extract", *words])
        status = 0
        try:
            import_module("memorization.extract").main()
        except SystemExit as ended:
            status = int(ended.code or 0)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with the tiny autoencoder in its store."""
    folder = tmp_path_factory.mktemp("trained")
    ended = run_script("train", *[w for w in TINY if not w.startswith("search.")], cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture
def ready(trained, tmp_path):
    """A copy of it, `tmp_path`."""
    shutil.copytree(trained / "runs", tmp_path / "runs")
    return tmp_path


def test_a_finished_extraction_of_a_store_that_cannot_be_written_to_is_found(command, ready, unwritable):
    assert command(*TINY)[0] == 0
    unwritable()
    status, out, err = command(*TINY)
    assert (status, err) == (0, "")
    assert out.startswith("found  extraction mixture at 1e-03")


def extractions(folder, name="runs"):
    return finished(folder / name, "extractions")


def test_the_table_has_its_columns_and_is_found_again(command, ready):
    status, out, err = command(*TINY)
    assert (status, err) == (0, "")
    (run,) = extractions(ready)
    assert set(run.results.columns) == COLUMNS
    assert out == f"done  extraction mixture at 1e-03  {out.split('1e-03  ')[1]}"
    assert f"{run.done['figures']['extracted']} of 6 members extracted" in out
    starts, ended = run.done["figures"]["starts"], run.done["endings"]
    lost = f"{ended['diverged']:,} diverged and {ended['unsettled']:,} did not settle"
    assert f" queries; of {starts:,} starts, {lost} → runs/extractions/" in out
    table, done = run.results, run.done
    assert len(table) >= 1
    assert table["hits"].sum() == done["endings"]["fixed"] + done["endings"]["periodic"]
    assert sum(done["endings"].values()) == done["figures"]["starts"]
    assert (table["rung"].unique() == 1e-3).all()
    assert table["train_loss"][0] <= 1e-3
    assert set(table["image"]) <= set(SPLIT.member_indices)
    again = summarised(table, 6, done["figures"]["queries"], done["figures"]["starts"])
    assert again["extracted"] == done["figures"]["extracted"]
    ends = load_file(run.folder / "ends.safetensors")
    assert len(ends["ends"]) == len(ends["member"]) == len(table)
    nearest = [SPLIT.member_indices[i] for i in table["nearest_member"]]
    assert nearest == table["image"].tolist()
    status, out, err = command(*TINY)
    assert (status, err, out.split()[0]) == (0, "", "found")
    assert not list(run.folder.rglob("shards"))
    status, out, err = command(*TINY, "--plan")
    assert out.startswith("found  extraction mixture at 1e-03")
    for kind in (store.listed, store.verified):
        assert kind(ready / "runs") == 0


def test_a_plan_writes_nothing(command, tmp_path):
    status, out, _ = command(*TINY, "controls=true", "--plan")
    assert (status, list(tmp_path.iterdir())) == (0, [])
    assert out.startswith("missing  extraction mixture at 1e-30")
    assert "control untrained" in out
    assert "control reference" in out


def test_it_is_made_at_all_rungs_and_of_the_controls(command, ready):
    status, out, err = command(*TINY, "rungs=all", "controls=true", "search.queries=600", "spectra=false")
    assert (status, err) == (0, "")
    runs = extractions(ready)
    kinds = {(run.done["rung"], run.config.get("control")) for run in runs if run.done["autoencoder"]}
    assert kinds == {(0.1, "none"), (0.001, "none"), (0.1, "reference"), (0.001, "reference")}
    (untrained,) = [run for run in runs if not run.done["autoencoder"]]
    assert (untrained.config["control"], untrained.done["weights"]) == ("untrained", {})
    assert all(run.results["spectral_radius"].isna().all() for run in runs)
    assert len(finished(ready / "runs", "autoencoders")) == 2
    assert [line.split("  ")[0] for line in out.splitlines() if "extraction" in line] == ["done"] * 5
    _, out, _ = command(*TINY, "rungs=all", "controls=true", "search.queries=600", "spectra=false", "--plan")
    assert out.startswith("found")


MISTAKES = {
    "control=inpaint": "control is 'inpaint'; not applicable: inpaint is of a measurement, and an extraction has none",
    "control=nearest_member": "control is 'nearest_member'; ",
    "rungs=[1e-30]": "rungs: the training did not reach 1e-30 of its ladder; raise training.max_steps",
    "rungs=[1e-5]": "rungs is [1e-05]; choose among the rungs of the training's ladder: 0.1, 0.001, 1e-30",
    "serch.queries=3": "serch: there is no such key; did you mean search?",
    "search.querys=3": "search.querys: there is no such key; did you mean search.queries?",
    "+search.foo=3": "search.foo: there is no such key",
    "+recovery=iterate": "only memorization-recover has this key",
    "degradation.fraction=0.3": "degradation: only memorization-recover has this key",
    "prior=nois": "prior=nois: there is no such choice; choose one of combinations, images, mixture, noise",
    "prior=noise prior.scal=3": "prior.scal: there is no such key for prior=noise; did you mean prior.scale?",
    "prior=noise prior.scale=-3": "prior.scale is -3; it must be above 0 and finite",
    "prior.spectra=[1,20]": "prior.spectra is [1.0, 20.0]; it is the exponent",
    "prior=images": "prior.path is ''; name a folder",
    "prior=images prior.path=/nowhere": "prior.path is '/nowhere'; ",
    "search.queries=0": "search.queries is 0; it must be a whole number, at least 1",
    "search.unseen=-1": "search.unseen is -1; it is a number of ends, at least 0",
    "search.batch_size=x": "search.batch_size=x: it must be a whole number, such as 50",
    "threshold_db=nan": "threshold_db is nan; it must be a finite number of dB",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake, command, trained):
    status, _, err = command(*TINY, *mistake.split(), folder=trained)
    assert status == 1
    assert MISTAKES[mistake] in err
    assert len(err.strip().splitlines()) == 1
    assert not (trained / "runs" / "extractions").exists()


def test_a_prior_that_cannot_be_used_is_refused_before_the_training(command, tmp_path):
    status, _, err = command(*TINY, "prior=images", folder=tmp_path)
    assert (status, err.startswith("error: prior.path is ''; name a folder")) == (1, True)
    assert not (tmp_path / "runs").exists()


def test_a_typo_in_a_file_of_a_prior_is_named(tmp_path):
    copied = tmp_path / "conf"
    shutil.copytree(entry.CONF, copied)
    with (copied / "prior" / "noise.yaml").open("a") as file:
        file.write("scal: 2\n")
    ended = run_script("extract", f"--config-path={copied}", "prior=noise", cwd=tmp_path)
    assert ended.returncode == 1
    said = "conf/prior/noise.yaml: prior.scal: there is no such key for prior=noise; did you mean prior.scale?"
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_sweep_over_priors_whose_runs_are_listed_and_logged(ready, capsys):
    words = ["-m", *[w for w in TINY if w != "tracking=none"], "prior=mixture,noise", "search.queries=1500"]
    ended = run_script("extract", *words, cwd=ready)
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2 jobs: 2 done" in ended.stdout
    runs = extractions(ready)
    assert {run.results["prior"][0] for run in runs} == {"mixture", "noise"}
    assert store.listed(ready / "runs") == 0
    listed = capsys.readouterr().out
    assert "done         extraction mixture at 1e-03" in listed
    assert "1 done autoencoders, 2 done extractions" in listed
    logged = 0
    for path in (ready / "runs" / "wandb").glob("offline-run-*"):
        show = [*PYTHON, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
        shown = json.loads(subprocess.run(show, capture_output=True, text=True, check=True, timeout=60).stdout)
        (run,) = [run for run in runs if run.folder.name == shown["summary"]["signature"]]
        figures = run.done["figures"]
        for name in ("queries", "ends", "extracted"):
            assert shown["summary"][f"extraction/{name}"] == figures[name]
        logged += 1
    assert logged == 2
    assert store.collected(ready / "runs", remove=True) == 0  # both need the autoencoder
    assert len(finished(ready / "runs", "autoencoders")) == 1
    for run in runs:
        shutil.rmtree(run.folder)
    store.collected(ready / "runs", remove=True)
    assert not finished(ready / "runs", "autoencoders")


def test_a_damaged_extraction_is_noticed_and_made_anew(command, ready, capsys):
    words = [*TINY, "search.queries=600"]
    command(*words)
    (run,) = extractions(ready)
    path = run.folder / "ends.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert store.verified(ready / "runs") == 1
    assert "ends.safetensors is damaged" in capsys.readouterr().out
    _, out, _ = command(*words)
    assert "ends.safetensors is damaged (its checksum differs)" in out
    assert path.read_bytes() == whole


KILLING = """
import os, signal
from memorization.engine import extraction as module
{where}
import sys; sys.argv = ['memorization-extract', *{words!r}]
from memorization.extract import main; main()
"""
SETTLING = """
settle, calls = module.settle_draw, []
def counted(*args):
    calls.append(0)
    len(calls) == {step} and os.kill(os.getpid(), {number})
    return settle(*args)
module.settle_draw = counted
"""
SEALING = """
from memorization.store import files
seal = files.seal
def sealed(folder, *rest, **how):
    folder.parent.name == "extractions" and os.kill(os.getpid(), {number})
    return seal(folder, *rest, **how)
files.seal = sealed
"""


def killed(folder, where, number, step=0):
    code = KILLING.format(where=where.format(step=step, number=int(number)), words=TINY)
    ended = subprocess.run([*PYTHON, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert not extractions(folder)
    return ended


def same(one, two):
    """The same bits, of two finished extractions."""
    assert one.folder.name == two.folder.name
    names = ("results.parquet", "ends.safetensors")
    assert all((one.folder / name).read_bytes() == (two.folder / name).read_bytes() for name in names)
    assert (one.done["figures"], one.done["endings"]) == (two.done["figures"], two.done["endings"])


def test_killed_several_times_it_ends_with_the_same_bits(command, ready, trained, tmp_path_factory):
    chosen = random.Random(1)
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        ended = killed(ready, SETTLING, number, chosen.randrange(2, 5))
        assert ended.returncode == (143 if number == signal.SIGTERM else -9), ended.stderr
        if number == signal.SIGTERM:
            assert ended.stderr == "stopped by SIGTERM; the same command goes on from here\n"
    assert killed(ready, SEALING, signal.SIGKILL).returncode == -9
    (folder,) = (ready / "runs" / "extractions").glob("[!.]*")
    assert files.status(folder) == "interrupted"
    with pytest.raises(files.StoreError, match="is not finished and may need any of them"):
        store.collected(ready / "runs", remove=True)
    shards = sorted((folder / files.SHARDS).glob("*/*"))  # in a folder of the weights
    assert len(shards) > 10
    content = shards[2] / "ends.safetensors"
    content.write_bytes(content.read_bytes()[:-3])  # and one is damaged
    status, _, err = command(*TINY)
    assert (status, err) == (0, "")
    other = tmp_path_factory.mktemp("unbroken")
    shutil.copytree(trained / "runs", other / "runs")
    command(*TINY, folder=other)
    same(*extractions(ready), *extractions(other))
    assert not (folder / files.SHARDS).exists()


@pytest.mark.usefixtures("quick_children")
def test_two_processes_give_the_same_table(command, ready):
    words = [*TINY, "search.queries=1200", "trainer.accelerator=cpu"]
    two = run_script("extract", *words, "trainer.devices=2", "spectra=true", cwd=ready)
    assert (two.returncode, two.stderr) == (0, "")
    (ready / "runs" / "extractions").rename(ready / "two")
    command(*words)
    (run,), (other,) = extractions(ready), finished(ready, "two")
    assert run.folder.name == other.folder.name
    pd.testing.assert_frame_equal(run.results, other.results, rtol=1e-5)


def test_an_autoencoder_of_ones_own_gives_what_python_gives(command, tmp_path):
    save_file(memory().state_dict(), tmp_path / "own.safetensors")
    words = [*COMMON, *SEARCH, *OWN, "prior=noise", "prior.spectrum=0"]
    status, out, err = command(*words)
    assert (status, err) == (0, "")
    assert "nothing to train" in out
    (run,) = extractions(tmp_path)
    found = extract_from(
        memory(),
        (1, 8, 8),
        members=SPLIT.members,
        non_members=SPLIT.non_members,
        prior=Noise(0.0),
        queries=8000,
        batch_size=10,
        max_iterations=60,
        unseen=0,
        progress=False,
    )
    pd.testing.assert_frame_equal(
        run.results[found.table.columns], found.table, check_dtype=False, rtol=1e-4, atol=1e-7
    )
    assert run.results["is_member"].all()
    assert len(found.extracted) >= 5
    assert run.done["figures"]["extracted"] == len(found.extracted)
    pd.testing.assert_frame_equal(curve(run.results), found.curve())
    loaded = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(loaded(torch.rand(2, 1, 8, 8)).shape, torch.Size([2, 1, 8, 8]))
    status, _, err = command(*words, "control=reference")
    assert status == 1
    assert err.startswith("error: control is 'reference'; not applicable: the weights are given")
    status, _, err = command(*words, "rungs=[0.1]")
    assert "rungs is [0.1]; an autoencoder whose weights are given has one; leave it out" in err


def test_without_members_the_ends_are_counted_and_shown(command, tmp_path, capsys):
    save_file(memory().state_dict(), tmp_path / "own.safetensors")
    words = ["dataset=none", "dataset.shape=[1,8,8]", *COMMON[3:], *SEARCH, *OWN, "prior=noise", "prior.spectrum=0"]
    status, out, err = command(*words, "--plan")
    assert (status, err, out.split()[0]) == (0, "", "missing")
    status, out, err = command(*words, "controls=true")
    assert (status, err) == (0, "")
    assert "\ndone  extraction noise  6 distinct ends, at least 6 (95 % 6 to " in out
    assert "member" not in out.splitlines()[-1]
    assert "nan" not in out
    assert "not applicable  control reference: the weights are given" in out
    (run,) = [run for run in extractions(tmp_path) if run.config["control"] == "none"]
    own = {"prior": Noise(0.0), "queries": 8000, "batch_size": 10, "max_iterations": 60, "unseen": 0}
    found = extract_from(memory(), (1, 8, 8), progress=False, **own)
    pd.testing.assert_frame_equal(
        run.results[found.table.columns], found.table, check_dtype=False, rtol=1e-4, atol=1e-7
    )
    assert (run.done["figures"]["members"], set(run.results["image"])) == (0, {-1})
    loaded = load_run(run.folder, packages=["tests"]).autoencoder()
    assert torch.equal(loaded.members, memory().members)
    for more in ([], ["--plan"]):
        status, out, err = command(*words, *more)
        assert (status, err, out.split()[0]) == (0, "", "found")
    for kind in (store.listed, store.verified):
        assert kind(tmp_path / "runs") == 0
    capsys.readouterr()
    findings = Findings.load(tmp_path / "runs")
    for shown in (build(findings), summary(findings)):
        text = " ".join(shown.split())
        assert "Unasked, 6 distinct images came out of custom after" in text
        assert "there are no members to compare with" in text
        assert "train loss nan" not in text
        assert "none / custom" not in text


class WithinRange(nn.Module):
    """Refuses what is no image."""

    def forward(self, x):
        assert x.min() >= 0, "too dark"
        return 0.5 * x


def test_a_model_that_refuses_what_is_no_image_is_told_to_clip(command, tmp_path):
    own = ["architecture=custom", f"architecture.target={__name__}.WithinRange", "architecture.allowed=[tests]"]
    words = ["dataset=none", "dataset.shape=[1,8,8]", *COMMON[3:], *SEARCH, *own, "architecture.trained=true"]
    status, _, err = command(*words)
    assert status == 1
    assert "fails on values outside of [0, 1], where an extraction starts: AssertionError: too dark; clip them" in err
    assert "return memorization.adapted(WithinRange(...), call=lambda model, x: model(x.clip(0, 1)))" in err
    assert len(err.strip().splitlines()) == 1
    assert not extractions(tmp_path)


def test_a_program_needs_no_member_either(command, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8)))
    nn.init.normal_(model[1].weight, std=0.01)  # a contraction: one fixed point
    batch = {0: torch.export.Dim("batch")}
    program = torch.export.export(model, (torch.rand(2, 1, 8, 8),), dynamic_shapes=(batch,))
    torch.export.save(program, tmp_path / "own.pt2")
    words = ["dataset=none", "dataset.shape=[1,8,8]", *COMMON[3:], *SEARCH, "architecture=custom", "prior=noise"]
    status, out, err = command(*words, "architecture.export=own.pt2", "prior.spectrum=0")
    assert (status, err) == (0, "")
    assert "1 distinct ends, at least 1 " in out
    assert load_run(extractions(tmp_path)[0].folder).autoencoder()(torch.rand(3, 1, 8, 8)).shape == (3, 1, 8, 8)


WITHOUT = {
    "dataset=none": "dataset.shape is []; give the channels, height and width, such as [3,64,64]",
    "dataset=none dataset.shape=[8,8]": "dataset.shape is [8, 8]; give the channels",
    "dataset=none dataset.shape=[1,0,8]": "dataset.shape is [1, 0, 8]; give the channels",
    "dataset=none dataset.shape=8": "dataset.shape",
    "dataset=none dataset.shape=[1,8,x]": "dataset.shape",
    "dataset=none dataset.members=6": "dataset.members: there is no such key for dataset=none; it belongs to",
    "dataset=none dataset.shape=[1,8,9]": "members is (6, 64) and should be (6, 72)",
    "dataset=none dataset.shape=[1,8,8] architecture=fc": "dataset is 'none'; there is nothing to train on",
    "dataset=none dataset.shape=[1,8,8] architecture.weights=''": "dataset is 'none'; there is nothing to train on",
    "dataset=digits dataset.members=0": "dataset.members is 0; it must be at least 1",
}


@pytest.mark.parametrize("mistake", WITHOUT)
def test_a_mistake_without_members_is_one_line(mistake, command, tmp_path):
    save_file(memory().state_dict(), tmp_path / "own.safetensors")
    own = [] if "architecture=fc" in mistake else OWN
    status, out, err = command(*COMMON[3:], *SEARCH, *own, *mistake.split())
    assert (status, out) == (1, "")
    assert WITHOUT[mistake] in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["train", "recover"])
def test_only_an_extraction_needs_no_images(name, tmp_path):
    ended = run_script(name, "dataset=none", "dataset.shape=[1,8,8]", "tracking=none", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: dataset is 'none'; only memorization-extract needs no images")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_recovery_that_recalls_makes_its_bank_once(tmp_path, monkeypatch, capsys):
    """At the rung whose loss is low enough; the plan names it, and another recovery of that autoencoder finds it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("memorization.jobs.recovery.TO_RECALL", Search(queries=400, batch_size=10))
    words = [*COMMON, *TRAINING, "training.ladder=[1e-1,1e-3]", "recovery=energy", "operator=robust", "rungs=all"]
    words += ["recovery.max_iterations=5"]

    def recovered(*more: str) -> str:
        monkeypatch.setattr("sys.argv", ["memorization-recover", *words, *more])
        with contextlib.suppress(SystemExit):
            import_module("memorization.recover").main()
        return capsys.readouterr().out

    told = recovered("--plan")
    assert told.count("; extraction mixture at 1e-03 ") == 1
    assert "extraction mixture at 1e-01" not in told
    assert "done  extraction mixture at 1e-03" in recovered()
    (run,) = extractions(tmp_path)
    assert run.done["figures"]["queries"] < 5000
    assert (run.config["prior"]["name"], run.config["search"]["queries"]) == ("mixture", 400)
    assert not {"recovery", "degradation"} & {*run.config}
    assert Findings.load(tmp_path / "runs").extractions  # which the report is made of
    assert "found  extraction mixture at 1e-03" in recovered("degradation.fraction=0.4")
    assert "extraction" not in recovered("degradation.fraction=0.4", "recovery.recall=0")
    assert len(extractions(tmp_path)) == 1


def test_a_sweeper_is_told_of_the_share(tmp_path, monkeypatch):
    """The objective: of the last rung, whatever the controls give."""
    from hydra import compose, initialize_config_dir

    from memorization.config import schema
    from memorization.config.experiment import resolve

    save_file(memory().state_dict(), tmp_path / "own.safetensors")
    monkeypatch.chdir(tmp_path)
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        config = compose("extract", overrides=[*COMMON, *SEARCH, *OWN, "controls=true", "prior.spectra=[0]"])
    outcome, objective = plan.run(resolve(config))
    assert outcome.status is Standing.done
    (run,) = [run for run in extractions(tmp_path) if run.config["control"] == "none"]
    assert objective == run.done["figures"]["share"] == run.done["figures"]["extracted"] / 6 > 0.8


def test_help_lists_the_priors_and_the_keys_of_the_search(command):
    status, shown, _ = command("--help")
    assert status == 0
    for word in ("mixture", "combinations", "images", "noise", "spectra", "search.queries", "memorization-extract"):
        assert word in shown
