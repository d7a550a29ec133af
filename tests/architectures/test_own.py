"""An autoencoder of one's own: a class and its weights, an exported program, any callable; and what is refused."""

from __future__ import annotations

import argparse
import functools
import io
import json
import pickle
import re
import shlex
import shutil
import sys
import types
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from safetensors.torch import save_file, save_model
from torch import nn

from memorization import adapted, audit, load_run, recover, train
from memorization.architectures import Adapted, build
from memorization.architectures.external.contract import check_contract
from memorization.architectures.external.custom import custom
from memorization.architectures.external.exported import Exported, read_archive, read_program, unsafe
from memorization.architectures.external.weights import load_weights
from memorization.cli import entry
from memorization.config import schema
from memorization.config.experiment import record_of, resolve
from memorization.data import Digits
from memorization.degradations import RandomPixels
from memorization.jobs.identity import of_autoencoder
from memorization.recovery import Energy, Iterate, Known
from memorization.report import reproduce
from memorization.store.reading import finished
from tests import problems

SHAPE = (1, 8, 8)
pytestmark = [
    pytest.mark.usefixtures("composed_once"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*", "ignore:.*does not have many workers.*"),
]


class Transformer(nn.Module):
    """A small ViT-like autoencoder: patches of 4x4 pixels, one block of self-attention."""

    def __init__(self, shape: tuple[int, int, int], dim: int = 32) -> None:
        super().__init__()
        self.shape = shape
        self.embed = nn.Conv2d(shape[0], dim, 4, stride=4)
        self.position = nn.Parameter(torch.randn(shape[1] * shape[2] // 16, dim) * 0.02)
        self.block = nn.TransformerEncoderLayer(dim, 4, 2 * dim, dropout=0.5, batch_first=True)
        self.head = nn.ConvTranspose2d(dim, shape[0], 4, stride=4)

    def forward(self, x):
        patches = self.embed(x)  # (B, dim, H / 4, W / 4)
        tokens = self.block(patches.flatten(2).transpose(1, 2) + self.position)  # (B, patches, dim)
        return self.head(tokens.transpose(1, 2).view_as(patches))


class Signed(nn.Module):
    """Takes and gives rows of pixels in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)

    def forward(self, x):
        assert x.ndim == 2
        assert x.min() < 0
        return self.layer(x)


SPLIT = Digits(members=6, non_members=5).load(0)
MODEL = f"architecture.target={__name__}.Transformer"
COMMON = ["dataset=digits", "dataset.members=6", "dataset.non_members=5", "architecture=custom", "tracking=none"]
RECOVERY = ["degradation.fraction=0.5", "operator=known", "recovery.max_iterations=15", "progress=false"]
ALLOWED = "architecture.allowed=[tests]"


def transformer():
    torch.manual_seed(0)
    return Transformer(SHAPE).eval()


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`memorization-recover` (or -train) in this process and in `tmp_path`: what it printed, and its line of error."""

    def call(*arguments: str, module: str = "recover") -> tuple[str, str]:
        monkeypatch.chdir(tmp_path)
        extra = RECOVERY if module == "recover" else ["progress=false"]
        monkeypatch.setattr("sys.argv", ["memorization", *COMMON, *extra, *arguments])
        ended = None
        try:
            {"recover": recover, "train": train}[module].main()
        except SystemExit as exit_:
            ended = exit_
        shown = capsys.readouterr()
        assert (ended is not None) == bool(shown.err)
        assert len(shown.err.strip().splitlines()) <= 1
        return shown.out, shown.err

    return call


@functools.cache
def program(static=False) -> bytes:
    """The transformer as `torch.export` writes it, for batches of any size or of two images."""
    batch = torch.export.Dim.STATIC if static else torch.export.Dim("batch")
    exported, file = (
        torch.export.export(transformer(), (torch.rand(2, *SHAPE),), dynamic_shapes=({0: batch},)),
        io.BytesIO(),
    )
    torch.export.save(exported, file)
    return file.getvalue()


SAVE = {
    "own.safetensors": lambda path: save_file(transformer().state_dict(), path),
    "own.pt": lambda path: torch.save(transformer().state_dict(), path),
    "own.ckpt": lambda path: torch.save(
        {"epoch": 3, "state_dict": {f"net.{key}": value for key, value in transformer().state_dict().items()}}, path
    ),
    "own.pt2": lambda path: path.write_bytes(program()),
}


@pytest.mark.parametrize(
    ("name", "recovery"),
    [("own.safetensors", "energy"), ("own.pt", "iterate"), ("own.ckpt", "iterate"), ("own.pt2", "energy")],
)
def test_the_command_line_and_python_agree(name, recovery, command, tmp_path):
    SAVE[name](tmp_path / name)
    given = [f"architecture.export={name}"] if name == "own.pt2" else [MODEL, ALLOWED, f"architecture.weights={name}"]
    out, err = command(*given, f"recovery={recovery}")
    assert err == ""
    assert "nothing to train" in out
    (run,) = finished(tmp_path / "runs")
    expected = audit(
        transformer(),
        SPLIT.members,
        SPLIT.non_members,
        RandomPixels(0.5),
        {"iterate": Iterate, "energy": Energy}[recovery](max_iterations=15),
        Known(),
        indices=SPLIT.member_indices + SPLIT.non_member_indices,
    ).results
    for column in ("image", "member", "status", "iterations", "queries", "nearest_member", "recovered"):
        assert list(run.results[column]) == list(expected[column]), column
    for column in ("psnr_erased", "psnr", "ssim", "residual", "train_loss"):
        np.testing.assert_allclose(run.results[column], expected[column], rtol=1e-4, err_msg=column)
    (tmp_path / name).unlink()  # the store needs it no more
    again = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(again(SPLIT.members), transformer()(SPLIT.members))


def test_nothing_to_train_is_said_and_found_again(command, tmp_path):
    SAVE["own.pt"](tmp_path / "own.pt")
    arguments = [MODEL, ALLOWED, "architecture.weights=own.pt"]
    out, _ = command(*arguments, module="train")
    assert "its weights are given, nothing to train" in out
    out, _ = command(*arguments, "training.max_steps=7", module="train")  # changes nothing
    assert out.startswith("found")


def test_a_class_without_weights_is_trained(command, tmp_path):
    _, err = command(MODEL, ALLOWED, "architecture.kwargs={dim:16}", "training.max_steps=40", "recovery=iterate",
                       "training.ladder=[5e-1]", "architecture.centre=true")  # fmt: skip
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    assert run.done["steps"] == 39
    kept = load_run(run.folder, packages=["tests"]).autoencoder()
    assert kept.network.embed.out_channels == 16
    with pytest.raises(ValueError, match=r"outside the allowed packages .*load_run\(folder, packages="):
        load_run(run.folder).autoencoder()


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


def test_what_is_worth_knowing_of_the_images_is_told(monkeypatch, tmp_path, capsys):
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "5.heic").write_bytes(b"")
    words = ["dataset=images", f"dataset.path={tmp_path}", "dataset.members=2", "dataset.non_members=2"]
    words += ["training.max_steps=2", "tracking=none", "progress=false", "architecture.depth=2", "dataset.size=16"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["memorization-train", *words])
    train.main()
    out = capsys.readouterr().out
    assert "note: 1 .heic passed over: files of other kinds\n" in out
    assert "note: a size of 16 pixels enlarges 4 of 4 images\n" in out


def test_a_file_counts_by_its_content(composed, tmp_path):
    def signed(file, **changes):
        config = composed(*COMMON, f"architecture.weights={file}", MODEL, *changes.pop("more", []))
        return of_autoencoder(resolve(config))

    SAVE["own.pt"](tmp_path / "a.pt")
    shutil.copy(tmp_path / "a.pt", tmp_path / "b.pt")
    torch.save({"x": torch.zeros(1)}, tmp_path / "c.pt")
    first = signed(tmp_path / "a.pt")
    assert first == signed(tmp_path / "b.pt") == signed(tmp_path / "a.pt", more=[ALLOWED, "training.max_steps=3"])
    assert first != signed(tmp_path / "c.pt")
    assert first != signed(tmp_path / "a.pt", more=["architecture.layout=flat"])


@pytest.fixture
def composed():
    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        yield lambda *words: compose("recover", overrides=list(words))


def test_the_command_of_a_report_composes_to_the_same_model(composed):
    config = composed(*COMMON, MODEL, ALLOWED, "architecture.kwargs={dim:16,shape:[1,8,8]}", "architecture.layout=flat")
    again = composed(*shlex.split(reproduce.command(record_of(config)))[1:])
    assert resolve(again).architecture == resolve(config).architecture


def test_range_and_layout_are_adapted():
    torch.manual_seed(0)
    network, x = Signed(), SPLIT.members
    own = network(x.flatten(1) * 2 - 1)
    expected = ((own + 1) / 2).view_as(x)
    torch.testing.assert_close(Adapted(network, (-1, 1), "flat")(x), expected)
    last = Adapted(lambda y: y.flip(3), layout="channels_last")
    colours = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(last(colours), colours.flip(1))
    for wrong in (Adapted(lambda y: y.view_as(x), (-1, 1), "flat"), Adapted(lambda y: y.mT, layout="channels_last")):
        with pytest.raises(ValueError, match=r"the autoencoder maps .* it must keep the shape"):
            wrong(colours if wrong.layout == "channels_last" else x)
    built = build(
        "custom", SHAPE, centre=False, seed=0, target=f"{__name__}.Signed", allowed=["tests"], value_range=[-1, 1],
        layout="flat",
    )  # fmt: skip
    assert built(x).shape == x.shape


# What is wrong with the files and names of a configuration, and what is said of it.


class Malicious:
    def __reduce__(self):
        return Path("touched").touch, ()


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


NAMES = {
    MODEL: "outside the allowed packages (memorization, torch.nn); if you trust its code, set architecture.allowed to",
    f"{ALLOWED} architecture.target={__name__}.Transforme": "has no attribute 'Transforme'; did you mean Transfor",
    f"{ALLOWED} architecture.target={__name__}.Quux": "has no attribute 'Quux'; is it installed, or its folder on",
    f"architecture.allowed=tests {MODEL}": "architecture.allowed=tests: it takes a list; give architecture.allowed=[te",
    f"{ALLOWED} {MODEL} architecture.value_range=2": "give architecture.value_range=[2]",
    "architecture.export=own.pt": "own.pt'; it is a file of torch.save, no program: name its class as architecture",
    "architecture.target=ViT architecture.allowed=[ViT]": "is 'ViT'; this is no class; give package.module.Class",
    f"{ALLOWED} architecture.target=tests.nowhere.Net": "No module named 'tests.nowhere'; is it installed, or",
    f"{ALLOWED} architecture.target={__name__}.SPLIT": "SPLIT'; this is no class of nn.Module, and no function",
    f"{ALLOWED} {MODEL} architecture.kwargs={{dm:3}}": "unexpected keyword argument 'dm'",
    f"{ALLOWED} {MODEL} architecture.kwargs=3": "architecture.kwargs is 3; give the arguments of the class by their na",
    "seed=0": "architecture.target is ''; name either a class (package.module.Class), or a file as architecture.export",
    f"{ALLOWED} {MODEL} architecture.value_range=[1,0]": "value_range is [1.0, 0.0]; give black and white",
    f"{ALLOWED} {MODEL} architecture.layout=last": "layout is 'last'; choose one of channels_first, channels_l",
    "architecture.export=own.pt2 architecture.weights=own.pt": "leave out architecture.weights and architecture.kwargs",
    f"{ALLOWED} {MODEL} architecture.weights=own.pt architecture.centre=true": "is; set architecture.centre to",
    f"{ALLOWED} {MODEL} architecture.weights=own.pt rungs=[1e-2]": "an autoencoder whose weights are given has one",
}


@pytest.mark.parametrize("arguments", NAMES)
def test_names_and_settings_that_are_refused(arguments, command, tmp_path):
    for name in ("own.pt", "own.pt2"):
        SAVE[name](tmp_path / name)
    _, err = command(*arguments.split(), "recovery=iterate")
    assert NAMES[arguments] in err
    assert not (tmp_path / "runs").exists()


def rewrite(path, change):
    """The archive `path` with each file as `change` (name, content) gives it, and a new one if it gives a list."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, change(name, content))


def replaced(old: str, new: str, file="/models/"):
    """A change of an archive: `new` for `old` in the file of the program, or another."""

    def change(name, content):
        assert file not in name or old.encode() in content
        return content.replace(old.encode(), new.encode()) if file in name else content

    return change


def nested(spec: dict) -> str:
    """A container's description as it stands in the JSON of a program, where it is a text of JSON itself."""
    return json.dumps(json.dumps([1, spec]))[1:-1]


LEAF = {"type": None, "context": None, "children_spec": []}
OUTPUT = f'"out_spec": "{nested(LEAF)}"'


def described(kind, context):
    """A change of an archive: what the program returns is a container of a `kind`."""
    return replaced(OUTPUT, f'"out_spec": "{nested({"type": kind, "context": context, "children_spec": [LEAF]})}"')


FACTORY = {"default_factory_module": "payload", "default_factory_name": "f", "dict_context": []}
ENUMERATION = {"__enum__": True, "fqn": "payload:f", "name": "f"}
RUNS = "which could run any code"
PROGRAMS = {
    "size": (replaced("Symbol('s", "breakpoint() or Symbol('s"), f"holds an expression that is no size, {RUNS}"),
    "weights": (replaced('"use_pickle": false', '"use_pickle": true', "weights_config"), f"holds pickles, {RUNS}"),
    "module": (described("collections.defaultdict", FACTORY), "holds containers other than tuples, lists and d"),
    "enumeration": (described("builtins.dict", json.dumps([ENUMERATION])), "holds containers other than tuples, l"),
    "context": (described("builtins.tuple", json.dumps(ENUMERATION)), "holds containers other than tuples, lists an"),
    "call": (replaced("torch.ops.aten.relu.default", "torch.os.system"), "holds a call of 'torch.os.system', no ope"),
    "packet": (replaced("aten.relu.default", "aten.relu.__init__"), "holds a call of 'torch.ops.aten.relu.__init__'"),
    "file": (replaced("aten.relu.default", "aten.save.default"), "holds a call of 'torch.ops.aten.save.default'"),
    "operator": (replaced('"as_int": 1}', '"as_operator": "torch.os.system"}'), "holds a call of 'torch.os.system'"),
    "name": (replaced('"name": "relu"', '"name": "relu=open(1)"'), "holds the name 'relu=open(1)'"),
    "attribute": (replaced('"name": "relu"', '"name": "torch.load"'), "holds the name 'torch.load'"),
    "weight": (replaced('"head.bias"', '"head.bias\'+open(1)"'), 'holds the name "head.bias\'+open(1)"'),
    "no program": (lambda name, content: b"[]" if "/models/" in name else content, "is no exported program, or dama"),
    "no text": (lambda name, content: b"\xff" if "/models/" in name else content, "is no exported program, or damaged"),
    "no operator": (replaced('"as_int": 1}', '"as_none": 1}'), "is no exported program, or damaged"),
    "inputs": (
        lambda name, content: pickle.dumps(Malicious()) if "sample_inputs" in name else content,
        "is no exported program, or damaged; make one: torch.export.save",
    ),
}


@pytest.mark.parametrize("part", PROGRAMS)
def test_a_program_that_would_run_code_is_refused(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "payload.py").write_text("open('touched', 'w')\nf = list")
    SAVE["own.pt2"](tmp_path / "own.pt2")
    assert unsafe(read_archive(tmp_path / "own.pt2")) == ""
    change, message = PROGRAMS[part]
    rewrite(tmp_path / "own.pt2", change)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        read_program(tmp_path / "own.pt2")
    assert "\n" not in str(raised.value)
    assert {path.name for path in tmp_path.iterdir()} == {"own.pt2", "payload.py"}


def test_torch_reads_what_was_inspected(tmp_path):
    """Two files of one name but for its case, and an archive behind another: torch would read the unseen ones."""
    path = tmp_path / "own.pt2"
    path.write_bytes(program())
    with zipfile.ZipFile(path, "a") as archive:
        name = next(name for name in archive.namelist() if "/models/" in name)
        archive.writestr(name.replace("models", "MODELS"), b"{}")
    with pytest.raises(ValueError, match="is no exported program, or damaged"):
        read_program(path)
    path.write_bytes(program())
    rewrite(path, PROGRAMS["call"][0])
    evil = path.read_bytes()
    path.write_bytes(program())
    harmless = bytearray(evil + path.read_bytes())
    place = len(evil) - 6  # where the first archive ends with the place of its table of contents
    harmless[-6:-2] = evil[place : place + 4]
    path.write_bytes(harmless)
    assert "torch.os.system" not in read_program(path).code


def test_a_malformed_program_is_one_line_from_the_command(command, tmp_path):
    (tmp_path / "own.pt2").write_bytes(program())
    rewrite(tmp_path / "own.pt2", PROGRAMS["no operator"][0])
    _, err = command("architecture.export=own.pt2", "recovery=iterate")
    assert "is no exported program, or damaged" in err
    assert {path.name for path in tmp_path.iterdir()} == {"own.pt2"}


class Blocks(nn.Module):
    """What else an honest program may hold: blocks, texts, constants, odd names, sizes that are computed, a list."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict({"a-b": nn.Linear(8, 8)})
        self.register_buffer("steps", torch.arange(8))

    def forward(self, x):
        b, c, h, w = x.shape
        with torch.no_grad():
            scale = torch.einsum("bchw,bchw->b", x, x)
        x = self.parts["a-b"](nn.functional.gelu(x.reshape(b * h // 2, 2 * w).view(b, c, h, w), approximate="tanh"))
        return [x * scale.view(-1, 1, 1, 1) + self.steps + torch.zeros(b, 1, 1, 1)]


def test_an_honest_program_is_read(tmp_path):
    batch = {0: torch.export.Dim("batch")}
    exported = torch.export.export(Blocks().eval(), (torch.rand(2, *SHAPE),), dynamic_shapes=(batch,))
    for version in (exported, exported.run_decompositions()):
        torch.export.save(version, tmp_path / "own.pt2")
        (given,) = read_program(tmp_path / "own.pt2")(SPLIT.members)
        torch.testing.assert_close(given, exported.module()(SPLIT.members)[0])


def test_a_layer_s_name_with_a_space_is_told_of(tmp_path):
    model = nn.ModuleDict({"down block": nn.Conv2d(1, 1, 3, padding=1)})
    model.forward = lambda x: model["down block"](x)
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(
        torch.export.export(model.eval(), (torch.rand(2, *SHAPE),), dynamic_shapes=(batch,)), tmp_path / "e.pt2"
    )
    with pytest.raises(
        ValueError, match=r"'down block\.weight' \(is that a layer's\? Name it without spaces, and export"
    ):
        read_program(tmp_path / "e.pt2")


def test_an_empty_archive_is_no_program(command, tmp_path):
    with zipfile.ZipFile(tmp_path / "own.pt2", "w"):
        pass
    assert "is no exported program, or damaged" in command("architecture.export=own.pt2", "recovery=iterate")[1]


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


def test_a_program_of_one_batch_size_is_refused(command, tmp_path):
    (tmp_path / "own.pt2").write_bytes(program(static=True))
    _, err = command("architecture.export=own.pt2", "recovery=iterate")
    assert "fails on images of (1, 1, 8, 8)" in err
    assert "specify dynamic_shapes" in err


# What is described, functions, and programs of other kinds.


class Keyed(nn.Module):
    """Takes a dict and gives one, of [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, batch):
        assert batch["img"].min() < 0
        return {"z": batch["img"].mean((1, 2, 3)), "recon": self.layer(batch["img"])}


def test_a_model_is_described_on_the_command_line(command, tmp_path):
    torch.save(Keyed().state_dict(), tmp_path / "own.pt")
    given = [f"architecture.target={__name__}.Keyed", ALLOWED, "architecture.weights=own.pt", "recovery=energy"]
    given += ["architecture.value_range=[-1,1]"]
    _, err = command(*given)
    assert "dict has `recon` of shape (2, 1, 8, 8): give architecture.input_key=img architecture.output=recon" in err
    _, err = command(*given, "architecture.input_key=img", "architecture.output=recon", "controls=true")
    assert err == ""
    described = {"input_key": "img", "output": "recon", "value_range": (-1, 1)}
    numbers = SPLIT.member_indices + SPLIT.non_member_indices
    expected = audit(
        Keyed(), SPLIT.members, SPLIT.non_members, RandomPixels(0.5), Energy(max_iterations=15), indices=numbers,
        controls=True, **described,
    ).results  # fmt: skip
    found = {run.config["control"]: run.results for run in finished(tmp_path / "runs")}
    for control in ("none", "untrained"):
        rows = expected[expected["control"] == control]
        np.testing.assert_allclose(found[control]["psnr"], rows["psnr"], rtol=1e-4)
    (run,) = finished(tmp_path / "runs", "autoencoders")
    again = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(again(SPLIT.members), Adapted(Keyed(), **described)(SPLIT.members))


def test_size_and_batch_are_described_on_the_command_line(composed):
    words = ["architecture.resize_to=28", "architecture.batch=4", "architecture.layout=flat"]
    assert resolve(composed(*COMMON, MODEL, *words)).architecture.arguments["resize_to"] == 28
    settings = resolve(composed(*COMMON, MODEL, "architecture.resize_to=[4,8]", "architecture.output=0"))
    assert list(settings.architecture.arguments["resize_to"]) == [4, 8]
    assert settings.architecture.output == "0"
    words = ["architecture.pad_to=4", "architecture.target=torch.nn.Identity"]
    padded = resolve(composed(*COMMON, *words)).architecture.build((1, 7, 6), 0)
    assert padded(torch.zeros(2, 1, 7, 6)).shape == (2, 1, 7, 6)
    again = composed(*shlex.split(reproduce.command(record_of(composed(*COMMON, *words))))[1:])
    assert resolve(again).architecture == resolve(composed(*COMMON, *words)).architecture


def test_words_that_came_later_leave_older_names_as_they_were(composed):
    identity = resolve(composed(*COMMON, MODEL)).architecture.identity()
    expected = {"target", "kwargs", "value_range", "layout", "name", "centre", "output", "revision", "revisions"}
    assert set(identity) == expected
    assert identity["output"] == "linear"
    named = resolve(composed(*COMMON, MODEL, "architecture.output=recon", "architecture.batch=2")).architecture
    assert named.identity() == {**identity, "output": "recon", "batch": 2}
    with pytest.raises(ValueError, match="output is 'recon'; choose one of linear, sigmoid"):
        resolve(composed("architecture=fc", "architecture.output=recon"))


def half(x, share=0.5):
    """A function of images, of NumPy arrays."""
    return np.float32(share) * x.astype(np.float32)


def with_weights(dim=32):
    """A function that makes a model and brings its weights."""
    torch.manual_seed(0)
    return Transformer(SHAPE, dim).eval()


def number():
    return 3


def test_functions_are_targets(command, tmp_path):
    given = [ALLOWED, "recovery=iterate", "controls=true"]
    _, err = command(f"architecture.target={__name__}.half", *given)
    assert "has no parameters to train; give architecture.weights=FILE, or architecture.trained=true for one" in err
    out, err = command(
        f"architecture.target={__name__}.half", "architecture.trained=true", "architecture.kwargs={share:0.25}", *given
    )
    assert err == ""
    assert "untrained not applicable (it has no weights to draw anew)" in out
    out, err = command(f"architecture.target={__name__}.with_weights", "architecture.trained=true", *given)
    assert err == ""
    assert (
        "its weights are given"
        in command(
            f"architecture.target={__name__}.with_weights", "architecture.trained=true", ALLOWED, module="train"
        )[0]
        or "found" in out
    )
    expected = [transformer(), lambda x: 0.25 * x]
    runs = {run.config["architecture"]["target"]: run for run in finished(tmp_path / "runs", "autoencoders")}
    for name, function in zip(("with_weights", "half"), expected, strict=True):
        kept = load_run(runs[f"{__name__}.{name}"].folder, packages=["tests"]).autoencoder()
        torch.testing.assert_close(kept(SPLIT.members), function(SPLIT.members))
    _, err = command(f"architecture.target={__name__}.number", *given)
    assert f"target is '{__name__}.number'; it returns a int; give a function that makes a module, or of ima" in err


def called():
    """As a message tells to write, of a model that is called in another way."""
    return adapted(Keyed(), call=lambda model, x: model({"img": 2 * x - 1})["recon"])


def test_weights_are_loaded_into_the_model_that_a_function_adapts(composed, tmp_path):
    save_file({key: 2 * value for key, value in Keyed().state_dict().items()}, tmp_path / "own.safetensors")
    named = [f"architecture.target={__name__}.called", ALLOWED, f"architecture.weights={tmp_path}/own.safetensors"]
    model = resolve(composed(*COMMON, *named)).architecture.build(SHAPE, 0)
    expected = 2 * Keyed()({"img": 2 * SPLIT.members - 1})["recon"]
    torch.testing.assert_close(model(SPLIT.members), expected)


class Leaving(nn.Module):
    """A script that reads the command line as its own, and ends."""

    def __init__(self, status: int = 2) -> None:
        raise SystemExit(status)


def test_code_that_ends_the_process_is_an_error_of_its_own(command, tmp_path, monkeypatch):
    _, err = command(f"architecture.target={__name__}.Leaving", ALLOWED, "recovery=iterate")
    assert err == (f"error: architecture.kwargs is {{}}; {__name__}.Leaving cannot be made of them: SystemExit: 2\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    _, err = command("architecture.target=leaving.Net", "architecture.allowed=[leaving]", "recovery=iterate")
    assert err == "error: architecture.target is 'leaving.Net'; SystemExit: 3\n"


@functools.cache
def script() -> bytes:
    """A convolution as TorchScript, traced."""
    content = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(Keyed().layer.eval(), SPLIT.members), content)
    return content.getvalue()


def test_a_torchscript_program_is_audited_and_trusted_by_name(command, tmp_path):
    (tmp_path / "own.pt").write_bytes(script())
    out, err = command("architecture.export=own.pt", "recovery=energy", "controls=true")
    assert err == ""
    assert "untrained not applicable (an exported program has no weights to draw anew)" in out
    (run,) = finished(tmp_path / "runs", "autoencoders")
    with pytest.raises(
        ValueError, match=r"it is TorchScript, which may .* load_run\(folder, packages=\[\"torch\.jit\"\]\)"
    ):
        load_run(run.folder).autoencoder()
    kept = load_run(run.folder, packages=["torch.jit"]).autoencoder()
    torch.testing.assert_close(kept(SPLIT.members), Keyed().layer(SPLIT.members))
    torch.testing.assert_close(pickle.loads(pickle.dumps(kept))(SPLIT.members), kept(SPLIT.members))


class Session:
    """An ONNX session, as far as it is asked: `y` is half of `x`, of a batch of two."""

    def __init__(self, content: bytes, providers: list[str]) -> None:
        if content[2:] != b"half":
            raise RuntimeError("no graph was found")

    def get_inputs(self):
        return [types.SimpleNamespace(name="x")]

    def get_outputs(self):
        return [types.SimpleNamespace(name=name) for name in "yz"]

    def run(self, names, given):
        if len(given["x"]) != 2:
            raise ValueError(f"Got: {len(given['x'])} Expected: 2")
        return [given["x"] * np.float32(0.5), given["x"].mean((1, 2, 3))]


def test_an_onnx_program_is_run_by_onnxruntime(tmp_path, monkeypatch):
    """By what stands for it here, since it need not be installed."""
    path = tmp_path / "own.onnx"
    path.write_bytes(b"\x08\x08half")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"ONNX needs onnxruntime \(.*\): pip install onnxruntime"):
        Exported(path)
    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=Session))
    for words, message in [
        ({}, r"returns a dict; .* has `y` of shape \(2, 1, 8, 8\): give output=\"y\""),
        ({"output": "y"}, r"Got: 1 Expected: 2; give batch=2"),
    ]:
        with pytest.raises(ValueError, match=message):
            audit(Exported(path), SPLIT.members, SPLIT.non_members, recovery=Iterate(), **words)
    described = custom(SHAPE, export=str(path), output="y", batch=2)
    torch.testing.assert_close(described(SPLIT.members[:5]), SPLIT.members[:5] / 2)
    with pytest.raises(ValueError, match=r"no gradients"):
        audit(described, SPLIT.members, SPLIT.non_members, recovery=Energy())
    with pytest.raises(ValueError, match="it is an ONNX program: name it as export"):
        load_weights(transformer(), path)
    path.write_bytes(b"\x08\x08")
    with pytest.raises(ValueError, match="onnxruntime cannot read it: no graph was found"):
        Exported(path)


