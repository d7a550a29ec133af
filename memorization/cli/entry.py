"""How an entry point runs: errors in one line, a sweep that goes on past a failed job, and a plan of one."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from memorization.config import schema
from memorization.engine import interruption
from memorization.engine.training import TrainingDivergedError
from memorization.jobs import sweep
from memorization.jobs.sweep import Outcome
from memorization.store import files

CONF = next(
    folder
    for folder in (Path(__file__).parents[2] / "conf", Path(__file__).parents[1] / "conf")  # a checkout, a wheel
    if (folder / "recover.yaml").is_file()
)
# Of Lightning, about its own internals; nothing a user can act on.
NOISE = (".*does not have many workers.*", ".*isinstance\\(treespec, LeafSpec\\).*")
USER_ERRORS = (ValueError, OSError, TrainingDivergedError)
EXPLAINED = (*USER_ERRORS, HydraException, OmegaConfBaseException)  # their message alone says what to do


planning = False
OUTCOMES: list[Outcome] = []  # of the jobs of this process
LAUNCHING = (
    "cluster=",
    "hydra.launcher.",
    "hydra/launcher=",
)  # words that say where jobs run, of which a plan has none
PLAN = "--plan"  # says what would be done, and does nothing


def job(
    run: Callable[[dict[str, Any]], tuple[Outcome, float]],
    plan: Callable[[dict[str, Any]], Outcome],
    config: DictConfig,
) -> float:
    """Run one job of a Hydra application on its resolved configuration, or plan it, and note how it ended.

    A failure is noted, not raised, so that a sweep goes on; the objective is then NaN.
    """
    quieten()
    interruption.handle()
    objective = float("nan")
    plain = cast(dict[str, Any], OmegaConf.to_container(config, enum_to_str=True))
    try:
        plain = cast(
            dict[str, Any], OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
        )
        schema.check(plain)
        outcome, objective = (plan(plain), objective) if planning else run(plain)
    except Exception as error:
        failed = getattr(error, "status", "failed")
        outcome = Outcome(" ".join(HydraConfig.get().overrides.task), failed, one_line(error))
        if folder := sweep.job_folder():
            files.record_failure(folder, plain, error)
        elif not isinstance(error, EXPLAINED):
            traceback.print_exception(error)
    OUTCOMES.append(outcome)
    sweep.note(outcome)
    if sweep.Sweep.current:
        sweep.Sweep.current.look()
    elif not sweep.job_folder() and not outcome.failed:
        print(f"{outcome.status}  {outcome.name}  {outcome.detail}", flush=True)
    return objective


def quieten() -> None:
    """Only errors of Lightning and of Optuna's database are shown, and no warnings about Lightning's own internals."""
    for name in ("pytorch_lightning", "lightning_fabric", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


if multiprocessing.current_process().name != "MainProcess":  # one of several that train or recover together
    quieten()


def main(application: Callable[[], Any]) -> None:
    """Run a Hydra application as a console script; exits with status 1 if a job failed, 143 or 130 if stopped."""
    global planning
    schema.register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed by Hydra
    quieten()
    OUTCOMES.clear()
    interruption.handle()
    status, stopped = 0, ""
    with contextlib.ExitStack() as stack:
        if planning := PLAN in sys.argv:
            aside = stack.enter_context(tempfile.TemporaryDirectory())
            here = [word for word in sys.argv if word != PLAN and not word.lstrip("+~").startswith(LAUNCHING)]
            sys.argv = [*here, f"hydra.sweep.dir={aside}"]
        try:
            application()
        except interruption.Interrupted as signal:
            status, stopped = signal.status, f"stopped by {signal}; the same command goes on from here"
            if sweep.Sweep.current and (going := sweep.Sweep.current.cancel()):
                stopped += f"; jobs that did not stop: kill {' '.join(map(str, going))}"
        except Exception as error:
            if not isinstance(error, EXPLAINED):
                traceback.print_exception(error)
            OUTCOMES.append(Outcome("", "failed", one_line(error)))
        outcomes = [*OUTCOMES]
        if current := sweep.Sweep.current:
            outcomes = [*current.finish(), *(outcome for outcome in OUTCOMES if not outcome.name)]
            if current.outcomes and not (len(outcomes) == 1 and outcomes[0].failed):
                print(current.table(), flush=True)
        for outcome in outcomes:
            if outcome.failed:
                name = f"{outcome.name}: " if len(outcomes) > 1 and outcome.name else ""
                print(f"error: {name}{outcome.detail}", file=sys.stderr)
    if stopped:
        print(stopped, file=sys.stderr)
    elif any(outcome.failed for outcome in outcomes):
        status = 1
    if status:
        sys.exit(status)


def one_line(error: Exception) -> str:
    """The error in one line, with the nearest correct name where one was misspelt."""
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _explain_config_error(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}; is store=FOLDER a folder that can be written?"
    text = str(error) if isinstance(error, USER_ERRORS) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())


def _explain_config_error(error: Exception) -> str:
    """What Hydra and OmegaConf say of a wrong name or value over several lines, in one."""
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        said = str(error).partition("\n")[0]
        return f"{error.override}: {said}; a value with such characters needs quotes within quotes: '{key}=\"{value}\"'"
    text = "\n".join(str(e) for e in (error, error.__cause__, error.__context__) if e is not None)
    if found := re.search(r"Could not find '([^']+)'.*?Available options in '([^']+)':\n((?:\t\S+\n?)*)", text, re.S):
        choice, group, options = found[1].rsplit("/", 1)[-1], found[2], found[3].split()
        hint = f"; did you mean {close}?" if (close := schema.closest(choice, options)) else ""
        return f"{group}={choice}: there is no such choice; choose one of {', '.join(options)}{hint}"
    if found := re.search(r"Key '([^']+)' (?:is )?not in '(\w+)'", text):
        file = re.search(r"In '([^']+)': (?:\w*Error|Validation)", text)
        place = f"conf/{file[1]}.yaml: " if file else ""
        full = full_key[1] if (full_key := re.search(r"full_key: ([\w.]+)", text)) else found[1]
        return place + schema.unknown_key(full, found[2])
    if found := re.search(r"Could not override '([^']+)'", text):
        return schema.unknown_key(found[1])
    if found := re.search(r"Error merging override (\S+)\n?(.*)", text):
        return f"{found[1]}: {found[2].strip() or text.splitlines()[1].strip()}"
    return " ".join(text.split("\n\n")[0].split())
