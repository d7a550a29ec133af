"""What `memorization-report` does: the page, or a table on the terminal, once or as results land.

What only the page needs (torch, Plotly, a browser) is imported where it is made.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path

from memorization.engine import interruption
from memorization.report.findings import Findings
from memorization.report.tables import comparisons, headline, inferred, over_seeds, records
from memorization.report.unasked import figures_of, table
from memorization.store.files import StoreError, write


def run(options: argparse.Namespace) -> None:
    """Do what the options of the command line say."""
    output = options.output or options.store / "report.html"
    if options.watch:
        watch(options.store, output)
        return
    findings = _load(options.store)
    if options.extractions and not findings.extractions:
        make = f"make one with memorization-extract store={options.store}"
        raise StoreError(f"{options.store} holds no finished extraction; {make}")
    if options.json:
        found = findings.comparisons if options.compare else findings.seeds if options.seeds else findings.summary
        found = figures_of(findings.extractions) if options.extractions else found
        print(json.dumps(records(found), indent=2, allow_nan=False))
    elif options.extractions:
        print(table(findings.extractions))
    elif options.compare:
        print(comparisons(findings))
    elif options.seeds:
        print(over_seeds(findings))
    elif options.figures:
        from memorization.report.browser import figures

        print(f"{len(figures(findings, options.figures))} files: {options.figures}")
    elif options.summary:
        print(summary(findings))
    else:
        from memorization.report.page import build

        aside = publish(output, build(findings), "--output ")
        print(f"{summary(findings)}\n\nreport: {output}", file=sys.stderr if aside else sys.stdout)


def publish(output: Path, page: str, option: str = "") -> bool:
    """Write a page to the file that `output` leads to, or into a pipe or device; is it standard output?

    Raises `StoreError` if it cannot be written; `option` is what named it.
    """
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
        raise StoreError(f"{option}{output}: cannot be written ({reason}); name another file") from error
    return False


def summary(findings: Findings) -> str:
    """The headline table of the recoveries, membership inferences and extractions below it; of which a store has."""
    parts = [headline(findings) if findings.cells else "", inferred(findings.inferences), table(findings.extractions)]
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
    from memorization.report.page import build

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
                    publish(output, build(findings, watching=True), "--output ")
                    print(f"{len(findings.runs) + len(findings.extractions)} runs: {output}", flush=True)
            seen = now
            time.sleep(seconds)
    except (KeyboardInterrupt, interruption.Interrupted):
        if written:
            publish(output, build(Findings.load(store)), "--output ")
