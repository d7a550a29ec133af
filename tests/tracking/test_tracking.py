"""Tracking: what W&B is told, read back from its log on disk; and that neither it nor its absence gets in the way."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch
import wandb

from memorization import load_results
from memorization.components import SettingError
from memorization.config.experiment import check_names
from memorization.config.schema import Mode, Tracking
from memorization.evaluation.running import recovery_metrics
from memorization.tracking import curves
from memorization.tracking import tracker as module
from tests.preloaded import PYTHON

pytestmark = pytest.mark.usefixtures("composed_once")
DEAD = "http://127.0.0.1:9"
SETTINGS = Tracking(Mode.online, "p")


@functools.cache
def records(folder: Path) -> list[dict[str, Any]]:
    """The log of a W&B run that has ended: its records, each with a `type`. Only to be read."""
    command = [*PYTHON, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def of_type(log: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in log if record["type"] == kind]


def track(store: Path, values: list[float]) -> None:
    """A recovery of a train loss a value, with a gallery of two images."""
    with module.tracking(SETTINGS, store, module.Details("recover", "n", "s", ["a", "a"], {"x": 1})) as tracker:
        for value in values:
            tracker.log({"rung": value, "train_loss": value, **dict.fromkeys(curves.CURVES["recover"], value)})
        pictures = {name: torch.zeros(2, 1, 5, 5, dtype=torch.uint8) for name in ("original", "answer")}
        scores = pd.DataFrame({"image": [7, 8], "member": [True, False], "psnr_erased": 20.0, "recovered": False})
        tracker.gallery("recover", pictures, scores, ["seven", "eight"])


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Online, with a key, to a place where nobody answers."""
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", DEAD)
    monkeypatch.setattr(module, "OPEN_SECONDS", 2.0)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 2.0)
    monkeypatch.setattr(module.Tracker, "unreachable", False)


