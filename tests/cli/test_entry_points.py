"""The entry points as a user runs them: the smoke experiment, the configs, and what a mistake looks like."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from omegaconf import MISSING, OmegaConf
from PIL import Image

from memorization import architectures, load_results, load_run
from memorization.cli import entry, help
from memorization.config import schema
from memorization.config.experiment import resolve
from memorization.config.groups import EXTRA, GROUPS
from memorization.config.hiding import hiding
from memorization.config.messages import ConfigError, as_typed
from memorization.degradations import Blur, Box, Chain, Downsample, MotionBlur, RandomPixels
from memorization.evaluation import metrics
from memorization.extraction import PRIORS
from memorization.report.reproduce import command
from memorization.store.files import StoreError
from memorization.store.reading import finished
from tests.conftest import run_script
from tests.preloaded import PYTHON

pytestmark = pytest.mark.usefixtures("composed_once")
CHOICES = [(group, path.stem) for group in GROUPS for path in sorted((entry.CONF / group).glob("*.yaml"))]


@pytest.fixture
def composed():
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        yield lambda *overrides: compose("recover", overrides=list(overrides))


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_instantiates(composed, group, choice):
    if group == "prior":
        experiment = resolve(compose("extract", [f"prior={choice}"]))
        assert type(experiment.extracting.search.prior) is PRIORS[choice]
        return
    config = composed(f"{group}={choice}")[group]
    if (group, choice) == ("architecture", "custom"):
        with pytest.raises(ValueError, match=r"target is ''; name either a class \(package\.module\.Class\), or"):
            architectures.build(shape=(1, 8, 8), seed=0, **OmegaConf.to_container(config))
    elif group == "architecture":
        autoencoder = architectures.build(shape=(1, 8, 8), seed=0, **OmegaConf.to_container(config))
        assert isinstance(autoencoder.network, GROUPS[group][config.name])
        assert autoencoder(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    else:
        experiment = resolve(composed(f"{group}={choice}", *(["operator=known"] if choice == "downsample" else [])))
        recipe = experiment.recovering.recipe
        parts = {"dataset": experiment.dataset, "training": experiment.training, "degradation": recipe.degradation}
        parts |= {"recovery": recipe.method, "operator": recipe.operator}
        assert type(parts[group]) is GROUPS[group][config.name]


def test_the_channels_of_an_architecture_are_set_as_a_list(composed):
    config = OmegaConf.to_container(composed("architecture=unet", "architecture.channels=[4,6]").architecture)
    autoencoder = architectures.build(shape=(1, 8, 8), seed=0, **config)
    assert [block[0].out_channels for block in autoencoder.network.encoder] == [4, 6, 6, 6]


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (entry.CONF / "experiment").glob("*.yaml")))
def test_every_experiment_composes(composed, experiment):
    assert composed(f"experiment={experiment}").study in {path.stem for path in (entry.CONF / "experiment").iterdir()}


def test_the_parts_of_a_chain_are_chosen_and_set(composed):
    first, second = "degradation@degradation.first", "degradation@degradation.second"

    def chain(*overrides):
        config = composed("degradation=chain", "operator=known", *overrides)
        return resolve(config).recovering.recipe.degradation

    assert chain() == Chain(Blur(), RandomPixels())
    assert chain("degradation.first.width=1", "degradation.second.fraction=0.5") == Chain(Blur(1), RandomPixels(0.5))
    assert chain(f"{first}=downsample", f"{second}=box", "degradation.first.factor=2") == Chain(Downsample(2), Box())
    nested = chain(f"{second}=chain", "degradation@degradation.second.first=motion_blur", "degradation.first.width=1")
    assert nested == Chain(Blur(1), Chain(MotionBlur(), RandomPixels()))


def test_the_command_of_a_report_composes_to_the_same_chain(composed):
    overrides = ["degradation=chain", "degradation@degradation.first=motion_blur", "degradation.second.fill=grey"]
    config = composed(*overrides, "experiment=smoke")
    words = shlex.split(command(OmegaConf.to_container(config, resolve=True)))
    assert composed(*words[1:]).degradation == config.degradation


def test_every_component_has_a_config():
    names = {(group, name) for group, choices in GROUPS.items() for name in choices}
    assert names <= set(CHOICES)


def test_smoke_leaves_a_whole_store(smoke):
    folder, ended = smoke
    assert ended.returncode == 0, ended.stderr
    results = load_results(folder / "runs")
    trained = finished(folder / "runs", "autoencoders")
    assert len(trained) == 1
    assert len(finished(folder / "runs")) == 6
    assert len(results) == 6 * 2 * 20
    assert set(results["rung"]) == {0.1, 0.01}
    assert results["psnr_erased"].notna().all()
    for rung, loss in trained[0].rungs.items():
        members = trained[0].autoencoder(rung)
        assert not any(parameter.requires_grad for parameter in members.parameters())
        assert loss <= rung
    assert not list((folder / "runs").rglob("error.txt"))
    assert {path.name for path in folder.iterdir()} == {"runs"}
    layers = [(64, 128), (128, 128), (128, 64)]
    assert trained[0].done["parameters"] == sum(inputs * outputs + outputs for inputs, outputs in layers)
    assert trained[0].done["parameters_per_pixel"] == trained[0].done["parameters"] / (10 * 64)
    assert "33,088 parameters (51.7 a pixel of the training set)" in ended.stdout


def test_a_second_run_redoes_nothing(smoke):
    folder, _ = smoke
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs" / "recoveries").rglob("*.parquet")}
    again = run_script("recover", "-m", "experiment=smoke", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "6 jobs: 6 found" in again.stdout
    assert "training" not in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "runs" / "recoveries").rglob("*.parquet")}


def test_the_same_seed_gives_the_same_table(smoke, tmp_path):
    folder, _ = smoke
    one = ["experiment=smoke", "recovery=energy", "recovery.max_iterations=20", "degradation=box", "tracking=none"]
    assert run_script("recover", *one, cwd=tmp_path).returncode == 0
    (run,) = finished(tmp_path / "runs")
    first = load_run(folder / "runs" / "recoveries" / run.folder.name).results
    pd.testing.assert_frame_equal(run.results.drop(columns="seconds"), first.drop(columns="seconds"), check_exact=True)
    assert not (tmp_path / "runs" / "wandb").exists()


def test_wandb_holds_the_figures_of_the_table(smoke):
    folder, _ = smoke
    logged = {}
    for path in (folder / "runs" / "wandb").glob("offline-run-*"):
        command = [*PYTHON, "-m", "wandb", "leet", "inspect", "--summary", "--json", str(path)]
        shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
        summary = shown["summary"]
        logged[summary["signature"]] = summary
    assert len(logged) == 7  # a run each for the training and the six recoveries
    for run in finished(folder / "runs"):
        members = run.results[run.results["member"] & (run.results["rung"] == 0.01)]
        summary = logged[run.folder.name]
        assert summary["members/recovered"] == pytest.approx(members["recovered"].mean())
        assert summary["members/median_psnr_erased"] == pytest.approx(members["psnr_erased"].median())


MISTAKES = {
    "recovery=energy,iterate": "error: recovery=energy,iterate: these are several values; add -m to run each\n",
    "degradation.fraction=0,8": "error: degradation.fraction=0,8: these are several values; add -m to run each\n",
    "training.ladder=1e-2,1e-3": "add -m to run each, or give training.ladder=[1e-2,1e-3]\n",
    "dataset=images dataset.path=a,b": "add -m to run each, or give 'dataset.path=\"a,b\"' for one\n",
    "dataset=images dataset.path=my photos": "error: 'photos' is not KEY=VALUE; write no spaces around =, and a value",
    "dataset = digits": "error: 'dataset' is not KEY=VALUE; write no spaces around =",
    "+recovery=energy": "error: +recovery=: the group has a choice already; leave out the +",
    "--members 20": "error: --members: there is no such option; settings have no dashes, as in dataset.members=VALUE",
    "--experiment faces": "error: --experiment: there is no such option; settings have no dashes, as in experiment",
    "--store=runs": "error: --store=runs: there is no such option; settings have no dashes, as in store=VALUE",
    "seed=1 -m recovery=iterat": "recovery=iterat: there is no such choice",
    "dataset.path=FOLDER": "there is no such key for dataset=faces; it belongs to dataset=",
    "recovery=energy recovery.penalty=1": "no such key for recovery=energy; it belongs to recovery=pnp_admm\n",
    "datset=faces": "datset: there is no such key; did you mean dataset?",
    "dataset=face": "dataset=face: there is no such choice; choose one of celeba, cifar10, cifar100, digits, faces, ",
    "architecture=fcc": "architecture=fcc: there is no such choice",
    "degradation=bx": "did you mean box?",
    "degradation=chain degradation.first.widht=3": "degradation.first.widht: there is no such key for "
    "degradation@degradation.first=blur; did you mean degradation.first.width?",
    "degradation=chain degradation.frst.width=3": "degradation.frst: there is no such key for degradation=chain; did",
    "degradation=chain +degradation.second.foo=3": "degradation.second.foo: there is no such key for degradation@deg",
    "degradation=chain degradation.first=box": "degradation.first is 'box'; choose with degradation@degradation.first=",
    "degradation=chain degradation.first.width=-1": "degradation.first.width is -1; a Gaussian's width",
    "degradation=chain degradation.second.fraction=2": "degradation.second.fraction is 2; it must lie",
    "degradation=chain degradation.first.noise=0.1": "degradation.first.noise is 0.1; set it to 0",
    "degradation=chain degradation@degradation.first=bx": "there is no such choice; choose one of",
    "recovery=ddnm": "recovery=ddnm: there is no such choice; choose one of energy, inpaint, iterate, null_space, pnp_",
    "architecture.dpth=3": "there is no such key for architecture=fc; did you mean architecture.depth?",
    "architecture.activation=swish": "architecture.activation is 'swish'; choose one of relu, leaky_relu, prelu, elu",
    "architecture=unet architecture.skips=outer": "architecture.skips is 'outer'; choose one of all, inner, none",
    "architecture=conv architecture.width=3": "architecture.width: there is no such key for architecture=conv",
    "architecture=conv architecture.channels=[8,x]": "[8,x]: each must be a whole number, such as 50",
    "architecture=tied architecture.proximal=true architecture.activation=gelu": "'gelu'; it is not proximal; ",
    "fraction=0.5": "fraction: there is no such key; did you mean degradation.fraction?",
    "+foo=1": "foo: there is no such key",
    "+recovery.foo=1": "recovery.foo: there is no such key for recovery=pnp_admm; it has penalty",
    "seed=x": "seed=x: it must be a whole number, such as 50",
    "dataset.members=90": "dataset.members is 90; with dataset.non_members 50 it needs 140 images; faces has 100",
    "degradation.fraction=1.5": "degradation.fraction is 1.5; it must lie between 0 and 1",
    "recovery.extrapolation=-1": "recovery.extrapolation is -1; it must be at least 1; set it to 0 for none",
    "dataset=images": "dataset.path is ''; name a folder",
    "dataset=images dataset.path=/a=b": "needs quotes within quotes: 'dataset.path=\"/a=b\"'",
    "store=/proc/nowhere": "store=/proc/nowhere: cannot write there",
    "rungs=[1e-9]": "rungs is [1e-09]; choose among the rungs of the training's ladder",
    "trainer.devices=0": "trainer.devices is 0; `Trainer(devices=0)` value is not a valid input",
    "trainer.devices=-1 trainer.accelerator=cpu": "should be an int > 0; the default is auto",
    "trainer.accelerator=gpux": "You selected an invalid accelerator name: `accelerator='gpux'`",
    "trainer.precision=16-mixed": "trainer.precision is '16-mixed'; it is not supported; take bf16-mixed or 32-true",
    "-m recovery=iterat,energy": "recovery=iterat: there is no such choice",
    "recovery.penalty=1e-300": "recovery.penalty is 1e-300; it must be from 1e-06 to 1e+06",
    "probes=-1": "probes is -1; it must be at least 0",
    "sample=60": "sample is 60; there are 50 members and 50 non-members: leave it at 0, which is all of them",
    "control=none_such": "control is 'none_such'; choose one of none, untrained, inpaint, reference, nearest",
    "control=inpaint degradation=blur": "control is 'inpaint'; it is not applicable: the degradation blur is no",
    "tracking.mode=wandb": "choose one of offline, online, none",
}


@pytest.fixture
def recover_in_process(tmp_path, monkeypatch, capsys):
    """`memorization-recover` in this process: its exit status and what it printed to stderr."""
    from memorization import recover

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["memorization-recover", *arguments])
        with pytest.raises(SystemExit) as ended:
            recover.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(mistake, recover_in_process, tmp_path):
    status, shown = recover_in_process(*mistake.split(), "tracking=none", "progress=false")
    assert status == 1
    assert MISTAKES[mistake] in shown
    assert len(shown.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["--config-dir out/seed=1 -m seed=2", "seed=2 -cd out/seed=1 -m"])
def test_the_value_of_an_option_stays_behind_it(words):
    taken = get_args_parser().parse_args(entry._options_first(words.split()))
    assert (taken.overrides, taken.multirun, taken.config_dir) == (["seed=2"], True, "out/seed=1")


TYPED = {
    "study=2024": 'study="2024"',
    "store=1e3": 'store="1e3"',
    "tracking.project=1_000": 'tracking.project="1_000"',
    "dataset.path=true": 'dataset.path="true"',
    "study=null": 'study="null"',
    "study=1e3,a,nan": 'study="1e3",a,"nan"',
    "dataset.path=007": "dataset.path=007",
    "tracking.entity=null": "tracking.entity=null",
    "tracking.entity=12": 'tracking.entity="12"',
    "seed=1e3": "seed=1e3",
    "study='2024'": "study='2024'",
    "degradation.first.width=1.5": "degradation.first.width=1.5",
    "--plan": "--plan",
}


@pytest.mark.parametrize("word", TYPED)
def test_a_name_that_looks_like_a_number_stays_what_was_typed(word):
    assert as_typed(word) == TYPED[word]


def test_names_that_look_like_something_else_reach_the_experiment(composed):
    words = map(as_typed, ["study=2024", "store=1e3", "tracking.project=1_000", "dataset=images", "dataset.path=0x1"])
    experiment = resolve(composed(*words))
    assert (experiment.study, str(experiment.store), experiment.tracking.project) == ("2024", "1e3", "1_000")
    assert resolve(composed(as_typed("study=null"))).study == "null"


@pytest.mark.filterwarnings("ignore")
def test_a_folder_called_like_a_number_is_looked_for(recover_in_process):
    assert "dataset.path is '1e3'; there is no such" in recover_in_process("dataset=images", "dataset.path=1e3")[1]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = ("dataset=digits", "architecture.width=8", "training.max_steps=2", "training.ladder=[1e3]")
    words += ("tracking=none", "progress=false")
    refused = run_script("train", *words, "store=~/x", cwd=tmp_path).stderr
    (advised,) = shlex.split(re.search(r"quotes within quotes: (.*)", refused)[1])
    ended = run_script("train", "-m", *words, advised, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert {path.name for path in (tmp_path / "home" / "x").iterdir()} == {"autoencoders", "sweeps"}
    assert len(finished("~/x", "autoencoders")) == 1
    assert "1 done autoencoders" in run_script("cli.store", "--store=~/x", "list", cwd=tmp_path).stdout
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    nobody = run_script("train", *words, 'store="~nobody-of-this-name/x"', cwd=tmp_path).stderr
    assert nobody.startswith("error: ~nobody-of-this-name/x: the home folder of that user is not known")


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_line(recover_in_process):
    status, shown = recover_in_process("tracking=none", "progress=false", "trainer.accelerator=gpu")
    assert status == 1
    assert "trainer.accelerator is 'gpu'; No supported gpu" in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize("mistake", ["rungs=last", "+rungs=last", "recovery.penalty=1"])
def test_a_key_of_the_other_command_is_said_to_be_one(mistake, tmp_path):
    ended = run_script("train", mistake, cwd=tmp_path)
    assert ended.returncode == 1
    both = "memorization-recover and memorization-extract have" if "rungs" in mistake else "memorization-recover has"
    assert f"only {both} this key; leave it out, or call memorization-recover" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_typo_inside_a_config_file_is_named(tmp_path):
    """A copy of conf/ with a misspelt key: the error names file, key and the nearest one."""
    copied = tmp_path / "conf"
    shutil.copytree(entry.CONF, copied)
    with (copied / "recovery" / "pnp_admm.yaml").open("a") as file:
        file.write("penlty: 2\n")
    ended = run_script("recover", f"--config-dir={copied}", f"--config-path={copied}", cwd=tmp_path)
    assert ended.returncode == 1
    assert "recovery.penlty: there is no such key for recovery=pnp_admm; did you mean recovery.penalty?" in ended.stderr
    assert "conf/recovery/pnp_admm.yaml" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_sweep_goes_on_past_a_failed_job(smoke):
    folder, _ = smoke
    arguments = ["experiment=smoke", "recovery=iterate", "degradation=box", "dataset.members=10,99999"]
    ended = run_script("recover", "-m", *arguments, cwd=folder)
    assert ended.returncode == 1
    assert "2 jobs: 1 found, 1 failed" in ended.stdout
    assert "dataset.members=99999" in ended.stderr


def test_damage_is_detected(smoke, tmp_path):
    folder, _ = smoke
    run = finished(folder / "runs")[0]
    copied = tmp_path / "recoveries" / run.folder.name
    shutil.copytree(run.folder, copied)
    content = bytearray((copied / "results.parquet").read_bytes())
    content[100] ^= 1
    (copied / "results.parquet").write_bytes(content)
    with pytest.raises(StoreError, match=r"results\.parquet is damaged .* delete"):
        load_results(tmp_path)
    (copied / "done.json").write_text("{")
    with pytest.raises(StoreError, match=r"done\.json is damaged"):
        load_run(copied)
    with pytest.raises(StoreError, match="holds no finished run"):
        load_run(tmp_path)
    for load in (load_run, load_results):
        with pytest.raises(ValueError, match=r"^3 is no path; give a string or a Path"):
            load(3)


def test_configs_in_the_store_are_plain(smoke):
    folder, _ = smoke
    for path in (folder / "runs").rglob("config.yaml"):
        config = yaml.safe_load(path.read_text())
        assert config["study"] == "smoke"


def test_help_names_every_choice():
    shown = run_script("recover", "--help", cwd=Path("/"))
    assert shown.returncode == 0
    for group, choice in CHOICES:
        assert choice in shown.stdout or group == "prior"


@pytest.mark.parametrize("name", help.COMMANDS)
def test_help_fits_a_screen(name):
    lines = run_script(name, "--help", cwd=Path("/")).stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert any("--help GROUP" in line for line in lines)


@pytest.mark.parametrize("group", GROUPS)
def test_help_on_a_group_explains_each_choice_and_key(group, capsys, monkeypatch):
    name = "extract" if group == "prior" else "recover"
    monkeypatch.setattr(sys, "argv", ["", "--help", group])
    entry.main(pytest.fail, name)
    shown = " ".join(capsys.readouterr().out.split())
    for choice in (choice for known, choice in CHOICES if known == group):
        fields = schema.choices()[group][choice].fields if choice in GROUPS[group] else []
        fields = help.with_parts(fields, entry.CONF, group, choice)
        _, _, said = shown.partition(f" {group}={choice} ")
        assert said, choice
        for key, kind, default in (field for field in fields if field not in EXTRA.get(group, [])):
            ends = "must be chosen" if default == MISSING else f"default {help.shown(default)}"
            told = f"{group}.{key}: {help.kind(kind)}; {ends} {help.meaning(f'{group}.{choice}', key)}"
            assert " ".join(told.replace("`", "").split()) in said
    for key, kind, default in EXTRA.get(group, []):
        assert f"{group}.{key}: {help.kind(kind)}; default {help.shown(default)}".replace("`", "") in shown


@pytest.mark.parametrize("name", help.COMMANDS)
def test_help_lists_the_experiments_that_the_command_takes(name):
    schema.register()
    shown = help.taken(entry.CONF, name, "experiment")
    for experiment in help.described(entry.CONF, "experiment"):
        words, taken = [f"experiment={experiment}"], True
        with initialize_config_dir(str(entry.CONF), version_base="1.3"):
            try:
                swept = compose(name, words, return_hydra_config=True).hydra.sweeper.params or {}
                compose(name, [*words, *(f"{key}={str(values).split(',')[0]}" for key, values in swept.items())])
            except ConfigError:
                taken = False
        assert (experiment in shown) == taken, experiment
    told = help.explained(entry.CONF, name, "experiment")
    assert ("The others set keys" in told) == (name != "recover")
    assert ("experiment=faces\n" in told) == ("faces, " in help.overview(entry.CONF, name)) == (name == "recover")


def test_help_says_of_a_preset_which_choice_it_sets():
    shown = help.described(entry.CONF, "degradation")
    assert shown["random_50"].endswith(" It is `degradation=random_pixels` with `fraction=0.5`, and has the same keys.")
    assert "It is `dataset=images` with `path=ufldl-stanford/svhn`" in help.described(entry.CONF, "dataset")["svhn"]
    presets = [name for name, text in shown.items() if " It is `" in text]
    assert presets == ["random_50", "random_80", "random_95"]


@pytest.mark.parametrize(("words", "varied"), [(["experiment=smoke"], True), (["dataset=digits"], False)])
def test_an_experiment_without_m_says_what_it_would_vary(words, varied, tmp_path, monkeypatch, capsys):
    from memorization import recover

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["memorization-recover", *words, "--plan", "tracking=none"])
    recover.main()
    said = (
        "note: this is one setting of the experiment; with -m it varies recovery, recovery.max_iterations, degradation"
    )
    assert (said in capsys.readouterr().err.splitlines()) == varied


def test_help_says_which_parts_a_choice_takes():
    shown = help.explained(entry.CONF, "recover", "degradation")
    assert "degradation.first: choice of degradation; default blur" in shown
    assert "degradation.second: choice of degradation; default random_pixels" in shown
    assert "must be chosen" not in shown


def test_an_experiment_without_a_comment_is_listed(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\ndefaults:\n  - faces\nstudy: mine\n")
    monkeypatch.setattr(schema, "offered_files", lambda: [tmp_path])
    assert help.taken(entry.CONF, "recover", "experiment")["mine"] == ""
    assert "mine" not in help.taken(entry.CONF, "extract", "experiment")


def test_help_on_a_group_that_is_none_names_those_that_are():
    shown = run_script("train", "--help", "recovery", cwd=Path("/"))
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("error: --help recovery: there is no such group; take one of dataset, architecture")


def test_a_width_that_cannot_reach_the_target_is_told_before_the_training(tmp_path):
    words = ("dataset=digits", "architecture.width=8", "training.max_steps=2", "tracking=none", "progress=false")
    shown = run_script("train", *words, f"store={tmp_path}", cwd=tmp_path).stdout
    assert re.search(
        r"note: no weights of this width bring the train loss below \d\.\de-\d\d, .* architecture\.width to 50 or more",
        shown,
    )


def test_members_whose_iterations_ran_out_or_that_diverged_are_told_of(tmp_path):
    words = ("dataset=digits", "architecture.depth=2", "training.max_steps=2", "training.ladder=[1e3]")
    words += ("tracking=none", "progress=false", f"store={tmp_path}")
    shown = run_script("recover", *words, "recovery=energy", "recovery.max_iterations=1", cwd=tmp_path).stdout
    assert "members 0% (of the 50 missing 50 ran out of iterations), non-members 0% →" in shown
    shown = run_script("recover", *words, "recovery=energy", "recovery.learning_rate=1e20", cwd=tmp_path).stdout
    assert "members 0% (of the 50 missing 50 diverged), non-members 0% →" in shown
    control = run_script("recover", *words, "recovery=inpaint", cwd=tmp_path).stdout
    assert "members" in control
    assert "ran out" not in control


COLUMNS = {  # of a table of results, by the revision of the scores: another column raises it
    1: {
        *("image", "psnr_erased", "psnr", "ssim", "nearest_member", "is_nearest", "recovered", "iterations", "queries"),
        *("residual", "start", "energy", "estimated_erased", "operator_error", "status", "seconds", "member", "row"),
        *("rung", "train_loss", "dataset", "architecture", "degradation", "fraction", "fill", "noise", "erases"),
        *("recovery", "operator", "seed", "threshold_db", "control", "task", "setup", "study", "signature"),
    }
}


def test_the_columns_are_those_of_their_revision(smoke):
    assert set(load_results(smoke[0] / "runs").columns) == COLUMNS[metrics.REVISION]


def test_a_file_that_hides_a_package_is_named(tmp_path):
    """With `PYTHONPATH=.`, which the documentation gives for a class of one's own."""
    (tmp_path / "parts").mkdir()
    content = io.BytesIO()
    Image.new("L", (8, 8)).save(content, "PNG")
    pq.write_table(pa.table({"image": [content.getvalue()] * 4}), tmp_path / "parts" / "train.parquet")
    (tmp_path / "datasets.py").write_text("class Mine: pass")
    words = ["dataset=images", "dataset.path=parts", "dataset.members=2", "dataset.non_members=2", "tracking=none"]
    path = os.pathsep.join([".", *sys.path])
    call = [sys.executable, "-m", "memorization.train", "--plan", *words]
    ended = subprocess.run(
        call, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(
        "error: ./datasets.py hides the module datasets, which is needed here: rename it, or leave its"
    )


@pytest.mark.parametrize("name", ["random", "omegaconf"])  # of Python, of another package
@pytest.mark.parametrize("start", [["-m", "memorization.train"], ["-c", "import memorization.train"]])
def test_a_file_that_hides_what_a_command_begins_with_is_named(tmp_path, name, start):
    (tmp_path / f"{name}.py").write_text("x = 1")
    code = f"import sys; sys.argv = ['bin/memorization-train']; {start[1]}"  # as a console script begins
    call = [sys.executable, *(["-c", code] if start[0] == "-c" else start)]
    path = os.pathsep.join([".", *sys.path])
    ended = subprocess.run(call, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"error: ./{name}.py hides the module {name}, which is needed here: rename it, or leave its")


def test_only_a_file_that_hides_a_module_is_said_to(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("colorsys", "of_my_own"):
        (tmp_path / f"{name}.py").write_text("x = 1")
        monkeypatch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        with pytest.raises(AttributeError) as raised:
            _ = module.hls_to_rgb
        assert hiding(raised.value).startswith("./colorsys.py hides the module colorsys") == (name == "colorsys")
    monkeypatch.delitem(sys.modules, "colorsys")
    (tmp_path / "colorsys.py").write_text("import nowhere")
    with pytest.raises(ImportError) as raised:
        importlib.import_module("colorsys")
    assert "./colorsys.py hides the module colorsys" in hiding(raised.value)
    assert not hiding(ValueError("colorsys is a word like any other"))


def test_a_sample_is_recovered_as_the_whole_is_and_compared_with_all_members(smoke, tmp_path):
    """Each image by itself, so that its row is the same; answers of `iterate` settle at members outside the sample."""
    folder, _ = smoke
    shutil.copytree(folder / "runs", tmp_path / "runs")
    words = ["recover", "experiment=smoke", "recovery=iterate", "recovery.max_iterations=20", "degradation=box"]
    done = run_script(*words, "sample=4", "tracking=none", cwd=tmp_path)
    assert "done  iterate" in done.stdout
    again = run_script(*words, "sample=4", "tracking=none", cwd=tmp_path)
    assert "found  iterate" in again.stdout
    table = load_results(tmp_path / "runs")
    table = table[(table["recovery"] == "iterate") & (table["degradation"] == "box")]
    (_, whole), (_, part) = sorted(table.groupby("signature", observed=True), key=lambda group: -len(group[1]))
    assert part.groupby(["rung", "member"])["image"].nunique().tolist() == [4] * 4
    keys = ["rung", "image", "member"]
    same = whole.merge(part, on=keys, suffixes=("", "_of_sample"))
    assert len(same) == len(part) == 16
    for column in ("psnr_erased", "nearest_member", "iterations"):
        assert same[column].tolist() == pytest.approx(same[f"{column}_of_sample"].tolist(), rel=1e-3)
