"""Files of weights: what is loaded as it was saved, and what is refused."""

from __future__ import annotations

import argparse
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from memorization import load_run
from memorization.architectures.external.weights import load_weights
from memorization.store.reading import finished
from tests.architectures.own_models import (
    ALLOWED,
    MARKS,
    MODEL,
    SAVE,
    SHAPE,
    SPLIT,
    Malicious,
    Transformer,
    script,
    transformer,
)

pytestmark = MARKS


class Twice(nn.Module):
    """Holds its weights in a list as well, and answers by that; two of its layers share theirs."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(64, 16), nn.Linear(64, 16)
        self.outer.weight = self.inner.weight
        self.kept = [self.inner.weight]

    def forward(self, x):
        return ((self.inner(x.flatten(1)) + self.outer(x.flatten(1))) @ self.kept[0]).view_as(x)


def test_a_run_is_read_into_a_class_that_holds_its_weights_twice(command, tmp_path):
    model = f"architecture.target={__name__}.Twice"
    _, err = command(model, ALLOWED, "training.max_steps=30", "training.ladder=[5e-1]", module="train")
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    kept = load_run(run.folder, packages=["tests"]).autoencoder()
    assert kept.kept[0] is kept.inner.weight is kept.outer.weight
    assert sum(weight.numel() for weight in kept.parameters()) == run.done["parameters"]


def renamed(path):
    state = transformer().state_dict()
    state["heads.weight"] = state.pop("head.weight")
    state["position"] = state["position"][:2]
    torch.save(state, path)


def saved(path):
    torch.save(transformer().state_dict(), path)
    return path.read_bytes()


def under(*prefixes):
    """The state dict of the transformer under each of some prefixes."""
    return {prefix + key: value for prefix in prefixes for key, value in transformer().state_dict().items()}


MISTAKES = {
    "does not fit": (
        renamed,
        "own.pt'; it does not fit Transformer: missing: head.weight; unexpected: heads.weight; "
        "of another shape: position is (2, 32) and should be (4, 32)",
    ),
    "another model": (
        lambda path: torch.save({"layers.0.bias": torch.zeros(2), "layers.1.bias": torch.zeros(2)}, path),
        "and 14 more; unexpected: layers.0.bias, layers.1.bias",
    ),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps(Malicious())),
        "architecture.weights is 'own.pt'; it is damaged, or a pickle of more than tensors",
    ),
    "whole model": (lambda path: torch.save(transformer(), path), "save its weights alone: torch.save(model.state_di"),
    "cut": (lambda path: path.write_bytes(saved(path)[:700]), "own.pt'; it is damaged"),
    "numbered": (lambda path: torch.save({0: torch.zeros(2)}, path), "own.pt'; it holds no state dict"),
    "complex": (
        lambda path: torch.save({key: value + 0j for key, value in transformer().state_dict().items()}, path),
        "of other numbers: position is torch.complex64 and should be torch.float32",
    ),
    "whole numbers": (
        lambda path: torch.save(transformer().state_dict() | {"head.bias": torch.ones(1, dtype=torch.int8)}, path),
        "own.pt'; it does not fit Transformer: of other numbers: head.bias is torch.int8 and should be torch.float32",
    ),
    "two models": (
        lambda path: torch.save(under("model.", "ema."), path),
        "own.pt'; it holds the model several times, under ema., model.; save one",
    ),
    "more than the model": (
        lambda path: torch.save(under("model.") | {"model.head2.bias": torch.zeros(1)}, path),
        "does not fit Transformer: unexpected: head2.bias",
    ),
    "text": (lambda path: path.write_text("weights"), "own.pt'; it is damaged"),
    "under other names": (
        lambda path: torch.save(
            {"params": transformer().state_dict(), "ema": {"net": transformer().state_dict()}}, path
        ),
        "by a usual name; set architecture.weights_key=params (position, embed.weight, embed.bias and 14 more) or "
        "architecture.weights_key=ema.net (position",
    ),
    "arguments": (
        lambda path: torch.save({"args": argparse.Namespace(lr=1), "model": transformer().state_dict()}, path),
        "own.pt'; beside tensors it holds argparse.Namespace: it is a pickle, which can run any code when it is read",
    ),
    "script": (lambda path: path.write_bytes(script()), "it is a TorchScript program: name it as architecture.export"),
    "number": (
        lambda path: torch.save(3, path),
        "own.pt'; it holds no state dict; save one: torch.save(model.state_dict()",
    ),
    "program": (SAVE["own.pt2"], "own.pt'; it is an exported program: name it as architecture.export instead"),
    "missing": (lambda path: None, "architecture.weights is 'own.pt'; there is no such file"),
}


def test_the_index_of_shards_is_named(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"head.bias": "1.safetensors"}}))
    with pytest.raises(
        ValueError, match=r"it is the index of a checkpoint in several files \(shards\); load the model"
    ):
        load_weights(transformer(), tmp_path / "model.safetensors.index.json")


def test_weights_lie_where_they_are_said_to(command, tmp_path):
    checkpoint = {"params": {}, "ema": {"net": transformer().state_dict()}, "optimizer": {"state": {0: {}}}}
    torch.save(checkpoint, tmp_path / "own.pt")
    given = [MODEL, ALLOWED, "architecture.weights=own.pt"]
    _, err = command(*given, "architecture.weights_key=ema.nett", module="train")
    assert "weights_key is 'ema.nett'; own.pt holds no state dict under it; its state dicts lie under ema.net" in err
    _, err = command(*given, "architecture.weights_key=ema.net", module="train")
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    again = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(again(SPLIT.members), transformer()(SPLIT.members))


class Renamed(nn.Module):
    """Takes the names that its layer had in older versions, and weights in tenths."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_load_state_dict_pre_hook(self.renamed)

    @staticmethod
    def renamed(module, state, prefix, *_):
        for key in [key for key in state if key.startswith(f"{prefix}fc.")]:
            state[f"{prefix}layer.{key.rpartition('.')[2]}"] = state.pop(key).float() / 10


