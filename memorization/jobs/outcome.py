"""How a job ended, or stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Of a job: made now, found in the store, not made yet, in the making, or why it ended otherwise."""

    done = "done"
    found = "found"
    missing = "missing"
    running = "running"
    failed = "failed"
    diverged = "diverged"


@dataclass(frozen=True)
class Outcome:
    """How a job of this `name` ended, or stands; `detail` is a line: the result, or the cause of the failure."""

    name: str
    status: Standing
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.status in (Standing.failed, Standing.diverged)

    def __str__(self) -> str:
        return f"{self.status}  {self.name}  {self.detail}"
