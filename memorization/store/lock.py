"""One process at a time works on a run: a lock of the operating system, which frees it when its holder dies."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 2.0  # seconds of waiting before it is said what for


def on(folder: Path) -> FileLock:
    """A lock on the run `folder` among processes."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """In this block, this process alone works on the run `folder`; says for whom it waits, if it does for long."""
    lock, holder = on(folder), folder.parent / f".{folder.name}.holder"
    try:
        lock.acquire(timeout=PATIENCE)
    except Timeout:
        whom = "another process"  # unless it has said who it is
        with contextlib.suppress(OSError):
            whom = holder.read_text() or whom
        print(f"waiting for {whom}, which works on {folder}", flush=True)
        lock.acquire()
    try:
        with contextlib.suppress(OSError):
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def is_held(folder: Path) -> bool:
    """True if a process works on the run `folder`."""
    path = folder.parent / f".{folder.name}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # of a store that is not ours to write to
        return False
