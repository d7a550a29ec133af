"""An experiment as jobs: run them, or say what running them would do. Both make the same checks by the same code.

What makes and sums up runs is imported by those who do: to find them takes neither Lightning nor pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from memorization.components import SettingError
from memorization.config.experiment import Experiment
from memorization.config.schema import Objective
from memorization.evaluation.controls import CONTROLS, Control, InapplicableError
from memorization.jobs.outcome import Outcome, Standing
from memorization.jobs.recovery import RecoveryJob, share
from memorization.jobs.training import TrainingJob
from memorization.store import files

if TYPE_CHECKING:
    from memorization.jobs.attractors import AttractorsJob
    from memorization.jobs.probes import ProbesJob
    from memorization.jobs.references import LiraJob

T = TypeVar("T")
OBJECTIVES = {Objective.recovered: 1.0, Objective.minus_recovered: -1.0}  # of a sweeper that maximises, or minimises


def run(experiment: Experiment) -> tuple[Outcome, float]:
    """Make what an experiment asks for, or find it; with what an optimising sweeper is told of it.

    That is the last train loss of a training; of a recovery the share of members recovered, or minus it.
    """
    if experiment.extracting:
        return _extracted(experiment)
    if experiment.recovering is None:
        return TrainingJob(experiment).run()
    job = _own(experiment)
    outcome, results = job.run()
    tables, missing = [results], {}
    for control in controls_of(experiment):
        try:
            done, table = control.run()
        except InapplicableError as error:
            from memorization.evaluation.verdict import NOT_APPLICABLE

            missing[control.control.value] = f"{NOT_APPLICABLE} ({error})"
            print(f"not applicable  control {control.control}: {error}", flush=True)
            continue
        print(done, flush=True)
        tables.append(table)
    if len(tables) > 1:
        import pandas as pd

        from memorization.evaluation.summary import summarise

        summary = summarise(pd.concat(tables, ignore_index=True), missing)
        row = summary[summary["control"] == Control.none].iloc[-1]
        detail = f"{outcome.detail}; {row['verdict']} (p = {row['verdict_p']:.1g}: {row['controls']})"
        outcome = replace(outcome, detail=detail)
    for probes in probes_of(job):
        print(probes.run(), flush=True)
    try:
        for found in attractors_of(job):
            print(found.run(), flush=True)
    except InapplicableError as error:
        print(f"not applicable  attractors: {error}", flush=True)
    for inference in lira_of(job):
        print(inference.run(), flush=True)
    return outcome, OBJECTIVES[experiment.recovering.objective] * share(results)


def _extracted(experiment: Experiment) -> tuple[Outcome, float]:
    """The extraction at the last rung, once those at the others and of the controls are told of; and its share."""
    from memorization.jobs import extraction

    *others, (last, run) = _refused_if_inapplicable(extraction.run, experiment)
    for outcome, _ in others:
        print(outcome, flush=True)
    for control in _controls_of_extraction(experiment):
        try:
            for outcome, _ in extraction.run(experiment.of_control(control)):
                print(outcome, flush=True)
        except InapplicableError as error:
            print(f"not applicable  control {control}: {error}", flush=True)
    return last, float(run.done["figures"]["share"])


def _planned_extraction(experiment: Experiment) -> Outcome:
    from memorization.jobs import extraction

    parts = _refused_if_inapplicable(extraction.plan, experiment)
    for control in _controls_of_extraction(experiment):
        with suppress(InapplicableError):
            parts += extraction.plan(experiment.of_control(control))
    found = all(part.status is Standing.found for part in parts)
    detail = "; ".join(f"{part.name} {part.detail}" for part in parts)
    return Outcome(parts[0].name, Standing.found if found else Standing.missing, detail)


def _controls_of_extraction(experiment: Experiment) -> tuple[Control, ...]:
    from memorization.jobs.extraction import OF_EXTRACTION

    assert experiment.extracting
    asked = experiment.extracting.controls and experiment.extracting.control is Control.none
    return OF_EXTRACTION if asked else ()


def _refused_if_inapplicable(call: Callable[[Experiment], T], experiment: Experiment) -> T:
    """What `call` gives; `SettingError` where the experiment is itself a control that cannot be had."""
    try:
        return call(experiment)
    except InapplicableError as error:
        assert experiment.extracting
        raise SettingError("control", experiment.extracting.control.value, f"not applicable: {error}") from error


def plan(experiment: Experiment) -> Outcome:
    """What `run` would do: `found` if the store has it all, what is asked for beside it as well."""
    if experiment.extracting:
        return _planned_extraction(experiment)
    if experiment.recovering is None:
        return TrainingJob(experiment).plan()
    job = _own(experiment)
    parts = {"": job.plan()}
    for control in controls_of(experiment):
        with suppress(InapplicableError):
            parts[f"; control {control.control} "] = control.plan()
    for probes in probes_of(job):
        parts["; probes "] = probes.plan()
    for found in attractors_of(job):
        parts[f"; {found.name} "] = found.plan()
    for inference in lira_of(job):
        parts[f"; {inference.name}: "] = inference.plan()
    complete = all(part.status is Standing.found for part in parts.values())
    detail = "".join(text + part.detail for text, part in parts.items())
    return Outcome(parts[""].name, Standing.found if complete else Standing.missing, detail)


def is_found(experiment: Experiment) -> bool:
    """Has the store all that an experiment asks for? Of one that it lacks nothing is drawn or built to say so."""
    if not experiment.extracting:
        job = RecoveryJob(experiment) if experiment.recovering else TrainingJob(experiment)
        if not files.is_done(job.folder):
            return False
    return plan(experiment).status is Standing.found


def training_of(experiment: Experiment) -> TrainingJob:
    """The training of the autoencoder that an experiment is about."""
    if experiment.extracting:
        from memorization.jobs import extraction

        return extraction.training_of(experiment)
    return RecoveryJob(experiment).training if experiment.recovering else TrainingJob(experiment)


def _own(experiment: Experiment) -> RecoveryJob:
    """The recovery that an experiment names, which may be a control; raises `SettingError` where that cannot be had."""
    job = RecoveryJob(experiment)
    try:
        job.check()
    except InapplicableError as error:
        raise SettingError("control", job.control.value, f"it is not applicable: {error}") from error
    return job


def controls_of(experiment: Experiment) -> Iterator[RecoveryJob]:
    """The controls that an experiment asks for beside its own recovery."""
    assert experiment.recovering
    if experiment.recovering.controls and experiment.recovering.control is Control.none:
        yield from (RecoveryJob(experiment.of_control(control)) for control in CONTROLS)


def probes_of(job: RecoveryJob) -> Iterator[ProbesJob]:
    """The probes that a recovery asks for; a control has none."""
    if job.recovering.probes and job.control is Control.none:
        from memorization.jobs.probes import ProbesJob

        yield ProbesJob(job)


def attractors_of(job: RecoveryJob) -> list[AttractorsJob]:
    """The attractors that a recovery asks for, one job a rung; a control has none."""
    if not job.recovering.attractors or job.control is not Control.none:
        return []
    from memorization.jobs.attractors import AttractorsJob

    return [AttractorsJob(job, rung) for rung in job.rungs()]


def lira_of(job: RecoveryJob) -> list[LiraJob]:
    """The membership inference that a recovery asks for; a control has none."""
    if not job.recovering.references or job.control is not Control.none:
        return []
    from memorization.jobs.references import LiraJob

    return [LiraJob(job)]
