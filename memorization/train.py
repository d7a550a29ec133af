"""`memorization-train`: train one autoencoder and keep its weights at every rung of the ladder."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from memorization import architectures, entry, runs, tracking
from memorization.data import Split, check_seed
from memorization.schema import build
from memorization.training import TrainingDivergedError, check_trainer, train


def autoencoder_config(config: dict[str, Any], swap: bool = False) -> dict[str, Any]:
    """The part of a configuration that can change the autoencoder's weights; what its signature is made of.

    A folder of images counts by its content, not by where it lies. `swap` trains on the non-members.
    """
    dataset = {key: value for key, value in config["dataset"].items() if key != "path"}
    return {
        "seed": config["seed"],
        "dataset": {**dataset, "fingerprint": build("dataset", config["dataset"]).fingerprint()},
        "architecture": config["architecture"],
        "training": config["training"],
        "precision": config["trainer"]["precision"],
        **({"swapped": True} if swap else {}),
    }


def obtain(config: dict[str, Any], swap: bool = False) -> tuple[runs.Run, Split, bool]:
    """The autoencoder of a configuration and its images; trains it if the store lacks it (the third value).

    With `swap` it is the reference autoencoder, trained on the non-members in place of the members. Raises `ValueError`
    for settings out of range before anything is written.
    """
    store = Path(config["store"])
    tracking.check(config["tracking"])
    check_seed(config["seed"])
    check_trainer(config["trainer"])
    if not config["store"]:
        raise ValueError("store is empty; name a folder: store=FOLDER")
    settings = build("training", config["training"])
    identity = autoencoder_config(config, swap)
    folder = store / "autoencoders" / runs.signature(identity)
    split = build("dataset", config["dataset"]).load(config["seed"])
    model = architectures.build(shape=split.shape, seed=config["seed"], **config["architecture"])
    runs.check_writable(store)
    with runs.lock(folder):
        if runs.is_done(folder):
            return runs.load_run(folder), split, False
        parameters = architectures.count_parameters(model)
        trained_on = split.non_members if swap else split.members
        name = f"{config['architecture']['name']}-{config['dataset']['name']}-{folder.name[:6]}"
        facts: dict[str, Any] = {
            "signature": folder.name,
            "shape": split.shape,
            "parameters": parameters,
            "parameters_per_pixel": parameters / trained_on.numel(),
        }
        print(
            f"training {name}: {len(trained_on)} {'non-members' if swap else 'members'} of "
            f"{'x'.join(map(str, split.shape))}, "
            f"{parameters:,} parameters ({facts['parameters_per_pixel']:.1f} a pixel of the training set)",
            flush=True,
        )
        details = {"kind": "train", "name": name, "study": config["study"], "tags": [], "config": identity}
        try:
            with (
                runs.creating(folder, config, facts) as aside,
                tracking.tracking(config["tracking"], store, **details) as tracker,
            ):
                history = train(
                    model,
                    trained_on,
                    settings,
                    seed=config["seed"],
                    log=lambda step, metrics: tracker.log({"train/step": step, **metrics}),
                    progress=config["progress"],
                    trainer=config["trainer"],
                )
                history.write(aside)
                facts |= {"rungs": history.rungs, "steps": history.steps, "train_loss": history.loss}
                tracker.summarise({"train_loss": history.loss, "steps": history.steps, "signature": folder.name})
                tracker.summarise({key: facts[key] for key in ("parameters", "parameters_per_pixel")})
        except TrainingDivergedError:
            runs.record_failure(folder, config, traceback.format_exc())
            raise
        if history.loss > settings.target_loss:
            print(
                f"note: the training ended at its budget of {settings.max_steps} steps with a loss of "
                f"{history.loss:.2e}, above training.target_loss={settings.target_loss:g}; "
                "raise training.max_steps to go lower",
                flush=True,
            )
    return runs.load_run(folder), split, True


def run(config: dict[str, Any]) -> tuple[entry.Outcome, float]:
    """Train the autoencoder of a resolved configuration, or find it; the objective is its last train loss."""
    autoencoder, _, trained = obtain(config)
    done = autoencoder.done
    detail = f"train loss {done['train_loss']:.2e} after {done['steps']} steps → {autoencoder.folder}"
    name = f"{config['architecture']['name']} on {config['dataset']['name']}"
    return entry.Outcome(name, "done" if trained else "found", detail), done["train_loss"]


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="train")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(run, config)


def main() -> None:
    """The console script `memorization-train`."""
    entry.main(application)


if __name__ == "__main__":
    main()
