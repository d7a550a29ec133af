"""How an entry point runs: errors in one line, a sweep that goes on past a failed job, and a plan of one."""

import contextlib
import logging
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest import mock

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.hydra import Hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from memorization.cli import help
from memorization.config import composing, schema
from memorization.config.hiding import hiding
from memorization.config.messages import EXPLAINED, as_typed, one_line, unknown_option
from memorization.engine import interruption, streams
from memorization.jobs import launching, slurm, sweep
from memorization.jobs.outcome import Outcome, Standing
from memorization.store import files
from memorization.store.versions import installed

HOMES = Path(__file__).parents[2], Path(__file__).parents[1]  # of the configuration: a checkout, a wheel
CONF = next(home / "conf" for home in HOMES if (home / "conf" / "recover.yaml").is_file())
# Of Lightning, about its own internals, or about `srun`, which starts none of our processes; nothing to act on.
NOISE = (
    ".*does not have many workers.*",
    ".*smaller than the logging interval.*",
    ".*isinstance\\(treespec, LeafSpec\\).*",
    "The `srun` command is available.*",
)
OUTCOMES: list[Outcome] = []  # of the jobs of this process
HELP = ("--help", "-h")  # before the name of a group, it explains that
PLAN = "--plan"  # says what would be done, and does nothing
LAUNCHING = ("cluster=", "hydra.launcher.", "hydra/launcher=")  # they say where jobs run, of which a plan has none


def job(config: DictConfig) -> float:
    """Run one job of a Hydra application, or plan it, and note how it ended.

    A failure is noted, not raised, so that a sweep goes on; the objective is then NaN.
    """
    quieten()
    interruption.handle()
    objective = float("nan")
    try:
        from memorization.config.experiment import resolve  # with torch, for which --help and --cfg do not wait
        from memorization.jobs import plan

        experiment = resolve(config)
        outcome, objective = (plan.plan(experiment), 0.0) if experiment.plan else plan.run(experiment)
    except Exception as error:
        outcome = _failed(config, error)
    OUTCOMES.append(outcome)
    sweep.note(outcome, objective)
    if sweep.Sweep.current:
        sweep.Sweep.current.look()
    elif not sweep.job_folder() and not outcome.failed:
        print(outcome, flush=True)
        if varied := ", ".join(_varied(config)):
            print(f"note: this is one setting of the experiment; with -m it varies {varied}", file=sys.stderr)
    return objective


def _varied(config: DictConfig) -> list[str]:
    """The keys of this command that the experiment of a job that is no sweep would vary."""
    params = HydraConfig.get().sweeper.get("params") or {}
    return [key for key in params if re.split(r"[.@/]", key)[0] in config]


def _failed(config: DictConfig, error: Exception) -> Outcome:
    """The outcome of a job that failed, whose traceback is left in its folder, or shown where it has none."""
    if folder := sweep.job_folder():
        files.record_failure(folder, schema.record_of(config, resolve=False), error)
    elif not (isinstance(error, EXPLAINED) or hiding(error)):
        traceback.print_exception(error)
    status = Standing(getattr(error, "status", Standing.failed))
    return Outcome(" ".join(HydraConfig.get().overrides.task), status, one_line(error))


def quieten() -> None:
    """Only errors of Optuna's database are shown, and no warnings about Lightning's internals (see `hardware`)."""
    logging.getLogger("alembic").setLevel(logging.ERROR)
    for message in NOISE:
        warnings.filterwarnings("ignore", message)


if multiprocessing.current_process().name != "MainProcess":  # one of several that train or recover together
    streams.settle()
    quieten()


