"""`memorization-recover`: recover members and non-members from an autoencoder, which is trained first if need be."""

from __future__ import annotations

import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import hydra
import pandas as pd
import torch
from omegaconf import DictConfig
from safetensors.torch import save_file
from tqdm import tqdm

from memorization import entry, runs, tracking
from memorization.architectures import given_file
from memorization.audit import describe
from memorization.recovery import Anderson, Method
from memorization.recovery.experiment import Recipe
from memorization.recovery.module import recover
from memorization.schema import build, flat
from memorization.summary import summarise
from memorization.train import autoencoder_config, obtain


def recovery_method(settings: dict[str, Any]) -> Method:
    """The method that the group `recovery` of a configuration stands for, extrapolated if it says so."""
    method: Method = build("recovery", settings)
    depth = settings["extrapolation"]
    return Anderson(method, depth) if depth else method


def recovery_config(config: dict[str, Any], method: Method) -> dict[str, Any]:
    """The part of a configuration that can change a recovery's table, beside its autoencoder.

    The operator is left out for a `method` that asks for none, so that such runs are one and the same.
    """
    return {
        "degradation": config["degradation"],
        "recovery": config["recovery"],
        "operator": config["operator"] if method.uses_operator else {"name": "none"},
        "rungs": config["rungs"],
        "threshold_db": config["threshold_db"],
    }


def chosen_rungs(wanted: Any, ladder: list[float]) -> list[float]:
    """The rungs of `ladder` that `rungs=` names; raises `ValueError` for one that is not on it."""
    if wanted in ("all", "last"):
        return ladder if wanted == "all" else ladder[-1:]
    try:
        rungs = [float(rung) for rung in (wanted if isinstance(wanted, list) else [wanted])]
    except (TypeError, ValueError):
        raise ValueError(f"rungs={wanted}: give all, last, or a list of train losses such as [1e-2,1e-4]") from None
    if not rungs or set(rungs) - set(ladder):
        names = ", ".join(f"{rung:g}" for rung in ladder)
        raise ValueError(f"rungs={wanted}: choose among the rungs of training.ladder: {names}")
    return sorted(set(rungs), reverse=True)


def reached_rungs(wanted: Any, autoencoder: runs.Run) -> list[float]:
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


def run(config: dict[str, Any]) -> tuple[entry.Outcome, float]:
    """Make the recovery of a resolved configuration, or find it; the objective is the members' recovered fraction."""
    recipe = Recipe(
        degradation=build("degradation", config["degradation"]),
        method=recovery_method(config["recovery"]),
        operator=build("operator", config["operator"]),
        seed=config["seed"],
        threshold_db=config["threshold_db"],
        starts=config["recovery"]["starts"],
    )
    if config["recovery"]["batch_size"] < 1:
        raise ValueError(f"recovery.batch_size is {config['recovery']['batch_size']}; it must be at least 1")
    if config["gallery"] < 0:
        raise ValueError(f"gallery is {config['gallery']}; it must be at least 0")
    if given_file(config["architecture"]) is None:
        chosen_rungs(config["rungs"], list(map(float, config["training"]["ladder"])))
    elif config["rungs"] not in ("all", "last"):
        raise ValueError(f"rungs={config['rungs']}: an autoencoder whose weights are given has one; leave rungs out")
    identity = recovery_config(config, recipe.method)
    identity["autoencoder"] = runs.signature(autoencoder_config(config))
    folder = Path(config["store"]) / "recoveries" / runs.signature(identity)
    status = "found"
    if not runs.is_done(folder):
        autoencoder, split, _ = obtain(config, recipe.method.access)
        rungs = reached_rungs(config["rungs"], autoencoder)
        with runs.lock(folder):
            if not runs.is_done(folder):
                status = "done"
                _recover(config, recipe, autoencoder, split, rungs, folder)
    summary = summarise(runs.load_run(folder).results)
    last = summary.iloc[-1]
    detail = (
        f"at train loss {last['train_loss']:.0e}: members {last['members_recovered']:.0%}, "
        f"non-members {last['non_members_recovered']:.0%} → {folder}"
    )
    return entry.Outcome(_name(config, recipe), status, detail), float(last["members_recovered"])


