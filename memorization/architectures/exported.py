"""An autoencoder as a `torch.export` program (`.pt2`): queries and gradients, without its source.

torch's own reader falls back on unpickling, evaluates the symbolic sizes that a file holds, and loads compiled code; so
a file is inspected first, and refused if it asks for any of these.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

SYMBOL = re.compile(r"Symbol\('\w+'(, \w+=(True|False))*\)")
FUNCTIONS = "Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv"  # of SymPy and torch, of sizes
SIZE = re.compile(rf"(\d|[\s+\-*/(),.<>=]|\b({FUNCTIONS})\b)*")
DAMAGED = (
    *(zipfile.BadZipFile, json.JSONDecodeError, UnicodeDecodeError, pickle.UnpicklingError),
    *(RuntimeError, LookupError, TypeError, AttributeError, OSError),
)
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
    """The program in an archive of `torch.export.save`; raises `ValueError` for any other file, or an unsafe one."""
    if not path.is_file():
        raise ValueError(f"architecture.export={path}: there is no such file")
    try:
        if reason := unsafe(path):
            raise ValueError(f"architecture.export={path} is refused: it holds {reason}, which could run any code")
        with (
            mock.patch.dict(os.environ, {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}),
            warnings.catch_warnings(action="ignore"),  # of pickles of another kind than torch's; refused below
        ):
            return torch.export.load(path).module(check_guards=False)
    except DAMAGED as error:
        raise ValueError(
            f"architecture.export={path} is no exported program, or damaged; make one: {EXPORT}"
        ) from error


def unsafe(path: Path) -> str:
    """What in the archive `path` could run code when it is read; empty if nothing does."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0]
        if f"{root}/archive_format" not in names:
            raise zipfile.BadZipFile
        if len(set(names)) < len(names) or any("aotinductor" in name for name in names):
            return "compiled code"
        for name in names:
            if name.endswith("_config.json"):
                entries = json.loads(archive.read(name))["config"].values()
                if any(entry["use_pickle"] or "obj" in entry["path_name"] for entry in entries):
                    return "pickles"
            elif name.startswith(f"{root}/models/"):
                program = json.loads(archive.read(name))
                if not all(SIZE.fullmatch(SYMBOL.sub("1", text)) for text in _sizes(program)):
                    return "an expression that is no size"
    return ""


def _sizes(node: Any) -> Iterator[str]:
    """Every symbolic size in a serialised program."""
    if isinstance(node, dict):
        if isinstance(node.get("expr_str"), str):
            yield node["expr_str"]
        yield from (size for value in node.values() for size in _sizes(value))
    elif isinstance(node, list):
        yield from (size for value in node for size in _sizes(value))
