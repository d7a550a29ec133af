"""Programs: exported by torch, TorchScript, ONNX; and those that would run code."""

from __future__ import annotations

import json
import pickle
import re
import sys
import types
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from memorization import audit, load_run
from memorization.architectures.external.custom import custom
from memorization.architectures.external.exported import Exported, read_archive, read_program, unsafe
from memorization.architectures.external.weights import load_weights
from memorization.recovery import Energy, Iterate
from memorization.store.reading import finished
from tests.architectures.own_models import (
    MARKS,
    SAVE,
    SHAPE,
    SPLIT,
    Keyed,
    Malicious,
    program,
    script,
    transformer,
)

pytestmark = MARKS


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


def rewrite(path, change):
    """The archive `path` with each file as `change` (name, content) gives it, and a new one if it gives a list."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, change(name, content))


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


def test_a_program_of_one_batch_size_is_refused(command, tmp_path):
    (tmp_path / "own.pt2").write_bytes(program(static=True))
    _, err = command("architecture.export=own.pt2", "recovery=iterate")
    assert "fails on images of (1, 1, 8, 8)" in err
    assert "specify dynamic_shapes" in err


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
