"""One process at a time works on a run: a lock of the operating system, which frees it when its holder dies."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout


def on(folder: Path) -> FileLock:
    """A lock on the run `folder` among processes; the system frees it when its holder dies."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.parent / f".{folder.name}.lock")


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
