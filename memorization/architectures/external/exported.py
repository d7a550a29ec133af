"""An autoencoder as a program in a file, without its source: of `torch.export` (`.pt2`), TorchScript or ONNX.

A program of `torch.export` gives queries and gradients, and is inspected before it is read. TorchScript is not: it may
call any operator of torch when it is called, also those that read and write files, so that only files of people whom
one trusts should be named. ONNX is run by onnxruntime and gives queries alone; it holds operators on tensors, and its
risk is that of a damaged file to a reader in C++.

torch's own reader (2.13) is not made for files of strangers. It falls back on unpickling, evaluates the symbolic sizes
that a file holds, loads compiled code, imports the modules that the description of a container names, looks up whatever
function below `torch` a node names, and compiles Python source with the file's names in it. So a file is inspected
first, by what is known to be harmless, and refused if it holds anything else; and torch is given an archive of what was
inspected, since it reads zip files in ways of its own.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from memorization.architectures.external import first_line
from memorization.components import Record, SettingError, expanded

SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
FUNCTIONS = "Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv"  # of SymPy and torch, of sizes
SIZE = re.compile(rf"(\d|[\s+\-*/(),.<>=]|\b({FUNCTIONS})\b)*")
NAME = re.compile(r"[\w.+-]*")  # no call, string, assignment or statement can be written with these
VARIABLES = ("name", "as_name", "forward_arg_names")  # keys of names that are assigned to: of these, no attributes
OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
TO_FILES = ("from_file", "save")  # of aten
BLOCKS = {f"torch.ops.higher_order.{name}" for name in ("cond", "wrap_with_autocast", "wrap_with_set_grad_enabled")}
CONTAINERS = ("builtins.tuple", "builtins.list", "builtins.dict")
# Keys of texts that are never run: strings that operators take, guards, which are not asked for, and notes.
FREE = {"as_string", "as_strings", "guards_code", "custom", "stack_trace", "torch_fn", "from_node"}
FREE |= {"nn_module_stack", "source_fn_stack"}
EXPORT = "torch.export.save(torch.export.export(model.eval(), (images,), dynamic_shapes=...), FILE)"


class Exported(nn.Module):
    """The program in the file `path`. It has no modes: it is as it was exported, in eval mode one hopes."""

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = expanded(path)
        self.program = READERS.get(kind_of_program(self.path), read_program)(self.path)

    def forward(self, x: Tensor) -> Any:
        return self.program(x)

    def train(self, mode: bool = True) -> Exported:
        self.training = mode  # a program's own `train` raises
        return self

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return Exported, (self.path,)


def kind_of_program(path: Path) -> str:
    """What kind of program a file holds, by its content; empty if it is none."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
        if "archive_format" in names:
            return EXPORTED
        return SCRIPT if "constants.pkl" in names and any(name.startswith("code/") for name in names) else ""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(2)
    return ONNX if head[:1] == b"\x08" and head[1:] < b"\x40" else ""  # its first field, the version of the format


def read_script(path: Path) -> nn.Module:
    """The TorchScript program in a file, in eval mode; it is not inspected, see above."""
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        try:
            script: nn.Module = torch.jit.load(str(path), map_location="cpu")
            return script.eval()
        except Exception as error:  # of what kind depends on the damage
            raise SettingError("export", str(path), f"it cannot be read as TorchScript: {first_line(error)}") from error


class Onnx(nn.Module):
    """The ONNX program in a file, of one input, run on the CPU: queries without gradients."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            from onnxruntime import InferenceSession
        except ImportError as error:
            raise SettingError(
                "export", str(path), f"ONNX needs onnxruntime ({error}): pip install onnxruntime"
            ) from error
        try:
            self.session = InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime, also for weights in other files
            raise SettingError("export", str(path), f"onnxruntime cannot read it: {first_line(error)}") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            names = ", ".join(one.name for one in inputs)
            raise SettingError("export", str(path), f"it has the inputs {names}; export it with the images alone")
        self.name = inputs[0].name

    def forward(self, x: Tensor) -> Any:
        answers = self.session.run(None, {self.name: x.detach().cpu().numpy()})
        named = dict(zip([one.name for one in self.session.get_outputs()], map(torch.as_tensor, answers), strict=True))
        return next(iter(named.values())).to(x.device) if len(named) == 1 else named


EXPORTED, SCRIPT, ONNX = "an exported program", "a TorchScript program", "an ONNX program"


def read_program(path: Path) -> nn.Module:
    """The program in an archive of `torch.export.save`; raises `SettingError` for any other file, or an unsafe one."""
    if not path.is_file():
        raise SettingError("export", str(path), "there is no such file")
    try:
        files = read_archive(path)
        found = unsafe(files)
        if not found:
            return _loaded(files)
    except SettingError:
        raise
    except Exception as error:  # of what kind depends on the damage
        reason = f"this is no exported program, or damaged; make one: {EXPORT}"
        raise SettingError("export", str(path), reason) from error
    raise SettingError("export", str(path), f"it is refused: it holds {found}, which could run any code")


READERS: dict[str, Callable[[Path], nn.Module]] = {EXPORTED: read_program, SCRIPT: read_script, ONNX: Onnx}


def read_archive(path: Path) -> dict[str, bytes]:
    """The files in an archive of `torch.export.save`, by their names; raises `BadZipFile` for another archive.

    `SettingError` for one of `torch.save`.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0]
        if f"{root}/data.pkl" in names and f"{root}/archive_format" not in names:
            way = f"name its class as `target`, and it as `weights`; or export the model: {EXPORT}"
            raise SettingError("export", str(path), f"it is a file of torch.save, no program: {way}")
        distinct = {name.casefold() for name in names}  # torch does not tell capitals from small letters
        if f"{root}/archive_format" not in names or len(distinct) < len(names):
            raise zipfile.BadZipFile
        return {name: archive.read(name) for name in names if name.startswith(f"{root}/")}


