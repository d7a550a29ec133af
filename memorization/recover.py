"""`memorization-recover`: recover members and non-members from an autoencoder, which is trained first if need be."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import torch
from omegaconf import DictConfig
from safetensors.torch import save
from torch import nn
from tqdm import tqdm

from memorization import architectures
from memorization.architectures import given_file
from memorization.cli import entry
from memorization.config.schema import build, check_choice
from memorization.data import Split, as_float
from memorization.engine.recovery import recover
from memorization.evaluation.controls import CONTROLS, untrained
from memorization.evaluation.probes import attraction, recover_probes
from memorization.evaluation.summary import summarise
from memorization.jobs.identity import Job, autoencoder_folder, chosen_rungs, inapplicable
from memorization.jobs.sweep import Outcome
from memorization.recovery.methods.nearest_member import NearestMember
from memorization.recovery.solver import DIVERGED, ITERATION_LIMIT
from memorization.store import files, lock, reading
from memorization.store.signature import rung_name, signature_of
from memorization.tracking import curves
from memorization.tracking.tracker import tracking
from memorization.train import obtain, planned

OBJECTIVES = {"recovered": 1.0, "minus_recovered": -1.0}  # of a sweeper that maximises, or minimises


def reached_rungs(wanted: Any, autoencoder: reading.Run) -> list[float]:
    """The rungs that `rungs=` names among those that the training reached; raises `ValueError` if one is missing."""
    reached = list(autoencoder.rungs)
    hint = f"it ended at a loss of {autoencoder.done['train_loss']:.2e}; raise training.max_steps"
    if not reached:
        raise ValueError(f"the training reached no rung of training.ladder: {hint}")
    if wanted in ("all", "last"):
        return chosen_rungs(wanted, reached)
    rungs = chosen_rungs(wanted, sorted(map(float, autoencoder.config["training"]["ladder"]), reverse=True))
    if missing := [rung for rung in rungs if rung not in reached]:
        raise ValueError(f"rungs: the training did not reach {missing[0]:g}: {hint}")
    return rungs


@dataclass(frozen=True)
class Subject:
    """What a run recovers from: at each rung its train loss and its autoencoder; and the images.

    signature: that of the trained autoencoder, "" for a control that has none. Without one, the only rung is NaN.
    weights: the autoencoder's files at these rungs, with their checksums.
    """

    split: Split
    losses: dict[float, float]
    model: Callable[[float], nn.Module]
    signature: str = ""
    weights: dict[str, str] = field(default_factory=dict)


def subject_of(job: Job) -> Subject:
    """The autoencoder, or what stands for it, and the images of a run; trains it if the store lacks it."""
    config, control = job.config, job.config["control"]
    if control in ("none", "reference"):
        autoencoder, split, _ = obtain(config, job.recipe.method.access, swap=control == "reference")
        try:
            rungs = reached_rungs(config["rungs"], autoencoder)
        except ValueError as error:
            raise ValueError(f"{error}" if control == "none" else f"control={control}: {error}") from None
        losses = {rung: autoencoder.rungs[rung] for rung in rungs}
        weights = autoencoder.weights(rungs)
        return Subject(split, losses, autoencoder.autoencoder, autoencoder.folder.name, weights)
    split = build("dataset", config["dataset"]).load(config["seed"])
    model: nn.Module = nn.Identity()
    if control == "untrained":
        settings = config["architecture"] | ({"weights": ""} if given_file(config["architecture"]) else {})
        fresh = architectures.build(shape=split.shape, seed=config["seed"], **settings)
        model = untrained(fresh, config["seed"]).eval()
    return Subject(split, {math.nan: math.nan}, lambda _: model)


def run(config: dict[str, Any]) -> tuple[Outcome, float]:
    """Make the recovery of a resolved configuration, and its controls if asked, or find them.

    The objective is the members' recovered fraction, or minus it.
    """
    check_choice("control", config["control"], ("none", *CONTROLS))
    if config["probes"] < 0:
        raise ValueError(f"probes is {config['probes']}; it must be at least 0")
    check_choice("objective", config["objective"], tuple(OBJECTIVES))
    outcome, results, row = _run(config)
    if config["controls"] and config["control"] == "none":
        tables = [results]
        for name in CONTROLS:
            if reason := inapplicable(config, name):
                print(f"not applicable  control {name}: {reason}", flush=True)
                continue
            done, table, _ = _run({**config, "control": name})
            print(f"{done.status}  {done.name}  {done.detail}", flush=True)
            tables.append(table)
        summary = summarise(pd.concat(tables, ignore_index=True))
        row = summary[summary["control"] == "none"].iloc[-1]
        detail = f"{outcome.detail}; {row['verdict']} (p = {row['verdict_p']:.1g}: {row['controls']})"
        outcome = replace(outcome, detail=detail)
    if config["probes"] and config["control"] == "none":
        print(_probe(config), flush=True)
    return outcome, OBJECTIVES[config["objective"]] * float(row["members_recovered"])


def plan(config: dict[str, Any]) -> Outcome:
    """What `run` would do: it is `found` if the store has the run, and the controls and probes asked for."""
    parts = {"": _plan(config)}
    if config["control"] == "none":
        if config["controls"]:
            applicable = [name for name in CONTROLS if not inapplicable(config, name)]
            parts |= {f"; control {name} ": _plan({**config, "control": name}) for name in applicable}
        if config["probes"]:
            parts["; probes "] = planned("", Job.of(config).probes)
    status = "found" if all(part.status == "found" for part in parts.values()) else "missing"
    return Outcome(parts[""].name, status, "".join(text + part.detail for text, part in parts.items()))


def _plan(config: dict[str, Any]) -> Outcome:
    """What `_run` would do."""
    job, also = Job.of(config), ""
    job.check()
    if config["control"] in ("none", "reference"):
        folder = autoencoder_folder(config, swap=config["control"] == "reference")
        also = f"; autoencoder {planned('', folder).detail}"
    return planned(job.name, job.folder, also)


def _probe(config: dict[str, Any]) -> str:
    """Recover near-member probes of the first `probes` members, or find them: a line on what was found.

    They lie in `<store>/probes/<signature>`, one row a probe and rung.
    """
    job, status = Job.of(config), "found"
    folder = job.probes
    with lock.on(folder):
        if not files.is_intact(folder, remove=True):
            status, subject = "done", subject_of(job)
            split, count = subject.split, config["probes"]
            tables = []
            for rung, loss in subject.losses.items():
                found = recover_probes(
                    job.recipe,
                    subject.model(rung),
                    as_float(split.members),
                    as_float(split.non_members),
                    count=count,
                    indices=split.member_indices,
                    batch_size=config["recovery"]["batch_size"],
                )
                tables.append(found.assign(rung=rung, train_loss=loss))
            facts = {
                "signature": folder.name,
                "autoencoder": subject.signature,
                "weights": subject.weights,
                "setup": job.setup,
            }
            with files.creating(folder, config, facts) as aside:
                table = pd.concat(tables, ignore_index=True).assign(setup=job.setup, signature=folder.name)
                files.write_table(aside / "results.parquet", table)
    results = reading.load_run(folder).results
    last = attraction(results[results["rung"] == results["rung"].min()])
    near = last.loc[last["captured"] >= 0.5, "distance"]
    reach = f"half or more up to a distance of {near.max():.3f}" if len(near) else "less than half"
    return f"{status}  probes of {job.name}  answered with their member: {reach} → {folder}"


def _run(config: dict[str, Any]) -> tuple[Outcome, pd.DataFrame, pd.Series]:
    """Make, or find, the one run that a resolved configuration stands for; its results and their last summary row."""
    job, status = Job.of(config), "found"
    job.check()
    if not files.is_intact(job.folder):
        subject = subject_of(job)
        with lock.on(job.folder):
            if not files.is_intact(job.folder, remove=True):
                status = "done"
                _recover(job, subject)
    results = reading.load_run(job.folder).results
    results = results.assign(control=config["control"], task=job.task, setup=job.setup)
    last = summarise(results).iloc[-1]
    level = "" if math.isnan(last["train_loss"]) else f"at train loss {last['train_loss']:.0e}: "
    share, others = last["members_recovered"], last["non_members_recovered"]
    detail = f"{level}members {share:.0%}{_cut_short(results)}, non-members {others:.0%} → {job.folder}"
    return Outcome(job.name, status, detail), results, last


def _cut_short(results: pd.DataFrame) -> str:
    """Why the last rung did not bring members back, in brackets, where iterations ran out or images diverged."""
    last = results if results["rung"].isna().all() else results[results["rung"] == results["rung"].min()]
    missing = last.loc[last["member"] & ~last["recovered"], "status"]
    reasons = {ITERATION_LIMIT: "ran out of iterations", DIVERGED: "diverged"}
    counts = [f"{count} {why}" for status, why in reasons.items() if (count := int((missing == status).sum()))]
    return f" (of the {len(missing)} missing {', '.join(counts)})" if counts else ""


def _recover(job: Job, subject: Subject) -> None:
    config, recipe, folder, name = job.config, job.recipe, job.folder, job.name
    store, split, rungs = Path(config["store"]), subject.split, list(subject.losses)
    if config["control"] == "nearest":
        recipe = replace(recipe, method=NearestMember(as_float(split.members)))
    count = len(split.members) + len(split.non_members)
    gallery = [*range(min(config["gallery"], len(split.members)))]
    gallery += [len(split.members) + i for i in range(min(config["gallery"], len(split.non_members)))]
    facts = {
        "signature": folder.name,
        "name": name,
        "autoencoder": subject.signature,
        "weights": subject.weights,
        "study": config["study"],
        "left_out": split.left_out,
    }
    columns = {
        "dataset": config["dataset"]["name"],
        "architecture": config["architecture"]["name"],
        "degradation": config["degradation"]["name"],
        **asdict(recipe.degradation.describe()),
        "recovery": "nearest" if config["control"] == "nearest" else config["recovery"]["name"],
        "operator": config["operator"]["name"] if recipe.asks_operator else "none",
        "control": config["control"],
        "task": job.task,
        "setup": job.setup,
        "seed": config["seed"],
        "threshold_db": config["threshold_db"],
        "study": config["study"],
        "signature": folder.name,
    }
    tags = [columns[key] for key in ("dataset", "architecture", "recovery", "degradation")]
    tags += [f"operator {columns['operator']}"] if recipe.asks_operator else []
    tags += [f"seed {config['seed']}", *([] if config["control"] == "none" else [f"control {config['control']}"])]
    title = f"{columns['dataset']} / {columns['architecture']}: {name}"
    details = {"kind": "recover", "name": title, "study": config["study"], "tags": tags}
    batches = -(-count // config["recovery"]["batch_size"])
    tables: list[pd.DataFrame] = []
    pictures: dict[str, torch.Tensor] = {}
    with (
        files.creating(folder, config, facts) as aside,
        tracking(config["tracking"], store, config=config, **details) as tracker,
        tqdm(
            total=len(rungs) * batches * recipe.starts * recipe.method.max_iterations,
            desc=name,
            unit="it",
            disable=not config["progress"],
            mininterval=0.5 if sys.stderr.isatty() else 10,
        ) as bar,
    ):
        for rung in rungs:
            bar.set_postfix_str(f"rung {rung:g}")
            shards = aside / files.SHARDS / signature_of(subject.weights) / rung_name(rung)  # of these weights
            table, shown = recover(
                subject.model(rung),
                split,
                recipe,
                shards,
                batch_size=config["recovery"]["batch_size"],
                gallery=gallery,
                on_iteration=bar.update,
                trainer=config["trainer"],
            )
            tables.append(table.assign(rung=rung, train_loss=subject.losses[rung], **columns))
            for kind in ("answer", "path"):
                if kind in shown:
                    pictures[f"{kind}/{rung_name(rung)}"] = shown.pop(kind)
            pictures |= shown
            row = summarise(tables[-1]).iloc[0]
            metrics = curves.rung_metrics(row)
            if math.isnan(rung):
                tracker.summarise({key: value for key, value in metrics.items() if key != "train_loss"})
                continue
            tracker.log(metrics)
            tracker.summarise({f"{key}@{rung_name(rung)}": value for key, value in metrics.items()})
        files.write_table(aside / "results.parquet", pd.concat(tables, ignore_index=True))
        files.write(aside / "gallery.safetensors", save(pictures))
        tracker.summarise({"signature": folder.name, "autoencoder": subject.signature})
        if gallery:
            kept = {name: pictures[name] for name in ("original", "degraded")}
            kept["answer"] = pictures[f"answer/{rung_name(rungs[-1])}"]
            facts_shown = ["image", "member", "psnr_erased", "recovered", "status"]
            tracker.gallery(kept, tables[-1].iloc[pictures["row"].tolist()][facts_shown])


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="recover")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(run, plan, config)


def main() -> None:
    """The console script `memorization-recover`."""
    entry.main(application)


if __name__ == "__main__":
    main()