# The contract, from Python.


class Returning(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def forward(self, x):
        return self.change(x)


def few(x):
    if len(x) > 4:
        raise RuntimeError("too many")
    return x


CONTRACT = {
    "returns a tuple": lambda x: (x, x),
    "returns a dict": lambda x: {"images": x},
    "it must keep the shape": lambda x: x[:, :, 1:],
    "holds NaN or infinite values": lambda x: x / 0,
    "is not deterministic: two calls on the same images differ by up to": lambda x: x + torch.rand_like(x),
    "differ by up to .*e-05": lambda x: x + 1e-4 * torch.rand_like(x),
    "depends on the others in its batch": lambda x: x - x.mean(0),
    "changes its input in place": lambda x: x.mul_(0.5),
    r"^batch_size is 11; .* fails on images of \(11, 1, 8, 8\): too many; choose another": lambda x: few(x),
    "to torch.float16 on cpu; it must keep both": lambda x: x.half(),
    r"fails on images of \(2, 1, 8, 8\): mat1 and mat2 shapes cannot be multiplied": lambda x: x @ torch.ones(3, 3),
}


@pytest.mark.parametrize("message", CONTRACT)
@pytest.mark.parametrize("wrap", [Returning, lambda change: change])
def test_a_breach_of_the_contract_is_one_line(message, wrap):
    with pytest.raises(ValueError, match=message) as raised:
        audit(wrap(CONTRACT[message]), SPLIT.members, SPLIT.non_members, recovery=Iterate())
    assert "\n" not in str(raised.value)


def test_a_model_elsewhere_or_in_half_precision_is_refused():
    with pytest.raises(ValueError, match="the autoencoder has no weights: they are on the meta device"):
        audit(transformer().to("meta"), SPLIT.members, SPLIT.non_members)
    with pytest.raises(ValueError, match=r"is on cpu, the images on meta; move one of them: autoencoder.to\('meta'\)"):
        check_contract(transformer(), torch.rand(2, *SHAPE, device="meta"))
    with pytest.raises(ValueError, match="lazy layers have no weights yet"):
        audit(nn.LazyConv2d(1, 1), SPLIT.members, SPLIT.non_members)
    for half in (torch.float16, torch.bfloat16):
        with pytest.raises(ValueError, match=rf"weights are {half}, the images torch.float32; give autoencoder.to\("):
            audit(transformer().to(half), SPLIT.members, SPLIT.non_members)


def test_a_file_in_half_precision_is_taken(command, tmp_path):
    save_file({key: value.half() for key, value in transformer().state_dict().items()}, tmp_path / "own.safetensors")
    _, err = command(MODEL, ALLOWED, "architecture.weights=own.safetensors", "recovery=iterate")
    assert err == ""
    (run,) = finished(tmp_path / "runs", "autoencoders")
    kept = load_run(run.folder, packages=["tests"]).autoencoder()
    torch.testing.assert_close(kept(SPLIT.members), transformer().half().float()(SPLIT.members))


def test_what_is_no_autoencoder_yet_is_named(tmp_path):
    with pytest.raises(ValueError, match="the autoencoder is the class Transformer; give an instance"):
        audit(Transformer, SPLIT.members, SPLIT.non_members)
    SAVE["own.pt2"](tmp_path / "own.pt2")
    with pytest.raises(ValueError, match=r"the autoencoder is an ExportedProgram, .* give its module\(\)"):
        audit(torch.export.load(tmp_path / "own.pt2"), SPLIT.members, SPLIT.non_members)


class Shy(nn.Module):
    """Fails on the first of the images that it never saw."""

    def forward(self, x):
        if any(torch.equal(image, SPLIT.non_members[0]) for image in x):
            raise RuntimeError("a stranger")
        return x


def test_the_contract_is_checked_on_images_of_both_kinds(command, tmp_path):
    message = r"fails on images of (2, 1, 8, 8): a stranger"
    with pytest.raises(ValueError, match=re.escape(message)):
        audit(Shy(), SPLIT.members, SPLIT.non_members, recovery=Iterate())
    _, err = command(f"architecture.target={__name__}.Shy", ALLOWED, "recovery=iterate")
    assert message in err
    assert not (tmp_path / "runs").exists()


class Modeless(nn.Module):
    """Has methods `eval` and `train` of its own: they raise, or return nothing, as is easily forgotten."""

    def __init__(self, method: str = "", answer: bool = True) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)
        self.method, self.answer = method, answer

    def eval(self):
        if self.method == "eval":
            raise NotImplementedError("no modes")
        return super().eval()

    def train(self, mode=True):
        if self.method == ("train" if mode else "predict"):
            raise RuntimeError("no modes")
        super().train(mode)
        return self if self.answer else None

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["architecture.kwargs={method:eval}"], "Modeless.eval() fails: no modes; leave eval and train as nn."),
        (["architecture.kwargs={method:train}"], "Modeless.train(True) fails: no modes; leave eval and train as nn."),
        (["architecture.kwargs={method:predict}", "architecture.centre=true"], "Modeless.train(False) fails: no modes"),
        (["architecture.kwargs={answer:false}"], "Modeless.train(True) returns None; it must end with `return self`"),
    ],
)
@pytest.mark.parametrize("module", ["train", "recover"])
def test_a_model_without_modes_is_named_before_anything_is_written(command, tmp_path, module, settings, message):
    words = ["training.max_steps=2", "training.ladder=[5]", "architecture.centre=false"]
    _, err = command(f"architecture.target={__name__}.Modeless", ALLOWED, *words, *settings, module=module)
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_trained_model_needs_no_training_mode(command):
    words = ["architecture.kwargs={method:train}", "architecture.trained=true", "recovery=iterate"]
    _, err = command(f"architecture.target={__name__}.Modeless", ALLOWED, *words)
    assert err == ""


