"""`memorization-report`: a run store as one HTML file, and its headline table on the terminal.

The page and the table hold whatever the store holds; no dataset, degradation or method is named in this package.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.tables import comparisons, headline, records
from memorization.runs import StoreError

__all__ = ["Findings", "build", "headline", "main", "records"]


def arguments() -> argparse.ArgumentParser:
    """The command line of `memorization-report`."""
    parser = argparse.ArgumentParser(
        prog="memorization-report",
        description="Report how many members and non-members the recoveries of a run store brought back.",
        epilog="examples:\n"
        "  memorization-report                      write runs/report.html and print the headline table\n"
        "  memorization-report --summary            print the headline table only\n"
        "  memorization-report --json               the same for programs: one record a run and train loss\n"
        "  memorization-report --store /data/runs --output audit.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", type=Path, default=Path("runs"), help="the folder of all runs (default: runs)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the HTML file (default: report.html in the store)")
    parser.add_argument("--summary", action="store_true", help="print the headline table and write no HTML")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="compare methods pairwise on the same members, with p-values, and write no HTML; with --json for programs",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="like --summary, as JSON; what is not a number is null",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with status 1 and one line on stderr if the store or the output cannot be used."""
    options = arguments().parse_args(argv)
    try:
        findings = Findings.load(options.store)
        if options.json:
            table = findings.comparisons if options.compare else findings.summary
            print(json.dumps(records(table), indent=2, allow_nan=False))
            return
        if options.compare:
            print(comparisons(findings))
            return
        output = options.output or options.store / "report.html"
        if not options.summary:
            output.write_text(build(findings), encoding="utf-8")
        print(headline(findings))
        if not options.summary:
            print(f"\nreport: {output}")
    except (StoreError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
