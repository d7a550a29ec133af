"""What this machine has: by it, sizes that cannot be meant are refused before anything is allocated."""

from __future__ import annotations

import os


def check_memory(needed: int, what: str) -> None:
    """Raise `ValueError`, which begins with `what`, if `needed` bytes are more than the machine's memory."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise ValueError(
            f"{what} need {needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f}; make it smaller"
        )
