"""How an entry point runs: errors in one line, a sweep that goes on past a failed job, and a table at its end."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
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
USER_ERRORS = (ValueError, OSError, TrainingDivergedError)
EXPLAINED = (*USER_ERRORS, HydraException, OmegaConfBaseException)  # their message alone says what to do


@dataclass(frozen=True)
class Outcome:
    """How one job of this process ended: `status` is done, found (in the store) or failed, then with its `error`."""

    name: str
    status: str
    detail: str
    error: Exception | None = None


OUTCOMES: list[Outcome] = []


class SweepFolder(Callback):
    """Hydra's note of a sweep, `<store>/sweeps/<time>/multirun.yaml`, which is taken back if no job could begin."""

    made: ClassVar[list[Path]] = []  # the folders that this process's sweep makes, the innermost first

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        self.made[:] = [path for path in (folder, *folder.parents) if not path.exists()]

    @classmethod
    def remove(cls) -> None:
        """Remove the note and the folders made for it, as far as nothing else is in them."""
        for folder in cls.made:
            (folder / "multirun.yaml").unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                folder.rmdir()


def job(run: Callable[[dict[str, Any]], tuple[Outcome, float]], config: DictConfig) -> float:
    """Run one job of a Hydra application on its resolved configuration and note how it ended.

    A failure is noted, not raised, so that a sweep goes on; the objective is then NaN.
    """
    objective = float("nan")
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
        schema.check(plain)
        outcome, objective = run(plain)
    except Exception as error:
        outcome = Outcome(" ".join(HydraConfig.get().overrides.task), "failed", one_line(error), error)
    OUTCOMES.append(outcome)
    if outcome.error is None:
        print(f"{outcome.status}  {outcome.name}  {outcome.detail}", flush=True)
    return objective


def quieten() -> None:
    """Only errors of Lightning are shown, and no warnings about its own internals."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


if multiprocessing.current_process().name != "MainProcess":  # one of several that train or recover together
    quieten()


def main(application: Callable[[], Any]) -> None:
    """Run a Hydra application as a console script; exits with status 1 if a job failed."""
    schema.register()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed by Hydra
    quieten()
    OUTCOMES.clear()
    SweepFolder.made.clear()
    try:
        application()
    except KeyboardInterrupt:
        sys.exit("interrupted")
    except Exception as error:
        if not OUTCOMES:
            SweepFolder.remove()
        OUTCOMES.append(Outcome("", "failed", one_line(error), error))
    failed = [outcome for outcome in OUTCOMES if outcome.error is not None]
    if len(OUTCOMES) > 1:
        counts = Counter(outcome.status for outcome in OUTCOMES)
        print(
            f"{len(OUTCOMES)} jobs: " + ", ".join(f"{count} {status}" for status, count in counts.items()), flush=True
        )
    for outcome in failed:
        if not isinstance(outcome.error, EXPLAINED):
            traceback.print_exception(outcome.error)
        name = f"{outcome.name}: " if len(OUTCOMES) > 1 and outcome.name else ""
        print(f"error: {name}{outcome.detail}", file=sys.stderr)
    if failed:
        sys.exit(1)


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
