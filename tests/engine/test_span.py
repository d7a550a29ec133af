"""Training in the coordinates that members and first weights span."""

from __future__ import annotations

import dataclasses
import signal

import pytest
import torch
from torch.nn import functional

from memorization.architectures import build
from memorization.engine.settings import Axes, Hardware, Training
from memorization.engine.span import Span
from memorization.engine.training import train
from tests.jobs.test_resume import signals, stop  # noqa: F401

SHAPE = (1, 12, 12)
MEMBERS = torch.rand(12, *SHAPE, generator=torch.Generator().manual_seed(0))
SETTINGS = Training(
    learning_rate=3e-3, max_steps=400, target_loss=1e-5, ladder=[1e-1, 1e-2, 1e-3, 1e-9], axes=Axes.principal
)
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*")


def model(seed=0, **settings):
    autoencoder = build("fc", SHAPE, centre=True, seed=seed, **{"depth": 3, "width": 20, **settings})
    autoencoder.mean.copy_(MEMBERS.mean(0))
    return autoencoder


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu", "tanh"])
def test_gradient_descent_takes_the_same_steps_as_among_the_pixels(activation):
    plain, other = model(activation=activation), model(activation=activation)
    span = Span.of(other, MEMBERS)
    network, rate = span.network(), 0.05
    for _ in range(5):
        loss = functional.mse_loss(plain(MEMBERS), MEMBERS)
        in_span = functional.mse_loss(network(span.inputs), span.inputs) * span.scale
        assert in_span.item() == pytest.approx(loss.item(), rel=1e-5)
        for net, its_loss in ((plain, loss), (network, in_span)):
            net.zero_grad()
            its_loss.backward()
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter -= rate * parameter.grad
    for (name, expected), found in zip(plain.named_parameters(), span.put_back(network).parameters(), strict=True):
        torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("changes", "precision"),
    [({}, "32"), ({"batch_size": 9}, "32"), ({"ema": 0.9}, "32"), ({"micro_batch": 5}, "32"), ({}, "64")],
)
def test_each_rung_keeps_weights_that_have_its_loss(changes, precision):
    settings, autoencoder = dataclasses.replace(SETTINGS, **changes, max_steps=1200), model(width=50)
    history = train(autoencoder, MEMBERS, settings, progress=False, hardware=Hardware(precision=precision))
    assert list(history.rungs) == [1e-1, 1e-2, 1e-3]
    for rung, loss in history.rungs.items():
        kept = model(seed=1, width=50)
        kept.load_state_dict(history.weights[rung])
        assert (kept(MEMBERS) - MEMBERS).square().mean().item() == pytest.approx(loss, rel=1e-4)
        assert loss <= rung
    assert (autoencoder(MEMBERS) - MEMBERS).square().mean().item() == pytest.approx(history.loss, rel=1e-3)


def test_what_is_orthogonal_to_members_and_first_weights_stays_as_it_was():
    autoencoder, before = model(), model()
    train(autoencoder, MEMBERS, SETTINGS, progress=False)
    first, last = before.network.layers[0].weight, before.network.layers[-1].weight
    centred = (MEMBERS - MEMBERS.mean(0)).flatten(1)
    spanned = torch.cat([centred.T, last], 1).double()
    rest = torch.eye(len(spanned)) - spanned @ torch.linalg.pinv(spanned)
    for old, new in ((first, autoencoder.network.layers[0].weight), (last.T, autoencoder.network.layers[-1].weight.T)):
        change = (new - old).detach().double()
        assert change.norm() > 0.1
        assert (change @ rest).norm() < 1e-5 * change.norm()


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        ({}, {"input_noise": 0.1}),
        ({}, {"shift": 1}),
        ({}, {"weight_decay": 0.1}),
        ({"width": 64}, {}),
        ({"output": "sigmoid"}, {}),
    ],
)
def test_it_changes_nothing_where_it_does_not_apply(architecture, changes):
    settings = dataclasses.replace(SETTINGS, max_steps=20, **changes)
    one, other = model(**architecture), model(**architecture)
    train(one, MEMBERS, settings, progress=False)
    train(other, MEMBERS, dataclasses.replace(settings, axes=Axes.pixels), progress=False)
    for found, expected in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(found, expected)


def test_a_stopped_training_ends_with_the_same_bits(signals, tmp_path):  # noqa: F811
    settings, whole = dataclasses.replace(SETTINGS, max_steps=80), model()
    expected = train(whole, MEMBERS, settings, progress=False)
    stop(model(), tmp_path, 50, signal.SIGTERM, settings, MEMBERS)
    again = model()
    history = train(again, MEMBERS, settings, progress=False, folder=tmp_path)
    assert (history.rows, history.rungs) == (expected.rows, expected.rungs)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_a_checkpoint_in_other_coordinates_is_not_gone_on_from(signals, tmp_path, capsys, monkeypatch):  # noqa: F811
    stop(model(), tmp_path, 50, signal.SIGTERM, SETTINGS, MEMBERS)
    usual = torch.linalg.qr
    monkeypatch.setattr(torch.linalg, "qr", lambda a: type(usual(a))((-usual(a).Q, -usual(a).R)))
    train(model(), MEMBERS, SETTINGS, progress=False, folder=tmp_path)
    assert "is of another model, or of other code; the training begins anew" in capsys.readouterr().out