def unsafe(files: dict[str, bytes]) -> str:
    """What in the files of an archive could run code when it is read or called; empty if nothing does."""
    root = next(iter(files)).partition("/")[0]
    for name, content in files.items():
        folded = name.casefold()
        if "aotinductor" in folded:
            return "compiled code"
        if folded.endswith("_config.json"):
            entries = json.loads(content)["config"].values()
            if any(entry["use_pickle"] or "obj" in entry["path_name"] for entry in entries):
                return "pickles"
        elif folded.startswith(f"{root}/models/".casefold()):
            for reason in filter(None, itertools.starmap(_unsafe_text, _texts(json.loads(content)))):
                return reason
    return ""


def _loaded(files: dict[str, bytes]) -> nn.Module:
    """The program in the files of an archive that was inspected."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, part in files.items():
            archive.writestr(name, part)
    content.seek(0)
    with (
        mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}),
        warnings.catch_warnings(action="ignore"),  # of pickles of another kind than torch's; refused by its error
    ):
        return torch.export.load(content).module(check_guards=False)


def _texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a serialised program with the key that it stands under, and every key under none."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield "", name
            yield from _texts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value, key)
    elif isinstance(node, str):
        yield key, node


def _unsafe_text(key: str, text: str) -> str:
    """What is wrong with the `text` under a `key` of a serialised program; empty if nothing is."""
    match key:
        case "expr_str":
            return "" if SIZE.fullmatch(SYMBOL.sub("1", text)) else "an expression that is no size"
        case "in_spec" | "out_spec":
            return "" if _is_plain(json.loads(text)[1]) else "containers other than tuples, lists and dicts"
        case "target" | "as_operator":
            return "" if _is_operator(text) else f"a call of {text[:80]!r}, no operator on tensors or sizes"
        case _ if key in FREE:
            return ""
        case _:
            allowed = NAME.fullmatch(text) and not (key in VARIABLES and re.search(r"\W", text))
            hint = " (is that a layer's? Name it without spaces, and export it again)" if text.count(" ") else ""
            return "" if allowed else f"the name {text[:80]!r}{hint}"


def _is_plain(spec: Record) -> bool:
    """Does a container's description, and those within it, stand for tuples, lists and dicts with names as keys?"""
    kind, context, parts = (spec[key] for key in ("type", "context", "children_spec"))
    if kind is None:
        return context is None and not parts
    if kind not in CONTAINERS or not all(map(_is_plain, parts)):
        return False
    keys = json.loads(context) or []  # an enumeration would be a dict here, and its module imported
    return isinstance(keys, list) and all(isinstance(name, str) and NAME.fullmatch(name) for name in keys)


def _is_operator(target: str) -> bool:
    """Is what a node calls an operator of aten that leaves files alone, one on sizes, or a block that holds nodes?"""
    try:
        from torch._export.serde import serialize

        on_sizes = set(serialize._SYM_OPS)  # those that torch serialises
    except (ImportError, AttributeError):  # a private part of torch, without which such programs are refused
        on_sizes = set()
    if target in BLOCKS or target in {f"{operator.__module__}.{operator.__name__}" for operator in on_sizes}:
        return True
    found = OPERATOR.fullmatch(target)
    if not found or found[1] in TO_FILES:
        return False
    return isinstance(getattr(getattr(torch.ops.aten, found[1], None), found[2], None), torch._ops.OpOverload)
