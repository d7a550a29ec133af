"""Training down the ladder of train losses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from memorization.architectures import build
from memorization.components import SettingError
from memorization.engine import hardware
from memorization.engine.settings import Hardware, Training
from memorization.engine.training import Batches, TrainingDivergedError, train

MEMBERS = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
SETTINGS = Training(learning_rate=3e-3, max_steps=400, target_loss=1e-5, ladder=[1e-1, 1e-2, 1e-3, 1e-9])
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")


def model(seed=0):
    return build("fc", (1, 6, 6), centre=True, seed=seed, depth=3, width=64)


@pytest.mark.parametrize(
    "changes", [{}, {"batch_size": 5}, {"ema": 0.9}, {"batch_size": 5, "micro_batch": 2, "ema": 0.9}]
)
def test_each_rung_keeps_weights_that_have_its_loss(changes):
    settings = dataclasses.replace(SETTINGS, **changes, max_steps=1200)
    history = train(model(), MEMBERS, settings, progress=False)
    assert list(history.rungs) == [1e-1, 1e-2, 1e-3]
    for rung, loss in history.rungs.items():
        kept = model(seed=1)
        kept.load_state_dict(history.weights[rung])
        assert (kept(MEMBERS) - MEMBERS).square().mean().item() == pytest.approx(loss, rel=1e-4)
        assert loss <= rung


@pytest.mark.parametrize("batch_size", [0, 7])
def test_a_batch_in_uneven_parts_trains_as_a_whole(batch_size):
    settings = dataclasses.replace(SETTINGS, batch_size=batch_size, max_steps=60)
    whole, parts = (
        train(model(), MEMBERS, dataclasses.replace(settings, micro_batch=n), progress=False) for n in (0, 5)
    )
    assert [row[1] for row in parts.rows] == pytest.approx([row[1] for row in whole.rows], rel=1e-4)


def constant(steps, **changes):
    """The autoencoder and the history after `steps` steps at a learning rate that does not depend on their number."""
    autoencoder = model()
    settings = dataclasses.replace(SETTINGS, max_steps=steps, final_rate=1.0, **changes)
    return autoencoder, train(autoencoder, MEMBERS, settings, progress=False)


def test_the_moving_average_is_that_of_the_weights_after_each_step():
    expected = None
    for steps in range(2, 6):
        weights = torch.nn.utils.parameters_to_vector(constant(steps)[0].parameters()).detach()
        expected = weights if expected is None else 0.7 * expected + 0.3 * weights
    averaged = torch.nn.utils.parameters_to_vector(constant(5, ema=0.7)[0].parameters())
    torch.testing.assert_close(averaged, expected)


@pytest.mark.parametrize("changes", [{}, {"batch_size": 5}, {"batch_size": 5, "ema": 0.7}, {"ema": 0.7}])
def test_the_weights_that_are_returned_have_the_loss_that_is_reported(changes):
    trained, history = constant(7, **changes)
    expected = (trained(MEMBERS) - MEMBERS).square().mean().item()
    assert history.loss == pytest.approx(expected, rel=1e-4)


def test_it_stops_at_the_target_or_at_the_budget():
    reached = train(model(), MEMBERS, dataclasses.replace(SETTINGS, target_loss=1e-3), progress=False)
    assert reached.loss <= 1e-3
    assert reached.steps < SETTINGS.max_steps - 1
    spent = train(model(), MEMBERS, dataclasses.replace(SETTINGS, max_steps=5), progress=False)
    assert spent.steps == 4
    assert spent.loss > SETTINGS.target_loss
    assert [row[0] for row in spent.rows] == [0, 4]
    for history in (reached, spent):
        assert history.rows[-1][:2] == (history.steps, history.loss)


def test_the_same_seed_gives_the_same_bits():
    first, second = (train(model(), MEMBERS, SETTINGS, progress=False) for _ in range(2))
    assert first.rows == second.rows
    for name, tensor in first.weights[1e-3].items():
        assert torch.equal(tensor, second.weights[1e-3][name])


def test_the_mean_image_is_part_of_the_model():
    trained = model()
    train(trained, MEMBERS, dataclasses.replace(SETTINGS, max_steps=2), progress=False)
    torch.testing.assert_close(trained.mean, MEMBERS.mean(0))


def test_divergence_names_the_step_and_the_setting():
    settings = dataclasses.replace(SETTINGS, learning_rate=1e12, warmup_steps=0)
    with pytest.raises(
        TrainingDivergedError,
        match=r"^learning_rate is 1e\+12; the training diverged: the loss is \S+ at step \d+; lower it",
    ):
        train(model(), MEMBERS, settings, progress=False)


def test_every_epoch_shows_every_image_once():
    batches = list(Batches(torch.arange(10.0), batch_size=4, steps=6, seed=0))
    assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
    for epoch in (batches[:3], batches[3:]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(10))
    assert torch.cat(batches[:3]).tolist() != torch.cat(batches[3:]).tolist()


@pytest.mark.parametrize(
    "bad",
    [
        {"learning_rate": 0},
        {"max_steps": 0},
        {"ladder": []},
        {"betas": [0.9, 1.5]},
        {"batch_size": -1},
        {"micro_batch": -1},
        {"ema": 1.0},
        {"ladder": [1e-3, 1.0001e-3]},
        {"target_loss": 0.02},
    ],
)
def test_settings_out_of_range_are_named(bad):
    (key,) = bad
    with pytest.raises(ValueError, match=f"^{key} is"):
        Training(**bad)


def test_a_rung_of_full_batches_is_the_loss_in_eval_mode():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 64), torch.nn.BatchNorm1d(64), torch.nn.ReLU())
    model = torch.nn.Sequential(model, torch.nn.Linear(64, 36), torch.nn.Unflatten(1, (1, 6, 6)))
    members = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    settings = Training(learning_rate=1e-2, max_steps=300, target_loss=1e-2, ladder=[3e-2, 1e-2])
    history = train(model, members, settings, progress=False)
    assert len(history.rungs) == 2
    for rung, loss in history.rungs.items():
        model.load_state_dict(history.weights[rung])
        assert (model.eval()(members) - members).square().mean().item() == pytest.approx(loss, rel=1e-5)


def test_the_ladder_is_named_with_a_target_above_it():
    with pytest.raises(
        ValueError, match=r"target_loss is 0\.1; the training would stop before any rung of ladder, \[0\.01, 0\.001\]"
    ):
        Training(target_loss=0.1, ladder=[1e-2, 1e-3])


@pytest.mark.parametrize("precision", ["16-true", "bf16-true", "transformer-engine"])
def test_weights_in_half_precision_are_refused(precision):
    with pytest.raises(
        ValueError, match=f"precision is '{precision}'; it is not supported; take bf16-mixed or 32-true"
    ):
        hardware.check(Hardware(precision=precision))


def test_nothing_to_train_is_told():
    with pytest.raises(ValueError, match="Identity has no parameters to train"):
        train(torch.nn.Identity(), torch.rand(2, 1, 6, 6), Training(), progress=False)


@pytest.mark.parametrize(
    "changes", [{"input_noise": 0.05}, {"shift": 1}, {"mirror": True}, {"mirror": True, "batch_size": 5}]
)
def test_a_rung_is_the_loss_on_the_members_as_they_are(changes):
    settings = dataclasses.replace(SETTINGS, **changes, ladder=[6e-2], target_loss=6e-2, max_steps=1200)
    history = train(model(), MEMBERS, settings, progress=False)
    kept = model(seed=1)
    kept.load_state_dict(history.weights[6e-2])
    assert (kept(MEMBERS) - MEMBERS).square().mean().item() == pytest.approx(history.rungs[6e-2], rel=1e-4)


def test_images_are_moved_and_mirrored_at_random_with_their_border_repeated():
    images = (torch.rand(200, 2, 5, 4) * 255).to(torch.uint8)
    batches = [list(Batches(images, 0, 3, seed=0, first=first, shift=1, mirror=True)) for first in (0, 2)]
    torch.testing.assert_close(batches[0][2], batches[1][0])  # a batch depends on its step alone
    assert not torch.equal(batches[0][0], batches[0][1])
    padded = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate").to(torch.uint8)
    seen = set()
    for image, around in zip(batches[0][0], padded, strict=True):
        every = {(y, x, m): around[:, y : y + 5, x : x + 4] for y in range(3) for x in range(3) for m in (False, True)}
        seen |= {key for key, moved in every.items() if torch.equal(image, moved.flip(-1) if key[2] else moved)}
    assert len(seen) == 18


def test_noise_on_the_inputs_keeps_the_members_from_being_learnt_exactly():
    settings = dataclasses.replace(SETTINGS, input_noise=0.1, max_steps=300)
    noisy = train(model(), MEMBERS, settings, progress=False)
    clean = train(model(), MEMBERS, dataclasses.replace(settings, input_noise=0.0), progress=False)
    assert clean.loss < noisy.loss / 3
    again = train(model(), MEMBERS, dataclasses.replace(settings, micro_batch=5), progress=False)
    assert again.loss == pytest.approx(noisy.loss, rel=1e-2)  # the same noise, whatever the parts


def test_decay_shrinks_the_weights_as_adamw_does():
    decayed, _ = constant(2, weight_decay=0.5)
    plain = constant(2)[0]
    start = model()
    rate = SETTINGS.learning_rate / SETTINGS.warmup_steps
    for one, other, before in zip(decayed.parameters(), plain.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(other - one, rate * 0.5 * before, atol=1e-7, rtol=1e-3)


def test_what_came_later_leaves_older_signatures():
    assert {"weight_decay", "input_noise", "shift", "mirror", "axes"}.isdisjoint(Training().identity())
    assert Training(shift=2).identity() == Training().identity() | {"shift": 2}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"weight_decay": -1}, "weight_decay is -1; it must be 0"),
        ({"input_noise": float("nan")}, "input_noise is nan; it must be 0"),
        ({"shift": 0.5}, "shift is 0.5; it must be a whole number"),
    ],
)
def test_protection_out_of_range_is_named(settings, said):
    with pytest.raises(SettingError, match=f"^{said}"):
        Training(**settings)
