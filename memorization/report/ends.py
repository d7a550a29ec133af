"""What the page's script draws of extractions: curves, shares against train loss, spectral radii, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd
import torch
from safetensors import safe_open
from torch import Tensor

from memorization.evaluation.extraction import told_of_starts
from memorization.report import reproduce
from memorization.report.cells import Cell, strength
from memorization.report.data import as_shown, plain
from memorization.report.extractions import Extraction, ladders, strongest
from memorization.report.findings import Findings, rows_of
from memorization.report.gallery import webp
from memorization.report.tables import decibels
from memorization.report.unasked import total
from memorization.store.reading import Run

# How many ends of a kind (members, spurious ends) an extraction shows, and with or without loss, so that the pictures
# of all have at most so many pixel values.
LEVELS = ((60, True), (36, True), (24, True), (24, False), (12, False), (6, False), (3, False))
LOSSLESS, LOSSY = 4_000_000, 16_000_000
BESIDE = 3  # recoveries whose share stands beside the extracted one


def drawn(findings: Findings) -> dict[str, Any]:
    """The records of `extractions`, in their order, and what they share.

    runs: a record an extraction, see `_record`. ladders: a record an autoencoder, see `_ladder`. pictures: WebP in
    base64, to which the ends of `runs` point. lossless: are they. strongest: the place of the first sentence's
    extraction.
    """
    every = findings.extractions
    limit, lossless = _extent(every)
    pictures: dict[str, int] = {}
    first = next(iter(strongest(every)), every[0])
    return {
        "runs": [_record(findings, each) | _pictures(each, limit, lossless, pictures) for each in every],
        "ladders": [_ladder(findings, name, group) for name, group in ladders(every).items()],
        "lossless": lossless,
        "strongest": every.index(first),
        "pictures": [*pictures],
    }


def _record(findings: Findings, each: Extraction) -> dict[str, Any]:
    """The curve of an extraction, its estimated totals, and the spectral radius of each end that is a member.

    radii: of each such end its hits, its radius, the number of its image, whether `recovery` brought it back (None
    where it was not tried), and the radius as text.
    """
    totals = {name: [plain(number) for number in found] + [total(found)] for name, found in each.totals.items()}
    cell = _recovery(findings, each)
    recovered: dict[int, bool] = {}
    if cell:
        rows = findings.rows[cell.signature, cell.rung]
        rows = rows[rows["member"]]
        recovered = dict(zip(rows["image"].tolist(), rows["recovered"].eq(True).tolist(), strict=True))
    own = each.table[each.table["is_member"] & each.table["spectral_radius"].notna()]
    radii = [
        [row["hits"], plain(radius), row["image"], recovered.get(row["image"]), f"{radius:.3f}"]
        for row in rows_of(own)
        for radius in [row["spectral_radius"]]
    ]
    return {
        "title": each.title,
        "command": reproduce.command(each.run.config),
        "starts": told_of_starts(each.run.done["endings"]),
        "members": each.members,
        "extracted": each.extracted,
        "curve": {str(name): column.tolist() for name, column in each.curve.items()},
        "totals": totals,
        "radii": radii,
        "recovery": f"{cell.labels.method}, {cell.labels.degradation}" if cell and recovered else "",
    }


def _recovery(findings: Findings, each: Extraction) -> Cell | None:
    """The strongest recovery from the same autoencoder at the same rung."""
    if each.control != "none":
        return None
    cells = [cell for cell in _cells(findings, each) if cell.rung == each.rung]
    return max(cells, key=strength, default=None)


def _cells(findings: Findings, each: Extraction) -> list[Cell]:
    """The recoveries of members from the same autoencoder (data set, architecture, training and seed)."""
    of = {name for name, run in findings.runs.items() if run.done.get("autoencoder") == each.run.done["autoencoder"]}
    return [cell for cell in findings.cells if cell.signature in of and cell.members.count]


def _ladder(findings: Findings, name: str, group: Sequence[Extraction]) -> dict[str, Any]:
    """Of an autoencoder the extracted shares by search, and those of its `BESIDE` strongest recoveries: each a line
    with its train losses, shares and texts."""
    searches = list(dict.fromkeys(each.search for each in group))
    lines = []
    for search in searches:
        own = [each for each in group if each.search == search]
        counts = [f"{each.extracted} of {each.members} extracted" for each in own]
        shares = [as_shown(each.share, "%") for each in own]
        line = f"extracted{f', {search}' if len(searches) > 1 else ''}"
        lines.append(_line(line, [each.train_loss for each in own], shares, counts) | {"extracted": True})
    cells = _cells(findings, group[0])
    last = {cell.signature for cell in sorted(_lowest(findings, cells), key=strength, reverse=True)[:BESIDE]}
    for signature in sorted(last, key=[cell.signature for cell in cells].index):
        part = [cell for cell in cells if cell.signature == signature]
        counts = [f"{cell.members.successes} of {cell.members.count} recovered" for cell in part]
        shares = [as_shown(cell.members.recovered, "%") for cell in part]
        line = f"recovered, {part[0].labels.method}, {part[0].labels.degradation}"
        lines.append(_line(line, [cell.train_loss for cell in part], shares, counts) | {"extracted": False})
    return {"title": name, "lines": lines}


def _lowest(findings: Findings, cells: Sequence[Cell]) -> list[Cell]:
    known = {(cell.signature, cell.rung) for cell in cells}
    return [cell for cell in findings.last_cells if (cell.signature, cell.rung) in known]


def _line(name: str, losses: list[float], shares: list[list[Any]], counts: list[str]) -> dict[str, Any]:
    texts = [f"{loss:.1e}" for loss in losses]
    return {"name": name, "losses": losses, "lossTexts": texts, "shares": shares, "counts": counts}


def _extent(every: Sequence[Extraction]) -> tuple[int, bool]:
    """How many ends of a kind each extraction shows, and whether without loss."""

    def fits(limit: int, lossless: bool) -> bool:
        values = 0
        for each in every:
            kinds = [int(each.table["is_member"].sum()), int((~each.table["is_member"]).sum())]
            values += 2 * sum(min(limit, count) for count in kinds) * math.prod(_shape(each))
        return values <= (LOSSLESS if lossless else LOSSY)

    return next((level for level in LEVELS if fits(*level)), LEVELS[-1])


def _shape(each: Extraction) -> list[int]:
    """Of one picture, from the head of the file."""
    with safe_open(each.run.folder / "ends.safetensors", "pt") as file:
        shape: list[int] = file.get_slice("ends").get_shape()[1:]
        return shape


def _pictures(each: Extraction, limit: int, lossless: bool, known: dict[str, int]) -> dict[str, Any]:
    """The ends with most hits: those that are `pairs` with their member, and the `spurious` ones.

    Of each the places of its picture and of its nearest member's (None without members) in `known`, and facts. size:
    width and height of the pictures.
    """
    kept = Run(each.run.folder).ends
    ends, members = kept["ends"], kept["member"]
    table = each.table.assign(row=range(len(each.table))).sort_values(["hits", "psnr"], ascending=False, kind="stable")
    shown: dict[str, Any] = {"size": [ends.shape[3], ends.shape[2]]}
    for name, part in (("pairs", table[table["is_member"]]), ("spurious", table[~table["is_member"]])):
        rows = [
            {
                "end": known.setdefault(webp(_pixels(ends[row["row"]]), lossless), len(known)),
                "member": known.setdefault(webp(members[row["row"]], lossless), len(known)) if each.members else None,
                **_facts(row),
            }
            for row in rows_of(part.head(limit))
        ]
        shown |= {name: rows, f"{name}Count": len(part)}
    return shown


def _pixels(picture: Tensor) -> Tensor:
    return (255 * picture.nan_to_num().clamp(0, 1)).round().to(torch.uint8)


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    """What the page says of an end."""
    radius = row["spectral_radius"]
    kind = "a fixed point" if row["period"] == 1 else f"a cycle of {row['period']}"
    return {
        "image": row["image"],
        "hits": row["hits"],
        "psnr": decibels(row["psnr"]),
        "nonMember": decibels(row["psnr_non_member"]),
        "queries": f"{row['queries']:,}",
        "foundBy": "" if pd.isna(row["found_by"]) else row["found_by"],
        "kind": kind,
        "radius": "" if math.isnan(radius) else f"{radius:.3f}",
    }
