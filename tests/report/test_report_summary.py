"""The headline table: the same numbers as counted by hand, in a width that fits, and errors in one line."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from scipy import stats
from statsmodels.stats.multitest import multipletests

from memorization import load_results
from memorization.report import main
from memorization.report.findings import Findings
from memorization.report.labels import percent, value_text, without
from memorization.report.page import build
from memorization.report.tables import headline
from tests.preloaded import PYTHON
from tests.report.store import write_members_only, write_probes, write_run


def test_json_agrees_with_counting_by_hand(real_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--store", str(real_store), "--summary", "--json"])
    records = json.loads(capsys.readouterr().out)
    results = load_results(real_store)
    assert len(records) == 12  # 3 methods x 2 degradations x 2 rungs
    for record in records:
        rows = results[(results["signature"] == record["signature"]) & (results["rung"] == record["rung"])]
        for name, part in (("members", rows[rows["member"]]), ("non_members", rows[~rows["member"]])):
            assert record[name] == len(part) == 10
            assert record[f"{name}_recovered"] == sum(part["recovered"].tolist()) / 10
            assert record[f"{name}_median_psnr"] == pytest.approx(np.median(part["psnr_erased"]), rel=1e-6)


def test_json_has_null_for_what_is_not_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {"degradation": {"name": "blur"}})
    main(["--store", str(tmp_path), "--summary", "--json"])
    assert [record["fraction"] for record in json.loads(capsys.readouterr().out)] == [None, None]
    assert "  blur\n" in headline(Findings.load(tmp_path))


def test_chains_are_called_by_their_parts_and_what_differs_in_them(tmp_path: Path) -> None:
    for first in ({"name": "blur", "width": 1.0}, {"name": "blur", "width": 2.0}, {"name": "downsample", "factor": 2}):
        part = {"name": "box", "fraction": 0.3, "fill": "zero", "noise": 0.0}
        write_run(tmp_path, {"degradation": {"name": "chain", "first": first, "second": part}})
    names = {cell.labels.degradation for cell in Findings.load(tmp_path).cells}
    assert names == {"blur + box, first.width=1.0", "blur + box, first.width=2.0", "downsample + box"}


def test_terminal_table_shows_the_same_shares(real_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--store", str(real_store), "--summary"])
    table = capsys.readouterr().out
    findings = Findings.load(real_store)
    for degradation, label in (("random_pixels", "random_pixels 50 %, zero fill"), ("box", "box 36 %, zero fill")):
        block = table.split(f"  {label}\n")[1]
        for recovery, operator in (("iterate", ""), ("pnp_admm", " alternating"), ("energy", " alternating")):
            line = re.search(rf"^    {recovery}{operator} +(.*)$", block, re.M)
            assert line is not None
            results = findings.results[findings.results["member"]]
            chosen = results[(results["degradation"] == degradation) & (results["recovery"] == recovery)]
            expected = []
            for rung in (0.1, 0.01):
                rows = chosen[chosen["rung"] == rung]
                expected.append(f"{100 * rows['recovered'].mean():.0f} % / {rows['psnr_erased'].median():.1f}")
            assert re.split(r" {2,}", line[1]) == expected


def test_rows_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for noise in (0.4, 0.05, 1.0, 0.3):
        for weight in (10.0, 0.25, 5e-05):
            write_run(tmp_path, {"degradation.noise": noise, "recovery.weight": weight})
    cells = Findings.load(tmp_path).cells[::2]  # of two rungs each
    expected = [(noise, f"weight={weight}") for noise in (0.05, 0.3, 0.4, 1.0) for weight in (5e-05, 0.25, 10.0)]
    assert [(cell.noise, cell.labels.method.rpartition(" ")[2]) for cell in cells] == expected


def test_table_fits_a_terminal_with_many_rungs(tmp_path: Path) -> None:
    rungs = tuple(10.0**-power for power in range(14))
    write_run(tmp_path, {"recovery.weight": 0.123}, rungs, recovered=(3, 1))
    write_run(tmp_path, {"recovery.weight": 0.456}, rungs[:2], recovered=(4, 0))
    table = headline(Findings.load(tmp_path))
    assert max(map(len, table.splitlines())) <= 120
    assert table.count("75 % / 50.5 (nn 25 %)") == 14  # every rung, in panels one below the other
    lines = [line for line in table.splitlines() if line.startswith("    energy known, weight=0.456")]
    assert "100 % / 51.5" in lines[0]
    assert lines[-1].split()[-1] == "-"  # a rung that this run does not have


def test_least_favourable_figures_stand_below_the_table(tmp_path: Path) -> None:
    write_run(tmp_path, {}, recovered=(4, 0))
    write_run(tmp_path, {"operator.name": "alternating"}, recovered=(2, 1), status="diverged")
    table = headline(Findings.load(tmp_path))
    assert "It was chosen among 2 runs, each at its lowest train loss;" in " ".join(table.split())
    assert "1 of 4 non-members (25 %, 95 % interval 5 to 70 %)" in table
    assert "2 of 4 members (50 %, 95 % interval 15 to 85 %)" in table
    assert "16 answers" in table  # 8 images at 2 rungs


def test_the_strongest_cell_has_its_auc_and_says_what_is_not_resolvable(tmp_path: Path) -> None:
    """Two members of 50 and 51 dB lie above all four non-members of 14 to 17 dB, two of 12 and 13 dB below."""
    write_run(tmp_path, {}, recovered=(2, 0))
    table = headline(Findings.load(tmp_path))
    assert "The only run, at its lowest train loss: digits / fc; random_pixels 50 %, zero fill; energy known; " in table
    assert "AUC of the erased PSNR 0.500 (" in table
    assert "TPR at FPR 10 %: not resolvable with 4 non-members (10 would do)" in table
    assert "TPR at FPR 0.1 %: not resolvable with 4 non-members (1,000 would do)" in table


def test_methods_are_compared_in_pairs_on_the_same_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """4 of 4 members against 0: four pairs can give no p-value below 1/8, times 3 by Holm."""
    write_run(tmp_path, {}, recovered=(4, 0))
    write_run(tmp_path, {"recovery.name": "iterate"}, recovered=(0, 0))
    write_run(tmp_path, {"recovery.name": "pnp_admm"}, recovered=(0, 0))
    write_run(tmp_path, {"degradation.fraction": 0.2}, recovered=(0, 0))
    main(["--store", str(tmp_path), "--compare"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "p-values are adjusted for 3 comparisons (Holm)" in " ".join(shown.split())
    assert "iterate known - energy known: recovered -100 points (McNemar p = 0.4); PSNR -40.0 dB (" in shown
    main(["--store", str(tmp_path), "--compare", "--json"])
    records = json.loads(capsys.readouterr().out)
    assert [record["recovered_difference"] for record in records] == [0, -1, -1]
    assert records[1]["recovered_p"] == 0.125
    assert records[1]["recovered_p_holm"] == pytest.approx(0.375)


def test_variation_over_seeds_stands_apart_from_that_over_images(tmp_path: Path) -> None:
    for seed, recovered in enumerate([4, 2, 3]):
        write_run(tmp_path, {"seed": seed}, recovered=(recovered, 0))
    write_run(tmp_path, {"seed": 0, "recovery.weight": 5.0}, recovered=(1, 0))
    findings = Findings.load(tmp_path)
    ((cell, found, _),) = findings.over_seeds
    assert (cell.rung, found.seeds, found.mean.value) == (0.01, 3, 0.75)
    assert found.between == pytest.approx(0.25)
    table = " ".join(headline(findings).split())
    assert "digits / fc; random_pixels 50 %, zero fill; energy known" in table
    assert "3 seeds, mean 75 % (13 to 100 %), standard deviation 25.0 points; 22.0 are due to the images, 11.8" in table
    assert "11.8 remain; excess 75 % (13 to 100 %)" in table


def test_all_runs_over_seeds_are_told_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, recovered in enumerate([(4, 0), (2, 1), (3, 0)]):
        write_run(tmp_path, {"seed": seed}, recovered=recovered)
    main(["--store", str(tmp_path), "--seeds", "--json"])
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["seeds"], record["rung"], record["members_recovered"]) == (3, 0.01, 0.75)
    assert record["autoencoder"] == "digits / fc"
    values = np.array([4, 2, 3]) / 4 - np.array([0, 1, 0]) / 4
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert record["excess"] == pytest.approx(values.mean())
    assert (record["excess_low"], record["excess_high"]) == pytest.approx((max(-1, low), min(1, high)))
    main(["--store", str(tmp_path), "--seeds"])
    assert " 3 seeds, mean 75 %" in " ".join(capsys.readouterr().out.split())
    write_run(tmp_path / "other", {})
    main(["--store", str(tmp_path / "other"), "--seeds"])
    assert capsys.readouterr().out == "No two runs differ in their seed alone.\n"


def test_json_holds_what_is_resolvable(real_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--store", str(real_store), "--json"])
    for record in json.loads(capsys.readouterr().out):
        assert 0 <= record["auc_low"] <= record["auc"] <= record["auc_high"] <= 1
        assert record["fpr_of_0.1"] <= 0.1  # ten non-members
        assert record["tpr_at_fpr_0.1"] is not None
        assert record["tpr_at_fpr_0.01"] is None


def test_runs_that_differ_are_told_apart_and_repetitions_are_not(tmp_path: Path) -> None:
    write_run(tmp_path, {"recovery.weight": 1.0}, rungs=(0.1, 0.01))
    write_run(tmp_path, {"recovery.weight": 1.0}, rungs=(0.01,))  # the same with rungs=last
    write_run(tmp_path, {"recovery.weight": 20.0})
    write_run(tmp_path, {"recovery.weight": 3.0})
    write_run(tmp_path, {"architecture.depth": 9, "seed": 1})
    findings = Findings.load(tmp_path)
    assert list(dict.fromkeys((cell.labels.autoencoder, cell.labels.method) for cell in findings.cells)) == [
        ("digits / fc, depth=3, seed=0", "energy known, weight=1.0"),
        ("digits / fc, depth=3, seed=0", "energy known, weight=3.0"),
        ("digits / fc, depth=3, seed=0", "energy known, weight=20.0"),
        ("digits / fc, depth=9, seed=1", "energy known"),
    ]
    assert len(findings.cells) == 8
    assert len(findings.last_cells) == 4


def test_autoencoders_that_differ_in_no_setting_are_told_apart(tmp_path: Path) -> None:
    """Trained on other images in the same folder, or given in a file that was written anew."""
    write_run(tmp_path, {}, autoencoder="0123456789abcdef")
    write_run(tmp_path, {}, autoencoder="fedcba9876543210")
    write_run(tmp_path, {"recovery.name": "iterate"}, autoencoder="fedcba9876543210")
    write_run(tmp_path, {"architecture.name": "conv"}, autoencoder="aaaaaaaaaaaaaaaa")
    findings = Findings.load(tmp_path)
    assert len(findings.last_cells) == 4
    assert {cell.labels.autoencoder for cell in findings.cells} == {
        "digits / fc, autoencoder 01234567",
        "digits / fc, autoencoder fedcba98",
        "digits / conv",
    }
    ((first, second),) = findings.pairs  # of one autoencoder only
    assert first.labels.autoencoder == second.labels.autoencoder == "digits / fc, autoencoder fedcba98"
    assert findings.over_seeds == []


def test_runs_whose_settings_look_alike_are_told_apart(tmp_path: Path) -> None:
    signatures = [write_run(tmp_path, {"degradation.fraction": fraction}) for fraction in (0.8, 0.80001)]
    cells = Findings.load(tmp_path).last_cells
    assert {cell.labels.method for cell in cells} == {f"energy known, run {signature[:8]}" for signature in signatures}


def test_repetitions_are_shown_and_adjusted_for_once(tmp_path: Path) -> None:
    write_run(tmp_path, {"control": "inpaint"}, rungs=(0.1,), recovered=(0, 0))
    for rungs in ("all", "last"):
        write_run(tmp_path, {"rungs": rungs}, rungs=(0.1,), recovered=(4, 0))
    write_run(tmp_path, {"recovery.penalty": 1.0}, rungs=(0.1,), recovered=(0, 0))
    findings = Findings.load(tmp_path)
    strongest = findings.strongest
    assert strongest.verdict_holm == 2 * strongest.verdict_p  # two verdicts are shown
    assert len(strongest.repeated) == 1
    assert "Shown once: 1 run with the autoencoder and settings of another." in headline(findings)


def test_runs_on_other_members_are_no_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {}, first=200)
    for name in ("iterate", "pnp_admm"):
        write_run(tmp_path, {"recovery.name": name})
    main(["--store", str(tmp_path)])
    main(["--store", str(tmp_path), "--compare"])
    shown = capsys.readouterr().out
    assert "iterate known - pnp_admm known" in shown
    assert "adjusted for 1 comparison (Holm)" in " ".join(shown.split())


def test_a_run_without_non_members_has_dashes(tmp_path: Path) -> None:
    write_members_only(tmp_path)
    findings = Findings.load(tmp_path)
    shown = " ".join(headline(findings).split())
    assert "50 % / 25.0" in shown
    assert "The most non-members that came back in a cell: none were tried." in shown
    assert "It has no members or no non-members" in shown
    assert "nan" not in shown
    write_run(tmp_path, {"recovery.name": "iterate"}, rungs=(0.1,))
    findings = Findings.load(tmp_path)
    assert findings.strongest.labels.method == "iterate known"
    assert "nan" not in headline(findings)


def test_a_median_without_an_interval_has_a_dash(tmp_path: Path) -> None:
    """Fewer than six images bound no median with 95 % confidence."""
    write_run(tmp_path, {})
    findings = Findings.load(tmp_path)
    assert "dB for members (–)" in build(findings)
    assert "nan" not in headline(findings)


def test_the_degradation_noise_is_called_by_its_level(tmp_path: Path) -> None:
    for noise in (0.1, 0.2):
        write_run(tmp_path, {"degradation": {"name": "noise", "noise": noise}}, rungs=(0.1,))
    labels = [cell.labels.degradation for cell in Findings.load(tmp_path).cells]
    assert labels == ["noise 0.1", "noise 0.2"]
    assert {without(label, math.nan, noise)["noise"] for label, noise in zip(labels, (0.1, 0.2), strict=True)} == {
        "noise"
    }


def test_strongest_is_the_largest_excess_not_the_largest_share(tmp_path: Path) -> None:
    write_run(tmp_path, {"recovery.name": "pnp_admm"}, recovered=(4, 3))
    strongest = write_run(tmp_path, {}, recovered=(3, 0))
    write_run(tmp_path, {"degradation.fraction": 0.2}, recovered=(3, 0))  # as large, from an easier task
    assert Findings.load(tmp_path).strongest.signature == strongest


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.58, "58 %"),
        (0.004, "0.4 %"),
        (0.998, "99.8 %"),
        (-0.07, "-7 %"),
        (-0.003, "-0.3 %"),
        (-1.0, "-100 %"),
    ],
)
def test_percent_never_rounds_to_nothing_or_all(fraction: float, text: str) -> None:
    assert percent(fraction) == text


def test_values_are_written_as_hydra_reads_them() -> None:
    values = [1e-8, 3, True, None, "zero", "a b, c's", [0.9, 0.95], ["x", "1,2"], ""]
    parser = OverridesParser.create()
    assert [parser.parse_override(f"key={value_text(value)}").value() for value in values] == values


def test_empty_store_is_one_line(tmp_path: Path) -> None:
    command = [*PYTHON, "-m", "memorization.report", "--store", str(tmp_path / "nothing")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"error: .*/nothing is no folder; make one with .*\n", done.stderr)


def test_a_store_that_is_named_as_for_the_other_commands_is_told_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for word in (f"store={tmp_path}", str(tmp_path)):
        with pytest.raises(SystemExit):
            main([word])
        assert f"error: {word}: name a store with --store {tmp_path}\n" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["results.parquet", "gallery.safetensors", "config.yaml"])
def test_damaged_file_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "recoveries" / write_run(tmp_path, {}) / name
    damage(path)
    with pytest.raises(SystemExit) as stopped:
        main(["--store", str(tmp_path)])
    assert str(stopped.value).startswith(f"error: {path} is damaged")
    assert "\n" not in str(stopped.value)
    assert not (tmp_path / "report.html").exists()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["results.parquet", "gallery.safetensors", "config.yaml", "done.json"])
def test_a_damaged_run_is_left_out_and_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recoveries" / write_run(tmp_path, {"operator.name": "robust"}) / name
    damage(path)
    whole = write_run(tmp_path, {})
    main(["--store", str(tmp_path)])
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith(f"warning: left out: {path} is damaged")
    assert "robust" not in printed.out
    page = (tmp_path / "report.html").read_text()
    assert "A damaged run is left out of this page." in page
    assert f"memorization-store --store {tmp_path} verify" in page
    assert str(path) in page
    assert whole in page
    main(["--store", str(tmp_path), "--json"])
    assert {row["signature"] for row in json.loads(capsys.readouterr().out)} == {whole}


def test_verdicts_are_adjusted_for_their_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {"control": "inpaint"}, rungs=(0.1,), recovered=(0, 0))
    for penalty, recovered in enumerate([(4, 0), (3, 0), (0, 0)]):
        write_run(tmp_path, {"recovery.penalty": penalty}, rungs=(0.1,), recovered=recovered)
    summary = Findings.load(tmp_path).summary
    audited = summary[summary["control"] == "none"].set_index("members_recovered")
    np.testing.assert_allclose(audited["verdict_holm"], multipletests(audited["verdict_p"], method="holm")[1])
    assert audited["verdict_holm"][1] == 3 * audited["verdict_p"][1]
    assert summary[summary["control"] != "none"]["verdict_holm"].isna().all()
    main(["--store", str(tmp_path)])
    assert "(p = 0.06; Holm: 0.2)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["--watch", "--summary"],
        ["--watch", "--json"],
        ["--summary", "--compare"],
        ["--seeds", "--output", "report.html"],
        ["--figures", "plots", "--json"],
        ["--figures", "plots", "--watch"],
        ["--json", "--output", "report.html"],
    ],
)
def test_options_that_contradict_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(options)
    assert stopped.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["memorization.report", "memorization.tracking.dashboard"])
def test_output_that_nobody_reads_is_no_error(tmp_path: Path, module: str) -> None:
    write_run(tmp_path, {})
    options = ["--store", str(tmp_path), "--summary"] if module == "memorization.report" else ["--dry-run"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as output:
        command = [*PYTHON, "-m", module, *options]
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 128 + signal.SIGPIPE
    assert "roken pipe" not in done.stderr
    assert "rror" not in done.stderr


def test_probes_are_counted_and_of_many_cells_the_strongest_are_shown(tmp_path: Path) -> None:
    for place, recovered in enumerate([1, 4, 3, 2]):
        signature = write_run(tmp_path, {"recovery.weight": float(place)}, recovered=(recovered, 0))
        write_probes(tmp_path, signature, {"none": [4], "shift": [4, place]})
    shown = " ".join(headline(Findings.load(tmp_path)).split())
    assert shown.count("Near-member probes") == 2
    assert "energy known, weight=1.0; train loss 1e-02. Probes answered with their member" in shown
    assert "shift: 4 of 4 (4) at 0.100, 1 of 4 (4) at 0.200" in shown
    assert "Probes of the strongest 2 of 4 cells; the page plots those of all." in shown


def test_of_many_runs_over_seeds_those_that_vary_most_are_shown(tmp_path: Path) -> None:
    for weight in range(12):
        for seed in range(2):
            write_run(
                tmp_path, {"recovery.weight": weight + 0.5, "seed": seed}, (0.1,), (4 if seed and weight else 1, 0)
            )
    findings = Findings.load(tmp_path)
    assert len(findings.over_seeds) == 12
    shown = headline(findings)
    assert shown.count(" 2 seeds, mean") == 10
    assert "weight=0.5: 2 seeds" not in " ".join(shown.split())
    assert "These are the 10 of 12 runs that vary most; --seeds lists all." in shown


def test_unwritable_output_is_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, {})
    (tmp_path / "no_folder").touch()
    with pytest.raises(SystemExit, match=r"^error: .*no_folder"):
        main(["--store", str(tmp_path), "--output", str(tmp_path / "no_folder" / "report.html")])


def test_the_page_goes_where_output_leads(tmp_path: Path) -> None:
    store, page = tmp_path / "store", "<!doctype html>"
    write_run(store, {})
    (tmp_path / "real.html").write_text("old")
    for link, target in (("link.html", "real.html"), ("dangling.html", "new.html")):
        (tmp_path / link).symlink_to(target)
        main(["--store", str(store), "--output", str(tmp_path / link)])
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / target).read_text().startswith(page)
    os.mkfifo(tmp_path / "pipe")
    read = tmp_path / "read.html"
    with read.open("w") as file, subprocess.Popen(["cat", tmp_path / "pipe"], stdout=file):
        main(["--store", str(store), "--output", str(tmp_path / "pipe")])
    assert read.read_text().startswith(page)
    assert (tmp_path / "pipe").is_fifo()
    command = [*PYTHON, "-m", "memorization.report", "--store", str(store), "--output", "/dev/stdout"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith(page)
    assert done.stdout.rstrip().endswith("</html>")
    assert done.stderr.endswith("report: /dev/stdout\n")
    with pytest.raises(
        SystemExit, match=r"^error: --output .*store: cannot be written \(Is a directory\); name another"
    ):
        main(["--store", str(store), "--output", str(store)])


def test_json_needs_no_summary_and_writes_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path, {})
    shown = []
    for options in (["--json"], ["--summary", "--json"]):
        main(["--store", str(tmp_path), *options])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert not list(tmp_path.rglob("*.html"))
