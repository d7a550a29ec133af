"""Writes recoveries with results of choice into a store, for tests of the report."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from memorization.evaluation.extraction import summarised
from memorization.store import files
from memorization.store.signature import rung_name, signature_of

CONFIG: dict[str, Any] = {
    "seed": 0,
    "rungs": "all",
    "threshold_db": 25.0,
    "trainer": {"precision": "32-true"},
    "dataset": {"name": "digits", "members": 4, "non_members": 4},
    "architecture": {"name": "fc", "depth": 3},
    "training": {"name": "adam", "ladder": [0.1, 0.01]},
    "degradation": {"name": "random_pixels", "fraction": 0.5, "fill": "zero", "noise": 0.0},
    "recovery": {"name": "energy", "weight": 1.0},
    "operator": {"name": "known"},
}


def write_run(
    store: Path,
    settings: dict[str, Any],
    rungs: tuple[float, ...] = (0.1, 0.01),
    recovered: tuple[int, int] = (2, 0),
    status: str = "converged",
    autoencoder: str = "",
    first: int = 100,
    revisions: dict[str, int] | None = None,
) -> str:
    """A recovery of 4 members and 4 non-members, of which `recovered` came back at every rung; gives its signature.

    `settings` replace those of `CONFIG`: a key, a `group.key` or a whole group. Image `first` + r, of row r, is
    constant 10 r, on the way 4, 3, 2, 1 darker; its PSNR is 50 + r dB if it was recovered, else 10 + r.
    """
    back = np.arange(8) % 4 < np.repeat(recovered, 4)
    scores = pd.DataFrame({"image": np.arange(first, first + 8), "row": np.arange(8), "member": np.arange(8) < 4})
    scores = scores.assign(recovered=back, status=status, psnr_erased=np.where(back, 50.0, 10.0) + np.arange(8))
    rows = torch.tensor([6, 0, 4, 1, 5, 2, 7, 3])  # not in order, as shards may come
    pictures = (10 * rows).to(torch.uint8).view(8, 1, 1, 1).expand(8, 1, 5, 5)
    gallery = {"original": pictures, "degraded": pictures, "row": rows}
    gallery |= {f"answer/{rung_name(rung)}": pictures for rung in rungs}
    darker = torch.tensor([4, 3, 2, 1], dtype=torch.uint8).view(4, 1, 1, 1) * (pictures > 0).unsqueeze(1)
    gallery |= {f"path/{rung_name(rung)}": pictures.unsqueeze(1) - darker for rung in rungs}
    gallery |= {"steps": torch.tensor([0, 1, 3, 10])}
    return write(store, configured(settings), dict.fromkeys(rungs, scores), gallery, autoencoder, revisions=revisions)


def configured(settings: dict[str, Any]) -> dict[str, Any]:
    """`CONFIG` with some of it replaced: a key, a `group.key` or a whole group."""
    config = copy.deepcopy(CONFIG)
    for key, value in settings.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    return config


def write(
    store: Path,
    config: dict[str, Any],
    scores: dict[float, pd.DataFrame],
    gallery: dict[str, Tensor],
    autoencoder: str = "",
    task: str = "",
    revisions: dict[str, int] | None = None,
) -> str:
    """A recovery with these `scores` by rung, and this gallery, of an autoencoder (signature); gives its signature.

    Runs of one `task` share the controls without an autoencoder. `revisions` are those of the code; a run of older
    code has none.
    """
    known = {} if revisions is None else {"revisions": revisions}
    signature = signature_of({**config, "kept": list(scores), "autoencoder": autoencoder, **known})
    columns = {
        name: config[name]["name"] for name in ("dataset", "architecture", "degradation", "recovery", "operator")
    }
    columns |= {
        "is_nearest": True,
        "operator_error": np.nan,
        "queries": 20,
        "iterations": 20,
        "seconds": 0.1,
        "fraction": config["degradation"].get("fraction", np.nan),
        "fill": config["degradation"].get("fill", "none"),
        "noise": config["degradation"].get("noise", 0.0),
        "seed": config["seed"],
        "threshold_db": config["threshold_db"],
        "control": config.get("control", "none"),
        "task": task,
        "setup": signature if config.get("control", "none") == "none" else "",
        "signature": signature,
    }
    with files.creating(
        store / "recoveries" / signature, config, {"signature": signature, "autoencoder": autoencoder, **known}
    ) as folder:
        tables = [
            table.assign(**{key: value for key, value in about.items() if key not in table})
            for rung, table in scores.items()
            for about in [{**columns, "rung": rung, "train_loss": 0.9 * rung}]
        ]
        pd.concat(tables, ignore_index=True).to_parquet(folder / "results.parquet", index=False)
        save_file({name: tensor.clone() for name, tensor in gallery.items()}, folder / "gallery.safetensors")
    return signature


def write_probes(store: Path, setup: str, captured: dict[str, list[int]], rung: float = 0.01, members: int = 4) -> None:
    """Near-member probes of a run (its `setup`): how many of `members` were captured, by kind and strength 1, 2, ...

    All of strength s lie 0.1 s from their member, and are drawn to it.
    """
    rows = [
        {"member": member, "kind": kind, "strength": float(strength), "captured": member < count}
        for kind, counts in captured.items()
        for strength, count in enumerate(counts, start=kind != "none")
        for member in range(members)
    ]
    table = pd.DataFrame(rows).assign(psnr_probe=20.0, psnr_member=30.0, status="converged", attracted=True)
    table = table.assign(distance=0.1 * table["strength"], setup=setup, rung=rung)
    signature = signature_of({"probes": setup})
    with files.creating(store / "probes" / signature, {"probes": members}, {"signature": signature}) as folder:
        table.to_parquet(folder / "results.parquet", index=False)


def write_members_only(store: Path) -> None:
    """A run of four members and no non-member, of which two came back."""
    scores = pd.DataFrame({"image": range(4), "row": range(4), "member": True, "psnr_erased": [50.0, 30, 20, 10]})
    scores = scores.assign(recovered=scores["psnr_erased"] > 25, status="converged")
    pictures = torch.zeros(4, 1, 5, 5, dtype=torch.uint8)
    gallery = {"original": pictures, "degraded": pictures, "row": torch.arange(4), "answer/1e-01": pictures}
    write(store, configured({}), {0.1: scores}, gallery)


SEARCHED: dict[str, Any] = {
    "seed": 0,
    "rungs": "last",
    "threshold_db": 25.0,
    "spectra": True,
    "control": "none",
    "study": "default",
    "trainer": {"precision": "32-true"},
    "dataset": {"name": "digits", "members": 4, "non_members": 4},
    "architecture": {"name": "fc", "depth": 3},
    "training": {"name": "adam", "ladder": [0.1, 0.01]},
    "prior": {"name": "noise", "spectrum": 0.0},
    "search": {"queries": 1000},
}
End = tuple[int | None, int, int]  # the member that it is (None: it is spurious), its hits, and the queries until then


def write_extraction(
    store: Path,
    ends: list[End],
    settings: dict[str, Any] | None = None,
    rung: float = 0.01,
    queries: int = 1000,
    members: int = 4,
    autoencoder: str = "",
) -> str:
    """An extraction with these `ends`; gives its signature.

    Member m is image 100 + m, constant 20 m; the end that is it is one lighter, at 40 + m dB; a spurious end is
    constant 200, at 15 dB from member 0. End k has a spectral radius of 0.9 + 0.1 k.
    """
    config = copy.deepcopy(SEARCHED)
    for key, value in (settings or {}).items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    untrained = config["control"] == "untrained"
    rung, loss = (np.nan, np.nan) if untrained else (rung, 0.9 * rung)
    signature = signature_of({**config, "rung": str(rung), "autoencoder": autoencoder})
    nearest = np.array([member or 0 for member, _, _ in ends], int)
    own = np.array([member is not None for member, _, _ in ends], bool)
    table = pd.DataFrame({"end": np.arange(len(ends)), "nearest_member": nearest, "is_member": own})
    table = table.assign(psnr=np.where(own, 40.0 + nearest, 15.0), image=100 + nearest, residual=1e-6, period=1)
    table = table.assign(hits=[hits for _, hits, _ in ends], queries=[at for *_, at in ends], nearest_non_member=0)
    table = table.assign(psnr_non_member=12.0, found_by="Noise", spectral_radius=0.9 + 0.1 * np.arange(len(ends)))
    if not members:
        table = table.assign(nearest_member=-1, image=-1, psnr=np.nan, is_member=False)
    names = {name: config[name]["name"] for name in ("dataset", "architecture", "prior")}
    row = {**names, "rung": rung, "train_loss": loss, "signature": signature}
    row |= {name: config[name] for name in ("control", "seed", "threshold_db", "study")}
    figures = summarised(table, members, queries, sum(hits for _, hits, _ in ends) + 1)
    facts = {"signature": signature, "autoencoder": autoencoder, "figures": figures, "rung": rung, "train_loss": loss}
    facts |= {"endings": {"fixed": figures["starts"] - 1, "periodic": 0, "diverged": 1, "unsettled": 0}}
    levels = torch.tensor(np.where(own, 20 * nearest + 1, 200), dtype=torch.float32).view(-1, 1, 1, 1) / 255
    member = torch.tensor(20 * nearest, dtype=torch.uint8).view(-1, 1, 1, 1)
    pictures = {"ends": levels.expand(-1, 1, 5, 5), "member": member.expand(-1, 1, 5, 5)}
    with files.creating(store / "extractions" / signature, config, facts) as folder:
        files.write_table(folder / "results.parquet", table.assign(**row))
        save_file({name: tensor.contiguous() for name, tensor in pictures.items()}, folder / "ends.safetensors")
    return signature
