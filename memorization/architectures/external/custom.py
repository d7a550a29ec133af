"""An autoencoder of the user's own: a class, with its weights or to be trained, a function, or an exported program.

A class is imported only if its package is allowed, and weights are never unpickled (see `weights` and `exported`).
How the model is called, and how it takes and gives images, is adapted around it (see `adapted`).
"""

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any

from torch import nn

from memorization.architectures.external import first_line
from memorization.architectures.external.adapted import Adapted, Description, Layout, adapted
from memorization.architectures.external.exported import Exported
from memorization.architectures.external.weights import load_weights
from memorization.architectures.initialisation import Shape
from memorization.components import SettingError, expanded

ALLOWED = ("memorization", "torch.nn")  # packages whose classes a configuration may name


def custom(
    shape: Shape,
    target: str = "",
    kwargs: Any = None,
    weights: str = "",
    export: str = "",
    value_range: tuple[float, float] = (0.0, 1.0),
    layout: Layout = Layout.channels_first,
    allowed: tuple[str, ...] = (),
    weights_key: str = "",
    trained: bool = False,
    output: str = "",
    input_key: str = "",
    pad_to: int = 1,
    resize_to: Any = None,
    batch: int = 0,
) -> nn.Module:
    """An autoencoder of the user's own for images of `shape` (C, H, W).

    target: `package.module.Class`, an nn.Module, made with `kwargs`; if it has a parameter `shape` that is not among
        them, it gets that of the images. Or a function: one of images, or one that makes a module as a class does.
    weights: file of a state dict, see `read_weights`; without one the class is trained like any architecture.
    weights_key: where in that file the state dict is, such as `params` or `ema.model`.
    trained: the class or function brings its weights itself, as one that calls `from_pretrained` does.
    export: file of a `torch.export` program, a TorchScript or an ONNX file, instead of all these.
    value_range, layout, output, input_key, pad_to, resize_to, batch: see `Adapted`.
    allowed: packages beside `memorization` and `torch.nn` from which a class may be imported.

    Raises `SettingError` for what cannot be loaded, and for a class outside the allowed packages.
    """
    if bool(target) == bool(export):
        raise SettingError("target", target, "name either a class (package.module.Class), or a file as `export`")
    if not isinstance(kwargs, dict | None):
        raise SettingError("kwargs", kwargs, "give the arguments of the class by their names, such as {dim:16}")
    if export and (weights or kwargs):
        raise SettingError("export", export, "the program holds its weights; leave out `weights` and `kwargs`")
    network = Exported(expanded(export)) if export else make(target, kwargs or {}, shape, allowed)
    if weights:
        inner = network.network if isinstance(network, Adapted) else network
        load_weights(inner if isinstance(inner, nn.Module) else network, expanded(weights), weights_key)
    description = Description(output=output, input_key=input_key, value_range=tuple(value_range), layout=layout)
    description |= {"pad_to": pad_to, "resize_to": resize_to, "batch": batch}
    defaults = signature(custom).parameters
    plain = all(value == defaults[name].default for name, value in description.items())
    return network if plain else adapted(network, **description)


custom.revision = 1  # type: ignore[attr-defined]
custom.files = ("weights", "export")  # type: ignore[attr-defined]
custom.incidental = ("allowed",)  # type: ignore[attr-defined]
custom.external = True  # type: ignore[attr-defined]
custom.later = ("weights_key", "trained", "input_key", "pad_to", "resize_to", "batch")  # type: ignore[attr-defined]


def make(target: str, kwargs: Mapping[str, object], shape: Shape, allowed: Sequence[str]) -> nn.Module:
    """An instance of the class `target`, or what the function `target` makes or is; see `custom`."""
    module, _, name = target.rpartition(".")
    if not module:
        raise SettingError("target", target, "this is no class; give package.module.Class")
    packages = (*ALLOWED, *allowed)
    if not any(target.startswith(f"{package}.") for package in packages):
        way = f"set `allowed` to [{target.partition('.')[0]}], or load the run with load_run(folder, packages=[...])"
        reason = f"it is outside the allowed packages ({', '.join(packages)}); if you trust its code, {way}"
        raise SettingError("target", target, reason)
    try:
        found = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # of the user's code, which may read the command line as its own
        missing = isinstance(error, ImportError | AttributeError)
        hint = "; is it installed, or its folder on the PYTHONPATH?" if missing else ""
        if isinstance(error, AttributeError) and (close := get_close_matches(error.name or "", dir(error.obj), 1)):
            hint = f"; did you mean {close[0]}?"
        raise SettingError("target", target, f"{first_line(error)}{hint}") from error
    if not (inspect.isfunction(found) or (inspect.isclass(found) and issubclass(found, nn.Module))):
        raise SettingError("target", target, "this is no class of nn.Module, and no function")
    parameters = signature(found).parameters
    if "shape" in parameters:
        kwargs = {"shape": shape, **kwargs}
    if inspect.isfunction(found) and len(_lacking(parameters, kwargs)) == 1:  # one of images
        return Adapted(functools.partial(found, **kwargs) if kwargs else found)
    try:
        made: object = found(**kwargs)
    except (Exception, SystemExit) as error:  # of the user's code
        raise SettingError("kwargs", kwargs, f"{target} cannot be made of them: {first_line(error)}") from error
    if not isinstance(made, nn.Module):
        kind = type(made).__name__
        raise SettingError("target", target, f"it returns a {kind}; give a function that makes a module, or of images")
    return made


def _lacking(parameters: Mapping[str, Parameter], kwargs: Mapping[str, object]) -> list[str]:
    """The parameters that must be given beside `kwargs`, and can be without their names."""
    places = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    free = [p for p in parameters.values() if p.kind in places and p.default is Parameter.empty]
    return [p.name for p in free if p.name not in kwargs]
