"""The names of runs, rungs and contents: hashes of what can change a run's numbers."""

import hashlib
import json
from pathlib import Path

from memorization.components import Record

FORMAT = 1  # of the store; part of every signature


def signature_of(config: Record) -> str:
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
