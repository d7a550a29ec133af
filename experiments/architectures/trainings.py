"""Write `trainings.csv`, a row for each finished autoencoder of a store: `python trainings.py STORE [FILE]`.

`steps` is the number of the last step, from 0, as in `done.json`; the page and the line of a training count one more.

`step_1e-04` is the step at which the train loss was first seen at 1e-4 or below. `history.csv`, where it is read, has a
row every 10 steps and one for the last, so that a step between may have been the first. It is left out where the
history has the loss of one batch, and not of the training set. `seconds` are those of the steps, by the clock, on a
machine that may have had other work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from memorization.store.files import verified
from memorization.store.reading import Run, finished

LOSSES = (1e-3, 1e-4, 1e-5, 1e-6, 1e-8)
OF_ARCHITECTURE = ("depth", "width", "channels", "kernel_size", "bottleneck", "activation", "skips", "initialisation")


def row_of(run: Run) -> dict[str, Any]:
    """The settings of a training that a study varies, and how it went."""
    config, done = run.config, run.done
    history = pd.read_csv(verified(run.folder, "history.csv"))
    whole = 0 if config["training"]["batch_size"] else len(history)
    met = {f"step_{loss:.0e}": history[:whole].query("train_loss <= @loss")["step"].min() for loss in LOSSES}
    return {
        "dataset": config["dataset"]["name"],
        "shape": "x".join(map(str, done["shape"])),
        "members": config["dataset"]["members"],
        "architecture": config["architecture"]["name"],
        **{key: config["architecture"].get(key) for key in OF_ARCHITECTURE},
        **{key: config["training"][key] for key in ("learning_rate", "batch_size", "max_steps", "target_loss")},
        "seed": config["seed"],
        "parameters": done["parameters"],
        "steps": done["steps"],
        "seconds": done.get("seconds"),  # which older stores lack
        "train_loss": done["train_loss"],
        **met,
        "signature": run.folder.name,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("file", type=Path, nargs="?", default=Path(__file__).with_name("trainings.csv"))
    given = parser.parse_args()
    runs = [run for run in finished(given.store, "autoencoders") if run.done["steps"]]  # without, none was trained
    rows = [row_of(run) for run in runs if run.done.get("trained_on") != "non_members"]  # that are no references
    if not rows:
        parser.error(f"{given.store} holds no finished training")
    counts = dict.fromkeys(("width", "depth", "kernel_size", "bottleneck", *(f"step_{x:.0e}" for x in LOSSES)), "Int64")
    table = pd.DataFrame(rows).astype(counts)
    table = table.sort_values([*table.columns[: len(OF_ARCHITECTURE) + 4], "signature"], key=lambda part: part.map(str))
    table.to_csv(given.file, index=False, float_format="%.4g")
    print(f"{len(table)} trainings → {given.file}")


if __name__ == "__main__":
    main()
