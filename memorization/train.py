"""`memorization-train`: train one autoencoder and keep its weights at every rung of the ladder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from memorization import architectures
from memorization.architectures.autoencoder import reconstruction_loss
from memorization.architectures.external.contract import BATCH, check_contract, check_loss, evaluating
from memorization.cli import entry
from memorization.config.schema import build
from memorization.data import Split, as_float, check_seed
from memorization.engine import hardware
from memorization.engine.history import History, weights_of
from memorization.engine.training import train
from memorization.jobs.identity import autoencoder_config, autoencoder_folder
from memorization.jobs.sweep import Outcome
from memorization.store import files, lock, reading
from memorization.store.signature import signature_of
from memorization.tracking.tracker import check as check_tracking
from memorization.tracking.tracker import tracking

NAMED = 5  # skipped images that a note lists


def obtain(config: dict[str, Any], access: str = "queries", swap: bool = False) -> tuple[reading.Run, Split, bool]:
    """The autoencoder of a configuration and its images; trains it if the store lacks it (the third value).

    One of the user's own must keep its contract, for a recovery method with `access`; one whose weights are given is
    taken into the store as it is, with its loss on the members as its one rung. With `swap` it is the reference
    autoencoder, trained on the non-members in place of the members. Raises `ValueError` for settings out of range
    before anything is written.
    """
    store = Path(config["store"])
    check_tracking(config["tracking"])
    check_seed(config["seed"])
    hardware.check(config["trainer"])
    if not config["store"]:
        raise ValueError("store is empty; name a folder: store=FOLDER")
    settings = build("training", config["training"])
    identity = autoencoder_config(config, swap)
    folder = store / "autoencoders" / signature_of(identity)
    split = build("dataset", config["dataset"]).load(config["seed"])
    model = architectures.build(shape=split.shape, seed=config["seed"], **config["architecture"])
    if config["architecture"]["name"] == "custom":
        with evaluating(model):
            some = torch.cat([split.members[:1], split.non_members[:1]])
            at_once = config["recovery"]["batch_size"] if "recovery" in config else BATCH
            check_contract(model, as_float(some), access, min(at_once, len(split.members) + len(split.non_members)))
    file, packages = architectures.given_file(config["architecture"]), config["architecture"].get("allowed", [])
    files.check_writable(store)
    with lock.on(folder):
        if files.is_intact(folder, remove=True):
            return reading.load_run(folder, packages), split, False
        parameters = architectures.count_parameters(model)
        trained_on = split.non_members if swap else split.members
        name = f"{config['architecture']['name']}-{config['dataset']['name']}-{folder.name[:6]}"
        facts: dict[str, Any] = {
            "signature": folder.name,
            "name": _name(config),
            "shape": split.shape,
            "trained_on": "non_members" if swap else "members",
            "parameters": parameters,
            "parameters_per_pixel": parameters / trained_on[:, 0].numel(),
            "left_out": split.left_out,
        }
        print(
            f"{'nothing to train in' if file else 'training'} {name}: "
            f"{len(trained_on)} {'non-members' if swap else 'members'} of {'x'.join(map(str, split.shape))}, "
            f"{parameters:,} parameters ({facts['parameters_per_pixel']:.1f} a pixel of the training set)",
            flush=True,
        )
        if any(split.left_out.values()):
            print(f"note: {told(split)}", flush=True)
        for note in split.notes:
            print(f"note: {note}", flush=True)
        if not file and (least := architectures.least_loss(model, trained_on)) > settings.target_loss:
            print(
                f"note: no weights of this width bring the train loss below {least:.1e}, as the last layer is linear; "
                f"to go lower, set architecture.width to {len(trained_on)} or more",
                flush=True,
            )
        tags = [config["dataset"]["name"], config["architecture"]["name"], f"seed {config['seed']}"]
        details = {"kind": "train", "name": name, "study": config["study"], "tags": tags, "config": identity}
        with (
            files.creating(folder, config, facts) as aside,
            tracking(config["tracking"], store, **details) as tracker,
        ):
            if file:
                history = given(model, trained_on)
            else:
                history = train(
                    model,
                    trained_on,
                    settings,
                    seed=config["seed"],
                    log=lambda step, metrics: tracker.log({"train/step": step, **metrics}),
                    progress=config["progress"],
                    trainer=config["trainer"],
                    folder=aside,
                    checkpoint_seconds=config["checkpoint_seconds"],
                )
            history.write(aside)
            if file and config["architecture"]["export"]:  # a program is kept whole, not as its weights
                (saved,) = (aside / "weights").iterdir()
                files.write(saved.with_suffix(".pt2"), file.read_bytes())
                saved.unlink()
            facts |= {"rungs": history.rungs, "steps": history.steps, "train_loss": history.loss}
            facts |= {} if file else {"seconds": history.seconds}
            tracker.summarise({"train_loss": history.loss, "steps": history.steps, "signature": folder.name})
            tracker.summarise({key: facts[key] for key in ("parameters", "parameters_per_pixel")})
        if not file and history.loss > settings.target_loss:
            print(
                f"note: the training ended at its budget of {settings.max_steps} steps with a loss of "
                f"{history.loss:.2e}, above training.target_loss={settings.target_loss:g}; "
                "raise training.max_steps to go lower",
                flush=True,
            )
        if not history.rungs:
            print(
                f"note: no rung of training.ladder was reached (the highest is {max(settings.ladder):g}): no weights "
                "are kept, and nothing can be recovered",
                flush=True,
            )
    return reading.load_run(folder, packages), split, True


def given(autoencoder: nn.Module, members: Tensor) -> History:
    """What a training would have recorded of an autoencoder that is trained already: its loss is its one rung."""
    with evaluating(autoencoder):
        loss = reconstruction_loss(autoencoder, members)
    check_loss(loss, members)
    return History(rungs={loss: loss}, weights={loss: weights_of(autoencoder)}, loss=loss)


def told(split: Split) -> str:
    """What the draw of the images left out, in a line; `done.json` names all."""
    few = "; ".join(split.skipped[:NAMED]) + ("; …" if len(split.skipped) > NAMED else "")
    left = [f"{len(split.skipped)} unusable images ({few})"] if split.skipped else []
    left += [f"{split.exact_duplicates} exact duplicates"] if split.exact_duplicates else []
    left += [f"{split.near_duplicates} near duplicates of members"] if split.near_duplicates else []
    return f"left out {', '.join(left)}"


def run(config: dict[str, Any]) -> tuple[Outcome, float]:
    """Train the autoencoder of a resolved configuration, or find it; the objective is its last train loss."""
    autoencoder, _, trained = obtain(config)
    done = autoencoder.done
    file = architectures.given_file(config["architecture"])
    how = "on the members; its weights are given, nothing to train" if file else f"after {done['steps']} steps"
    how += f" in {done['seconds']:,.0f} s" if "seconds" in done else ""  # not in older stores
    detail = f"train loss {done['train_loss']:.2e} {how} → {autoencoder.folder}"
    return Outcome(_name(config), "done" if trained else "found", detail), done["train_loss"]


def plan(config: dict[str, Any]) -> Outcome:
    """What `run` would do."""
    return planned(_name(config), autoencoder_folder(config))


def planned(name: str, folder: Path, also: str = "") -> Outcome:
    """`found` or `missing`, for a run that is or is not finished, and what there is of it."""
    status = files.status(folder) if folder.exists() else "new"
    return Outcome(name, "found" if status == "done" else "missing", f"{status} → {folder}{also}")


def _name(config: dict[str, Any]) -> str:
    return f"{config['architecture']['name']} on {config['dataset']['name']}"


@hydra.main(version_base="1.3", config_path=str(entry.CONF), config_name="train")
def application(config: DictConfig) -> float:
    """One job, composed by Hydra."""
    return entry.job(run, plan, config)


def main() -> None:
    """The console script `memorization-train`."""
    entry.main(application)


if __name__ == "__main__":
    main()
