"""What is said of a configuration that cannot be used: in one line, with the nearest correct name."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from typing import Any, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from memorization.config.choices import choices
from memorization.config.groups import GROUPS, choice_of
from memorization.config.hiding import hiding
from memorization.config.schema import ExtractConfig, RecoverConfig, Tracking, TrainConfig, schema_of, searching
from memorization.engine.settings import Hardware

ConfigError = (HydraException, OmegaConfBaseException)
USER_ERRORS = (ValueError, OSError)
EXPLAINED = (*USER_ERRORS, *ConfigError)  # their message alone says what to do


EXPECTED = {  # by what OmegaConf says of another value
    "to Integer": "a whole number, such as 50",
    "to Float": "a number, such as 0.8 or 1e-4",
    "valid bool": "true or false",
}
COMMANDS: dict[str, type] = {  # that have keys which not all have
    "memorization-recover": RecoverConfig,
    "memorization-extract": ExtractConfig,
}


def keys_of(node: type) -> list[str]:
    """The keys that a configuration of schema `node` has."""
    return [f.name for f in fields(node)]


@cache
def known_keys() -> dict[str, set[Any]]:
    """Every key that some configuration has, with the types of its values."""
    nodes: list[tuple[str, type]] = [("", RecoverConfig), ("", ExtractConfig)]
    nodes += [("tracking.", Tracking), ("trainer.", Hardware), ("search.", searching())]
    for group in GROUPS:
        own = choices()[group]
        parts = {part for choice in own.values() for part in choice.parts}
        for path in (group, *(f"{group}.{part}" for part in sorted(parts))):
            nodes += [(f"{path}.", schema_of(group, name)) for name in own]
    known: dict[str, set[Any]] = {}
    for prefix, node in nodes:
        types = get_type_hints(node)
        for key in keys_of(node):
            known.setdefault(prefix + key, set()).add(types[key])
    return known | {"experiment": set(), "cluster": set()}


def as_typed(word: str) -> str:
    """`KEY=VALUE`, in quotes where the value is text that Hydra would read as a number, a boolean or null.

    So `study=2024`, `store=1e3` and `dataset.path=007` stay what was typed, in a sweep's list of values as well.
    """
    key, _, value = word.partition("=")
    types = known_keys().get(key.lstrip("+"), set())
    if not types or types - {str, str | None} or not re.fullmatch(r"[\w.+-]+(,[\w.+-]+)*", value):
        return word
    values = [_quoted(item, none=str | None in types) for item in value.split(",")]
    return f"{key}={','.join(values)}"


def _quoted(text: str, none: bool) -> str:
    read = OverridesParser.create().parse_override(f"key={text}").value()
    return text if read == text or (none and read is None) else f'"{text}"'


def closest(name: str, names: Sequence[str]) -> str | None:
    """The one of `names` that `name` was probably meant to be, if any."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.5)), None)


def unknown_key(key: str, owner: str | None = None) -> str:
    """The message for a key that does not exist; `owner` is the class of the part that lacks it."""
    path, _, last = key.rpartition(".")
    group = path.split(".")[0]
    for name, choice in choices().get(group, {}).items():
        if choice.component == owner:
            own = keys_of(schema_of(group, name))
            close = closest(last, own)
            hint = f"did you mean {path}.{close}?" if close else f"it has {', '.join(own[1:])}"
            others = [other for other in choices()[group] if last in keys_of(schema_of(group, other))]
            if others and path == group:
                hint = f"it belongs to {group}={' or '.join(others[:2])}{' and others' if others[2:] else ''}"
            return f"{key}: there is no such key for {choice_of(path)}={name}; {hint}"
    known = known_keys()
    first = key.split(".")[0]
    commands = [name for name, node in COMMANDS.items() if first in keys_of(node) and first not in keys_of(TrainConfig)]
    if key in known and commands:
        only = f"only {' and '.join(commands)} has" if len(commands) == 1 else f"only {' and '.join(commands)} have"
        return f"{key}: {only} this key; leave it out, or call {commands[0]}"
    close = next((k for k in known if k.endswith(f".{key}")), None) or closest(key, [*known])
    return f"{key}: there is no such key" + (f"; did you mean {close}?" if close else "")


def check_keys(record: Mapping[str, Any]) -> None:
    """Raise `ValueError` for a key that was added with `+KEY=VALUE`, which Hydra lets pass."""
    nodes = {"tracking": (Tracking, record["tracking"]), "trainer": (Hardware, record["trainer"])}
    if "search" in record:
        nodes["search"] = (searching(), record["search"])
    for group in GROUPS:
        if group in record:
            nodes |= _nodes(group, record[group])
    for path, (node, settings) in nodes.items():
        for key in settings:
            if key not in keys_of(node):
                raise ValueError(unknown_key(f"{path}.{key}", node.__name__))
    own = RecoverConfig if "recovery" in record else ExtractConfig if "prior" in record else TrainConfig
    for key in record:
        if key not in keys_of(own):
            raise ValueError(unknown_key(key))


