"""The run store: one folder a run, named by a signature of everything that can change its numbers.

    <store>/autoencoders/<signature>/   config.yaml  weights/<rung>.safetensors  history.csv  done.json
    <store>/recoveries/<signature>/     config.yaml  results.parquet  gallery.safetensors     done.json | error.txt

A folder is filled aside and renamed when it is complete; `done.json`, written last, holds a checksum of every file.
Nothing in it is unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock
from safetensors.torch import load_file
from torch import Tensor, nn

from memorization import architectures

FORMAT = 1  # of the store; part of every signature
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, ten times as fast, where libyaml is installed


class StoreError(ValueError):
    """Something in the store is missing or damaged; the message names the file and the way out."""


def signature(config: dict[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of `config`, whatever the order of its keys."""
    text = json.dumps({"format": FORMAT, **config}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def rung_name(rung: float) -> str:
    """`1e-04` for 1e-4: the name of a rung's weights."""
    return f"{rung:.6g}" if rung == 0 else f"{rung:.0e}" if float(f"{rung:.0e}") == rung else f"{rung:.3e}"


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_done(folder: Path) -> bool:
    """True if the run in `folder` is finished."""
    return (folder / "done.json").is_file()


def read_done(folder: Path) -> dict[str, Any]:
    """What `done.json` says; raises `StoreError` if the run is not finished or the file is damaged."""
    path = folder / "done.json"
    try:
        done: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{folder} holds no finished run (there is no done.json)") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} is damaged; delete {folder} and run again") from error
    return done


def verified(folder: Path, name: str) -> Path:
    """The path of a finished run's file, after its checksum was compared; raises `StoreError` if it differs."""
    path, expected = folder / name, read_done(folder).get("checksums", {}).get(name)
    if expected is None or not path.is_file():
        raise StoreError(f"{path} is missing; delete {folder} and run again")
    if checksum(path) != expected:
        raise StoreError(f"{path} is damaged (its checksum differs); delete {folder} and run again")
    return path


@contextlib.contextmanager
def creating(folder: Path, config: dict[str, Any], facts: dict[str, Any]) -> Iterator[Path]:
    """A temporary folder to fill; on success it becomes `folder`, with `config.yaml` and `done.json` added.

    `done.json` holds `facts` (which the caller may fill meanwhile) and the checksums. On an exception nothing is left.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        aside.chmod(0o755)
        (aside / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        yield aside
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        sums = {path.relative_to(aside).as_posix(): checksum(path) for path in files}
        versions = {name: importlib.metadata.version(name) for name in ("memorization", "torch", "pytorch-lightning")}
        done = {**facts, "versions": versions, "checksums": sums}
        (aside / "done.json").write_text(json.dumps(done, indent=2, default=str))
        if folder.exists():  # an earlier failure's error.txt, or an unfinished run
            shutil.rmtree(folder)
        aside.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def lock(folder: Path) -> FileLock:
    """A lock on the run `folder` among processes; the system frees it when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


def check_writable(store: Path) -> None:
    """Raise `StoreError` unless runs can be written to `store`."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        raise StoreError(
            f"store={store}: cannot write there ({error.strerror}); choose another: store=FOLDER"
        ) from error


def record_failure(folder: Path, config: dict[str, Any], traceback: str) -> None:
    """Leave `error.txt` (configuration and traceback) in the folder of a run that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "error.txt").write_text(f"{yaml.safe_dump(config, sort_keys=False)}\n{traceback}")


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; of an autoencoder or of a recovery.

    packages: those from which an autoencoder's class may be imported, beside our own and `torch.nn`. What the folder's
    own configuration allows does not count: it may be anybody's.
    """

    folder: Path
    packages: tuple[str, ...] = ()

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration it was made with, plain dictionaries and values."""
        config: dict[str, Any] = yaml.load(verified(self.folder, "config.yaml").read_text(), Loader=SAFE)
        return config

    @cached_property
    def done(self) -> dict[str, Any]:
        return read_done(self.folder)

    @property
    def rungs(self) -> dict[float, float]:
        """Of an autoencoder: the train loss measured at each rung that its training reached, highest rung first."""
        if "rungs" not in self.done:
            raise StoreError(f"{self.folder} is a recovery; its autoencoder is {self.done.get('autoencoder')}")
        return {float(rung): loss for rung, loss in self.done["rungs"].items()}

    def autoencoder(self, rung: float | None = None) -> nn.Module:
        """The trained autoencoder at `rung` (default: the lowest reached), in eval mode, its parameters frozen.

        Of a recovery's run, the autoencoder it was made with.
        """
        if self.done.get("autoencoder") == "":
            raise StoreError(f"{self.folder} is a control without a trained autoencoder")
        if "autoencoder" in self.done:
            folder = self.folder.parents[1] / "autoencoders" / self.done["autoencoder"]
            return load_run(folder, self.packages).autoencoder(rung)
        reached = list(self.rungs)
        if not reached:
            raise StoreError(f"{self.folder}: the training reached no rung of its ladder")
        rung = reached[-1] if rung is None else rung
        if rung not in reached:
            raise StoreError(f"{self.folder}: no rung {rung:g}; it has {', '.join(f'{r:g}' for r in reached)}")
        settings, name = dict(self.config["architecture"]), f"weights/{rung_name(rung)}"
        if settings["name"] == "custom":
            export = str(verified(self.folder, f"{name}.pt2")) if settings["export"] else ""
            settings |= {"weights": "", "export": export, "allowed": self.packages}
        model = architectures.build(shape=tuple(self.done["shape"]), seed=0, **settings)
        if not settings.get("export"):
            model.load_state_dict(load_file(verified(self.folder, f"{name}.safetensors")))
        return model.eval().requires_grad_(False)

    @cached_property
    def results(self) -> pd.DataFrame:
        """Of a recovery: one row an image and rung."""
        return pd.read_parquet(verified(self.folder, "results.parquet"))

    @cached_property
    def gallery(self) -> dict[str, Tensor]:
        """Of a recovery: `original`, `degraded` (K, C, H, W) uint8, their `row` (index into a rung's results), and
        `answer/<rung>` for each rung."""
        return load_file(verified(self.folder, "gallery.safetensors"))


def load_run(path: str | Path, packages: Iterable[str] = ()) -> Run:
    """The finished run in the folder `path`; raises `StoreError` if there is none.

    An autoencoder of a class of your own is loaded only from the `packages` that you name here.
    """
    folder = Path(path)
    read_done(folder)
    return Run(folder, tuple(packages))


def finished(store: str | Path, kind: str = "recoveries") -> list[Run]:
    """All finished runs of a kind (`autoencoders` or `recoveries`) in a store, by signature."""
    folders = sorted(path.parent for path in (Path(store) / kind).glob("[!.]*/done.json"))
    return [Run(folder) for folder in folders]


def load_results(store: str | Path) -> pd.DataFrame:
    """The results of all finished recoveries in a store, in one table."""
    runs = finished(store)
    if not runs:
        raise StoreError(f"{store} holds no finished recovery; make one with memorization-recover store={store}")
    return pd.concat([run.results for run in runs], ignore_index=True)
