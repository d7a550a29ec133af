"""What a store of many runs costs to list, load and report.

    python experiments/scaling/store.py STORE [RUNS [COMMAND ...]]

The runs are synthetic: their files are of the usual form and size (50 + 50 images at two rungs, a gallery of 2 + 2
images of 8x8), their scores are drawn. STORE is a folder that does not exist, or that an earlier call made to its
end. Each command runs in a process of its own; its seconds, with the start of Python, and its peak memory go to
results.csv.
"""

from __future__ import annotations

import copy
import resource
import subprocess
import sys
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save
from table import report

from memorization.store import files, reading
from memorization.store.signature import rung_name, signature_of

RUNGS = (1e-2, 1e-4)
IMAGES = 100
WORDS = {"dataset": "digits", "architecture": "fc", "degradation": "random_pixels", "fill": "zero"}
METHODS = ("iterate", "pnp_admm", "null_space", "energy")
OPERATORS = ("known", "alternating", "robust")
FRACTIONS = tuple(np.round(np.linspace(0.1, 0.95, 20), 4).tolist())
COMMANDS = {
    "list": "from memorization.cli.store import main; main(['--store', {store!r}, 'list'])",
    "load": "from memorization import load_results; load_results({store!r})",
    "summary": "from memorization.report import main; main(['--store', {store!r}, '--summary'])",
    "report": "from memorization.report import main; main(['--store', {store!r}])",
}
PEAK = """
import re, sys
try:
    {code}
finally:
    print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def scores(rng: np.random.Generator, fraction: float) -> pd.DataFrame:
    """The columns that a recovery scores, drawn, one row an image and rung."""
    count = IMAGES * len(RUNGS)
    row = np.tile(np.arange(IMAGES), len(RUNGS))
    member = row < IMAGES // 2
    rung = np.repeat(RUNGS, IMAGES)
    psnr = rng.normal(np.where(member, 45 - 20 * fraction + 10 * (rung < 1e-3), 14), 8, count).astype(np.float32)
    real = {name: rng.random(count, np.float32) for name in ("ssim", "residual", "operator_error", "estimated_erased")}
    whole = {name: rng.integers(0, 100, count) for name in ("nearest_member", "iterations", "queries", "image")}
    return pd.DataFrame(
        {
            **whole,
            **real,
            "psnr_erased": psnr,
            "psnr": psnr + 1,
            "start": 0,
            "energy": np.float32(np.nan),
            "is_nearest": psnr > 20,
            "recovered": psnr > 25,
            "status": rng.choice(["converged", "iteration_limit"], count),
            "seconds": rng.random(count),
            "member": member,
            "row": row,
            "rung": rung,
            "train_loss": 0.9 * rung,
        }
    )


def make_run(store: Path, number: int, template: dict[str, object]) -> None:
    """Run `number` of the synthetic sweep over seeds, degradations, methods and operators."""
    rest, method = divmod(number, len(METHODS))
    rest, operator = divmod(rest, len(OPERATORS))
    seed, place = divmod(rest, len(FRACTIONS))
    choices = {"recovery": METHODS[method], "operator": OPERATORS[operator]}
    config: dict[str, object] = copy.deepcopy(template) | {"seed": seed}
    for group, name in choices.items():
        config[group] = {**config[group], "name": name}
    config["degradation"] = {**config["degradation"], "fraction": FRACTIONS[place]}
    signature = signature_of(config)
    task, setup = signature_of({"task": place, "seed": seed}), signature_of({"setup": number})
    columns = {**WORDS, **choices, "fraction": FRACTIONS[place], "noise": 0.0, "control": "none", "seed": seed}
    columns |= {"task": task, "setup": setup, "threshold_db": 25.0, "study": "scaling", "signature": signature}
    name = f"{METHODS[method]} {OPERATORS[operator]} random_pixels {FRACTIONS[place]:g}"
    autoencoder = reading.Run(store / "autoencoders" / signature_of({"seed": seed}))
    facts = {"signature": signature, "name": name, "autoencoder": autoencoder.folder.name, "study": "scaling"}
    facts["weights"] = autoencoder.weights(RUNGS)
    picture = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    pictures = {name: picture.clone() for name in ("original", "degraded", *(f"answer/{rung_name(r)}" for r in RUNGS))}
    with files.creating(store / "recoveries" / signature, config, facts) as folder:
        table = scores(np.random.default_rng(number), FRACTIONS[place]).assign(**columns)
        files.write_table(folder / "results.parquet", table)
        files.write(folder / "gallery.safetensors", save({**pictures, "row": torch.tensor([0, 1, 50, 51])}))


def make_autoencoder(store: Path, seed: int) -> None:
    """An autoencoder of the synthetic sweep, with files of no meaning in place of its weights."""
    signature = signature_of({"seed": seed})
    with files.creating(store / "autoencoders" / signature, {"seed": seed}, {"signature": signature}) as folder:
        for rung in RUNGS:
            files.write(folder / f"weights/{rung_name(rung)}.safetensors", f"{seed} {rung}")


def configuration() -> dict[str, object]:
    """A resolved configuration of `memorization-recover`, as it stands in `config.yaml`."""
    from hydra import compose, initialize_config_dir

    from memorization.cli import entry
    from memorization.config import schema
    from memorization.config.experiment import record_of

    schema.register()
    with initialize_config_dir(str(entry.CONF), version_base="1.3"):
        config: dict[str, object] = record_of(compose("recover", ["dataset=digits"]))
    return config


def make(store: Path, count: int) -> None:
    """Fill `store` with `count` synthetic runs, with all cores."""
    template = configuration()
    for seed in range(-(-count // (len(METHODS) * len(OPERATORS) * len(FRACTIONS)))):
        make_autoencoder(store, seed)
    with Pool() as pool:
        pool.starmap(make_run, ((store, number, template) for number in range(count)), chunksize=50)


def measure(store: Path, command: str) -> dict[str, float]:
    """Seconds, those of the processor, and peak memory (MB) of one of `COMMANDS` in a process of its own."""
    code = PEAK.format(code=COMMANDS[command].format(store=str(store)))
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if "Traceback" in ended.stderr or "error" in ended.stderr:
        sys.exit(ended.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor": processor, "megabytes": int(ended.stderr.split()[-1]) / 1e3}


def main() -> None:
    """Make the store if need be, and measure every command once with warm disk caches."""
    store, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    if len(reading.finished(store)) != count:
        if store.exists() and any(store.iterdir()):
            sys.exit(
                f"error: {store} holds something else than {count} finished runs; name a folder that does not exist"
            )
        make(store, count)
    for command in sys.argv[3:] or COMMANDS:
        report(f"store {command}", runs=count, **measure(store, command))


if __name__ == "__main__":
    main()
