"""How an entry point runs: errors in one line, a sweep that goes on past a failed job, and a table at its end."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memorization import schema
from memorization.training import TrainingDivergedError

CONF = next(
    folder
    for folder in (Path(__file__).parents[1] / "conf", Path(__file__).parent / "conf")  # a checkout, a wheel
    if (folder / "recover.yaml").is_file()
)
# Of Lightning, about its own internals; nothing a user can act on.
NOISE = (".*does not have many workers.*", ".*isinstance\\(treespec, LeafSpec\\).*")
USER_ERRORS = (ValueError, OSError, TrainingDivergedError)  # explained by their message alone


@dataclass(frozen=True)
class Outcome:
    """How one job of this process ended: `status` is done, found (in the store) or failed."""

    name: str
    status: str
    detail: str


OUTCOMES: list[Outcome] = []


def job(run: Callable[[dict[str, Any]], tuple[Outcome, float]], config: DictConfig) -> float:
    """Run one job of a Hydra application on its resolved configuration and note how it ended."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        outcome, objective = run(plain)  # type: ignore[arg-type]
    except Exception as error:
        name = " ".join(HydraConfig.get().overrides.task) or "defaults"
        OUTCOMES.append(Outcome(name, "failed", one_line(error)))
        raise
    OUTCOMES.append(outcome)
    print(f"{outcome.status}  {outcome.name}  {outcome.detail}", flush=True)
    return objective


def main(application: Callable[[], Any]) -> None:
    """Run a Hydra application as a console script; exits with status 1 if a job failed."""
    schema.register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed by Hydra
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    OUTCOMES.clear()
    error: Exception | None = None
    try:
        application()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except Exception as caught:
        error = caught
    if len(OUTCOMES) > 1:
        counts = Counter(outcome.status for outcome in OUTCOMES)
        print("\n" + ", ".join(f"{count} {status}" for status, count in counts.items()))
        for outcome in OUTCOMES:
            if outcome.status == "failed":
                print(f"  failed  {outcome.name}: {outcome.detail}", file=sys.stderr)
    if error is not None:
        if not isinstance(error, (*USER_ERRORS, HydraException, OmegaConfBaseException)):
            traceback.print_exception(error)
        elif len(OUTCOMES) <= 1:
            print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def one_line(error: Exception) -> str:
    """The error in one line, with the nearest correct name where one was misspelt."""
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_config_error(error)
    text = str(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _explain_config_error(error: Exception) -> str:
    chain = [str(e) for e in (error, error.__cause__, error.__context__) if e is not None]
    text = "\n".join(chain)
    if found := re.search(r"Could not find '([^']+)'.*?Available options in '([^']+)':\s*(.*)", text, re.S):
        wanted, group, options = found[1], found[2], found[3].split("\n\n")[0].split()
        choice = wanted.rsplit("/", 1)[-1]
        return f"{group}={choice}: there is no such choice; choose one of {', '.join(options)}{_suggest(choice, options)}"
    if found := re.search(r"Could not override '([^']+)'", text):
        return f"{found[1]}: there is no such key{_suggest(found[1], known_keys())}"
    if found := re.search(r"Key '([^']+)' (?:not in|is not in) '?(\w+)'?(?:.*?full_key: ([\w.]+))?", text, re.S):
        place = re.search(r"In '([^']+)'", text)
        where = f"conf/{place[1]}.yaml: " if place else ""
        full = found[3] or found[1]
        keys = [key for key in known_keys() if key.count(".") == full.count(".")] if "." in full else known_keys()
        return f"{where}{full}: there is no such key{_suggest(full, keys) or _suggest(found[1], keys)}"
    return " ".join(text.split("\n\n")[0].split())


def _suggest(name: str, options: list[str]) -> str:
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def known_keys() -> list[str]:
    """Every key that can be set, as it is written on the command line."""
    keys = {field: None for field in schema.RecoverConfig.__dataclass_fields__}
    for group, choices in schema.GROUPS.items():
        for name in choices:
            keys |= {f"{group}.{key}": None for key in schema.schema_of(group, name).__dataclass_fields__}
    for group, node in (("tracking", schema.Tracking), ("trainer", schema.TrainerConfig)):
        keys |= {f"{group}.{key}": None for key in node.__dataclass_fields__}
    return [*keys, "experiment", "cluster"]