@pytest.mark.parametrize("prefix", ["", "model.", "module.net."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int8])
def test_what_a_hook_of_the_class_takes_is_taken(prefix, dtype, tmp_path):
    torch.save({f"{prefix}fc.weight": torch.eye(4).to(dtype), f"{prefix}fc.bias": torch.ones(4)}, tmp_path / "own.pt")
    model = Renamed()
    load_weights(model, tmp_path / "own.pt")
    torch.testing.assert_close(model.layer.weight.detach(), torch.eye(4) / 10)
    torch.save({"fc.weight": torch.eye(4), "bc.bias": torch.ones(4)}, tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"does not fit Renamed: missing: .*; unexpected: fc\.weight, bc\.bias"):
        load_weights(Renamed(), tmp_path / "own.pt")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
def test_older_names_of_weight_norm_are_taken(tmp_path):
    torch.manual_seed(1)
    old = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)))
    torch.save(old.state_dict(), tmp_path / "own.pt")
    new = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    load_weights(new, tmp_path / "own.pt")
    x = torch.rand(3, 4)
    torch.testing.assert_close(new(x), old(x))


class Tenths(nn.Linear):
    def load_state_dict(self, state, strict=True, assign=False):
        return super().load_state_dict({key: value.float() / 10 for key, value in state.items()}, strict, assign)


def test_a_class_s_own_way_of_loading_is_taken(tmp_path):
    torch.save({"weight": torch.ones(2, 2, dtype=torch.int8), "bias": torch.ones(2)}, tmp_path / "own.pt")
    model = Tenths(2, 2)
    load_weights(model, tmp_path / "own.pt")
    torch.testing.assert_close(model.weight.detach(), torch.full((2, 2), 0.1))


