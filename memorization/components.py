"""What all parts are made of: settings that say what is wrong with them, and registries that other packages add to.

A part (a data set, an architecture, a degradation, a method, a knowledge of the operator, a prior) declares what it is
in its class: what it can do, and its `revision`, a number that is raised whenever the same settings may give other
numbers.
Another package offers parts as entry points of the groups `memorization.datasets`, `.architectures`, `.degradations`,
`.methods`, `.knowledge` and `.priors`; the name of the entry point is the choice.
"""

import contextlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import cached_property
from importlib.metadata import entry_points
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

Status = StrEnum("Status", ["iteration_limit", "converged", "diverged"])  # how the recovery of an image ended


class SettingError(ValueError):
    """A setting that cannot be used: its `field`, its `value`, and the `reason`, which ends with the way out.

    It knows the field of its part, and not the key that was typed: `within` adds where the part stands in a larger one,
    up to the configuration. Other fields of the same part stand in backticks in the reason.
    """

    def __init__(self, field: str, value: object, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(field, value, reason, path)  # all that a copy in another process is made of
        self.field, self.value, self.reason, self.path = field, value, reason, path

    def __str__(self) -> str:
        value = f"{self.value:g}" if isinstance(self.value, float) else " ".join(repr(self.value).split())
        value = repr(str(self.value)) if isinstance(self.value, str) else value  # of an enumeration, the word
        reason = re.sub(r"`([a-z_.]+)`", lambda found: self._key(found[1]), self.reason)
        return f"{self._key(self.field)} is {value}; {reason}"

    def _key(self, field: str) -> str:
        return ".".join([*self.path, field])


SLOW = 3  # seconds after which a progress bar is shown


@contextlib.contextmanager
def within(name: str) -> Iterator[None]:
    """In this block, a setting that cannot be used is one of the part `name`."""
    try:
        yield
    except SettingError as error:
        error.path = (name, *error.path)
        error.args = (error.field, error.value, error.reason, error.path)
        raise


def number(value: Any) -> float:
    """The `value`, or NaN, which no range holds, for what is no number; `True`, which is one to Python, is none."""
    return math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)


def is_whole(value: Any) -> bool:
    """Is it a whole number, of Python or NumPy? `True` is not."""
    return isinstance(value, Integral) and not isinstance(value, bool)


Choice = TypeVar("Choice", bound=str)


def choose(field: str, value: object, choices: Iterable[Choice]) -> Choice:
    """The one of `choices` (words, or an enumeration of them) that `value` is; raises `SettingError` if it is none."""
    for choice in choices:
        if choice == value:
            return choice
    raise SettingError(field, value, f"choose one of {', '.join(choices)}")


def expanded(path: str | Path) -> Path:
    """The path that was typed, `~` in front being the home folder; raises `ValueError` where there is none."""
    try:
        return Path(path).expanduser()
    except TypeError as error:
        raise ValueError(f"{path!r} is no path; give a string or a Path") from error
    except RuntimeError as error:
        raise ValueError(f"{path}: the home folder of that user is not known; write the path out") from error


def cache_folder() -> Path:
    """Where the user keeps what can be made anew; raises `RuntimeError` for one without a home."""
    own = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (own if own.is_absolute() else Path.home() / ".cache") / "memorization"


def revision_of(part: Any) -> int:
    """The revision of a part, a class or an object: of the code that makes its numbers."""
    return int(getattr(part, "revision", 1))


T = TypeVar("T")
Record = dict[str, Any]  # plain values by name, as a file keeps them: never settings on their way to be used


def leave_out(kind: str, name: str, reason: str) -> None:
    """Say that something of another package is left out."""
    print(f"note: memorization.{kind}: {name} {reason}; it is left out", file=sys.stderr, flush=True)


class Registry(Mapping[str, T]):
    """The choices of one kind by name: our own first, then those that other packages offer.

    kind: of the entry points, `memorization.<kind>`. A package that cannot be imported costs its choices and a note.
    """

    def __init__(self, kind: str, own: Mapping[str, T]) -> None:
        self.kind, self.own = kind, dict(own)

    @cached_property
    def offered(self) -> dict[str, T]:
        """The choices of other packages."""
        found: dict[str, T] = {}
        for point in entry_points(group=f"memorization.{self.kind}"):
            name = f"{point.name} of {point.value}"
            try:
                part = point.load()
            except (Exception, SystemExit) as error:  # of another package's code
                reason = f"cannot be imported ({type(error).__name__}: {error})"
            else:
                if point.name not in self.own and point.name not in found:
                    found[point.name] = part
                    continue
                owner = "memorization itself" if point.name in self.own else "another package"
                reason = f"has a name that {owner} has taken (give it another name among the entry points)"
            leave_out(self.kind, name, reason)
        return found

    @cached_property
    def _all(self) -> dict[str, T]:
        return {**self.own, **self.offered}

    def leave_out_if(self, fails: Callable[[str], object]) -> None:
        """Leave out the choices of other packages of which `fails` raises an exception, with a note each."""
        for name in list(self.offered):
            try:
                fails(name)
            except Exception as error:  # of another package's code
                leave_out(self.kind, name, f"is no part that can be configured ({type(error).__name__}: {error})")
                del self.offered[name], self._all[name]

    def __getitem__(self, name: str) -> T:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def name_of(self, part: object) -> str:
        """What a part (a class or an object of it) is called: its choice, else its `label` or the name of its class."""
        kind = part if isinstance(part, type) else type(part)
        return next((name for name, other in self.items() if other is kind), str(getattr(kind, "label", kind.__name__)))
