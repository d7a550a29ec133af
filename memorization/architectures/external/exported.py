"""An autoencoder as a `torch.export` program (`.pt2`): queries and gradients, without its source.

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from memorization.components import Record, SettingError

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

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.program = read_program(path)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.program(x)
        return y

    def train(self, mode: bool = True) -> Exported:
        self.training = mode  # a program's own `train` raises
        return self

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return Exported, (self.path,)


def read_program(path: Path) -> nn.Module:
    """The program in an archive of `torch.export.save`; raises `SettingError` for any other file, or an unsafe one."""
    if not path.is_file():
        raise SettingError("export", str(path), "there is no such file")
    try:
        files = read_archive(path)
        found = unsafe(files)
        if not found:
            return _loaded(files)
    except Exception as error:  # of what kind depends on the damage
        reason = f"this is no exported program, or damaged; make one: {EXPORT}"
        raise SettingError("export", str(path), reason) from error
    raise SettingError("export", str(path), f"it is refused: it holds {found}, which could run any code")


def read_archive(path: Path) -> dict[str, bytes]:
    """The files in an archive of `torch.export.save`, by their names; raises `BadZipFile` for another archive."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0]
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
            return "" if allowed else f"the name {text[:80]!r}"


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
    from torch._export.serde.serialize import _SYM_OPS  # those that torch serialises on sizes

    if target in BLOCKS or target in {f"{operator.__module__}.{operator.__name__}" for operator in _SYM_OPS}:
        return True
    found = OPERATOR.fullmatch(target)
    if not found or found[1] in TO_FILES:
        return False
    return isinstance(getattr(getattr(torch.ops.aten, found[1], None), found[2], None), torch._ops.OpOverload)