def main(application: Callable[[], Any], command: str) -> None:
    """Run a Hydra application as the console script `memorization-<command>`.

    Exits with status 1 if a job failed, 143 or 130 if stopped.
    """
    streams.settle()
    if group := _asked_of(sys.argv):
        try:
            print(help.explained(CONF, command, group))
        except ValueError as error:
            sys.exit(f"error: {error}")
        return
    if "--version" in sys.argv:
        print(f"memorization {installed('memorization')}, hydra-core {installed('hydra-core')}")
        return
    schema.register()
    OmegaConf.register_new_resolver("overview", partial(help.overview, CONF), replace=True)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # so that errors come here instead of being printed by Hydra
    quieten()
    OUTCOMES.clear()
    interruption.handle()
    status, stopped = 0, ""
    if unknown := _unknown(sys.argv[1:]):
        print(f"error: {unknown_option(unknown)}", file=sys.stderr)
        sys.exit(1)
    sys.argv = [sys.argv[0], *_options_first(map(as_typed, sys.argv[1:]))]
    with contextlib.ExitStack() as stack:
        launcher: Callable[..., Launcher] = Plugins.instantiate_launcher
        if PLAN in sys.argv:
            sys.argv = _planning(sys.argv, stack.enter_context(tempfile.TemporaryDirectory()))
            launcher = _here

        def surviving(plugins: Plugins, **context: Any) -> Launcher:
            auto = launcher is not _here and context["config"].hydra.runtime.choices.get("hydra/launcher") == "auto"
            return launching.Surviving(launcher(plugins, **context), _here(plugins, **context) if auto else None)

        stack.enter_context(mock.patch.object(Plugins, "instantiate_launcher", surviving))
        stack.enter_context(composing.once())
        if "--hydra-help" not in sys.argv:  # for ours, Hydra lists groups that are not shown: seconds
            stack.enter_context(mock.patch.object(Hydra, "format_config_groups", return_value=""))
        try:
            application()
        except interruption.Interrupted as signal:
            status, stopped = signal.status, f"stopped by {signal}; the same command goes on from here"
            if sweep.Sweep.current and (going := sweep.Sweep.current.cancel()):
                stopped += f"; jobs that did not stop: kill {' '.join(map(str, going))}"
            if sweep.Sweep.current and (queued := sweep.Sweep.current.queued):
                names = [*queued.values()]
                go_on = f"the jobs {slurm.numbers(names)} go on ({slurm.ended_by(names)} ends them)"
                stopped = f"stopped by {signal}; {go_on}, and the same command watches them"
        except Exception as error:
            if not (isinstance(error, EXPLAINED) or hiding(error)):
                traceback.print_exception(error)
            OUTCOMES.append(Outcome("", Standing.failed, one_line(error)))
        failed = _told()
    if stopped:
        print(stopped, file=sys.stderr)
    if status or failed:
        sys.exit(status or 1)


def _asked_of(words: list[str]) -> str:
    """The group of `--help GROUP` on a command line; empty without."""
    return next((group for word, group in pairwise(words) if word in HELP and re.fullmatch(r"\w+", group)), "")


def _unknown(words: list[str]) -> str:
    """The first word that looks like an option and is none of ours or Hydra's; Hydra would answer with its usage."""
    parser = get_args_parser()
    parser.allow_abbrev = False  # `--experiment` is no `--experimental-rerun`
    taken = {"-", "--", PLAN}
    _, left = parser.parse_known_args([word for word in words if word not in taken])
    return next((word for word in left if re.match(r"-+[a-zA-Z]", word)), "")


def _options_first(words: Iterable[str]) -> list[str]:
    """`KEY=VALUE` behind all options and their values: Hydra refuses them on both sides of `-m`."""
    valued = {name for action in get_args_parser()._actions if action.nargs is None for name in action.option_strings}
    pairs = pairwise(["", *words])
    behind = [("=" in word and not word.startswith("-") and before not in valued, word) for before, word in pairs]
    return [word for _, word in sorted(behind, key=itemgetter(0))]


def _planning(words: list[str], folder: str) -> list[str]:
    """A command line that plans: `plan` travels with the configuration, so that no launcher can run its jobs."""
    here = [word for word in words if word != PLAN and not word.lstrip("+~").startswith(LAUNCHING)]
    return [*here, "plan=true", f"hydra.sweep.dir={folder}"]


def _here(plugins: Plugins, **context: Any) -> BasicLauncher:
    """The launcher of a plan, and the first of `cluster=auto`: one job after the other, in this process."""
    launcher = BasicLauncher()
    launcher.setup(**context)
    return launcher


def _told() -> bool:
    """Say how all jobs ended; True if one failed."""
    outcomes = [*OUTCOMES]
    if current := sweep.Sweep.current:
        outcomes = [*current.finish(), *(outcome for outcome in OUTCOMES if not outcome.name)]
        if current.outcomes and not (len(outcomes) == 1 and outcomes[0].failed):
            print(current.table(), flush=True)
    for outcome in outcomes:
        if outcome.failed:
            name = f"{outcome.name}: " if len(outcomes) > 1 and outcome.name else ""
            print(f"error: {name}{outcome.detail}", file=sys.stderr)
    return any(outcome.failed for outcome in outcomes)
