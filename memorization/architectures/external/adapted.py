"""A model that is called in another way, or takes or gives its images in another way, as an autoencoder.

    adapted(model, output="sample", value_range=(-1, 1))  # its answer is an object, its images lie in [-1, 1]
    adapted(model, call=lambda model, x: model({"data": x}), output="recon_x")
    adapted(function, layout="flat")  # of rows of pixels, tensors or NumPy arrays

`audit`, `extract` and `attractors` take the same arguments. A module stays one: its mode, its device and its weights go
with it.
"""

import contextlib
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from numbers import Number, Real
from os import PathLike
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from memorization.architectures.autoencoder import has_modes
from memorization.components import SettingError, choose

DEPTH = 3  # of objects within objects that are looked through
# How models that are no functions are called, by a method that they have: scikit-learn's, Keras' and onnxruntime's.
CALLS = {
    "predict": "model.predict(x)",
    "inverse_transform": "model.inverse_transform(model.transform(x))",
    "get_inputs": "model.run(None, {model.get_inputs()[0].name: x.numpy()})[0]",
}
# How a network takes and gives images: (B, C, H, W), (B, H, W, C), or (B, C H W).
Layout = StrEnum("Layout", ["channels_first", "channels_last", "flat"])


class UnsuitableError(ValueError):
    """What a model gives, in whatever way it is called, are no images like those it was given."""


class Description(TypedDict, total=False):
    """How a model is called, and how it takes and gives images; see `Adapted`."""

    output: str | int | Callable[[Any], Any]
    call: Callable[[Any, Any], Any] | None
    input_key: str
    value_range: Sequence[float]
    layout: str
    pad_to: int
    resize_to: int | Sequence[int]
    batch: int


