"""How much of its training data does an autoencoder hold? See the README."""

import sys
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memorization.architectures.external.adapted import adapted
    from memorization.evaluation.attacks import lira
    from memorization.evaluation.extraction import extract
    from memorization.extraction.spectrum import attractors
    from memorization.report.audited import audit
    from memorization.store.reading import (
        load_attractors,
        load_extractions,
        load_lira,
        load_results,
        load_run,
        with_attractors,
    )

__all__ = [
    "adapted",
    "attractors",
    "audit",
    "extract",
    "lira",
    "load_attractors",
    "load_extractions",
    "load_lira",
    "load_results",
    "load_run",
]
__all__ += ["with_attractors"]

_WHERE = {
    "adapted": "architectures",
    "attractors": "extraction.spectrum",
    "audit": "report.audited",
    "extract": "evaluation.extraction",
    "lira": "evaluation.attacks",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for; torch takes seconds, for which a command that lists a store need not wait."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"memorization.{_WHERE.get(name, 'store.reading')}"), name)


def _told(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say in one line that a file of the user's hides a module that a command begins with; nothing of Ctrl-C."""
    if issubclass(kind, KeyboardInterrupt):
        return
    from memorization.config.hiding import hiding

    if line := hiding(error):
        print(f"error: {line}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if (_started := Path(*sys.argv[:1]).name) == "-m" or _started.startswith("memorization-"):  # a command
    sys.excepthook = _told
