"""A pool of images as one reading of its source finds it, and where it is kept so that it need not be read again.

A pool is read once in a process, and not at all by the next one while the manifest of its source (path, size and times
of change of each file) stays the same. It is kept in `$XDG_CACHE_HOME/memorization`, or `~/.cache/memorization`, or
nowhere if that cannot be written. As in git, it is kept only if its newest file is older than the reading by more than
the tick of any clock: a file that is written twice within a tick may look unchanged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import PIL
import scipy
from tqdm import tqdm

from memorization.components import SLOW, cache_folder
from memorization.data import decoding
from memorization.data.decoding import Decoder, Mode, UnusableError
from memorization.data.duplicates import perceptual_hashes, thumbnail
from memorization.data.sources import Source
from memorization.data.split import REVISION

TICK = 2_000_000_000  # nanoseconds: the coarsest clock of a file system (FAT)
RECENT = 4  # pools that a process remembers
VERSIONS = (PIL.__version__, np.__version__, scipy.__version__)  # of what decodes and hashes

_recent: dict[tuple[str, str], Pool] = {}  # by what was read and its manifest, the last one last


@dataclass
class Pool:
    """The usable images of a source, in its order, each by its position there, a digest and a perceptual hash."""

    positions: list[int] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    fingerprint: str = ""  # SHA-256 of the names and contents of all images, usable or not
    shape: Sequence[int] = (0, 0, 0)  # (C, H, W) of every one
    sizes: list[tuple[Sequence[int], str]] = field(default_factory=list)  # each (W, H), and its first image's name
    problems: list[tuple[str, str]] = field(default_factory=list)  # what could not be used: a name, and why
    enlarged: int = 0  # how many the decoder enlarged
    manifest: str = ""  # a digest of the source's manifest; empty for a pool that is not kept


def pool_of(source: Source, decoder: Decoder) -> Pool:
    """The pool of `source`, read only if neither this process nor the cache knows it as it is."""
    began, manifest = time.time_ns(), source.manifest()
    if manifest is None:
        return survey(source, decoder)[0]
    key = _digest([manifest.place, asdict(decoder), VERSIONS, REVISION, decoding.REVISION])
    seen = _digest(manifest.files)
    pool = _recent.pop((key, seen), None) or _kept(key, seen)
    if pool is None:
        pool, whole = survey(source, decoder)
        if not whole:
            return pool
        pool.manifest = seen
        if manifest.newest <= began - TICK:
            _keep(key, pool)
    _recent[key, seen] = pool
    for old in [*_recent][:-RECENT]:
        del _recent[old]
    return pool


def survey(source: Source, decoder: Decoder) -> tuple[Pool, bool]:
    """The pool that a reading of `source` finds, and whether its manifest would tell of every change.

    A progress bar is shown if it takes long.
    """
    every = 0.5 if sys.stderr.isatty() else 10
    read = tqdm(source.read(), "reading the images", source.total, unit="image", delay=SLOW, mininterval=every)
    pool, whole, grey, fingerprint = Pool(), True, True, hashlib.sha256()
    hashes: list[np.uint64] = []
    sizes: dict[Sequence[int], str] = {}
    for position, name, content, problem, told in read:
        whole = whole and told
        line = f"{name} {hashlib.sha256(content).hexdigest()}\n"
        fingerprint.update(line.encode(errors="surrogateescape"))  # a name may be no text
        try:
            if problem:
                raise UnusableError(problem)
            image = decoder.decode(content)
        except UnusableError as error:
            pool.problems.append((name, str(error)))
            continue
        pool.enlarged += min(image.size) < decoder.size
        image = decoder.fit(image)
        array = np.asarray(image)
        grey = grey and (image.mode == "L" or bool((array == array[..., :1]).all()))
        sizes.setdefault(image.size, name)
        pool.positions.append(position)
        pool.digests.append(hashlib.sha256(array.tobytes()).digest())
        hashes.append(perceptual_hashes(thumbnail(image)[None])[0])
    pool.fingerprint, pool.sizes = fingerprint.hexdigest(), [*sizes.items()]
    if hashes:
        (width, height), _ = pool.sizes[0]
        pool.hashes = np.array(hashes)
        pool.shape = (1 if grey and decoder.mode is not Mode.RGB else 3, height, width)
    return pool, whole


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _place(key: str) -> Path:
    return cache_folder() / f"{key}.npz"


def _kept(key: str, seen: str) -> Pool | None:
    """The pool in the cache if its manifest is the one `seen`."""
    try:
        with np.load(_place(key), allow_pickle=False) as kept:
            facts = json.loads(kept["facts"].item())
            if facts["manifest"] != seen:
                return None
            return Pool(kept["positions"].tolist(), kept["digests"].tolist(), kept["hashes"], **facts)
    except Exception:  # of what kind depends on the damage; the images are read instead
        return None


def _keep(key: str, pool: Pool) -> None:
    """Put a pool into the cache, written aside and renamed, if it can be written."""
    positions, digests = np.array(pool.positions, dtype=np.int64), np.array(pool.digests, dtype="V32")
    facts = {key: value for key, value in vars(pool).items() if key not in ("positions", "digests", "hashes")}
    arrays = {"positions": positions, "digests": digests, "hashes": pool.hashes, "facts": np.array(json.dumps(facts))}
    with contextlib.suppress(OSError, RuntimeError):  # a full disk, a user without a home
        place = _place(key)
        aside = place.with_name(f".{place.name}.{os.getpid()}")
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            aside.replace(place)
        finally:
            aside.unlink(missing_ok=True)