def test_a_loss_above_the_variance_is_told(command, tmp_path, capsys):
    audit(lambda x: 1 - x, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert "above their variance of 0.14: are these the images that it was trained on, and is value_range" in (
        capsys.readouterr().out
    )
    signed = Adapted(lambda x: 0.9 * x if x.min() < 0 else -x)
    audit(signed, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert "value_range right? With value_range=[-1,1] it is 0.0018.\n" in capsys.readouterr().out
    audit(lambda x: 0.9 * x, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=1))
    assert not capsys.readouterr().out
    SAVE["own.pt"](tmp_path / "own.pt")
    out, _ = command(MODEL, ALLOWED, "architecture.weights=own.pt", "architecture.value_range=[-9,9]", module="train")
    assert "note: the loss on the members is" in out


def test_a_training_that_reached_no_rung_says_so(command):
    out, _ = command(MODEL, ALLOWED, "training.max_steps=3", module="train")
    assert "note: no rung of training.ladder was reached (the highest is 0.01): no weights are kept" in out
    assert "note: the training ended at its budget of 3 steps" in out
    assert re.search(r"after 3 steps in \d+ s →", out)


NO_GRADIENTS = {
    "nearest": problems.nearest(SPLIT.members),
    "no_grad": torch.no_grad()(transformer()),
    "numpy": lambda x: torch.from_numpy(x.detach().numpy() * 0.5),
}


@pytest.mark.parametrize("kind", NO_GRADIENTS)
def test_a_callable_without_gradients_can_only_be_queried(kind):
    model = NO_GRADIENTS[kind]
    with pytest.raises(ValueError, match="gives no gradients, which the method needs; choose one that only queries"):
        audit(model, SPLIT.members, SPLIT.non_members, recovery=Energy(max_iterations=3))
    result = audit(model, SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=3))
    assert len(result.results) == 11


