"""What the command line knows of each choice: its keys, their types and defaults, and a line on it.

The components say so themselves, but to import them takes torch, and seconds. What they say is therefore kept in the
user's cache, and asked anew when any of our source files has changed. With parts of other packages nothing is kept,
since their code may change unseen.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass, replace
from enum import EnumType, StrEnum
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeGuard, cast, get_origin

from omegaconf import MISSING

from memorization.components import Record, Registry, cache_folder
from memorization.config.groups import GROUPS, component_fields
from memorization.store import files

PACKAGE = Path(__file__).parents[1]
SEARCH = "search"  # no group: the settings of `extraction.Search`, as its one choice
Field = tuple[str, Any, Any]  # name, type, default
# The types of keys by their text, beside enumerations.
TYPES: dict[str, Any] = {
    inspect.formatannotation(kind): kind
    for own in (bool, int, float, str)
    for kind in (own, own | None, list[own], tuple[own, ...], tuple[own, own])  # type: ignore[valid-type]
} | {inspect.formatannotation(Any): Any}


@dataclass(frozen=True)
class Choice:
    """A choice of a group: the name of its component, the first line on it, and its keys; is it another package's?

    meanings: of the keys of another package's, where its docstring has lines such as this one.
    """

    component: str
    told: str
    fields: list[Field]
    offered: bool = False
    meanings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, component: Callable[..., Any], offered: bool = False) -> Choice:
        """What a component says."""
        fields = component_fields(component)
        made = component() if any(map(_is_made, fields)) else None
        fields = [(own[0], own[1], getattr(made, own[0]) if _is_made(own) else own[2]) for own in fields]
        text = inspect.getdoc(component) or ""
        meanings = {key: said for key, *_ in fields if offered and (said := _meaning(text, key))}
        return cls(component.__name__, text.split("\n")[0], fields, offered, meanings)

    @property
    def parts(self) -> list[str]:
        """The keys that hold other choices of its group."""
        return [key for key, _, default in self.fields if default == MISSING]


def _meaning(text: str, key: str) -> str:
    """What a docstring says of a key: `key: meaning`, as `key (its type): meaning` or of several, `key, other: ...`.

    Lines that are indented more go on with it.
    """
    found = re.search(rf"^( *)(?:\w+, )*{key}(?:, \w+)*(?: \(.*\))?: (.+(?:\n\1 +\S.*)*)", text, re.MULTILINE)
    return " ".join(found[2].split()) if found else ""


def _is_made(own: Field) -> bool:
    """Has a field of a dataclass a default that is made for each object?"""
    return type(own[2]).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"


def dataclass_of(name: str, fields: Iterable[Field]) -> type:
    """A dataclass with some fields; each object has lists of its own."""
    own = [
        (key, kind, field(default_factory=value.copy) if isinstance(value, list) else value)
        for key, kind, value in fields
    ]
    return make_dataclass(name, own)


@cache
def choices() -> dict[str, dict[str, Choice]]:
    """All choices by group and name, and that of `SEARCH`."""
    if any(group.startswith("memorization.") for group in entry_points().groups):
        return asked()
    code = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        code.update(path.read_bytes())
    kept = _kept(code.hexdigest())
    return {group: {name: _read(own) for name, own in known.items()} for group, known in kept.items()}


def _kept(code: str) -> Record:
    """The choices as plain values, from the cache if it has those of this `code`; else put into it, if possible."""
    place = None
    try:
        place = cache_folder() / f"choices-{hashlib.sha256(str(PACKAGE).encode()).hexdigest()[:16]}.json"
        kept = json.loads(place.read_bytes())
        if kept["code"] == code:
            return cast(Record, kept["choices"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # there is none, or it is damaged; or no home
        pass
    plain = {group: {name: _plain(choice) for name, choice in known.items()} for group, known in asked().items()}
    if place is not None:
        with contextlib.suppress(files.StoreError):
            files.write(place, json.dumps({"code": code, "choices": plain}), durable=False)
    return plain


def asked() -> dict[str, dict[str, Choice]]:
    """The same, as the components say it; a choice of another package that cannot be configured is left out."""
    from memorization.extraction import Search

    search = Choice.of(Search)
    own = [item for item in search.fields if item[0] != "prior"]  # which is a group
    found = {SEARCH: {SEARCH: replace(search, fields=own)}}
    for group, parts in GROUPS.items():
        offered: Collection[str] = ()
        if isinstance(parts, Registry):
            parts.leave_out_if(partial(_schema, parts))
            offered = parts.offered
        found[group] = {name: Choice.of(part, name in offered) for name, part in parts.items()}
    return found


def _schema(parts: Mapping[str, Any], name: str) -> type:
    return dataclass_of(name, Choice.of(parts[name]).fields)


def _plain(choice: Choice) -> Record:
    """A choice as JSON holds it; of a type its text, or the members of an enumeration."""
    fields = []
    for key, kind, default in choice.fields:
        words = {word.name: word.value for word in kind} if _is_words(kind) else None
        text = kind.__name__ if words else inspect.formatannotation(kind)
        fields.append([key, text, words, default])
    return {"component": choice.component, "told": choice.told, "fields": fields}


def _is_words(kind: Any) -> TypeGuard[type[StrEnum]]:
    return isinstance(kind, EnumType)


def _read(plain: Record) -> Choice:
    """The choice that `_plain` has made plain."""
    fields = []
    for key, text, words, default in plain["fields"]:
        kind: Any = StrEnum(text, words) if words else TYPES[text]
        if words:
            default = kind(default)
        elif get_origin(kind) is tuple:
            default = tuple(default)
        fields.append((key, kind, default))
    return Choice(plain["component"], plain["told"], fields)
