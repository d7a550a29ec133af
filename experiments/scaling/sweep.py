"""What a sweep costs: `python experiments/scaling/sweep.py jobs | images | members | overhead`.

`jobs`, `images` and `members` run sweeps of the smoke setting in stores of their own, each in a process of its own, and
record its seconds of processor time (with OMP_NUM_THREADS=1: what it takes on a core of its own). `overhead` runs the
smoke sweep in this process and times, within that run, what the store adds to it: locks, checksums and shards.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from table import report

os.environ["OMP_NUM_THREADS"] = "1"
RECOVER = ["-m", "experiment=smoke", "tracking=none", "progress=false", "recovery=energy", "degradation=random_pixels"]
JOBS = (1, 2, 4, 8, 16, 32)
IMAGES = (20, 80, 320, 1280)  # half of them members; 1,797 digits are all there are
MEMBERS = (50, 100, 200, 400, 800, 1600)


def processor_seconds(module: str, *arguments: str) -> float:
    """Run an entry point in a process of its own and a new store."""
    with tempfile.TemporaryDirectory() as store:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", f"memorization.{module}", *arguments, f"store={store}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def jobs() -> None:
    """Recoveries from one autoencoder: 10 + 10 images each."""
    for count in JOBS:
        fractions = ",".join(f"{0.2 + 0.7 * i / max(JOBS):.3f}" for i in range(count))
        report(
            "sweep jobs",
            jobs=count,
            processor=processor_seconds("recover", *RECOVER, f"degradation.fraction={fractions}"),
        )


def images() -> None:
    """One job that recovers ever more images."""
    for count in IMAGES:
        sizes = [f"dataset.members={count // 2}", f"dataset.non_members={count // 2}"]
        report("sweep images", images=count, processor=processor_seconds("recover", *RECOVER, *sizes, "rungs=[1e-1]"))


def members() -> None:
    """A training of 300 steps on full batches of ever more members."""
    fixed = ["dataset=digits", "dataset.non_members=10", "architecture.depth=3", "architecture.width=128"]
    fixed += ["training.max_steps=300", "training.target_loss=1e-9", "tracking=none", "progress=false"]
    for count in MEMBERS:
        report("train members", members=count, processor=processor_seconds("train", *fixed, f"dataset.members={count}"))


class Stopwatch:
    """Sums the seconds spent in functions, by name; what one calls of the others counts as its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.busy = False

    def watch(self, owner: Any, name: str, kind: str) -> None:
        """Put a timed function in the place of `owner.name`."""
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if self.busy:
                return function(*args, **kwargs)
            self.busy, begin = True, time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.busy = False
                self.seconds[kind] = self.seconds.get(kind, 0) + time.perf_counter() - begin

        setattr(owner, name, timed)


def overhead() -> None:
    """The smoke sweep, of which the seconds in locks, checksums and shards are counted."""
    import filelock
    import pandas as pd

    from memorization import recover
    from memorization.engine import recovery, shards
    from memorization.store import files, reading

    watch = Stopwatch()
    for name in ("acquire", "release"):
        watch.watch(filelock.FileLock, name, "locks")
    for name in ("verify", "verified", "is_intact", "seal", "checksum"):
        watch.watch(files, name, "checksums")
    watch.watch(reading, "verified", "checksums")  # its own name of it
    watch.watch(shards.ShardWriter, "write_on_batch_end", "shards")
    watch.watch(shards, "is_whole", "shards")
    watch.watch(recovery, "load_file", "shards")  # they are read back
    watch.watch(pd, "read_parquet", "shards")
    with tempfile.TemporaryDirectory() as store:
        sys.argv = [
            "memorization-recover",
            "-m",
            "experiment=smoke",
            "tracking=none",
            "progress=false",
            f"store={store}",
        ]
        begin = time.perf_counter()
        recover.main()
        whole = time.perf_counter() - begin
    for name, seconds in [*watch.seconds.items(), ("together", sum(watch.seconds.values()))]:
        report(f"overhead {name}", seconds=seconds, share=seconds / whole)
    report("overhead of", seconds=whole)


if __name__ == "__main__":
    {"jobs": jobs, "images": images, "members": members, "overhead": overhead}[sys.argv[1]]()
