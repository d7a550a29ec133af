"""An autoencoder of the user's own: a class, with its weights or to be trained, or an exported program.

A class is imported only if its package is allowed, and weights are never unpickled (see `weights` and `exported`).
What the model expects of its images, a value range and a layout, is adapted around it.
"""

import importlib
import inspect
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from torch import Tensor, nn

from memorization.architectures.autoencoder import Autoencoder, has_modes
from memorization.architectures.external import first_line
from memorization.architectures.external.exported import Exported
from memorization.architectures.external.weights import load_weights
from memorization.architectures.initialisation import Shape
from memorization.components import SettingError, choose, expanded

ALLOWED = ("memorization", "torch.nn")  # packages whose classes a configuration may name
# How a network takes and gives images: (B, C, H, W), (B, H, W, C), or (B, C H W).
Layout = StrEnum("Layout", ["channels_first", "channels_last", "flat"])


class Adapted(nn.Module):
    """`network`, which has another value range or layout, as an autoencoder of images (B, C, H, W) in [0, 1].

    network: any callable; a module's own mode, device and weights go with this one's.
    value_range: the values of its black and white, such as (-1, 1). layout: of its input and output, see `Layout`.

    Raises `SettingError` for an empty range or an unknown layout.
    """

    def __init__(
        self, network: Autoencoder, value_range: Sequence[float] = (0.0, 1.0), layout: str = Layout.channels_first
    ) -> None:
        super().__init__()
        if len(value_range) != 2 or not value_range[0] < value_range[1]:
            raise SettingError("value_range", [*value_range], "give black and white, such as [-1,1]")
        self.network, self.has_modes = network, has_modes(network)
        self.low, self.high = value_range
        self.layout = choose("layout", layout, Layout)

    def forward(self, x: Tensor) -> Tensor:
        own = x * (self.high - self.low) + self.low
        if self.layout is Layout.channels_last:
            own = own.permute(0, 2, 3, 1)  # (B, H, W, C)
        elif self.layout is Layout.flat:
            own = own.flatten(1)  # (B, C H W)
        y: object = self.network(own)
        if not isinstance(y, Tensor) or y.shape != own.shape:
            given = tuple(y.shape) if isinstance(y, Tensor) else f"a {type(y).__name__}"
            asked = f"its input, {self.layout}, {tuple(own.shape)}"
            raise ValueError(f"its output is {given} and {asked}; they must be alike")
        y = y.permute(0, 3, 1, 2) if self.layout is Layout.channels_last else y.reshape(x.shape)
        return (y - self.low) / (self.high - self.low)


def custom(
    shape: Shape,
    target: str = "",
    kwargs: Any = None,
    weights: str = "",
    export: str = "",
    value_range: tuple[float, float] = (0.0, 1.0),
    layout: Layout = Layout.channels_first,
    allowed: tuple[str, ...] = (),
) -> nn.Module:
    """An autoencoder of the user's own for images of `shape` (C, H, W).

    target: `package.module.Class`, an nn.Module, made with `kwargs`; if it has a parameter `shape` that is not among
        them, it gets that of the images.
    weights: file of a state dict, see `read_weights`; without one the class is trained like any architecture.
    export: file of a `torch.export` program, instead of all these.
    value_range, layout: see `Adapted`.
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
        load_weights(network, expanded(weights))
    plain = tuple(value_range) == (0.0, 1.0) and layout == Layout.channels_first
    return network if plain else Adapted(network, value_range, layout)


custom.revision = 1  # type: ignore[attr-defined]
custom.files = ("weights", "export")  # type: ignore[attr-defined]
custom.incidental = ("allowed",)  # type: ignore[attr-defined]
custom.external = True  # type: ignore[attr-defined]


def make(target: str, kwargs: Mapping[str, object], shape: Shape, allowed: Sequence[str]) -> nn.Module:
    """An instance of the class `target`; see `custom`."""
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
    except Exception as error:  # of the user's code
        missing = isinstance(error, ImportError | AttributeError)
        hint = "; is it installed, or its folder on the PYTHONPATH?" if missing else ""
        raise SettingError("target", target, f"{first_line(error)}{hint}") from error
    if not inspect.isclass(found) or not issubclass(found, nn.Module):
        raise SettingError("target", target, "this is no class of nn.Module")
    if "shape" in inspect.signature(found).parameters:
        kwargs = {"shape": shape, **kwargs}
    try:
        return found(**kwargs)
    except Exception as error:  # of the user's code
        raise SettingError("kwargs", kwargs, f"{target} cannot be made of them: {first_line(error)}") from error
