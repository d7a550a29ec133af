"""The choices that `--help` lists: those of every group, our own and other packages', each with what its file says.

A choice is described by the first sentence of its file, or, where another package brings no file, by the first line of
its docstring; behind it, in brackets, stand its keys.
"""

import textwrap
from itertools import takewhile
from pathlib import Path

from memorization.config import choices as choices_of
from memorization.config.schema import offered_files

WIDTH, INDENT = 114, 32  # columns of a terminal, and those before a description


def choices(conf: Path, *groups: str) -> str:
    """A paragraph a group: its name, its choices, and a line or two on each."""
    return "\n\n".join(_paragraph(group, _described(conf, group)) for group in groups)


def _described(conf: Path, group: str) -> dict[str, str]:
    known = choices_of.choices().get(group, {})
    found = {path.stem: path for folder in (conf, *offered_files()) for path in sorted((folder / group).glob("*.yaml"))}
    described = {name: _comment(found[name]) for name in sorted(found, key=lambda name: [*known, name].index(name))}
    for name, choice in known.items():
        text = described.get(name) or choice.told
        keys = ", ".join(key for key, _, _ in choice.fields)
        described[name] = text + (f" [{keys}]" if keys else "")
    return described


def _comment(path: Path) -> str:
    """The first sentence of a file's comment, or the question of a study."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    text = " ".join(takewhile(lambda line: not line.startswith("Command:"), comment))
    text = text.removeprefix("Question:").strip().partition(". ")[0]
    return textwrap.shorten(text[:1].upper() + text[1:], WIDTH - INDENT, placeholder="…")


def _paragraph(group: str, described: dict[str, str]) -> str:
    lines: list[str] = []
    for name, text in described.items():
        head = f"{group if not lines else '':<14} {name:<{INDENT - 16}} "
        lines += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * INDENT) or [head.rstrip()]
    return "\n".join(lines)
