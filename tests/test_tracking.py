"""Tracking costs nothing where it is not wanted."""

from __future__ import annotations

import subprocess
import sys


def test_nothing_of_wandb_is_imported_without_tracking(tmp_path):
    code = (
        "import sys; sys.argv = ['memorization-recover', 'experiment=smoke', 'tracking=none', 'progress=false'];"
        "from memorization.recover import main; main(); assert 'wandb' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
