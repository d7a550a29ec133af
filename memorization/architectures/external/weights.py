"""State dicts from files, without unpickling, and what is wrong with one that does not fit."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memorization.components import SettingError

State = dict[str, Tensor]
SHOWN = 3  # keys of each kind that an error names
UNDER = ("state_dict", "model_state_dict", "model")  # where checkpoints keep a state dict
SAFE = "torch.save(model.state_dict(), FILE), or safetensors.torch.save_file(model.state_dict(), FILE)"


def read_weights(path: Path) -> State:
    """The state dict in a safetensors file or a torch checkpoint, on the CPU.

    A checkpoint may hold it under `state_dict`, as Lightning's do, `model_state_dict` or `model`. It is read with
    `weights_only=True`, which builds tensors and plain values and runs no code; raises `SettingError` for a file that
    holds anything else.
    """
    if not path.is_file():
        raise _refused(path, "there is no such file")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            return load_file(path)
        if _is_program(path):
            raise _refused(path, "it is an exported program: name it as `export` instead")
        with warnings.catch_warnings(action="ignore"):  # of pickles of another kind than torch's; refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise _refused(path, f"it is no safetensors file, or damaged ({error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        reason = "it is damaged, or a pickle of more than tensors, which can run any code when it is read"
        way = "Where you trust it, load it yourself and save its weights alone"
        raise _refused(path, f"{reason}. {way}: {SAFE}") from error
    for name in UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if isinstance(content, Mapping) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        return dict(content)
    raise _refused(path, f"it holds no state dict; save one: {SAFE}")


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights in the file `path` into `model`; raises `SettingError` that names the keys if they do not fit.

    A prefix under which the file holds all of the model's keys (`model.`, `module.`) is taken off; what lies beside it
    is left out, with a note. Without a prefix there may be nothing but the model's keys. Of tensors that are one in the
    model the file may hold one, as `safetensors.torch.save_model` writes it.
    """
    kind, expected = type(model).__name__, model.state_dict()
    if extra := [key for key, value in expected.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{kind} has more than tensors in its state dict, which is not read: {_some(extra)}")
    if any(tensor.is_meta for tensor in expected.values() if not is_lazy(tensor)):
        raise ValueError(f"{kind} makes its weights on the meta device, where they hold nothing; make it on the CPU")
    names = _names_of(expected)
    state = _without_prefix(read_weights(path), expected, names, path)
    for same in names:
        for first in [key for key in same if key in state][:1]:
            state = {**dict.fromkeys(same, state[first]), **state}
    wrong = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [],
        "of other numbers": [],
    }
    known = [key for key in expected if key in state and not is_lazy(expected[key])]
    for key in known:
        given, own = state[key], expected[key]
        if given.shape != own.shape:
            wrong["of another shape"].append(f"{key} is {tuple(given.shape)} and should be {tuple(own.shape)}")
        if given.is_complex() != own.is_complex() or own.is_floating_point() > given.is_floating_point():
            wrong["of other numbers"].append(f"{key} is {given.dtype} and should be {own.dtype}")
    if not any(wrong.values()):
        try:
            model.load_state_dict(state)
        except RuntimeError as error:  # of a tensor that cannot be written to, such as one that was expanded
            raise _refused(path, " ".join(str(error).split())) from error
        loaded = model.state_dict()
        differs = [k for k in known if not torch.equal(loaded[k].nan_to_num(), state[k].to(loaded[k]).nan_to_num())]
        wrong["one in the model and not in the file"] = differs
    if any(wrong.values()):
        parts = [f"{fault}: {_some(keys)}" for fault, keys in wrong.items() if keys]
        raise _refused(path, f"it does not fit {kind}: {'; '.join(parts)}")


def _refused(path: Path, reason: str) -> SettingError:
    return SettingError("weights", str(path), reason)


def _names_of(expected: State) -> list[list[str]]:
    """The keys of each tensor: several where a model has one under several names."""
    names: dict[object, list[str]] = {}
    for key, tensor in expected.items():
        alone = is_lazy(tensor) or not tensor.numel()
        place = key if alone else (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        names.setdefault(place, []).append(key)
    return list(names.values())


def _without_prefix(state: State, expected: State, names: list[list[str]], path: Path) -> State:
    """The part of `state` that is the model's, by the model's keys.

    Its prefix is one under which every tensor of the model is found, else what all keys have in common and the model
    lacks. Raises `SettingError` if there are several models.
    """
    ends = names[0] if names else []
    prefixes = {key.removesuffix(end) for key in state for end in ends if key.endswith(f".{end}")}
    whole = [prefix for prefix in sorted(prefixes) if all(any(prefix + key in state for key in same) for same in names)]
    if whole and not all(any(key in state for key in same) for same in names):
        if len(whole) > 1:
            raise _refused(path, f"it holds the model several times, under {', '.join(whole)}; save one: {SAFE}")
        if beside := [key for key in state if not key.startswith(whole[0])]:
            print(f"note: of {path}, what is not under {whole[0]} is left out: {_some(beside)}", flush=True)
        return {key.removeprefix(whole[0]): state[key] for key in state if key.startswith(whole[0])}
    shorter = state
    while not set(shorter) & set(expected):
        if len({key.partition(".")[0] for key in shorter}) != 1 or not all("." in key for key in shorter):
            return state  # of another model
        shorter = {key.partition(".")[2]: value for key, value in shorter.items()}
    return shorter


def _is_safetensors(path: Path) -> bool:
    """Does the file begin as safetensors does: with the length of a header in 8 bytes, and a JSON object?"""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and 8 + int.from_bytes(head[:8], "little") <= path.stat().st_size


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/archive_format") for name in archive.namelist())


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
