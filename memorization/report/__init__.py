"""`memorization-report`: a run store as one HTML file, and its headline table on the terminal.

The page and the table hold whatever the store holds; no dataset, degradation or method is named in this package.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from memorization.components import expanded
from memorization.engine import interruption, streams
from memorization.report.browser import BrowserError, figures
from memorization.report.findings import Findings
from memorization.report.page import build
from memorization.report.tables import comparisons, headline, records
from memorization.report.unasked import figures_of, table
from memorization.store.files import StoreError, write


def parsed(argv: list[str] | None = None) -> argparse.Namespace:
    """The options; exits with status 2 for those that contradict each other."""
    parser = argparse.ArgumentParser(
        prog="memorization-report",
        description="Report how many members and non-members the recoveries of a run store brought back, and how many "
        "members came out of its extractions.",
        epilog="examples:\n"
        "  memorization-report                      write runs/report.html and print the headline table\n"
        "  memorization-report --summary            print the headline table only\n"
        "  memorization-report --json               the same for programs: one record a run and train loss\n"
        "  memorization-report --extractions --json  the extractions: one record each\n"
        "  memorization-report --figures plots      write every plot of the page as PNG and PDF, and no HTML\n"
        "  memorization-report --watch              rewrite the page as results land, until interrupted\n"
        "  memorization-report --store /data/runs --output audit.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--store", type=expanded, default=Path("runs"), help="the folder of all runs (default: runs)")
    parser.add_argument(
        "--output", type=expanded, metavar="FILE", help="the HTML file (default: report.html in the store)"
    )
    instead = parser.add_mutually_exclusive_group()
    choose = partial(instead.add_argument, action="store_true")
    choose("--watch", help="rewrite the HTML file as results land; an open page reloads itself")
    plots = "write the plots as PNG and PDF, for papers (needs Chromium)"
    instead.add_argument("--figures", type=expanded, metavar="FOLDER", help=plots)
    choose("--summary", help="print the headline table and write no HTML")
    choose("--compare", help="compare methods pairwise on the same members, with p-values, and write no HTML")
    choose("--extractions", help="print the table of extractions alone, which --summary prints last, and write no HTML")
    as_json = "like --summary (of recoveries alone), --compare or --extractions, as JSON; NaN is null"
    parser.add_argument("--json", action="store_true", help=as_json)
    options = parser.parse_args(argv)
    if options.json and (options.watch or options.figures):
        parser.error("argument --json: not allowed with argument --watch or --figures")
    if options.output and (
        options.json or options.summary or options.compare or options.extractions or options.figures
    ):
        others = "--summary, --compare, --extractions, --json or --figures"
        parser.error(f"argument --output: not allowed with {others}: no HTML is made")
    return options


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with status 1 and one line on stderr if the store or the output cannot be used."""
    try:
        with streams.printing():
            _run(parsed(argv))
    except (StoreError, BrowserError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def _run(options: argparse.Namespace) -> None:
    output = options.output or options.store / "report.html"
    if options.watch:
        watch(options.store, output)
        return
    findings = _load(options.store)
    if options.extractions and not findings.extractions:
        make = f"make one with memorization-extract store={options.store}"
        raise StoreError(f"{options.store} holds no finished extraction; {make}")
    if options.json:
        found = findings.comparisons if options.compare else findings.summary
        found = figures_of(findings.extractions) if options.extractions else found
        print(json.dumps(records(found), indent=2, allow_nan=False))
    elif options.extractions:
        print(table(findings.extractions))
    elif options.compare:
        print(comparisons(findings))
    elif options.figures:
        print(f"{len(figures(findings, options.figures))} files: {options.figures}")
    elif options.summary:
        print(summary(findings))
    else:
        aside = publish(output, build(findings))
        print(f"{summary(findings)}\n\nreport: {output}", file=sys.stderr if aside else sys.stdout)


def publish(output: Path, page: str) -> bool:
    """Write a page to the file that `output` leads to, or into a pipe or device; is it standard output?"""
    try:
        if output.exists() and os.path.samestat(output.stat(), os.fstat(1)):
            sys.stdout.buffer.write(page.encode())
            return True
        if output.exists() and not output.is_file():
            with output.open("wb") as file:
                file.write(page.encode())
        else:
            write(Path(os.path.realpath(output)), page)  # through a link
    except BrokenPipeError:
        raise
    except (StoreError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        reason = getattr(cause, "strerror", "")
        raise StoreError(f"--output {output}: cannot be written ({reason}); name another file") from error
    return False


def summary(findings: Findings) -> str:
    """The headline table of the recoveries, and the table of the extractions below it; of which a store has."""
    parts = [headline(findings) if findings.cells else "", table(findings.extractions)]
    return "\n\n".join(filter(None, parts))


def _load(store: Path) -> Findings:
    """The findings of a store, with a line on stderr for each damaged run that is left out of them."""
    findings = Findings.load(store)
    for damage in findings.damaged:
        print(f"warning: left out: {damage}", file=sys.stderr)
    return findings


def landed(store: Path) -> dict[Path, int]:
    """The finished runs of a store, with the times at which they were finished."""
    found = {}
    for path in store.glob("*/[!.]*/done.json"):
        with contextlib.suppress(FileNotFoundError):  # made anew just now
            found[path] = path.stat().st_mtime_ns
    return found


def watch(store: Path, output: Path, seconds: float = 2.0) -> None:
    """Rewrite `output` whenever a run of the store was finished, until interrupted; then once more, at rest."""
    seen: dict[Path, int] = {}
    written = False
    interruption.handle()
    try:
        while True:
            now = landed(store)
            if now != seen and any(path.parent.parent.name in ("recoveries", "extractions") for path in now):
                try:
                    findings = _load(store)
                except (StoreError, FileNotFoundError) as error:  # a run is being made anew, or must be
                    print(f"waiting: {' '.join(str(error).split())}", flush=True)
                else:
                    written = True
                    publish(output, build(findings, watching=True))
                    print(f"{len(findings.runs) + len(findings.extractions)} runs: {output}", flush=True)
            seen = now
            time.sleep(seconds)
    except (KeyboardInterrupt, interruption.Interrupted):
        if written:
            publish(output, build(Findings.load(store)))