class Adapted(nn.Module):
    """`network` as an autoencoder of images (B, C, H, W) in [0, 1].

    network: any callable, or with `call` any object. What is no module may also take and give NumPy arrays.
    value_range: the values of its black and white, such as (-1, 1). layout: of its input and output, see `Layout`.
    output: where in its answer the images are: an attribute, key or index (`sample`, `recon_x`, 0; `0.sample` for one
        within another), or a function of the answer.
    call: how it is called, if not as `network(x)`. input_key: it takes a dict with the images under this key.
    pad_to: height and width are enlarged to multiples of it, by repeating the last row and column, and cut off again.
    resize_to: the size that it takes, a number or (H, W); images are scaled to it and back, which costs detail.
    batch: the number of images that it takes at once, no more and no less.

    Raises `SettingError` for an argument out of range.
    """

    def __init__(
        self,
        network: Any,
        value_range: Sequence[float] = (0.0, 1.0),
        layout: str = Layout.channels_first,
        *,
        output: str | int | Callable[[Any], Any] = "",
        call: Callable[[Any, Any], Any] | None = None,
        input_key: str = "",
        pad_to: int = 1,
        resize_to: int | Sequence[int] = (),
        batch: int = 0,
    ) -> None:
        super().__init__()
        ends: list[Any] = [*value_range] if isinstance(value_range, list | tuple | np.ndarray) else [value_range]
        if len(ends) != 2 or not all(map(_is_finite, ends)) or not ends[0] < ends[1]:
            raise SettingError("value_range", ends, "give black and white, such as [-1,1]")
        for name, value, least in (("pad_to", pad_to, 1), ("batch", batch, 0)):
            if not isinstance(value, int) or value < least:
                raise SettingError(name, value, f"it must be a whole number, at least {least}")
        size = tuple(resize_to) if isinstance(resize_to, list | tuple) else (resize_to, resize_to)
        if len(size) not in (0, 2) or not all(isinstance(side, int) and side > 0 for side in size):
            raise SettingError("resize_to", resize_to, "give a size in pixels, such as 28, or height and width")
        if size and pad_to > 1:
            raise SettingError("pad_to", pad_to, "choose one of it and `resize_to`")
        if call is not None and not _takes_two(call):
            raise SettingError("call", call, "give a function, such as lambda model, x: model(x)")
        self.network, self.has_modes = network, has_modes(network)
        self.low, self.high = map(float, ends)
        self.layout = choose("layout", layout, Layout)
        self.output, self.call, self.input_key = output, call, input_key
        self.pad_to, self.size, self.batch = pad_to, size, batch
        self.arrays = False  # does it take NumPy arrays? Found out when it is called, as is
        self.returned = ""  # what kind of array it gives, if it gives no tensor

    @property
    def description(self) -> Description:
        """The arguments that it was made with, but for the network."""
        own: Description = {"output": self.output, "call": self.call, "input_key": self.input_key, "batch": self.batch}
        own |= {"value_range": (self.low, self.high), "layout": self.layout}
        return own | {"pad_to": self.pad_to, "resize_to": self.size}

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.images(own, answer) for own, answer in self.answers(x)])[: len(x)]
        return self._back(y, x)

    def answers(self, x: Tensor) -> Iterator[tuple[Tensor, Any]]:
        """What the network is given of images `x`, as tensors, and what it answers."""
        own = self._own(x)
        for part in own.split(self.batch or max(1, len(own))):
            lacking = max(0, self.batch - len(part))
            given = torch.cat([part, *[part[-1:]] * lacking]) if lacking else part
            yield given, self._called(given)

    def _own(self, x: Tensor) -> Tensor:
        """Images `x` as the network takes them."""
        own = x
        if self.size:
            own = functional.interpolate(own, self.size, mode="bilinear", antialias=True)
        if any(margins := [-side % self.pad_to for side in x.shape[:1:-1]]):  # of the width and of the height
            own = functional.pad(own, (0, margins[0], 0, margins[1]), mode="replicate")
        if (self.low, self.high) != (0, 1):
            own = own * (self.high - self.low) + self.low
        if self.layout is Layout.channels_last:
            own = own.permute(0, 2, 3, 1)  # (B, H, W, C)
        elif self.layout is Layout.flat:
            own = own.flatten(1)  # (B, C H W)
        return own

    def _back(self, y: Tensor, x: Tensor) -> Tensor:
        """What the network made of images `x`, as these are."""
        height, width = self.size or (side + -side % self.pad_to for side in x.shape[2:])
        if self.layout is Layout.channels_last:
            y = y.permute(0, 3, 1, 2)
        elif self.layout is Layout.flat:
            y = y.reshape(len(x), x.shape[1], height, width)
        if (self.low, self.high) != (0, 1):
            y = (y - self.low) / (self.high - self.low)
        if self.size:
            return functional.interpolate(y, x.shape[2:], mode="bilinear", antialias=True)
        return y[:, :, : x.shape[2], : x.shape[3]]

    def _called(self, own: Tensor) -> Any:
        function = functools.partial(self.call, self.network) if self.call else self.network
        if isinstance(self.network, nn.Module) or not self.arrays:
            try:
                return function(self._keyed(own))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # of the user's code, which may be made for arrays
                if isinstance(self.network, nn.Module):
                    raise
                try:
                    answer = function(self._keyed(own.detach().cpu().numpy()))
                except Exception as other:
                    raise (error if "ndarray" in str(other) else other) from None
                self.arrays = True
                return answer
        return function(self._keyed(own.detach().cpu().numpy()))

    def _keyed(self, given: Tensor | np.ndarray) -> Any:
        return {self.input_key: given} if self.input_key else given

    def images(self, own: Tensor, answer: Any) -> Tensor:
        """The images in the `answer` to `own`; raises `UnsuitableError` if there are none of that shape."""
        answer = chosen(answer, self.output)
        if not isinstance(answer, Tensor) and hasattr(answer, "__array__"):
            self.returned = type(answer).__name__
            answer = torch.as_tensor(np.array(answer)).to(own)
        return check_answer(answer, own)


def adapted(autoencoder: Any, **description: Unpack[Description]) -> nn.Module:
    """`autoencoder`, described by the arguments of `Adapted`, as a module of images (B, C, H, W) in [0, 1].

    A module without a description is left as it is. A bound method of a module stands for that module.
    Raises `SettingError` for an argument out of range, `ValueError` for what cannot be called.
    """
    unknown = [name for name in description if name not in Description.__annotations__]
    if unknown:
        names = ", ".join(Description.__annotations__)
        raise TypeError(f"there is no argument {unknown[0]!r}; an autoencoder is described by {names}")
    given: Any = {name: value for name, value in description.items() if value is not None}
    owner = getattr(autoencoder, "__self__", None)
    if isinstance(owner, nn.Module) and inspect.ismethod(autoencoder) and "call" not in given:
        if not _takes_two(autoencoder.__func__):
            raise ValueError(f"{autoencoder.__qualname__} takes no images; give the model, or a method that does")
        autoencoder, given["call"] = owner, autoencoder.__func__
    check_callable(autoencoder, "call" in given)
    return autoencoder if isinstance(autoencoder, nn.Module) and not given else Adapted(autoencoder, **given)


