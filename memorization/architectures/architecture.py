"""An architecture as a value: the choice, its settings, and what stands around the network.

A choice is a class of `nn.Module` or a function that makes one, with the images' `shape` and then its settings as
arguments. It may declare, as attributes:

revision: raised whenever the same settings may give other numbers.
has_modes: whether it may answer otherwise in training than in eval mode; it may unless this is False.
on_meta: whether it can be made on torch's meta device, where its size is found before any memory is taken.
files: settings that name a file of a model that is trained already; one called `export` names a whole program.
    A setting called `trained` says so of one without a file.
incidental: settings that change no number.
later: settings that came later; at their defaults they leave the identity as it was.
external: whether it is somebody else's code; all choices of other packages are.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from memorization.architectures.autoencoder import Bounded, Centred, count_parameters
from memorization.architectures.convolutional import Convolutional
from memorization.architectures.external.custom import custom
from memorization.architectures.external.exported import SCRIPT, kind_of_program
from memorization.architectures.fully_connected import FullyConnected
from memorization.architectures.initialisation import Shape
from memorization.architectures.tied import Tied
from memorization.architectures.unet import UNet
from memorization.components import Registry, SettingError, choose, expanded, revision_of
from memorization.data.room import check_memory

REVISION = 1  # of what the choices share: activations, initial weights, what stands around the network
OWN: dict[str, Callable[..., nn.Module]] = {"fc": FullyConnected, "conv": Convolutional, "unet": UNet, "tied": Tied}
ARCHITECTURES = Registry("architectures", {**OWN, "custom": custom})


class Output(StrEnum):
    """What an autoencoder gives: the network's output, which is not clamped, or a sigmoid of it."""

    linear = "linear"
    sigmoid = "sigmoid"


