"""How to get a run again: the command that makes it."""

import shlex
from collections.abc import Iterator
from typing import Any

from memorization.config.groups import GROUPS, choice_of
from memorization.report.labels import value_text


def command(config: dict[str, Any]) -> str:
    """The `memorization-recover` command line with every setting of a run that can change its numbers."""
    words = ["memorization-recover"]
    for group in (group for group in GROUPS if group in config):
        words += _overrides(group, config[group])
    words.append(f"trainer.precision={value_text(config['trainer']['precision'])}")
    words += [f"{key}={value_text(config[key])}" for key in ("seed", "rungs", "threshold_db")]
    return shlex.join(words)


def _overrides(path: str, settings: dict[str, Any]) -> Iterator[str]:
    """The choice of the component at `path`, its settings, and those of its parts."""
    yield f"{choice_of(path)}={settings['name']}"
    for key, value in settings.items():
        if isinstance(value, dict) and "name" in value:
            yield from _overrides(f"{path}.{key}", value)
        elif key != "name":
            yield f"{path}.{key}={value_text(value)}"
