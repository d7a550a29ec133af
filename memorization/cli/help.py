"""What `--help` shows: the groups and keys of a command on one screen, and with `--help GROUP` those of one in full.

A choice is described by the comment at the top of its file, or, where another package brings no file, by the first
line of its docstring. A key's type and default come from the part that has it, its meaning from `keys.yaml`, or, of
another package's, from its docstring. The reference of the documentation is made of the same. Nothing here needs torch.
"""

import inspect
import re
import textwrap
from collections.abc import Iterable
from enum import StrEnum
from functools import cache
from itertools import takewhile
from pathlib import Path
from types import UnionType
from typing import Any, get_args

import yaml
from omegaconf import MISSING

from memorization.config import schema
from memorization.config.choices import choices
from memorization.config.groups import EXTRA, GROUPS, component_fields
from memorization.engine.settings import Hardware

WIDTH = 100  # columns of a terminal
COMMANDS = {"train": schema.TrainConfig, "recover": schema.RecoverConfig, "extract": schema.ExtractConfig}
KEYS = "keys"  # no group: the keys that no group has
ASKS = {
    "dataset": "Which images are members and non-members.",
    "architecture": "Which autoencoder is trained, or loaded.",
    "training": "How it is trained.",
    "degradation": "What is done to the images before they are recovered.",
    "recovery": "Which method recovers them.",
    "operator": "What the method knows of the degradation.",
    "prior": "Where an extraction starts.",
    "tracking": "What Weights & Biases is told.",
    "cluster": "Where the jobs of a sweep run.",
    "experiment": "A question with all its settings, to be run with `-m`.",
}
USAGE = """\
Usage: memorization-{command} [-m] [GROUP=CHOICE ...] [KEY=VALUE ...]
  -m            run every combination of the values that are separated by commas
  --plan        say what would be run and what the store has, and run nothing
  --help GROUP  explain the choices of a group, and their keys with type, default and meaning
  --help keys   the same of the keys that no group has
  --cfg job     print the whole configuration, and run nothing
  --hydra-help  list Hydra's own options

Groups, each set as GROUP=CHOICE (* is the default):"""
Field = tuple[str, Any, Any]  # name, type, default


def overview(conf: Path, command: str) -> str:
    """What `memorization-<command> --help` shows."""
    lines = [_filled(comment(conf / f"{command}.yaml")), "", USAGE.format(command=command)]
    for group, default in defaults(conf, command).items():
        names = ", ".join(name + "*" * (name == default) for name in taken(conf, command, group))
        lines.append(_filled(names, f"  {group:<14} ", 17))
    keys = [name for name, *_ in own_fields(command)]
    keys += [f"{name}.{key}" for name, node in nodes(command).items() for key, *_ in component_fields(node)]
    return "\n".join([*lines, "", "Keys that no group has, each set as KEY=VALUE:", _filled(", ".join(keys), "  ", 2)])


def explained(conf: Path, command: str, group: str) -> str:
    """What `memorization-<command> --help <group>` shows; raises ValueError for a group that the command lacks."""
    known, below = defaults(conf, command), nodes(command)
    if group == KEYS:
        parts = [("", own_fields(command)), *((name, component_fields(node)) for name, node in below.items())]
        head = f"Keys of memorization-{command} that no group has, each set as KEY=VALUE:"
        return "\n".join([head, *(line for name, fields in parts for line in _keys(name, fields))])
    if group not in known:
        raise ValueError(f"--help {group}: there is no such group; take one of {', '.join([*known, KEYS])}")
    default = f" The default is {known[group]}." if known[group] else ""
    paragraphs = [[_filled(f"{group}: {ASKS[group]}{default}")]]
    if shared := EXTRA.get(group) or (component_fields(below[group]) if group in below else []):
        paragraphs.append(["Keys, whatever is chosen:", *_keys(group, shared)])
    for name, text in taken(conf, command, group).items():
        choice = choices().get(group, {}).get(name)
        own = [field for field in (choice.fields if choice else ()) if field not in shared]
        own = with_parts(own, conf, group, name)
        paragraphs.append([f"{group}={name}", _filled(text, "    ", 4), *_keys(f"{group}.{name}", own)])
    if {*described(conf, group)} - {*taken(conf, command, group)}:
        more = "memorization-recover --help experiment"
        paragraphs.append([_filled(f"The others set keys that memorization-{command} does not have; see {more}.")])
    return "\n\n".join("\n".join(lines) for lines in paragraphs)