@dataclass(frozen=True)
class Architecture:
    """How an untrained autoencoder is made, for images of any shape.

    Raises `SettingError` for an unknown name, and for settings that exclude each other.
    """

    name: str  # one of `ARCHITECTURES`
    arguments: Mapping[str, object] = field(default_factory=dict)  # its settings; those left out have their defaults
    centre: bool = True  # subtract the members' mean image inside, see `Centred`
    output: str = Output.linear  # one of `Output`; of a part with this setting, also where its images are

    def __post_init__(self) -> None:
        choose("name", self.name, ARCHITECTURES)
        if not self.names_output:
            object.__setattr__(self, "output", choose("output", self.output, Output))
        if self.output is Output.sigmoid and self.arguments.get("proximal"):
            raise SettingError("output", self.output, "it is not a proximal map; choose linear, or `proximal` false")
        value_range = self.arguments.get("value_range", (0, 1))
        if self.centre and isinstance(value_range, Sequence) and tuple(value_range) != (0, 1):
            raise SettingError("centre", True, "it leaves no value range; set it to false, or leave out `value_range`")
        if self.given and (self.centre or self.output == Output.sigmoid):
            name = "centre" if self.centre else "output"
            reason = "the weights are given, so that it must stay what it is; set `centre` to false, `output` to linear"
            raise SettingError(name, getattr(self, name), reason)

    @classmethod
    def of(cls, name: str, centre: bool = True, output: str = Output.linear, **arguments: object) -> Architecture:
        """The architecture of settings that lie side by side, as in a configuration."""
        return cls(name, arguments, centre, output)

    @property
    def part(self) -> Callable[..., nn.Module]:
        return ARCHITECTURES[self.name]

    @property
    def names_output(self) -> bool:
        """Does `output` say where in the part's answer the images are?"""
        return "output" in inspect.signature(self.part).parameters and self.output not in (*Output, "")

    @property
    def file(self) -> Path | None:
        """The file of weights, or of a program, that is named; None if the autoencoder is to be trained."""
        return next((expanded(str(self.arguments[key])) for key in self._files), None)

    @property
    def given(self) -> bool:
        """Does it have its weights already, so that there is nothing to train?"""
        return self.file is not None or bool(self.arguments.get("trained"))

    @property
    def exported(self) -> bool:
        """Is it a whole program, whose weights cannot be drawn anew?"""
        return "export" in self._files

    @property
    def _files(self) -> list[str]:
        return [key for key in getattr(self.part, "files", ()) if self.arguments.get(key)]

    @property
    def external(self) -> bool:
        """Is it the code of somebody else, which may not do what an autoencoder must?"""
        return bool(getattr(self.part, "external", self.name not in ARCHITECTURES.own))

    @property
    def packages(self) -> tuple[str, ...]:
        """Those from which its class may be imported, beside our own and `torch.nn`; that of a script it names."""
        scripted = ("torch.jit",) if self.file and kind_of_program(self.file) == SCRIPT else ()
        return (*cast("Sequence[str]", self.arguments.get("allowed", ())), *scripted)

    def stored(self, program: Path | None, packages: Sequence[str]) -> Architecture:
        """The same as a store has it: what it names is the `program`, or weights that are loaded into it later.

        A class is imported from the given `packages` only, whatever the stored settings allow; a TorchScript program is
        read only if `torch.jit` is one of them.
        """
        if program and kind_of_program(program) == SCRIPT and "torch.jit" not in packages:
            way = 'if you trust it, load_run(folder, packages=["torch.jit"])'
            raise SettingError("export", str(program), f"it is TorchScript, which may read and write files; {way}")
        instead: dict[str, object] = dict.fromkeys(self._files, "")
        if program:
            instead["export"] = str(program)
        if "allowed" in self._settings():
            instead["allowed"] = packages
        return replace(self, arguments={**self.arguments, **instead})

    def build(self, shape: Shape, seed: int) -> nn.Module:
        """The untrained autoencoder for images of `shape` (C, H, W), or the trained one that its file holds.

        A centred one has a mean image of zeros until its training (or its weights) set it. The initial weights depend
        on `seed` alone; the global random state is left as it was. Raises `SettingError` for settings out of range.
        """
        with torch.random.fork_rng():
            if getattr(self.part, "on_meta", False):
                self._check_size(shape)
            torch.manual_seed(seed)
            return self._built(shape)

    def loaded(self, shape: Shape, weights: Mapping[str, Tensor]) -> nn.Module:
        """The autoencoder with `weights`, its state dict. Raises `SettingError` as `build`."""
        model = self.blank(shape)
        model.load_state_dict(weights, assign=not self.external)  # a class may hold its weights twice
        return model

    def blank(self, shape: Shape) -> nn.Module:
        """The autoencoder before any weights: one of our own on torch's meta device, without time and memory.

        Raises `SettingError` as `build`.
        """
        if self.external:
            return self.build(shape, seed=0)
        self._check_size(shape)
        with torch.device("meta"):
            return self._built(shape)

    def _built(self, shape: Shape) -> nn.Module:
        network = self.part(shape, **self.arguments, **({"output": self.output} if self.names_output else {}))
        if self.centre:
            return Centred(network, torch.zeros(shape), self.output is Output.sigmoid)
        return Bounded(network) if self.output is Output.sigmoid else network

    def _check_size(self, shape: Shape) -> None:
        with torch.device("meta"):
            parameters = count_parameters(self.part(shape, **self.arguments))
        settings = [(key, v if isinstance(v, list | tuple) else [v]) for key, v in self._settings().items()]
        size, key = max((max(values), key) for key, values in settings if {*map(type, values)} == {int})
        check_memory(4 * parameters, key, size, f"{parameters:.1e} parameters")

    def _settings(self) -> dict[str, object]:
        """The arguments, and the defaults of those that were left out."""
        bound = inspect.signature(self.part).bind_partial(**self.arguments)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name != "shape"}

    def identity(self) -> dict[str, object]:
        """What can change the untrained autoencoder, as plain values; a file counts by its content, not its place.

        Raises `SettingError` for a file that is not there.
        """
        left_out = {*getattr(self.part, "files", ()), *getattr(self.part, "incidental", ())}
        identity = {key: value for key, value in self._settings().items() if key not in left_out}
        for key in getattr(self.part, "later", ()):
            if identity[key] == inspect.signature(self.part).parameters[key].default:
                del identity[key]
        identity |= {"name": self.name, "centre": self.centre, "output": self.output}
        identity |= {"revision": revision_of(self.part), "revisions": {"building": REVISION}}
        if self.file:
            if not self.file.is_file():
                raise SettingError(self._files[0], str(self.file), "there is no such file")
            with self.file.open("rb") as content:
                identity["weights"] = hashlib.file_digest(content, "sha256").hexdigest()
        return identity


def build(
    name: str, shape: Shape, *, centre: bool, output: str = Output.linear, seed: int, **settings: object
) -> nn.Module:
    """The untrained autoencoder `name` with some `settings`; see `Architecture`."""
    return Architecture.of(name, centre, output, **settings).build(shape, seed)