def test_an_exported_program_is_audited_as_the_model_it_was(tmp_path):
    SAVE["own.pt2"](tmp_path / "own.pt2")
    tables = [
        audit(model, SPLIT.members, SPLIT.non_members, recovery=Energy(max_iterations=10)).results
        for model in (
            transformer(),
            Exported(tmp_path / "own.pt2"),
            torch.export.load(tmp_path / "own.pt2").module(),
            pickle.loads(pickle.dumps(Exported(tmp_path / "own.pt2"))),  # as it goes to another process
        )
    ]
    for table in tables[1:]:
        np.testing.assert_allclose(table["psnr"], tables[0]["psnr"], rtol=1e-4)


def test_the_numbers_of_the_images_draw_their_degradations():
    numbers = SPLIT.member_indices + SPLIT.non_member_indices
    first, second = (
        audit(
            transformer(), SPLIT.members, SPLIT.non_members, recovery=Iterate(max_iterations=2), indices=given
        ).results
        for given in (None, numbers)
    )
    assert list(second["image"]) == numbers
    assert list(first["member"]) == list(second["member"]) == [True] * 6 + [False] * 5
    assert (first["psnr_erased"] != second["psnr_erased"]).all()


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 2, 3], "indices are 3; give one for each of the 11 images"),
        ([0, 1, -2, *range(3, 11)], "indices: -2 of image 2 is no number of an image; give whole numbers from 0 on"),
        ([0, 1.5, *range(2, 11)], "indices: 1.5 of image 1 is no number"),
        ([0, "1", *range(2, 11)], "indices: '1' of image 1 is no number"),
        ([*range(10), 7], "indices: images 7 and 10 are both 7; give each a number of its own"),
    ],
)
def test_a_wrong_number_of_an_image_is_named(indices, message):
    with pytest.raises(ValueError, match=message):
        audit(transformer(), SPLIT.members, SPLIT.non_members, indices=indices)