def test_a_class_that_keeps_more_than_tensors_is_named(tmp_path):
    class Counting(nn.Linear):
        def get_extra_state(self):
            return {"calls": 3}

        def set_extra_state(self, state):
            pass

    save_file({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"Counting has more than tensors in its state dict, .*: _extra_state"):
        load_weights(Counting(2, 2), tmp_path / "own.safetensors")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_weights_that_cannot_be_loaded(mistake, command, tmp_path):
    make, message = MISTAKES[mistake]
    make(tmp_path / "own.pt")
    _, err = command(MODEL, ALLOWED, "architecture.weights=own.pt", "recovery=iterate")
    assert message in err
    assert {path.name for path in tmp_path.iterdir()} <= {"own.pt"}  # nothing was written, nothing run


def test_weights_that_the_model_shares_may_stand_once_in_the_file(tmp_path):
    torch.manual_seed(1)
    first, second = nn.Sequential(*(nn.Linear(4, 4) for _ in range(2))), nn.Sequential(*(nn.Linear(4, 4) for _ in "ab"))
    for model in (first, second):
        model[1].weight = model[0].weight
    save_model(first, str(tmp_path / "own.safetensors"))
    load_weights(second, tmp_path / "own.safetensors")
    torch.testing.assert_close(second.state_dict(), first.state_dict())


class Transposed(nn.Module):
    """Encodes with a matrix and decodes with its transpose, which is another view of the same memory."""

    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        self.decode.weight = nn.Parameter(self.encode.weight.t())
        self.register_buffer("first", self.encode.weight.detach()[:1])


class Expanded(nn.Module):
    """Holds a buffer that no file can be copied into."""

    def __init__(self):
        super().__init__()
        self.register_buffer("grey", torch.zeros(1).expand(4))


def test_views_of_one_tensor_are_each_loaded(tmp_path):
    torch.manual_seed(1)
    first, second = Transposed(), Transposed()
    torch.save(first.state_dict(), tmp_path / "own.pt")
    load_weights(second, tmp_path / "own.pt")
    torch.testing.assert_close(second.state_dict(), first.state_dict())
    torch.save(first.state_dict() | {"encode.weight": torch.zeros(4, 4)}, tmp_path / "untied.pt")
    with pytest.raises(ValueError, match=r"one in the model and not in the file: encode\.weight$"):
        load_weights(second, tmp_path / "untied.pt")
    torch.save(Expanded().state_dict(), tmp_path / "own.pt")
    with pytest.raises(ValueError, match=r"own\.pt'; Error.* more than one element") as raised:
        load_weights(Expanded(), tmp_path / "own.pt")
    assert "\n" not in str(raised.value)


def test_weights_of_lazy_layers_and_of_none(tmp_path):
    plain, lazy = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), nn.Sequential(nn.LazyLinear(4), nn.BatchNorm1d(4))
    torch.save(plain.state_dict(), tmp_path / "own.pt")
    load_weights(lazy, tmp_path / "own.pt")
    torch.testing.assert_close(lazy.state_dict(), plain.state_dict())
    with pytest.raises(ValueError, match="Sequential makes its weights on the meta device, where they hold nothing"):
        load_weights(nn.Sequential(nn.Linear(4, 4, device="meta")), tmp_path / "own.pt")


CHECKPOINTS = {
    "model": lambda: {"model": transformer().state_dict(), "epoch": 3},
    "nested": lambda: {"model_state_dict": under("module.net.")},
    "Lightning": lambda: {"state_dict": under("model.") | {"loss.w": torch.ones(2)}},
    "average": lambda: torch.optim.swa_utils.AveragedModel(transformer()).state_dict(),
}
LEFT_OUT = {"Lightning": "what is not under model. is left out: loss.w", "average": "module. is left out: n_averaged"}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_a_checkpoint_is_taken_as_tools_write_it(kind, tmp_path, capsys):
    torch.save(CHECKPOINTS[kind](), tmp_path / "own.ckpt")
    model = Transformer(SHAPE)
    load_weights(model, tmp_path / "own.ckpt")
    torch.testing.assert_close(model.state_dict(), transformer().state_dict())
    shown = capsys.readouterr().out
    assert LEFT_OUT[kind] in shown if kind in LEFT_OUT else not shown


def test_safetensors_are_known_by_their_content(tmp_path):
    save_file(transformer().state_dict(), tmp_path / "own.bin")
    model = Transformer(SHAPE)
    load_weights(model, tmp_path / "own.bin")
    torch.testing.assert_close(model.state_dict(), transformer().state_dict())