def _nodes(path: str, settings: Any) -> dict[str, tuple[type, Any]]:
    """The schema and the settings of the part at `path` and of all its parts, by their paths."""
    group = path.split(".")[0]
    if not isinstance(settings, dict) or settings.get("name") not in choices()[group]:
        raise ValueError(f"{path} is {settings!r}; choose with {choice_of(path)}=CHOICE")
    found = {path: (schema_of(group, settings["name"]), settings)}
    for part in choices()[group][settings["name"]].parts:
        found |= _nodes(f"{path}.{part}", settings[part])
    return found


def _as_one(key: str, values: str) -> str:
    """How `values` with commas are given as the one value of `key`, if its type allows that."""
    types = known_keys().get(key.lstrip("+"), set())
    if any(get_origin(each) is list for each in types):
        return f", or give {key}=[{values}]"
    return f", or give '{key}=\"{values}\"' for one" if types & {str, str | None} else ""


def unknown_option(word: str) -> str:
    """The message for a word such as `--members`, which no option of Hydra's is."""
    name = word.lstrip("-").partition("=")[0].replace("-", "_")
    key = name if name in known_keys() else next((k for k in known_keys() if k.endswith(f".{name}")), "KEY")
    return f"{word}: there is no such option; settings have no dashes, as in {key}=VALUE; --help lists both"


def explained(error: Exception) -> str:
    """What Hydra and OmegaConf say of a wrong name or value over several lines, in one."""
    if isinstance(error, OverrideParseException):
        key, sign, value = error.override.partition("=")
        if not sign or not key or key[-1:] == " ":
            return f"{error.override!r} is not KEY=VALUE; write no spaces around =, and a value with spaces in quotes"
        said = str(error).partition("\n")[0]
        return f"{error.override}: {said}; a value with such characters needs quotes within quotes: '{key}=\"{value}\"'"
    text = "\n".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    if found := re.search(r"Could not find '([^']+)'.*?Available options in '([^']+)':\n((?:\t\S+\n?)*)", text, re.S):
        choice, group, options = found[1].rsplit("/", 1)[-1], found[2], found[3].split()
        hint = f"; did you mean {close}?" if (close := closest(choice, options)) else ""
        return f"{group}={choice}: there is no such choice; choose one of {', '.join(options)}{hint}"
    if found := re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text):
        file = re.search(r"In '([^']+)': (?:\w*Error|Validation)", text)
        place = f"conf/{file[1]}.yaml: " if file else ""
        full = full_key[1] if (full_key := re.search(r"full_key: ([\w.]+)", text)) else found[1]
        return place + unknown_key(full, found[2])
    if found := re.search(r"Ambiguous value for argument '([^=']+)=([^']+)'", text):
        return f"{found[1]}={found[2]}: these are several values; add -m to run each{_as_one(found[1], found[2])}"
    if found := re.search(r"Multiple values for (\w+)\. To override", text):
        return f"+{found[1]}=: the group has a choice already; leave out the +, as in {found[1]}=CHOICE"
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found[1])
    if found := re.search(r"override (\S+)=.*\nInvalid value '(.+)', expected one of \[(.+)\]", text):
        return f"{found[1]} is {found[2]!r}; choose one of {found[3]}"
    if found := re.search(r"Error merging override (\S+?)=(\S+)\n?.* is not a ListConfig, list or tuple", text):
        return f"{found[1]}={found[2]}: it takes a list; give {found[1]}=[{found[2]}]"
    if found := re.search(r"Sweep parameters '(\S+?)' requires --multirun", text):
        return f"{found[1]}: these are several values; add -m to run each"
    if found := re.search(r"override (\S+)\nValue .* (to Integer|to Float|valid bool)\b", text):
        return f"{found[1]}: {'each' if '=[' in found[1] else 'it'} must be {EXPECTED[found[2]]}"
    if found := re.search(r"Error merging override (\S+)\n?(.*)", text):
        return f"{found[1]}: {found[2].strip() or text.splitlines()[1].strip()}"
    return " ".join(text.split("\n\n")[0].split())


def one_line(error: Exception) -> str:
    """The error in one line, with the nearest correct name where one was misspelt."""
    if not isinstance(error, EXPLAINED) and (line := hiding(error)):
        return line
    if isinstance(error, ConfigError):
        return explained(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; is store=FOLDER a folder that can be written?"
    text = str(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())
