"""Pictures: the kept images of a degradation as they were, as they were degraded, and as each method gave them back."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from PIL import Image
from torch import Tensor

from memorization.report.findings import Cell, Findings, partition, rungs_of
from memorization.runs import rung_name

BUDGET = 12_000_000  # pixel values that a page may hold; beyond it, rungs and then images are left out


@dataclass(frozen=True)
class Answer:
    """A method's answer for one image at one rung: the picture as a data URI, erased-pixel PSNR in dB."""

    picture: str
    psnr: float
    status: str  # recovered, not recovered, diverged


@dataclass
class Row:
    """One image. `answers` go by method, then by the rung's name."""

    image: int
    member: bool
    original: str
    degraded: str
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`member 82`: the number is the image's in its data set."""
        return f"{'member' if self.member else 'non-member'} {self.image}"


@dataclass(frozen=True)
class Gallery:
    """Of one autoencoder and degradation; `rungs` from the lowest up, `width` of an image in pixels."""

    title: str
    methods: list[str]
    rungs: list[str]
    width: int
    rows: list[Row]

    @property
    def parts(self) -> dict[str, list[Row]]:
        """The rows of members and of non-members, by heading."""
        return {
            "Members": [row for row in self.rows if row.member],
            "Non-members": [row for row in self.rows if not row.member],
        }


@dataclass(frozen=True)
class Extent:
    """How much of the galleries a page shows: images of members and of non-members each, and whether all rungs."""

    images: int
    every_rung: bool


def data_uri(picture: Tensor) -> str:
    """A picture (C, H, W) uint8 as a PNG in a data URI; in grey, its first channel, if it has fewer than three."""
    array = picture[:3].permute(1, 2, 0).numpy() if len(picture) >= 3 else picture[0].numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def galleries(findings: Findings) -> tuple[dict[str, list[Gallery]], Extent]:
    """The galleries by autoencoder, one a degradation, within `BUDGET`."""
    extent = _extent(findings)
    found: dict[str, list[Gallery]] = {}
    for (autoencoder, _), cells in partition(findings.cells, "autoencoder", "degradation").items():
        found.setdefault(autoencoder, []).append(_gallery(findings, cells, extent))
    return found, extent


def _extent(findings: Findings) -> Extent:
    def cost(extent: Extent) -> int:
        cells = findings.cells if extent.every_rung else findings.last_cells
        kept = [findings.runs[cell.signature].gallery["original"] for cell in cells]
        return sum(min(2 * extent.images, len(pictures)) * pictures[:1].numel() for pictures in kept)

    most = max(len(findings.runs[cell.signature].gallery["original"]) for cell in findings.last_cells)
    extents = [Extent(most, True), *(Extent(images, False) for images in range(most, 0, -1))]
    return next((extent for extent in extents if cost(extent) <= BUDGET), extents[-1])


def _gallery(findings: Findings, cells: Sequence[Cell], extent: Extent) -> Gallery:
    """`cells` are those of one autoencoder and degradation, so that their images were degraded alike."""
    shown = {cell.signature: cell for cell in cells}  # the lowest rung of each, which comes last
    if extent.every_rung:
        rungs = rungs_of(cells)[::-1]
    else:
        rungs, cells = rungs_of(shown.values())[::-1], list(shown.values())
    rows: dict[tuple[bool, int], Row] = {}
    width = 0
    for cell in cells:
        pictures, name = findings.runs[cell.signature].gallery, rung_name(cell.rung)
        width = pictures["original"].shape[3] if len(pictures["original"]) else width
        scores = findings.rows[cell.signature, cell.rung].iloc[pictures["row"].tolist()]
        for number, (_, score) in enumerate(scores.iterrows()):
            member, image = bool(score["member"]), int(score["image"])
            if (member, image) not in rows:
                if sum(row.member == member for row in rows.values()) == extent.images:
                    continue
                original, degraded = pictures["original"][number], pictures["degraded"][number]
                rows[member, image] = Row(image, member, data_uri(original), data_uri(degraded))
            answer = Answer(data_uri(pictures[f"answer/{name}"][number]), float(score["psnr_erased"]), _status(score))
            rows[member, image].answers.setdefault(cell.labels.method, {})[name] = answer
    return Gallery(
        title=cells[0].labels.degradation,
        methods=list(dict.fromkeys(cell.labels.method for cell in cells)),
        rungs=[rung_name(rung) for rung in rungs],
        width=width,
        rows=list(rows.values()),
    )


def _status(score: pd.Series) -> str:
    if score["status"] == "diverged":
        return "diverged"
    return "recovered" if score["recovered"] else "not recovered"