def check_callable(autoencoder: object, called: bool = False) -> None:
    """Raise `ValueError` for what is no autoencoder yet; any object will do if it is `called` in its own way."""
    if isinstance(autoencoder, type):
        raise ValueError(f"the autoencoder is the class {autoencoder.__name__}; give an instance, with its weights")
    if isinstance(autoencoder, torch.export.ExportedProgram):
        raise ValueError("the autoencoder is an ExportedProgram, which cannot be called; give its module()")
    if not callable(autoencoder) and not called:
        kind, way = type(autoencoder).__name__, "give a module or a function"
        for name, call in CALLS.items():
            if hasattr(autoencoder, name):
                rows = ', layout="flat"' if hasattr(autoencoder, "n_features_in_") else ""  # scikit-learn's take these
                way = f"say how it is called: call=lambda model, x: {call}{rows}"
        if isinstance(autoencoder, str | PathLike):
            way = "give the module with its weights, or memorization.architectures.Exported(file) of a program"
        if isinstance(autoencoder, Mapping):
            way = "if it is a state dict, give the module with it: model.load_state_dict(...)"
        raise ValueError(f"the autoencoder is a {kind}, which cannot be called; {way}")


def check_answer(answer: object, images: Tensor) -> Tensor:
    """The `answer`; raises `UnsuitableError` unless it is a tensor of the shape of `images`."""
    if not isinstance(answer, Tensor):
        way = "it must return the images alone"
        raise UnsuitableError(f"the autoencoder returns a {type(answer).__name__}; {way}")
    if answer.shape != images.shape:
        change = f"maps {tuple(images.shape)} to {tuple(answer.shape)}"
        raise UnsuitableError(f"the autoencoder {change}; it must keep the shape")
    return answer


def chosen(answer: Any, output: str | int | Callable[[Any], Any]) -> Any:
    """What `output` names in an `answer`; raises `UnsuitableError`, which says what there is, if there is no such."""
    if callable(output):
        return output(answer)
    for name in str(output).split(".") if output != "" else ():
        if hasattr(answer, "__array__"):  # of a tensor, too
            raise UnsuitableError(f"output={output}: the autoencoder returns a {type(answer).__name__}; leave it out")
        if re.fullmatch(r"-\d+", name) and isinstance(answer, list | tuple | Mapping):
            name = str(len(answer) + int(name))
        parts = dict(parts_of(answer))
        if name in parts:
            answer = parts[name]
        elif hasattr(answer, name):  # a property
            answer = getattr(answer, name)
        else:
            raise UnsuitableError(f"output={output}: the autoencoder returns a {type(answer).__name__} without {name}")
    return answer


def parts_of(answer: Any) -> Iterator[tuple[str, Any]]:
    """The parts of an answer, by the names that `output` gives them; of a mapping also by number, as of a tuple."""
    if isinstance(answer, Mapping):
        yield from ((str(key), value) for key, value in answer.items())
    elif is_dataclass(answer):
        yield from ((field.name, getattr(answer, field.name)) for field in fields(answer))
    elif hasattr(answer, "_asdict"):
        yield from answer._asdict().items()
    elif not (
        hasattr(answer, "__array__") or isinstance(answer, nn.Module | list | tuple | str | bytes | Number | None)
    ):
        for name in (name for name in dir(answer) if not name.startswith("_")):
            with contextlib.suppress(Exception):  # of a property
                if not callable(value := getattr(answer, name)):
                    yield name, value
    if isinstance(answer, list | tuple | Mapping):
        values = answer.values() if isinstance(answer, Mapping) else answer
        yield from ((str(i), value) for i, value in enumerate(values) if not _has(answer, str(i)))


def tensors_in(answer: Any, depth: int = DEPTH, path: str = "") -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors and arrays in an answer, by what `output` would call them; each is named once."""
    found: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    for name, value in parts_of(answer):
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor | np.ndarray):
            found[path + name] = tuple(value.shape)
        elif depth > 1:
            found |= tensors_in(value, depth - 1, f"{path}{name}.")
    return found


def told(answer: Any) -> str:
    """The tensors in an answer, in words."""
    return ", ".join(f"`{name}` of shape {shape}" for name, shape in tensors_in(answer).items())


def _takes_two(call: Callable[..., Any]) -> bool:
    """Is it a function of a model and images?"""
    try:
        inspect.signature(call).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # of a builtin, whose parameters are not known
        pass
    return True


def _is_finite(number: object) -> bool:
    return isinstance(number, Real) and math.isfinite(number)


def _has(answer: Any, name: str) -> bool:
    return isinstance(answer, Mapping) and name in answer
