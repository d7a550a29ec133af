"""A real store, made by the entry point, and a browser."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from memorization.report.browser import chromium


@pytest.fixture(scope="session")
def real_store(smoke: tuple[Path, subprocess.CompletedProcess[str]]) -> Path:
    """One small autoencoder, three methods on two degradations at two rungs. Only to be read."""
    folder, done = smoke
    assert done.returncode == 0, done.stderr
    return folder / "runs"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found
