"""Trainings as one batched model: the numbers of separate ones, and ordinary runs in the store."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from memorization import load_run
from memorization.architectures import build
from memorization.degradations import RandomPixels
from memorization.engine.ensemble import WORTH, EnsembleModule, UnbatchableError, operations, refusal, train_together
from memorization.engine.settings import Hardware, Training
from memorization.engine.training import train
from memorization.recovery import Iterate, solve
from memorization.store import files

SHAPE = (1, 6, 6)
MEMBERS = [torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
SETTINGS = Training(learning_rate=1e-2, max_steps=300, target_loss=2e-4, ladder=[1e-1, 1e-2, 1e-3])
HERE = Hardware("cpu")
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")


def model(seed, name="fc", **settings):
    small = {"depth": 3, "width": 64} if name == "fc" else {"width": 64} if name == "tied" else {}
    return build(name, SHAPE, centre=True, seed=seed, **small | settings)


def alone(settings=SETTINGS, **kinds):
    models = [model(seed, **kinds) for seed in range(3)]
    return models, [
        train(one, own, settings, progress=False, hardware=HERE) for one, own in zip(models, MEMBERS, strict=True)
    ]


def together(settings=SETTINGS, **kinds):
    models = [model(seed, **kinds) for seed in range(3)]
    return models, train_together(models, MEMBERS, settings, progress=False, hardware=HERE)


@pytest.mark.parametrize(
    ("kinds", "changes"),
    [
        ({}, {}),
        ({"activation": "prelu"}, {"weight_decay": 0.1}),
        ({"output": "sigmoid"}, {"max_steps": 60}),
        ({"name": "tied"}, {}),
        ({"name": "conv"}, {"max_steps": 60}),
    ],
)
def test_each_has_the_numbers_of_a_separate_training(kinds, changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    models, separate = alone(settings, **kinds)
    batched_models, batched = together(settings, **kinds)
    for one, other in zip(separate, batched, strict=True):
        assert [row[0] for row in other.rows] == [row[0] for row in one.rows]
        assert other.rows[-1][:2] == (other.steps, other.loss)
        assert [row[1] for row in other.rows[:6]] == pytest.approx([row[1] for row in one.rows[:6]], rel=1e-4)
        assert [row[2] for row in other.rows] == [row[2] for row in one.rows]
        assert list(other.rungs) == list(one.rungs)
        assert abs(other.steps - one.steps) <= 1
        for rung, weights in one.weights.items():
            for name, value in weights.items():
                torch.testing.assert_close(other.weights[rung][name], value, rtol=1e-3, atol=1e-4)
    for one, other, own in zip(models, batched_models, MEMBERS, strict=True):
        torch.testing.assert_close(other(own), one(own), rtol=1e-2, atol=1e-3)


def test_each_ends_at_its_own_step_with_the_loss_that_is_reported():
    models, histories = together()
    assert len({history.steps for history in histories}) > 1
    for one, own, history in zip(models, MEMBERS, histories, strict=True):
        assert history.loss <= SETTINGS.target_loss
        assert (one(own) - own).square().mean().item() == pytest.approx(history.loss, rel=1e-4)
        for rung, loss in history.rungs.items():
            kept = model(seed=9)
            kept.load_state_dict(history.weights[rung])
            assert (kept(own) - own).square().mean().item() == pytest.approx(loss, rel=1e-4)


def test_one_that_diverges_leaves_the_others_as_they_are():
    models = [model(seed) for seed in range(3)]
    with torch.no_grad():
        for parameter in models[1].parameters():
            parameter.mul_(1e3)
    first, failure, last = train_together(models, MEMBERS, SETTINGS, progress=False, hardware=HERE)
    assert "diverged: the loss is" in failure
    _, (expected, _, other) = alone()
    assert (first.steps, last.steps) == (expected.steps, other.steps)
    assert first.loss == pytest.approx(expected.loss, rel=1e-3)


def test_the_same_members_come_back():
    settings = dataclasses.replace(SETTINGS, learning_rate=3e-3, target_loss=1e-6)
    recovered = []
    for models, _ in (alone(settings, depth=5, width=128), together(settings, depth=5, width=128)):
        for one, own in zip(models, MEMBERS, strict=True):
            measured = RandomPixels(0.3)(own, range(len(own)))
            answers = solve(one.eval().requires_grad_(False), measured, Iterate()).images
            recovered.append((answers - own).square().mean((1, 2, 3)) < 10**-2.5)  # 25 dB
    assert torch.equal(torch.stack(recovered[:3]), torch.stack(recovered[3:]))
    assert 0 < torch.stack(recovered).float().mean() < 1


def test_weights_that_are_not_trained_stay():
    models = [model(seed) for seed in range(3)]
    for one in models:
        one.network.layers[0].weight.requires_grad_(False)
    before = [one.network.layers[0].weight.clone() for one in models]
    train_together(models, MEMBERS, dataclasses.replace(SETTINGS, max_steps=5), progress=False, hardware=HERE)
    for one, weight in zip(models, before, strict=True):
        assert torch.equal(one.network.layers[0].weight, weight)
        assert not torch.equal(one.network.layers[2].weight, model(0).network.layers[2].weight)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch_size": 5}, "batches of part of the images"),
        ({"micro_batch": 5}, "batches in parts"),
        ({"ema": 0.9}, "an average of the weights"),
        ({"mirror": True}, "disturbed images"),
        ({"input_noise": 0.1}, "disturbed images"),
        ({}, ""),
    ],
)
def test_settings_that_are_not_batched_are_named(changes, reason):
    said = refusal(model(0), MEMBERS[0], dataclasses.replace(SETTINGS, **changes), HERE)
    assert said == (f"{reason} cannot be batched" if reason else "")


def test_what_is_no_faster_on_a_processor_is_not_batched():
    assert operations(model(0), MEMBERS[0]) == 3 * 2 * 8 * (36 * 64 + 64 * 64 + 64 * 36)
    large = model(0, width=1024)
    assert operations(large, MEMBERS[0]) > WORTH
    assert "a step has 54 million operations" in refusal(large, MEMBERS[0], SETTINGS, HERE)
    assert "otherwise in training" in refusal(model(0, dropout=0.1), MEMBERS[0], SETTINGS, HERE)


class Counting(torch.nn.Module):
    """Its answer depends on a value of its input, of which a batch of models has several."""

    has_modes = False

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.weight if x.mean() > 0 else x


def test_a_module_that_cannot_be_batched_is_named():
    with pytest.raises(UnbatchableError, match="the autoencoder cannot be batched"):
        train_together([Counting() for _ in MEMBERS], MEMBERS, SETTINGS, progress=False, hardware=HERE)


def test_a_batched_loss_that_is_not_that_of_one_alone_is_found():
    models = [model(seed) for seed in range(3)]
    module = EnsembleModule(models, MEMBERS, SETTINGS)
    with torch.no_grad():
        module.stacked[0][0].mul_(2)
    with pytest.raises(UnbatchableError, match="batched it has a loss of"):
        module.try_out()


SMALL = ["dataset=digits", "dataset.members=4", "dataset.non_members=4", "architecture.depth=2"]
SMALL += ["architecture.width=32", "training.max_steps=40", "training.ladder=[1e-1]", "training.target_loss=1e-4"]
SMALL += ["training.learning_rate=1e-2", "tracking=none", "progress=false", "trainer.accelerator=cpu"]


@pytest.fixture
def sweep(tmp_path, monkeypatch, capsys):
    from memorization import train

    def call(*words):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["memorization-train", "-m", *SMALL, *words])
        train.main()
        return capsys.readouterr().out

    return call


def test_a_sweep_of_an_ensemble_leaves_the_runs_of_one_without(sweep, tmp_path):
    said = sweep("seed=0,1,2", "training.ensemble=3", "store=batched")
    assert "these 3 go on as one batched model" in said
    assert "3 of 3 jobs: 3 done" in said
    assert "3 of 3 jobs: 3 done" in sweep("seed=0,1,2", "store=alone")
    assert "3 of 3 jobs: 3 found" in sweep("seed=0,1,2", "store=batched")
    runs = [sorted((tmp_path / store / "autoencoders").glob("*/done.json")) for store in ("batched", "alone")]
    assert [path.parent.name for path in runs[0]] == [path.parent.name for path in runs[1]]
    for batched, separate in zip(*runs, strict=True):
        own, other = (json.loads(path.read_text()) for path in (batched, separate))
        assert own.keys() - other.keys() == {"together"}
        assert own["together"] == 3
        assert own["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert own["checksums"].keys() == other["checksums"].keys()
        assert files.is_intact(batched.parent)
        weights = [load_run(path.parent).autoencoder(0.1).state_dict() for path in (batched, separate)]
        for name, value in weights[1].items():
            torch.testing.assert_close(weights[0][name], value, rtol=1e-3, atol=1e-5)


def test_a_sweep_batches_what_is_missing_and_alike_and_leaves_the_rest_to_its_jobs(sweep):
    sweep("seed=1", "store=runs")
    said = sweep("seed=range(0,5)", "architecture.width=32,48", "training.ensemble=3", "store=runs")
    assert said.count("these 2 go on as one batched model") == 3  # of 4 and of 5, at most 3 at once
    assert said.count("these 3 go on as one batched model") == 1
    assert "10 of 10 jobs: 1 found, 9 done" in said
    said = sweep("seed=range(5,7)", "training.batch_size=2", "training.ensemble=3", "store=runs")
    assert "go on each by itself: batches of part of the images cannot be batched" in said
    assert "2 of 2 jobs: 2 done" in said
    said = sweep("seed=range(7,9)", "training.ensemble=3", "store=runs", "cluster=local")
    assert "note: jobs train each by itself; training.ensemble needs cluster=auto" in said


def test_one_that_diverges_fails_as_a_job_of_its_own(sweep, tmp_path, capsys):
    words = ["training.learning_rate=1e12", "training.warmup_steps=0", "training.ensemble=2", "store=runs"]
    with pytest.raises(SystemExit):
        sweep("seed=0,1", *words)
    said = capsys.readouterr().out
    assert said.count("it is trained by itself") == 2
    assert "2 of 2 jobs: 2 diverged" in said
    assert all("learning_rate" in path.read_text() for path in tmp_path.glob("runs/autoencoders/*/error.txt"))


def test_references_are_trained_as_one(command, tmp_path):
    words = [*SMALL, "training.max_steps=300", "training.ladder=[5e-2]", "rungs=last", "recovery.max_iterations=5"]
    said = "\n".join(command(*words, "references=4", "training.ensemble=4"))
    assert "these 4 go on as one batched model" in said
    assert "membership inference with 4 references" in said
    done = [json.loads(path.read_text()) for path in tmp_path.glob("runs/autoencoders/*/done.json")]
    assert sorted(own.get("together", 1) for own in done) == [1, 4, 4, 4, 4]


def test_references_of_an_odd_number_of_images_are_trained_as_one_of_each_size(command, tmp_path):
    words = [*SMALL, "training.max_steps=300", "training.ladder=[5e-2]", "rungs=last", "recovery.max_iterations=5"]
    said = "\n".join(command(*words, "dataset.non_members=5", "references=4", "training.ensemble=4"))
    assert said.count("these 2 go on as one batched model") == 2
    done = [json.loads(path.read_text()) for path in tmp_path.glob("runs/autoencoders/*/done.json")]
    assert sorted(own.get("together", 1) for own in done) == [1, 2, 2, 2, 2]
