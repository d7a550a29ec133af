"""What several tests of models share."""

from __future__ import annotations

import pytest

from memorization import recover, train
from tests.architectures.own_models import COMMON, RECOVERY


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`memorization-recover` (or -train) in this process and in `tmp_path`: what it printed, and its line of error."""

    def call(*arguments: str, module: str = "recover") -> tuple[str, str]:
        monkeypatch.chdir(tmp_path)
        extra = RECOVERY if module == "recover" else ["progress=false"]
        monkeypatch.setattr("sys.argv", ["memorization", *COMMON, *extra, *arguments])
        ended = None
        try:
            {"recover": recover, "train": train}[module].main()
        except SystemExit as exit_:
            ended = exit_
        shown = capsys.readouterr()
        assert (ended is not None) == bool(shown.err)
        assert len(shown.err.strip().splitlines()) <= 1
        return shown.out, shown.err

    return call