def defaults(conf: Path, command: str) -> dict[str, str | None]:
    """The groups of a command with the choice that each has by default, as its file says them."""
    listed = yaml.safe_load((conf / f"{command}.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: name for item in listed if isinstance(item, dict) for group, name in item.items() if group in ASKS}


def taken(conf: Path, command: str, group: str) -> dict[str, str]:
    """The choices of a group as `described`, without experiments that set what `command` does not have."""
    found = described(conf, group)
    if group != "experiment":
        return found
    files = _files(conf, group)
    own = {"hydra", *defaults(conf, command), *nodes(command), *(name for name, *_ in own_fields(command))}
    return {name: text for name, text in found.items() if _set_by(name, files) <= own}


def _set_by(name: str, files: dict[str, Path]) -> set[str]:
    """The groups and keys, by their first word, that an experiment sets or sweeps; those of its defaults as well."""
    content, listed = _content(files[name])
    bases = {item.rpartition("/")[2] for item in listed if isinstance(item, str)} & {*files} - {name}
    chosen = [word.split()[-1].lstrip("/") for item in listed if isinstance(item, dict) for word in item]
    sweeper = (content.get("hydra") or {}).get("sweeper") or {}
    words = [*content, *chosen, *(sweeper.get("params") or {})]
    return {re.split("[@./]", word)[0] for word in words}.union(*(_set_by(base, files) for base in bases))


def described(conf: Path, group: str) -> dict[str, str]:
    """The choices of a group, ours and other packages', with what their files, or else the parts, say of them."""
    known, files = choices().get(group, {}), _files(conf, group)
    names = [*known, *(name for name in sorted(files) if name not in known)]
    said = {name: told(files[name]) if name in files else "" for name in names}
    return {name: text or (known[name].told if name in known else "") for name, text in said.items()}


def _files(conf: Path, group: str) -> dict[str, Path]:
    """The files of the choices of a group, ours and other packages'."""
    return {path.stem: path for folder in (conf, *schema.offered_files()) for path in (folder / group).glob("*.yaml")}


def _content(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The settings of a file of configuration, and its list of defaults."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return content, content.pop("defaults", None) or []


def with_parts(fields: Iterable[Field], conf: Path, group: str, name: str) -> list[Field]:
    """The fields of a choice; of each that holds another choice of its group, the one that the choice's file takes."""
    path = _files(conf, group).get(name)
    listed = _content(path)[1] if path else []
    taken = {word.partition("@")[2]: part for item in listed if isinstance(item, dict) for word, part in item.items()}
    return [(key, f"choice of {group}", taken[key]) if key in taken else (key, *own) for key, *own in fields]


def told(path: Path) -> str:
    """The comment at the top of a choice's file; of a preset, also which choice of the group it sets, and how."""
    group, text = path.parent.name, comment(path)
    content, listed = _content(path)
    names = [item.rpartition("/")[2].removesuffix("@_here_") for item in listed if isinstance(item, str)]
    base = next((name for name in names if name != path.stem and name in choices().get(group, {})), "")
    settings = ", ".join(f"`{key}={value}`" for key, value in content.items())
    return f"{text} It is `{group}={base}` with {settings}, and has the same keys.".lstrip() if base else text


def comment(path: Path) -> str:
    """What the comment at the top of a file says, without the command and what comes after it."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    said = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    text = " ".join(takewhile(lambda line: not line.startswith("Command:"), said)).removeprefix("Question:").strip()
    return text[:1].upper() + text[1:]


@cache
def meanings() -> dict[str, str]:
    """The meaning of each key, by `key`, `group.key` or `group.choice.key`."""
    found: dict[str, str] = yaml.safe_load(Path(__file__).with_name("keys.yaml").read_text(encoding="utf-8"))
    return found


def meaning(path: str, key: str) -> str:
    """That of the choice `group.choice`, else that of its group; of another package's, what its docstring says."""
    group, _, name = path.partition(".")
    choice = choices().get(group, {}).get(name)
    if choice and choice.offered:
        return choice.meanings.get(key, "")
    places = (f"{place}.{key}".lstrip(".") for place in (path, group))
    return next((meanings()[place] for place in places if place in meanings()), "")


def nodes(command: str) -> dict[str, Any]:
    """The keys of a command below a key that is no choice of a group."""
    below = {"tracking": schema.Tracking, "trainer": Hardware}
    return below | {"search": schema.searching()} if command == "extract" else below


def own_fields(command: str) -> list[Field]:
    """The keys of a command that no group and no node has."""
    return [field for field in component_fields(COMMANDS[command]) if field[0] not in {*nodes(command), *GROUPS}]


def kind(hint: Any) -> str:
    """A type in words."""
    if inspect.isclass(hint) and issubclass(hint, StrEnum):
        return ", ".join(f"`{word}`" for word in hint)
    words = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null", Any: "any"}
    if hint in words:
        return words[hint]
    if isinstance(hint, UnionType):
        return " or ".join(kind(one) for one in get_args(hint))
    if get_args(hint):
        return f"list of {kind(get_args(hint)[0])}s".replace("texts", "words")
    return getattr(hint, "__name__", str(hint))


def shown(default: Any) -> str:
    """A default as it is typed."""
    if default == MISSING:
        return "must be chosen"
    words = {True: "true", False: "false", None: "null", "": "empty"}
    if isinstance(default, bool | None) or default == "":
        return words[default]
    if isinstance(default, list | tuple):
        return f"`[{', '.join(f'{value:g}' if isinstance(value, float) else str(value) for value in default)}]`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def _keys(path: str, fields: Iterable[Field]) -> list[str]:
    """Of each key its name, type and default, and below these its meaning."""
    lines = []
    for name, hint, default in fields:
        key = f"{path.split('.')[0]}.{name}".lstrip(".")
        value = shown(default) if default == MISSING else f"default {shown(default)}"
        lines.append(_filled(f"{key}: {kind(hint)}; {value}", "    ", 8))
        if text := meaning(path, name):
            lines.append(_filled(text, " " * 8, 8))
    return lines


def _filled(text: str, first: str = "", indent: int = 0) -> str:
    """A text for a terminal: `first` stands before it, and `indent` blanks before its other lines."""
    text = text.replace("`", "")
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=" " * indent, break_on_hyphens=False)
