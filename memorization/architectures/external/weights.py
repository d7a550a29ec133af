"""State dicts from files, without unpickling, and what is wrong with one that does not fit."""

import pickle
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memorization.architectures.external.exported import kind_of_program
from memorization.components import SettingError

State = dict[str, Tensor]
DEPTH = 3  # of mappings in a checkpoint that are looked through
SHOWN = 3  # keys of each kind that an error names
UNDER = ("state_dict", "model_state_dict", "model")  # where checkpoints keep a state dict
SAFE = "torch.save(model.state_dict(), FILE), or safetensors.torch.save_file(model.state_dict(), FILE)"


def read_weights(path: Path, key: str = "") -> State:
    """The state dict in a safetensors file or a torch checkpoint, on the CPU.

    A checkpoint may hold it under `state_dict`, as Lightning's do, `model_state_dict` or `model`; `key` names another
    place, such as `params` or `ema.model`. It is read with
    `weights_only=True`, which builds tensors and plain values and runs no code; raises `SettingError` for a file that
    holds anything else.
    """
    if not path.is_file():
        raise _refused(path, "there is no such file")
    try:
        if path.suffix == ".safetensors" or _is_safetensors(path):
            return load_file(path)
        if kind := kind_of_program(path):
            raise _refused(path, f"it is {kind}: name it as `export` instead")
        if path.name.endswith(".index.json"):
            way = f"load the model as its library does, and save its weights in one file: {SAFE}"
            raise _refused(path, f"it is the index of a checkpoint in several files (shards); {way}")
        with warnings.catch_warnings(action="ignore"):  # of pickles of another kind than torch's; refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise _refused(path, f"it is no safetensors file, or damaged ({error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError) as error:
        what = "it is damaged, or a pickle of more than tensors"
        if others := _others_in(path):
            what = f"beside tensors it holds {', '.join(others)}: it is a pickle"
        way = "Where you trust it, load it yourself and save its weights alone"
        raise _refused(path, f"{what}, which can run any code when it is read. {way}: {SAFE}") from error
    found = _states_in(content)
    if key:
        if key not in found:
            there = f"; its state dicts lie under {', '.join(filter(None, found))}" if any(found) else ""
            raise SettingError("weights_key", key, f"{path} holds no state dict under it{there}")
        return found[key]
    for name in UNDER:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if _is_state(content):
        return dict(content)
    if found:
        ways = " or ".join(f"`weights_key`={name} ({_some(list(state))})" for name, state in found.items())
        raise _refused(path, f"it holds no state dict by a usual name; set {ways}")
    raise _refused(path, f"it holds no state dict; save one: {SAFE}")


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    )


def _states_in(content: object, depth: int = DEPTH, path: str = "") -> dict[str, State]:
    """The state dicts in a checkpoint by their places, such as `ema.model`; that of an optimiser is none."""
    if _is_state(content):
        return {path: dict(cast("State", content))} if content else {}
    found: dict[str, State] = {}
    if isinstance(content, Mapping) and depth and all(isinstance(name, str) for name in content):
        for name, value in content.items():
            found |= _states_in(value, depth - 1, f"{path}.{name}" if path else name)
    return found