def _name(config: dict[str, Any], recipe: Recipe) -> str:
    operator = config["operator"]["name"] if recipe.method.uses_operator else ""
    degradation = flat(config["degradation"])
    fraction = degradation.get("fraction")
    parts = [config["recovery"]["name"], operator, degradation["name"], f"{fraction:g}" if fraction else ""]
    return " ".join(part for part in parts if part)


def _recover(
    config: dict[str, Any], recipe: Recipe, autoencoder: runs.Run, split: Any, rungs: list[float], folder: Path
) -> None:
    store = Path(config["store"])
    count = len(split.members) + len(split.non_members)
    gallery = [*range(min(config["gallery"], len(split.members)))]
    gallery += [len(split.members) + i for i in range(min(config["gallery"], len(split.non_members)))]
    name = _name(config, recipe)
    facts: dict[str, Any] = {"signature": folder.name, "autoencoder": autoencoder.folder.name, "study": config["study"]}
    facts["left_out"] = split.left_out
    columns = {
        "dataset": config["dataset"]["name"],
        "architecture": config["architecture"]["name"],
        "degradation": config["degradation"]["name"],
        **describe(recipe.degradation),
        "recovery": config["recovery"]["name"],
        "operator": config["operator"]["name"] if recipe.method.uses_operator else "none",
        "seed": config["seed"],
        "threshold_db": config["threshold_db"],
        "study": config["study"],
        "signature": folder.name,
    }
    tags = [columns["dataset"], columns["architecture"], columns["recovery"], columns["degradation"]]
    details = {"kind": "recover", "name": name, "study": config["study"], "tags": tags}
    batches = -(-count // config["recovery"]["batch_size"])
    tables: list[pd.DataFrame] = []
    pictures: dict[str, torch.Tensor] = {}
    try:
        with (
            runs.creating(folder, config, facts) as aside,
            tracking.tracking(config["tracking"], store, config=config, **details) as tracker,
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
                shards = aside / "shards" / runs.rung_name(rung)
                table, shown = recover(
                    autoencoder.autoencoder(rung),
                    split,
                    recipe,
                    shards,
                    batch_size=config["recovery"]["batch_size"],
                    gallery=gallery,
                    on_iteration=bar.update,
                    trainer=config["trainer"],
                )
                tables.append(table.assign(rung=rung, train_loss=autoencoder.rungs[rung], **columns))
                pictures[f"answer/{runs.rung_name(rung)}"] = shown.pop("answer")
                pictures |= shown
                row = summarise(tables[-1]).iloc[0]
                metrics = tracking.rung_metrics(row)
                tracker.log(metrics)
                tracker.summarise({f"{key}@{runs.rung_name(rung)}": value for key, value in metrics.items()})
            results = pd.concat(tables, ignore_index=True)
            results.to_parquet(aside / "results.parquet", index=False)
            save_file(pictures, aside / "gallery.safetensors")
            shutil.rmtree(aside / "shards")
            tracker.summarise({"signature": folder.name, "autoencoder": autoencoder.folder.name})
            if gallery:
                strips = torch.cat(
                    [pictures["original"], pictures["degraded"], pictures[f"answer/{runs.rung_name(rungs[-1])}"]], dim=3
                )
                tracker.image("gallery", torch.cat(list(strips), dim=1), "original, degraded, recovered (last rung)")
    except Exception:
        runs.record_failure(folder, config, traceback.format_exc())
        raise


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="recover")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(run, config)


def main() -> None:
    """The console script `memorization-recover`."""
    entry.main(application)


if __name__ == "__main__":
    main()
