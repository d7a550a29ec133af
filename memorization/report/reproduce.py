"""How to get a run again: the command that makes it."""

import shlex
from collections.abc import Iterator
from typing import Any

from memorization.config.groups import GROUPS, choice_of
from memorization.report.labels import value_text


def command(config: dict[str, Any]) -> str:
    """The command line of a recovery or an extraction with every setting that can change its numbers.

    Of an audit from Python, the call.
    """
    if "call" in config:
        return str(config["call"])
    extraction = "search" in config
    words = ["memorization-extract" if extraction else "memorization-recover"]
    for group in GROUPS:
        if group in config:
            words += _overrides(group, config[group])
    words.append(f"trainer.precision={value_text(config['trainer']['precision'])}")
    words += [f"{key}={value_text(config[key])}" for key in ("seed", "rungs", "threshold_db")]
    if extraction:
        words += [f"search.{key}={value_text(value)}" for key, value in config["search"].items()]
        words += [f"{key}={value_text(config[key])}" for key in ("spectra", "control")]
    return shlex.join(words)


def _overrides(path: str, settings: dict[str, Any]) -> Iterator[str]:
    """The choice of the component at `path`, its settings, and those of its parts."""
    yield f"{choice_of(path)}={settings['name']}"
    for key, value in settings.items():
        if isinstance(value, dict) and "name" in value:
            yield from _overrides(f"{path}.{key}", value)
        elif key != "name":
            yield f"{path}.{key}={value_text(value)}"
