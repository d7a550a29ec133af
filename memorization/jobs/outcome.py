"""How a job ended, or stands."""

from dataclasses import dataclass
from enum import StrEnum

# Of a job: made now, found in the store, not made yet, in the making, or why it ended otherwise.
Standing = StrEnum("Standing", ["done", "found", "missing", "running", "failed", "diverged"])


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
