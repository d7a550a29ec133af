"""Differentially private training: gradients that are cut, noise, and the epsilon of both."""

from __future__ import annotations

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm
from torch import nn

from memorization.architectures import build
from memorization.components import SettingError
from memorization.engine import private
from memorization.engine.ensemble import refusal
from memorization.engine.settings import Axes, Hardware, Training
from memorization.engine.training import train
from memorization.jobs.training import TrainingJob
from memorization.store.reading import finished
from memorization.train import main
from tests.conftest import experiment_of
from tests.jobs.test_resume import signals, stop  # noqa: F401

SHAPE = (1, 6, 6)
MEMBERS = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))
SETTINGS = Training(learning_rate=3e-3, max_steps=60, target_loss=1e-9, ladder=[1.0, 1e-1, 1e-9], clip=0.3)
NOISY = dataclasses.replace(SETTINGS, privacy_noise=0.5)
pytestmark = [
    pytest.mark.usefixtures("composed_once"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*"),
]


def model(name="fc", **settings):
    sizes = {"fc": {"depth": 3, "width": 20}, "conv": {"depth": 2, "channels": [3, 4], "bottleneck": 5}}
    sizes |= {"unet": {"depth": 2, "channels": [3, 4]}}
    return build(name, SHAPE, centre=False, seed=0, **{**sizes.get(name, {}), **settings})


def given(autoencoder, settings, parts=(7, 5), seed=0, step=3):
    """The gradients that an optimiser is given of the members, which pass in parts."""
    weights = list(autoencoder.parameters())
    with private.clipping(autoencoder.train(), settings, seed) as clipping:
        clipping.watch(torch.optim.SGD(weights))
        for part in MEMBERS.split(parts):
            (nn.functional.mse_loss(autoencoder(part), part) * len(part)).backward()
            clipping.take(len(part))
        clipping.give(len(MEMBERS), step)
    assert not hasattr(weights[0], "grad_sample")
    return [weight.grad.clone() for weight in weights]


@pytest.mark.parametrize("name", ["fc", "conv", "unet"])
@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_gradients_are_cut_image_by_image_whatever_the_parts(name, output):
    autoencoder = model(name, output=output)
    expected, norms = [torch.zeros_like(weight) for weight in autoencoder.parameters()], []
    for image in MEMBERS:
        loss = (autoencoder(image[None]) - image).square().mean()
        gradients = torch.autograd.grad(loss, list(autoencoder.parameters()))
        norms.append(sum(gradient.square().sum() for gradient in gradients).sqrt().item())
        for total, gradient in zip(expected, gradients, strict=True):
            total += gradient * min(1.0, norms[0] / norms[-1]) / len(MEMBERS)
    settings = dataclasses.replace(SETTINGS, clip=norms[0])  # which some images have, and others do not
    assert min(norms) < norms[0] < max(norms)
    for found, wanted in zip(given(autoencoder, settings), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_a_norm_that_no_gradient_has_changes_nothing():
    plain, cut = model(), model()
    settings = dataclasses.replace(SETTINGS, batch_size=5, micro_batch=2, ema=0.9, weight_decay=0.1)
    expected = train(plain, MEMBERS, dataclasses.replace(settings, clip=0.0), progress=False)
    found = train(cut, MEMBERS, dataclasses.replace(settings, clip=1e6), progress=False)
    assert [row[1] for row in found.rows] == pytest.approx([row[1] for row in expected.rows], rel=1e-3)


def test_the_noise_has_the_stated_deviation_and_depends_on_seed_and_step():
    autoencoder = model(width=200)
    drawn = {}
    for seed, step in ((0, 3), (0, 4), (1, 3), (0, 3)):
        noisy, plain = (given(autoencoder, settings, seed=seed, step=step) for settings in (NOISY, SETTINGS))
        noise = torch.cat([(one - other).flatten() for one, other in zip(noisy, plain, strict=True)])
        assert torch.equal(drawn.setdefault((seed, step), noise), noise)
        count, deviation = len(noise), NOISY.privacy_noise * NOISY.clip / len(MEMBERS)
        assert noise.std().item() == pytest.approx(deviation, rel=4 / count**0.5)
        assert abs(noise.mean().item()) < 4 * deviation / count**0.5
    assert len({noise[0].item() for noise in drawn.values()}) == 3


def exact(noise, epochs, delta):
    """The epsilon of `epochs` Gaussian mechanisms, which are one with less noise (Balle and Wang, 2018, theorem 8)."""
    ratio = epochs**0.5 / noise

    def excess(epsilon):
        second = epsilon + norm.logcdf(-ratio / 2 - epsilon / ratio)
        return norm.cdf(ratio / 2 - epsilon / ratio) - np.exp(second) - delta

    return brentq(excess, 0, 1e6)


@pytest.mark.parametrize("noise", [0.4, 2.0, 30.0])
@pytest.mark.parametrize("epochs", [1, 300])
@pytest.mark.parametrize("delta", [1e-5, 1e-3])
def test_epsilon_is_a_bound_and_not_a_loose_one(noise, epochs, delta):
    """Above the exact value, and not above the closed form of Rényi's (Mironov, 2017, proposition 3)."""
    rate = epochs / (2 * noise**2)
    classic = rate + 2 * (rate * np.log(1 / delta)) ** 0.5
    assert exact(noise, epochs, delta) <= private.epsilon(noise, epochs, delta) <= classic


def test_an_epoch_of_batches_counts_as_one_of_all_images():
    assert private.spent(SETTINGS, 60, 12) == {}
    whole = private.spent(NOISY, 60, 12)
    assert whole["delta"] == 1e-5
    assert private.spent(dataclasses.replace(NOISY, batch_size=5), 3 * 60, 12) == whole
    begun = private.spent(dataclasses.replace(NOISY, batch_size=5), 3 * 60 + 1, 12)
    assert begun == private.spent(NOISY, 61, 12)
    assert private.epsilon(0.5, 0) == 0


DISTURBED = {"shift": 1, "mirror": True, "input_noise": 0.1, "batch_size": 5}


@pytest.mark.parametrize("changes", [{}, {"batch_size": 5, "micro_batch": 2, "ema": 0.9}, DISTURBED])
def test_a_stopped_training_ends_with_the_same_bits(signals, tmp_path, changes):  # noqa: F811
    settings = dataclasses.replace(NOISY, **changes)
    whole, again = model(dropout=0.1), model(dropout=0.1)
    expected = train(whole, MEMBERS, settings, progress=False)
    stop(model(dropout=0.1), tmp_path, 30, signal.SIGTERM, settings)
    history = train(again, MEMBERS, settings, progress=False, folder=tmp_path)
    assert (history.rows, history.rungs, history.steps) == (expected.rows, expected.rungs, expected.steps)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    another = train(model(dropout=0.1), MEMBERS, settings, seed=1, progress=False)
    assert another.rows[1:] != expected.rows[1:]


class Mixing(nn.Sequential):
    """An autoencoder with layers of one's own between two linear ones."""

    def __init__(self, *between):
        super().__init__(nn.Flatten(), nn.Linear(36, 36), *between, nn.Linear(36, 36), nn.Unflatten(1, SHAPE))


class Shared(nn.Module):
    """Uses weights as a layer, and once more by themselves."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(36, 36)

    def forward(self, images):
        return (self.layer(images.flatten(1)) @ self.layer.weight).view_as(images)


class Splitting(Mixing):
    """Takes pairs of images, one pair at a time."""

    def forward(self, images):
        return torch.cat([super(Splitting, self).forward(pair) for pair in images.split(2)])


@pytest.mark.parametrize(
    ("autoencoder", "told"),
    [
        (
            build("fc", SHAPE, centre=True, seed=0, depth=2, width=8),
            r"^architecture\.centre is True; the members' mean image.*set it to false$",
        ),
        (model("tied"), r"^training\.clip is 0\.3; .* for the weights layer\.weight; choose another architecture"),
        (Mixing(nn.BatchNorm1d(36)), "depends on other images, as with BatchNorm"),
        (Mixing(nn.BatchNorm1d(36, affine=False)), "depends on other images"),
        (Mixing(nn.Unflatten(1, (4, 9)), nn.InstanceNorm1d(4, track_running_stats=True), nn.Flatten()), "other images"),
        (Shared(), r"for the weights layer\.weight"),
        (Splitting(), "splits its batches"),
    ],
)
def test_an_autoencoder_whose_images_cannot_be_told_apart_is_refused(autoencoder, told):
    with pytest.raises(SettingError, match=told):
        train(autoencoder, MEMBERS, SETTINGS, progress=False)


@pytest.mark.parametrize("between", [(), (nn.LayerNorm(36), nn.PReLU()), (nn.GroupNorm(4, 36), nn.Dropout(0.2))])
def test_an_autoencoder_of_ones_own_whose_images_can_be_is_trained(between):
    assert train(Mixing(*between), MEMBERS, NOISY, progress=False).steps == 59


@pytest.mark.parametrize(
    ("hardware", "told"),
    [
        (Hardware(devices=2), r"^trainer\.devices is 2; .*set it to 1"),
        (Hardware(precision="bf16-mixed"), r"^trainer\.precision is 'bf16-mixed'; .*set it to 32-true"),
    ],
)
def test_hardware_on_which_gradients_are_not_cut_is_refused(hardware, told):
    with pytest.raises(SettingError, match=told):
        private.check(model(), SHAPE, SETTINGS, hardware)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(private, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'memorization\[private\]'"):
        train(model(), MEMBERS, SETTINGS, progress=False)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"privacy_noise": 1.0}, "^privacy_noise is 1; it is a multiple of clip; set that"),
        ({"clip": 1.0, "axes": Axes.principal}, "^axes is 'principal'; .*not protected with clip; set it to pixels"),
        ({"clip": -1.0}, "^clip is -1; it must be 0"),
        ({"clip": 1.0, "privacy_noise": float("inf")}, "^privacy_noise is inf"),
    ],
)
def test_settings_that_exclude_each_other_are_named(settings, told):
    with pytest.raises(SettingError, match=told):
        Training(**settings)


def test_without_it_a_training_is_what_it_was():
    assert Training().identity().keys().isdisjoint({"clip", "privacy_noise"})
    assert NOISY.identity().items() >= {"clip": 0.3, "privacy_noise": 0.5}.items()


def test_an_ensemble_leaves_it_to_each():
    assert refusal(model(), MEMBERS, SETTINGS, Hardware()) == "gradients of single images cannot be batched"


WORDS = [
    *["dataset=digits", "dataset.members=5", "dataset.non_members=5", "architecture.depth=2", "architecture.width=8"],
    *["training.max_steps=5", "training.ladder=[2.0]", "tracking=none", "progress=false", "training.clip=0.1"],
]


def test_the_run_and_its_line_say_epsilon(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [*WORDS, "architecture.centre=false", "training.privacy_noise=2"]
    for _ in range(2):  # made, and found
        monkeypatch.setattr("sys.argv", ["memorization-train", *words])
        main()
        said = capsys.readouterr()
        assert "epsilon 4.73 at delta 1e-05 but for the train loss and the rungs" in said.out
        assert said.err == ""
    (run,) = finished("runs", "autoencoders")
    assert (run.done["epsilon"], run.done["delta"]) == (private.epsilon(2.0, 4), 1e-5)
    assert json.loads((run.folder / "done.json").read_text())["epsilon"] == run.done["epsilon"]


def test_what_is_planned_is_refused_as_what_is_done(tmp_path):
    config = {
        "dataset": {"name": "digits", "members": 5, "non_members": 5}, "store": str(tmp_path),
        "training": {"name": "adam", "clip": 1.0}, "architecture": {"name": "fc", "centre": True},
    }  # fmt: skip
    job = TrainingJob(experiment_of(config))
    for way in (job.plan, job.run):
        with pytest.raises(SettingError, match=r"^architecture\.centre is True; .*set it to false$"):
            way()