def test_nothing_of_wandb_is_imported_without_tracking(tmp_path):
    code = (
        "import sys; sys.argv = ['memorization-recover', 'experiment=smoke', 'tracking=none', 'progress=false'];"
        "from memorization.recover import main; main(); assert 'wandb' not in sys.modules"
    )
    ended = subprocess.run([*PYTHON, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_curves_against_the_train_loss_are_native_charts(smoke):
    """A real sweep: each curve is declared with its step, logged once a rung, and what the results say."""
    folder, done = smoke
    assert done.returncode == 0, done.stderr
    logs = [records(run) for run in sorted((folder / "runs" / "wandb").glob("offline-run-*"))]
    by_kind = {"train": [], "recover": []}
    for log in logs:
        (run,) = [run for run in of_type(log, "run") if "display_name" in run][:1]
        assert run["run_group"] == "smoke"
        by_kind[run["job_type"]].append((run, log))
    assert (len(by_kind["train"]), len(by_kind["recover"])) == (1, 6)
    for kind, found in by_kind.items():
        for run, log in found:
            steps = {metric["name"]: metric.get("step_metric") for metric in of_type(log, "metric")}
            assert steps == {curves.STEPS[kind]: None, **dict.fromkeys(curves.CURVES[kind], curves.STEPS[kind])}
            logged = [row["item"] for row in of_type(log, "history")]
            running = [row for row in logged if any(name.startswith("running/") for name in row)]
            ended = [row for row in logged if "gallery" not in str(row) and row not in running]
            assert all({curves.STEPS[kind], *curves.CURVES[kind]} <= row.keys() for row in ended)
            assert len(running) == (2 if kind == "recover" else 0)  # a batch at each of two rungs
            names = {f"running/{name}" for name in recovery_metrics((1, 8, 8))}
            assert all(names <= row.keys() for row in running)
            assert {"digits", "fc", "seed 0"} <= set(run["tags"])
    results = load_results(folder / "runs")
    for run, log in by_kind["recover"]:
        assert run["display_name"].startswith("digits / fc: ")
        (signature,) = {
            row["update"]["signature"] for row in of_type(log, "summary") if "signature" in row.get("update", {})
        }
        own = results[results["signature"] == signature]
        assert own["recovery"].iloc[0] in run["tags"]
        rows = [row["item"] for row in of_type(log, "history") if "train_loss" in row["item"]]
        assert [row["train_loss"] for row in rows] == pytest.approx(sorted(own["train_loss"].unique(), reverse=True))
        members = own[own["member"]].groupby("train_loss", sort=False)
        assert [row["members/median_psnr_erased"] for row in rows] == pytest.approx(
            members["psnr_erased"].median().tolist()
        )


def test_gallery_is_kept_as_images_and_as_a_table(smoke):
    folder, _ = smoke
    found = 0
    for run in (folder / "runs" / "wandb").glob("offline-run-*"):
        for path in run.glob("files/media/table/gallery_table*.json"):
            found += 1
            content = json.loads(path.read_text())
            names = ["image", "member", "psnr_erased", "recovered", "status", "original", "degraded", "answer"]
            assert content["columns"] == names
            assert [row[1] for row in content["data"]] == [True, True, False, False]
            assert len(list((run / "files" / "media" / "images").glob("gallery_*.png"))) == 4
            (artifact,) = of_type(records(run), "artifact")  # the table with its pictures
            pictures = [entry["path"] for entry in artifact["manifest"]["contents"] if entry["path"].endswith(".png")]
            assert len(pictures) == len(set(pictures)) > 4
            staged = [Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]]
            assert all(path.is_relative_to(folder / "runs") and path.is_file() for path in staged)
    assert found == 6


def losses(run: Path) -> list[float]:
    """The train losses that a run's log holds."""
    rows = [row["item"] for row in of_type(records(run), "history")]
    return [row["train_loss"] for row in rows if "train_loss" in row]


def test_a_server_that_is_away_is_one_line_and_asked_once(online, tmp_path, capsys):
    track(tmp_path, [0.1])
    track(tmp_path, [0.2])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("note: W&B is not reached (")
    assert line.endswith(f"wandb sync {tmp_path}/wandb/offline-run-*")
    kept = (tmp_path / "wandb").glob("offline-run-*")
    assert sorted(loss for run in kept for loss in losses(run)) == [0.1, 0.2]


def test_a_relative_store_is_that_of_the_folder_in_which_a_run_is_opened(tmp_path, monkeypatch):
    """And not that in which W&B's process, which later runs share, was started."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name, loss in {"first": 0.1, "second": 0.2}.items():
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        track(Path("runs"), [loss])
        (run,) = (tmp_path / name / "runs" / "wandb").glob("offline-run-*")
        assert losses(run) == [loss]


class Server(BaseHTTPRequestHandler):
    """Takes a run as W&B's server does, as far as wandb asks."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "{}")
        name = asked.get("variables", {}).get("name")
        project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "e"}}
        run = {"id": "1", "name": name, "displayName": "n", "config": "{}", "historyLineCount": 0, "project": project}
        viewer = {"id": "1", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}
        server = {"cliVersionInfo": {}, "features": []}
        answer = {"upsertBucket": {"bucket": run, "inserted": True}, "viewer": viewer, "model": {"bucket": None}}
        content = json.dumps({"data": {**answer, "serverInfo": server}}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


ONLINE_UNTIL_LOST = """
import sys
from pathlib import Path
from memorization.tracking import tracker as module
module.CLOSE_SECONDS = 2.0
from memorization.config.schema import Mode, Tracking
settings = Tracking(Mode.online, "p")
with module.tracking(settings, Path(sys.argv[1]), module.Details("recover", "n", "s", [], {})) as tracker:
    tracker.log({"train_loss": 1.0})
    print("online", flush=True)
    input()
    for i in range(500):
        tracker.log({"train_loss": 2.0 + i})
print("done", flush=True)
"""


def test_a_network_lost_in_the_middle_of_a_run_neither_stops_it_nor_loses_anything(online, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    command = [sys.executable, "-c", ONLINE_UNTIL_LOST, str(tmp_path)]  # W&B's service watches its parent
    environment = {**os.environ, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as run:
        first = run.stdout.readline()
        server.shutdown()
        server.server_close()
        serving.join()
        rest, errors = run.communicate("\n", timeout=300)
    (folder,) = (tmp_path / "wandb").glob("run-*")
    assert (first, run.returncode) == ("online\n", 0), errors
    assert rest == f"note: W&B did not answer; nothing is lost, send it later: wandb sync {folder}\ndone\n"
    assert losses(folder) == [1.0, *(2.0 + i for i in range(500))]


def test_an_error_without_a_text_is_told_by_its_kind(online, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(wandb, "init", Mock(side_effect=[wandb.errors.CommError(""), None]))
    module._opened(SETTINGS, tmp_path, module.Details("recover", "n", "s", [], {}))
    assert "note: W&B is not reached (CommError); nothing is lost" in capsys.readouterr().out


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_images_of_any_channels_are_shown_as_in_the_report(channels):
    pictures = {"original": torch.randint(256, (1, channels, 4, 6), dtype=torch.uint8)}
    run = Mock()
    module.Tracker(run).gallery("recover", pictures, pd.DataFrame({"image": [7]}), ["seven"])
    (shown,) = run.log.call_args.args[0]["gallery"]
    expected = pictures["original"][0, :3] if channels >= 3 else pictures["original"][0, :1]
    found = np.atleast_3d(np.asarray(shown.image))
    assert torch.equal(torch.tensor(found).permute(2, 0, 1), expected)


def test_without_a_key_one_line_says_how_to_send_it_later(online, tmp_path):
    settings = ["experiment=smoke", "tracking=online", "progress=false"]
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"}
    environment |= {"NETRC": str(tmp_path / "none"), "HOME": str(tmp_path)}
    command = [*PYTHON, "-m", "memorization.recover", *settings]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "W&B" in line]
    assert "No API key configured" in line
    assert line.endswith("wandb sync runs/wandb/offline-run-*")
    assert len(list((tmp_path / "runs" / "wandb").glob("offline-run-*"))) == 2


def test_where_pictures_wait_is_set_for_a_run_and_not_for_the_process(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    settings = Tracking(Mode.offline, "p")
    details = module.Details("recover", "n", "s", [], {})
    with module.tracking(settings, tmp_path, details):
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb")
    assert "WANDB_DATA_DIR" not in os.environ
    monkeypatch.setenv("WANDB_DATA_DIR", "of the user")
    with module.tracking(settings, tmp_path, details):
        assert os.environ["WANDB_DATA_DIR"] == "of the user"
    assert os.environ["WANDB_DATA_DIR"] == "of the user"


SAID = {
    "RUN_ID": "abc123", "RESUME": "must", "NAME": "theirs", "RUN_GROUP": "theirs", "PROJECT": "a/b", "MODE": "nonsense",
    "SWEEP_ID": "s1", "JOB_TYPE": "theirs", "TAGS": "theirs", "RUN_STORAGE_ID": "x", "LAUNCH": "true",
}  # fmt: skip


def test_the_environment_merges_no_runs_and_names_none(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of this process; a command has one of its own
    for name, value in SAID.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    settings = ["experiment=smoke", "recovery=iterate", "degradation=box", "tracking=offline", "progress=false"]
    command = [*PYTHON, "-m", "memorization.recover", *settings, "study=ours"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in SAID:
        monkeypatch.delenv(f"WANDB_{name}")
    runs = []
    for folder in (tmp_path / "runs" / "wandb").glob("offline-run-*"):
        (run,) = [run for run in of_type(records(folder), "run") if "display_name" in run][:1]
        runs.append(run)
    assert len({run["run_id"] for run in runs}) == len(runs) == 2
    assert {(run["run_group"], run["project"]) for run in runs} == {("ours", "memorization")}
    assert sorted(run["job_type"] for run in runs) == ["recover", "train"]
    for run in runs:
        values = str({key: value for key, value in run.items() if key != "config"})
        assert not any(word in values for word in ("abc123", "theirs", "s1'", "resume"))


def test_a_short_training_says_nothing_of_lightning(tmp_path):
    settings = ["dataset=digits", "dataset.members=5", "tracking=offline", "progress=false", "training.max_steps=20"]
    command = [*PYTHON, "-m", "memorization.train", *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "logging interval" not in done.stdout + done.stderr


def test_what_the_environment_says_of_a_run_stays_for_others(monkeypatch, tmp_path):
    for name, value in SAID.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    with module.tracking(Tracking(Mode.offline, "p"), tmp_path, module.Details("train", "n", "s", ["x" * 99], {})):
        assert all(os.environ[f"WANDB_{name}"] == value for name, value in SAID.items())


@pytest.mark.parametrize("name", [*(f"a{letter}b" for letter in '/\\#?%: ._-@&"é'), "", " ", "x" * 128, "x" * 129])
def test_a_name_is_refused_that_wandb_refuses(name):
    from wandb import Settings
    from wandb.errors import UsageError

    try:
        Settings(project=name)
        refused = not name.strip()  # by its server
    except UsageError:
        refused = True
    for field in ("project", "entity"):
        tracking = Tracking(Mode.offline, **{"project": "p", field: name})
        if refused:
            with pytest.raises(
                SettingError, match=rf"tracking\.{field} is .*tracking\.entity=TEAM tracking\.project=NAME"
            ):
                check_names(tracking)
        else:
            check_names(tracking)
        check_names(Tracking(Mode.none, **{"project": "p", field: name}))


@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_a_name_that_wandb_refuses_is_a_line_before_anything_is_trained(tmp_path, plan):
    command = [*PYTHON, "-m", "memorization.recover", "experiment=smoke", "tracking.project=team/faces", *plan]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: tracking.project is 'team/faces'; W&B takes ")
    assert not list(tmp_path.iterdir())


def test_a_caption_says_what_a_picture_is():
    scores = pd.DataFrame({"image": [7, 8], "member": [True, False], "psnr_erased": [41.23, 9.0]})
    assert curves.captions_of_answers(scores.assign(recovered=[True, False])) == [
        "member 7: 41.2 dB on erased pixels, recovered",
        "non-member 8: 9.0 dB on erased pixels, not recovered",
    ]
    table = pd.DataFrame({"end": [0, 3], "hits": [12, 1], "psnr": [60.0, 12.34], "image": [5, 6]})
    ends = table.assign(is_member=[True, False])
    assert curves.captions_of_ends(ends) == [
        "end 0, hits 12: 60.0 dB from member 5, extracted",
        "end 3, hits 1: 12.3 dB from member 6",
    ]
    without_members = table.assign(image=-1, psnr=float("nan"), is_member=False).tail(1)
    assert curves.captions_of_ends(without_members) == ["end 3, hits 1: no member to compare with"]