def _others_in(path: Path) -> list[str]:
    """The classes and functions that a checkpoint holds beside tensors, such as `argparse.Namespace`."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # of what kind depends on the damage
        return []


def load_weights(model: nn.Module, path: Path, key: str = "") -> None:
    """Load the weights in the file `path` into `model`; raises `SettingError` that names the keys if they do not fit.

    Whatever `model.load_state_dict(strict=True)` takes is taken, by hooks of the class as well. A prefix under which
    the file holds all of the model's keys (`model.`, `module.`) is taken off; what lies beside it is left out, with a
    note. Without a prefix there may be nothing but the model's keys. Of tensors that are one in the model the file may
    hold one, as `safetensors.torch.save_model` writes it. `key`: see `read_weights`.
    """
    kind, expected = type(model).__name__, model.state_dict()
    if extra := [key for key, value in expected.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{kind} has more than tensors in its state dict, which is not read: {_some(extra)}")
    if any(tensor.is_meta for tensor in expected.values() if not is_lazy(tensor)):
        raise ValueError(f"{kind} makes its weights on the meta device, where they hold nothing; make it on the CPU")
    names, whole = _names_of(expected), read_weights(path, key)
    state = whole
    if reason := _refusal(model, whole, names):
        state = _without_prefix(whole, expected, names, path)
        if state is not whole:
            reason = _refusal(model, state, names)
    shorter = whole
    while reason and (shorter := _shorter(shorter)):  # of other names, which a hook of the class may know
        if not _refusal(model, shorter, names):
            state, reason = shorter, ""
    wrong = _wrong(expected, _filled(state, names)) if reason else _lost(model, expected, state)
    if any(wrong.values()):
        parts = [f"{fault}: {_some(keys)}" for fault, keys in wrong.items() if keys]
        raise _refused(path, f"it does not fit {kind}: {'; '.join(parts)}")
    if reason:  # of a tensor that cannot be written to, such as one that was expanded
        raise _refused(path, reason)


def _refusal(model: nn.Module, state: State, names: list[list[str]]) -> str:
    """Load a state dict as the class does; why it does not take it, in a line, empty if it does."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of complex numbers, see `_lost`
            model.load_state_dict(_filled(state, names))
    except Exception as error:  # of the user's code, too
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _filled(state: State, names: list[list[str]]) -> State:
    """With a tensor that is one in the model under all of its names, if the file has one of them."""
    for same in names:
        for first in [key for key in same if key in state][:1]:
            state = {**dict.fromkeys(same, state[first]), **state}
    return state


def _wrong(expected: State, state: State) -> dict[str, list[str]]:
    """Which keys of a state dict do not fit, by what is wrong with them."""
    wrong: dict[str, list[str]] = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [key for key in state if key not in expected],
        "of another shape": [],
        "of other numbers": [],
    }
    for key in [key for key in expected if key in state and not is_lazy(expected[key])]:
        given, own = state[key], expected[key]
        if given.shape != own.shape:
            wrong["of another shape"].append(f"{key} is {tuple(given.shape)} and should be {tuple(own.shape)}")
        if _loses(given, own):
            wrong["of other numbers"].append(f"{key} is {given.dtype} and should be {own.dtype}")
    return wrong


def _lost(model: nn.Module, expected: State, state: State) -> dict[str, list[str]]:
    """Which tensors of a state dict that was loaded were lost: overwritten by another, or in their conversion.

    A tensor that a hook of the class turned into another is none of them.
    """
    loaded = model.state_dict()
    places = Counter(_place(tensor) for key, tensor in expected.items() if not is_lazy(tensor))
    wrong: dict[str, list[str]] = {"of other numbers": [], "one in the model and not in the file": []}
    for key in [key for key in loaded if key in state and key in expected and not is_lazy(expected[key])]:
        given, own = state[key], loaded[key]
        kept = given.shape == own.shape and torch.equal(own.nan_to_num(), given.to(own).nan_to_num())
        if kept and _loses(given, own):
            wrong["of other numbers"].append(f"{key} is {given.dtype} and should be {own.dtype}")
        if not kept and places[_place(expected[key])] > 1:
            wrong["one in the model and not in the file"].append(key)
    return wrong


def _loses(given: Tensor, own: Tensor) -> bool:
    return given.is_complex() != own.is_complex() or own.is_floating_point() > given.is_floating_point()


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


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
        if not (shorter := _shorter(shorter)):
            return state  # of another model
    return shorter


def _shorter(state: State) -> State:
    """Without the part before the first point that all keys have in common; empty if there is none."""
    if len({key.partition(".")[0] for key in state}) != 1 or not all("." in key for key in state):
        return {}
    return {key.partition(".")[2]: value for key, value in state.items()}


def _is_safetensors(path: Path) -> bool:
    """Does the file begin as safetensors does: with the length of a header in 8 bytes, and a JSON object?"""
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and 8 + int.from_bytes(head[:8], "little") <= path.stat().st_size


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more
