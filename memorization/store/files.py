"""The run store: one folder a run, named by a signature of everything that can change its numbers.

    <store>/autoencoders/<signature>/   config.yaml  weights/<rung>.safetensors  history.csv     last.ckpt | done.json
    <store>/recoveries/<signature>/     config.yaml  results.parquet  gallery.safetensors        shards/   | done.json

A run is finished once it has `done.json`, which is written last and holds a checksum of every file. Until then its
folder holds what the next attempt goes on from, and `error.txt` if the last one failed. Every file is written aside
and renamed, so that it is whole wherever it exists. One process at a time works on a run: its lock is the operating
system's (`flock`), which frees it when the holder dies. Nothing is unpickled.

`memorization.store.reading` reads finished runs. To find, verify and list them takes neither torch nor pandas.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from memorization.components import Record
from memorization.store.lock import held, is_held
from memorization.store.signature import checksum
from memorization.store.versions import installed

if TYPE_CHECKING:
    import pandas as pd
SHARDS, CHECKPOINT = "shards", "last.ckpt"
EARLIER = "earlier"  # the shard of what a run held before it was reopened
UNFINISHED = (SHARDS, CHECKPOINT)  # what a run that was stopped goes on from
ASIDE = re.compile(r"\..+\.\d+")  # what `write` calls a file before it is whole
OWN = "checksum"  # of `done.json`: of all else that it says
REMEDY = "run the same command again and it is made anew (or delete its folder)"


class StoreError(ValueError):
    """Something in the store is missing or damaged; the message names the file and the way out."""


def write(path: Path, content: bytes | str, durable: bool = True) -> None:
    """Write a file aside and rename it to `path`; raises `StoreError` if that is impossible (a full disk).

    It is whole after a power failure, too, unless `durable` is given up for what can be made anew.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        remedy = "make room or choose another store=FOLDER, and run again: what is finished is kept"
        raise StoreError(f"{path} cannot be written ({error.strerror}); {remedy}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def write_table(path: Path, table: pd.DataFrame, durable: bool = True) -> None:
    """`table` as a parquet file, written and raising as `write` does.

    Numbers are packed but not put into dictionaries, and lightly: thousands of such files are read at once.
    """
    content, text = io.BytesIO(), [*table.select_dtypes(exclude=["number", "bool"])]
    table.to_parquet(content, index=False, compression="lz4", use_dictionary=text)
    write(path, content.getvalue(), durable)


def is_done(folder: Path) -> bool:
    """True if the run in `folder` is finished."""
    return (folder / "done.json").is_file()


def status(folder: Path) -> str:
    """`done`, `running` (a process holds its lock), `failed`, `diverged`, or `interrupted` (it can go on)."""
    if is_done(folder):
        return "done"
    return "running" if is_held(folder) else failure(folder)[0] or "interrupted"


def failure(folder: Path) -> tuple[str, str]:
    """How the last attempt at the run in `folder` failed (`failed` or `diverged`) and why, in a line; empty if not."""
    try:
        with (folder / "error.txt").open(encoding="utf-8", errors="replace") as file:
            kind, _, cause = file.readline().strip().partition(": ")
    except FileNotFoundError:
        return "", ""
    except OSError as error:
        return "failed", f"error.txt cannot be read ({error.strerror})"
    return kind, cause


def read_done(folder: Path) -> Record:
    """What `done.json` says; raises `StoreError` if the run is not finished, or the file damaged or of another."""
    path = folder / "done.json"
    try:
        done: Record = json.loads(path.read_bytes())
        *_, last = done
        if not isinstance(done["checksums"], dict):
            raise TypeError
        if last != "checksums" and done.pop(OWN) != _own_checksum(done):  # older stores have none: nothing follows
            raise ValueError
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreError(f"{folder} holds no finished run (there is no done.json)") from error
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise StoreError(f"{path} is damaged; {REMEDY}") from error
    if (signature := done.get("signature", folder.absolute().name)) != folder.absolute().name:
        raise StoreError(f"{folder} holds another run, {signature}; give it this name again, or {REMEDY}")
    return done


def verified(folder: Path, name: str, done: Record | None = None) -> Path:
    """The path of a finished run's file, after its checksum was compared; raises `StoreError` if it differs."""
    path, expected = folder / name, (done or read_done(folder))["checksums"].get(name)
    if expected is None or not path.is_file():
        raise StoreError(f"{path} is missing; {REMEDY}")
    if checksum(path) != expected:
        raise StoreError(f"{path} is damaged (its checksum differs); {REMEDY}")
    return path


def verify(folder: Path) -> None:
    """Raise `StoreError` unless the run in `folder` is finished, each of its files what was written, and, if it has an
    autoencoder, made with the weights that this has in the store."""
    done = read_done(folder)
    for name in done["checksums"]:
        verified(folder, name, done)
    check_weights(folder, done)


def damage(folder: Path) -> str:
    """What is wrong with the run in `folder`, as `verify` says it; empty if nothing is."""
    try:
        verify(folder)
    except StoreError as error:
        return str(error)
    return ""


def files_of(store: Path, autoencoder: str) -> dict[str, str]:
    """The checksums of a finished autoencoder's files; none if the store lacks it or its `done.json` is damaged."""
    with contextlib.suppress(StoreError):
        return dict(read_done(store / "autoencoders" / autoencoder)["checksums"])
    return {}


def check_weights(
    folder: Path, done: Record, store: Path | None = None, files: Callable[[Path, str], dict[str, str]] = files_of
) -> None:
    """Raise `StoreError` if a run was made with other weights than its autoencoder has in `store` (default: its own).

    This was then trained anew and ended with other bits, on another machine for instance. `files` may remember what
    `files_of` gives.
    """
    weights = done.get("weights") or {}
    present = files(store or folder.absolute().parents[1], done["autoencoder"]) if weights else {}
    for name, expected in weights.items():
        if present and present.get(name) != expected:
            trained = f"autoencoders/{done['autoencoder']}/{name}"
            raise StoreError(f"{folder} was made with other weights than {trained}, which was made anew; {REMEDY}")


def is_intact(folder: Path, remove: bool = False) -> bool:
    """True if the run in `folder` is finished and undamaged.

    `remove` deletes a damaged one, with a note on why; only the holder of the run's lock may ask for it.
    """
    if not is_done(folder):
        return False
    wrong = damage(folder)
    if remove and wrong:
        print(f"note: {wrong.partition(';')[0]}; it is made anew", flush=True)
        shutil.rmtree(folder)
    return not wrong


def ensure(folder: Path, make: Callable[[], object], found: Callable[[Path, bool], bool] = is_intact) -> bool:
    """Have the run in `folder`, of a kind that does not grow, made unless it is `found`; was it made?

    It is looked for before its lock is taken: a finished run of a store that is not ours to write to can be used.
    found: of the folder and `remove`, as `is_intact`. Raises `StoreError` for what is missing in such a store.
    """
    if found(folder, False):
        with contextlib.suppress(OSError):
            tidy(folder)
        return False
    check_writable(folder.parents[1])
    with held(folder):
        missing = not found(folder, True)
        if missing:
            make()
        tidy(folder)
    return missing


def seal(folder: Path, facts: Record, durable: bool = True) -> None:
    """Write `done.json`: `facts` and the checksum of every file in `folder`; then remove what it could go on from.

    Hidden files are not counted, as none is ours.
    """
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    sums = {path.as_posix(): checksum(folder / path) for path in files if path.parts[0] not in UNFINISHED}
    done = json.loads(json.dumps({**facts, "checksums": sums}, default=str))
    write(folder / "done.json", json.dumps({**done, OWN: _own_checksum(done)}, indent=2), durable)
    tidy(folder)


def reopen(folder: Path) -> None:
    """Make a finished recovery unfinished, to add to it: what it holds becomes a shard, from which work goes on."""
    shard, done = folder / SHARDS / EARLIER, read_done(folder)
    shutil.rmtree(shard, ignore_errors=True)
    shard.mkdir(parents=True)
    for name in ("results.parquet", "gallery.safetensors"):
        shutil.copyfile(verified(folder, name, done), shard / name)
    seal(shard, {"made_with": done["weights"]})
    (folder / "done.json").unlink()


def tidy(folder: Path) -> None:
    """Remove what a finished run no longer goes on from."""
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _own_checksum(done: Record) -> str:
    return hashlib.sha256(json.dumps(done).encode()).hexdigest()


@contextlib.contextmanager
def creating(folder: Path, config: Record, facts: Record) -> Iterator[Path]:
    """`folder`, to be filled with the files of a run; `config.yaml` and, at the end, `done.json` are added.

    `done.json` holds `facts` (which the caller may fill meanwhile) and the checksums. What an earlier attempt left is
    still there. On an exception `error.txt` is left; if the block is killed or interrupted, what it had written.
    """
    versions = {name: installed(name) for name in ("memorization", "torch", "pytorch-lightning")}
    try:
        write(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
        (folder / "error.txt").unlink(missing_ok=True)
        yield folder
        for path in folder.rglob(".*"):
            if ASIDE.fullmatch(path.name) and path.is_file():  # what an attempt that was killed was writing
                path.unlink()
        seal(folder, {**facts, "versions": versions})
    except Exception as error:
        with contextlib.suppress(OSError, StoreError):  # of a full disk
            record_failure(folder, config, error)
        raise


def check_writable(store: Path) -> None:
    """Raise `StoreError` unless runs can be written to `store`."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=store):
            pass
    except OSError as error:
        reason = f"cannot write there ({error.strerror}); choose another: store=FOLDER"
        raise StoreError(f"store={store}: {reason}") from error


def record_failure(folder: Path, config: Record, error: Exception) -> None:
    """Leave `error.txt` in the folder of a run that failed: the cause in a line, the configuration, the traceback.

    An error's attribute `status` says that it is not a plain failure (`diverged`).
    """
    cause = " ".join(str(error).split()) or type(error).__name__
    settings, trace = yaml.safe_dump(config, sort_keys=False), "".join(traceback.format_exception(error))
    write(folder / "error.txt", f"{getattr(error, 'status', 'failed')}: {cause}\n{settings}\n{trace}")
