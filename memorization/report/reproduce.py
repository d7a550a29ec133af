"""How to get a run again: the command that makes it, and the versions at hand."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from typing import Any

from memorization.report.labels import value_text
from memorization.schema import GROUPS

PACKAGES = ("memorization", "torch", "pytorch-lightning", "numpy", "scikit-image", "scikit-learn")


def command(config: dict[str, Any]) -> str:
    """The `memorization-recover` command line with every setting of a run that can change its numbers."""
    words = ["memorization-recover"]
    for group in GROUPS:
        settings = config[group]
        words.append(f"{group}={settings['name']}")
        words += [f"{group}.{key}={value_text(value)}" for key, value in settings.items() if key != "name"]
    words.append(f"trainer.precision={value_text(config['trainer']['precision'])}")
    words += [f"{key}={value_text(config[key])}" for key in ("seed", "rungs", "threshold_db")]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """Of the packages that can change a number, as installed where the report was made."""
    return {name: version(name) for name in PACKAGES}
