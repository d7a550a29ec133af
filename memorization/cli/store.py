"""`memorization-store`: what a run store holds, whether it is undamaged, what of it can go, and how two become one."""

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from filelock import Timeout

from memorization.components import expanded
from memorization.engine import streams
from memorization.store import files, lock, reading, versions
from memorization.store.files import StoreError

KINDS = ("autoencoders", "recoveries", "probes", "extractions", "attractors", "references", "lira")
Known = dict[Path, tuple[tuple[int, ...], str]]  # of runs: which version of `done.json` was read, and the autoencoder


def folders(store: Path) -> Iterator[tuple[str, Path]]:
    """The kind and the folder of every run in a store, finished or not."""
    if not store.is_dir():
        raise StoreError(f"{store} is no run store; name one: --store FOLDER")
    for kind in KINDS:
        if (store / kind).is_dir():
            with os.scandir(store / kind) as entries:
                names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
            yield from ((kind, store / kind / name) for name in names)


def listed(store: Path) -> int:
    """A line a run: kind, signature, status, and what it is or why it failed; and whether versions are mixed."""
    counts: Counter[str] = Counter()
    finished: list[dict[str, Any]] = []
    for kind, folder in folders(store):
        status, name = files.status(folder), ""
        if status == "done":
            try:
                finished.append(files.read_done(folder))
                name = str(finished[-1].get("name", ""))
            except StoreError:
                status = "damaged"
        elif status in ("failed", "diverged"):
            name = files.failure(folder)[1]
        counts[f"{status} {kind}"] += 1
        print(f"{kind[:11]:<12} {folder.name}  {status:<11}  {name}")
    print(", ".join(f"{count} {what}" for what, count in counts.items()) or "no runs")
    if note := versions.differing(finished):
        print(note)
    return 0


def shown(store: Path, signature: str) -> int:
    """Status, configuration and, of a finished run, its figures; of one that failed, why."""
    found = [folder for _, folder in folders(store) if folder.name.startswith(signature)]
    if len(found) != 1:
        raise StoreError(f"{signature}: {len(found)} runs in {store} begin so; memorization-store list names them")
    (folder,) = found
    print(f"{folder}: {files.status(folder)}")
    if files.is_done(folder):
        done = files.read_done(folder)
        print(json.dumps({key: value for key, value in done.items() if key != "checksums"}, indent=2))
        print(yaml.safe_dump(reading.load_run(folder).config, sort_keys=False))
    elif files.failure(folder)[0]:
        print((folder / "error.txt").read_text(encoding="utf-8", errors="replace"))
    return 0


def verified(store: Path) -> int:
    """Compare every file of every finished run with its checksum."""
    whole = damaged = unfinished = 0
    for _, folder in folders(store):
        if not (folder / "done.json").exists():
            unfinished += 1
        elif wrong := files.damage(folder):
            damaged += 1
            print(f"damaged: {wrong}")
        else:
            whole += 1
    print(f"{whole} finished runs are whole, {damaged} damaged; {unfinished} are not finished")
    return 1 if damaged else 0


def _needed(store: Path, known: Known) -> set[str]:
    """The autoencoders that the other runs were made with; raises `StoreError` if one is unfinished.

    `known` keeps that of each run, so that only a `done.json` that is new or was replaced is read.
    """
    made = [folder for kind, folder in folders(store) if kind != "autoencoders"]
    if unfinished := [folder for folder in made if not files.is_done(folder)]:
        remedy = "finish it (run its sweep again) or delete it"
        raise StoreError(f"{unfinished[0]} is not finished and may need any of them: {remedy}")
    for folder in made:
        file = (folder / "done.json").stat()
        version = file.st_ino, file.st_mtime_ns, file.st_size
        if folder not in known or known[folder][0] != version:
            known[folder] = version, files.read_done(folder).get("autoencoder", "")
    return {known[folder][1] for folder in made}


def collected(store: Path, remove: bool) -> int:
    """Name, or remove, the finished autoencoders that no other run was made with; raises as `_needed` does."""
    known: Known = {}
    size, count, needed = 0, 0, _needed(store, known)
    for kind, folder in [*folders(store)]:
        if kind != "autoencoders" or folder.name in needed or not files.is_done(folder):
            continue
        with contextlib.suppress(Timeout), lock.on(folder).acquire(blocking=False):
            if remove and folder.name in _needed(store, known):  # since a moment
                continue
            size += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            count += 1
            print(f"{'removed' if remove else 'not needed'}: {folder}")
            if remove:
                shutil.rmtree(folder)
    print(f"{count} autoencoders, {size / 1e6:.1f} MB" + ("" if remove else "; --delete removes them"))
    return 0


def merged(store: Path, other: Path) -> int:
    """Copy the finished, undamaged runs of `other` that `store` lacks, unless its autoencoder has other weights.

    A run of `store` that is damaged is replaced, and so is a recovery that has only some of the other's rungs.
    """
    counts = Counter(_copied(source, store, kind) for kind, source in folders(other))
    print(", ".join(f"{count} {what}" for what, count in counts.items()) or "no runs")
    return 1 if counts["not copied"] or counts["differs"] else 0


def _copied(source: Path, store: Path, kind: str) -> str:
    """Copy one run, as `merged` says; gives the words that it is counted by."""
    if not files.is_done(source):
        return "unfinished"
    try:
        files.verify(source)
        files.check_weights(source, files.read_done(source), store)
    except StoreError as error:
        print(f"not copied: {error}")
        return "not copied"
    target = store / kind / source.name
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    with lock.on(target):
        replaced = files.is_done(target)
        if replaced and not files.damage(target):
            own, others = (set(files.read_done(run).get("recovered_rungs", ())) for run in (target, source))
            if own >= others:
                return "already there"
            if not own < others:
                lacking = ", ".join(f"{rung:g}" for rung in sorted(others - own, reverse=True))
                print(f"differs: {target} lacks the rungs {lacking} of {source}, which lacks others; recover them")
                return "differs"
        try:
            shutil.copytree(source, aside)
            shutil.rmtree(target, ignore_errors=True)  # what an attempt left
            aside.rename(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return "replaced" if replaced else "copied"


def arguments() -> argparse.ArgumentParser:
    """The command line of `memorization-store`."""
    parser = argparse.ArgumentParser(prog="memorization-store", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--store", type=expanded, default=Path("runs"), help="the folder of all runs (default: runs)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, text: str, call: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(call=call)
        added.add_argument("--store", type=expanded, default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # here as well
        return added

    command("list", "a line a run, with its status", lambda o: listed(o.store))
    one = command("show", "a run's status, figures and configuration", lambda o: shown(o.store, o.signature))
    one.add_argument("signature", help="or how it begins")
    command("verify", "compare every file with its checksum; exits with 1 if one differs", lambda o: verified(o.store))
    gc = command("gc", "name the autoencoders that no other run was made with", lambda o: collected(o.store, o.delete))
    gc.add_argument("--delete", action="store_true", help="remove them, too")
    merge = command("merge", "copy another store's finished runs", lambda o: merged(o.store, o.other))
    merge.add_argument("other", type=expanded, metavar="FOLDER")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with status 1 and one line on stderr if the store cannot be used."""
    try:
        with streams.printing():
            options = arguments().parse_args(argv)
            sys.exit(options.call(options))
    except (StoreError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
