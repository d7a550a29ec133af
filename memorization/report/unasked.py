"""What is said of extractions: the sentence of the page, the table of a terminal, and records for programs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from memorization.evaluation.statistics import Estimate
from memorization.report.extractions import Extraction, controls_of, strongest
from memorization.report.tables import WIDTH, decibels, span

SENTENCES = 2  # about the extractions of so many data sets and architectures


def sentences(every: Sequence[Extraction]) -> list[str]:
    """The strongest extractions in a sentence each, at most `SENTENCES`, with what their controls gave."""
    return [_sentence(each, every) for each in strongest(every)[:SENTENCES]]


def _sentence(each: Extraction, every: Sequence[Extraction]) -> str:
    dataset, architecture = each.names
    where = f"{architecture} on {dataset} at a train loss of {each.train_loss:.0e}"
    after = f"after {each.figures['queries']:,.0f} queries"
    if math.isnan(each.train_loss):  # nor members
        where = architecture
    if not each.members:
        images = _counted(each.figures["ends"], "distinct image")
        return f"Unasked, {images} came out of {where} {after}; there are no members to compare with."
    share = f"{each.extracted} of {each.members} members came out of {where} {after}"
    controls = [f"{control.extracted} of the {_control(control)}" for control in controls_of(each, every)]
    others = f"; {' and '.join(controls)}" if controls else ""
    return f"Unasked, {share} (95 % interval {span(each.share, '%')} %){others}."


def _control(control: Extraction) -> str:
    return {"untrained": "untrained control", "reference": "reference control"}.get(control.control, control.control)


def _counted(count: float, noun: str) -> str:
    return f"{count:,.0f} {noun}{'s' * (count != 1)}"


def choice(every: Sequence[Extraction]) -> str:
    """How the extractions of the sentences were chosen; empty where there was none to choose."""
    found, several = strongest(every), [each for each in every if each.control == "none"]
    if len(several) < 2:
        return ""
    which = "the one with most members at the lowest train loss"
    of = f"Of {len(several)} extractions this is {which}"
    if len(found) > 1:
        of = f"Of each data set and architecture this is {which}"
    if len(found) > SENTENCES:
        of += f"; of {len(found)} of these, the {SENTENCES} with the largest share are named"
    return f"{of}. The interval does not account for this choice."


def total(estimate: Estimate) -> str:
    """`62 (51 to 152)`, `62 (from 51)`: an estimated number with its interval; `–` where nothing was seen."""
    if math.isnan(estimate.high):
        return "–"
    if math.isinf(estimate.high):
        return f"{estimate.value:,.0f} (from {estimate.low:,.0f})"
    return f"{estimate.value:,.0f} ({estimate.low:,.0f} to {estimate.high:,.0f})"


def members(each: Extraction) -> str:
    """`41 of 50 (69 to 90 %)`: the members that came out, with the interval of their share; `–` without members."""
    return f"{each.extracted} of {each.members} ({span(each.share, '%')} %)" if each.members else "–"


def row(each: Extraction) -> dict[str, str]:
    """What a table says of an extraction; an interval is in brackets."""
    figures, totals = each.figures, each.totals
    return {
        "loss": "–" if math.isnan(each.train_loss) else f"{each.train_loss:.1e}",
        "control": "" if each.control == "none" else each.control,
        "members": members(each),
        "ends": f"{figures['ends']:,.0f}",
        "spurious": f"{figures['spurious']:,.0f}" if each.members else "–",
        "members_total": total(totals["members"]),
        "ends_total": total(totals["ends"]),
        "queries": f"{figures['queries']:,.0f}",
        "non_member": decibels(figures["nearest_non_member_psnr"]),
    }


HEADS = {
    "members": "members extracted",
    "members_total": "in all, est.",
    "ends": "ends",
    "spurious": "spurious",
    "ends_total": "in all, est.",
    "queries": "queries",
    "non_member": "non-member",
}


def table(every: Sequence[Extraction]) -> str:
    """The extractions in a block of lines an autoencoder and search, at most `WIDTH` wide; empty if there is none."""
    if not every:
        return ""
    blocks = []
    for (autoencoder, search), part in groupby(every, key=lambda each: (each.autoencoder, each.search)):
        rows = [({"at": each.at} | row(each)) for each in part]
        heads = {"at": "train loss"} | HEADS
        widths = {name: max(len(head), *(len(each[name]) for each in rows)) + 2 for name, head in heads.items()}
        lines = [f"{autoencoder}: what came out unasked; {search}"]
        for each in [heads, *rows]:
            cells = (each[name].rjust(widths[name]) for name in HEADS)
            lines.append(f"  {each['at'].ljust(widths['at'])}" + "".join(cells))
        blocks.append("\n".join(line.rstrip() for line in lines))
    notes = [
        "Members extracted, with the 95 % interval of their share; distinct ends of the search; spurious: ends that "
        "are no member. In all, est.: the estimated number in all, a lower bound, with its 95 % interval; of members, "
        "no more than there are. Non-member: the highest PSNR of an end to a non-member in dB; a reference was trained "
        "on the non-members."
    ]
    return "\n\n".join([*blocks, "\n".join(_wrapped([*notes, *sentences(every), *filter(None, [choice(every)])]))])


def _wrapped(lines: list[str]) -> list[str]:
    return [textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines]


def figures_of(every: Sequence[Extraction]) -> pd.DataFrame:
    """One row an extraction: what its run is, `evaluation.extraction.summarised`, and how its starts ended."""
    rows: list[dict[str, Any]] = []
    for each in every:
        config, (dataset, architecture) = each.run.config, each.names
        names: dict[str, Any] = {"signature": each.signature, "dataset": dataset, "architecture": architecture}
        names |= {"autoencoder": each.run.done["autoencoder"], "prior": config["prior"]["name"], "seed": config["seed"]}
        names |= {"rung": each.rung, "train_loss": each.train_loss, "control": each.control}
        names |= {"threshold_db": config["threshold_db"], "study": config["study"]}
        rows.append(names | each.figures | each.run.done["endings"])
    return pd.DataFrame(rows)