@pytest.mark.parametrize(
    ("members", "others", "message"),
    [
        ([0, 1, 1], [], "members: image 2 is image 1 again; give each once"),
        ([0], [-1, -2, -1], "non_members: image 2 is image 0 again; give each once"),
        ([0, 1], [-1, 1], "non_members: image 1 is member 1; give images that the autoencoder never saw"),
    ],
)
def test_an_image_that_is_given_twice_is_named(members, others, message):
    pool = torch.cat([SPLIT.members, SPLIT.non_members])
    with pytest.raises(ValueError, match=message):
        audit(transformer(), pool[members], pool[others or [-1]], RandomPixels(0.5), Iterate())


def test_an_import_that_was_killed_goes_on(command, tmp_path):
    """After the program was written: what an earlier version left beside it does no harm, either."""
    (tmp_path / "own.pt2").write_bytes(program())
    given = ["architecture.export=own.pt2", "recovery=iterate"]
    command(*given)
    (run,) = finished(tmp_path / "runs", "autoencoders")
    (run.folder / "done.json").unlink()
    (kept,) = (run.folder / "weights").iterdir()
    shutil.copy(kept, kept.with_suffix(".safetensors"))
    out, err = command(*given, "recovery.max_iterations=3")
    assert err == ""
    assert "nothing to train" in out
    (run,) = finished(tmp_path / "runs", "autoencoders")
    assert [path.suffix for path in (run.folder / "weights").iterdir()] == [".pt2"]
