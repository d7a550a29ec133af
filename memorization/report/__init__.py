"""`memorization-report`: a run store as one HTML file, and its headline table on the terminal.

The page and the table hold whatever the store holds; no dataset, degradation or method is named in this package.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from memorization.components import expanded
from memorization.engine import streams
from memorization.store.files import StoreError


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
    choose("--seeds", help="print what each run found over its seeds, with intervals, and write no HTML")
    choose("--extractions", help="print the table of extractions alone, which --summary prints last, and write no HTML")
    as_json = "like --summary (of recoveries alone), --compare, --seeds or --extractions, as JSON; NaN is null"
    parser.add_argument("--json", action="store_true", help=as_json)
    options, left = parser.parse_known_args(argv)
    if left and not left[0].startswith("-"):
        parser.error(f"{left[0]}: name a store with --store {left[0].removeprefix('store=')}")
    if left:
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if options.json and (options.watch or options.figures):
        parser.error("argument --json: not allowed with argument --watch or --figures")
    if options.output and (
        options.json or options.summary or options.compare or options.seeds or options.extractions or options.figures
    ):
        others = "--summary, --compare, --seeds, --extractions, --json or --figures"
        parser.error(f"argument --output: not allowed with {others}: no HTML is made")
    return options


def main(argv: list[str] | None = None) -> None:
    """Run the command line; exits with status 1 and one line on stderr if the store or the output cannot be used."""
    try:
        with streams.printing():
            options = parsed(argv)
            from memorization.report.command import run  # with pandas: `--help` need not wait for it

            run(options)
    except (StoreError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
