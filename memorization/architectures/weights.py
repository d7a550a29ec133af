"""State dicts from files, without unpickling, and what is wrong with one that does not fit."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

SHOWN = 3  # keys of each kind that an error names
SAFE = "torch.save(model.state_dict(), FILE), or safetensors.torch.save_file(model.state_dict(), FILE)"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file or a torch checkpoint, on the CPU.

    A checkpoint may hold it under `state_dict`, as Lightning's do, or `model_state_dict`. It is read with
    `weights_only=True`, which builds tensors and plain values and runs no code; raises `ValueError` for a file that
    holds anything else.
    """
    if not path.is_file():
        raise ValueError(f"architecture.weights={path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if zipfile.is_zipfile(path) and any(name.endswith("/archive_format") for name in _names(path)):
            raise ValueError(f"architecture.weights={path} is an exported program: use architecture.export={path}")
        with warnings.catch_warnings(action="ignore"):  # of pickles of another kind than torch's; refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise ValueError(f"architecture.weights={path} is no safetensors file, or damaged ({error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        raise ValueError(
            f"architecture.weights={path} is refused: it is damaged, or a pickle of more than tensors, which can run "
            f"any code when it is read. Where you trust it, load it yourself and save its weights alone: {SAFE}"
        ) from error
    for name in ("state_dict", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise ValueError(f"architecture.weights={path} holds no state dict; save one: {SAFE}")
    return dict(content)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights in the file `path` into `model`; raises `ValueError` that names the keys if they do not fit.

    A prefix that all keys have in common (`model.`, `module.`) and the model's lack is taken off. Of tensors that the
    model shares the file may hold one, as `safetensors.torch.save_model` writes it.
    """
    expected = model.state_dict()
    state = _without_prefix(read_weights(path), expected)
    shared = {tensor.data_ptr(): key for key, tensor in expected.items() if key in state and tensor.numel()}
    state |= {key: state[shared[at]] for key, tensor in expected.items() if (at := tensor.data_ptr()) in shared}
    shapes = [
        f"{key} is {tuple(state[key].shape)} and should be {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    imaginary = [key for key in expected if key in state and state[key].is_complex() != expected[key].is_complex()]
    wrong = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": shapes,
        "complex in the file or the model alone": imaginary,
    }
    if any(wrong.values()):
        parts = [f"{kind}: {_some(keys)}" for kind, keys in wrong.items() if keys]
        raise ValueError(f"architecture.weights={path} does not fit {type(model).__name__}: {'; '.join(parts)}")
    model.load_state_dict(state)


def _without_prefix(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    shorter = state
    while not set(shorter) & set(expected):
        if len({key.partition(".")[0] for key in shorter}) != 1 or not all("." in key for key in shorter):
            return state  # of another model
        shorter = {key.partition(".")[2]: value for key, value in shorter.items()}
    return shorter


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
