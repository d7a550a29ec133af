"""An autoencoder of the user's own: a class, with its weights or to be trained, or an exported program.

A class is imported only if its package is allowed, and weights are never unpickled (see `weights` and `exported`).
What the model expects of its images, a value range and a layout, is adapted around it.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from memorization.architectures.external.adapted import Adapted
from memorization.architectures.external.exported import Exported
from memorization.architectures.external.weights import load_weights

ALLOWED = ("memorization", "torch.nn")  # packages whose classes a configuration may name


def custom(
    shape: tuple[int, int, int],
    target: str = "",
    kwargs: Any = None,
    weights: str = "",
    export: str = "",
    value_range: tuple[float, float] = (0.0, 1.0),
    layout: str = "channels_first",
    allowed: tuple[str, ...] = (),
) -> nn.Module:
    """An autoencoder of the user's own for images of `shape` (C, H, W).

    target: `package.module.Class`, an nn.Module, made with `kwargs`; if it has a parameter `shape` that is not among
        them, it gets that of the images.
    weights: file of a state dict, see `read_weights`; without one the class is trained like any architecture.
    export: file of a `torch.export` program, instead of all these.
    value_range, layout: see `Adapted`.
    allowed: packages beside `memorization` and `torch.nn` from which a class may be imported.

    Raises `ValueError` for what cannot be loaded, and for a class outside the allowed packages.
    """
    if bool(target) == bool(export):
        raise ValueError(
            "architecture=custom needs either architecture.target=package.module.Class or architecture.export=FILE"
        )
    if not isinstance(kwargs, dict | None):
        raise ValueError(
            f"architecture.kwargs is {kwargs!r}; give the class's arguments: 'architecture.kwargs={{dim:16}}'"
        )
    if export and (weights or kwargs):
        raise ValueError("architecture.export holds the weights; leave out architecture.weights and .kwargs")
    network = Exported(Path(export).expanduser()) if export else make(target, kwargs or {}, shape, allowed)
    if weights:
        load_weights(network, Path(weights).expanduser())
    plain = tuple(value_range) == (0.0, 1.0) and layout == "channels_first"
    return network if plain else Adapted(network, value_range, layout)


def make(target: str, kwargs: dict[str, Any], shape: tuple[int, int, int], allowed: Sequence[str]) -> nn.Module:
    """An instance of the class `target`; see `custom`."""
    if "." not in target:
        raise ValueError(f"architecture.target={target} is no class; give package.module.Class")
    packages = (*ALLOWED, *allowed)
    if not any(target.startswith(f"{package}.") for package in packages):
        raise ValueError(
            f"architecture.target={target} is outside the allowed packages ({', '.join(packages)}); if you trust its "
            f"code: architecture.allowed=[{target.partition('.')[0]}], or load_run(folder, packages=[...])"
        )
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # of the user's code
        missing = isinstance(error, ImportError | AttributeError)
        hint = "; is it installed, or its folder on the PYTHONPATH?" if missing else ""
        raise ValueError(f"architecture.target={target}: {first_line(error)}{hint}") from error
    if not inspect.isclass(found) or not issubclass(found, nn.Module):
        raise ValueError(f"architecture.target={target} is no class of nn.Module")
    if "shape" in inspect.signature(found).parameters:
        kwargs = {"shape": shape, **kwargs}
    try:
        return found(**kwargs)
    except Exception as error:  # of the user's code
        raise ValueError(f"architecture.target={target} architecture.kwargs={kwargs}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """What an error of the user's code says first, with its kind where that says more."""
    text = str(error).strip().split("\n")[0]
    return (
        text if text and isinstance(error, RuntimeError | TypeError) else f"{type(error).__name__}: {text}".strip(": ")
    )
