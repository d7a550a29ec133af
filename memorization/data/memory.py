"""What this machine has: by it, sizes that cannot be meant are refused before anything is allocated."""

from __future__ import annotations

import os

from memorization.components import SettingError


def check_memory(needed: int, field: str, value: object, what: str) -> None:
    """Raise `SettingError` if the `what` that a setting asks for needs more bytes than the machine's memory."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise SettingError(
            field,
            value,
            f"{what} need {needed / 1e9:,.0f} GB, and this machine has {there / 1e9:,.0f}; make it smaller",
        )
