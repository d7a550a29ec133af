"""Pictures: the kept images of a degradation as they were, as they were degraded, and as each method gave them back,
with some of the answers on the way.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from memorization.data import as_picture
from memorization.report.cells import Cell, partition, strength
from memorization.report.findings import Findings
from memorization.store.reading import Run
from memorization.store.signature import rung_name

Key = tuple[bool, int]  # is it a member, and its number in the data set


class Kept(NamedTuple):
    """An image of a run's gallery: its place there, its erased PSNR (dB), and the iterations that its answer took."""

    at: int
    psnr: float
    iterations: int


LOSSLESS = 6_000_000  # pixel values that a page may hold as they are; beyond it, paths, rungs and images are left out
LOSSY = 24_000_000  # and compressed with loss, beyond which images are left out again


@dataclass(frozen=True)
class Extent:
    """How much a page shows."""

    images: int  # of members and of non-members each
    every_rung: bool
    lossless: bool
    every_path: bool  # or those of the strongest run of each scene


@dataclass
class Scene:
    """The pictures of one autoencoder and degradation: WebP in base64.

    images: of each, its number in the data set, whether it is a member, and its pictures, original and degraded.
    answers: by the place of a cell in `Findings.cells`, a picture for each of `images`, empty where there is none.
    paths: likewise, for the cells that have them, the answers on the way: pictures side by side, after which numbers
        of iterations, and the iterations to the answer.
    """

    size: tuple[int, int]  # width and height
    images: list[dict[str, Any]]
    answers: dict[int, list[str]]
    paths: dict[int, list[dict[str, Any] | None]]


def webp(picture: Tensor, lossless: bool) -> str:
    """A picture (C, H, W) uint8 as WebP in base64."""
    array = as_picture(picture)
    return _webp(array.tobytes(), array.shape, lossless)


@lru_cache(maxsize=4096)  # methods of one degradation share originals, and those that fail often answer alike
def _webp(pixels: bytes, shape: tuple[int, ...], lossless: bool) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(np.frombuffer(pixels, np.uint8).reshape(shape))
    image.save(buffer, "WEBP", lossless=lossless, quality=75, method=3)
    return base64.b64encode(buffer.getvalue()).decode()


def scenes(findings: Findings) -> tuple[dict[tuple[str, str], Scene], Extent]:
    """The pictures by autoencoder and degradation (labels), as many as the page can hold."""
    extent = _extent(findings)
    parts = partition(findings.cells if extent.every_rung else findings.last_cells, "autoencoder", "degradation")
    return {(key[0], key[1]): _scene(findings, part, extent) for key, part in parts.items()}, extent


def _sizes(findings: Findings, cell: Cell) -> tuple[int, int, int]:
    """How many pictures a run kept, and the values of one and of one path, from the head of its file."""
    path = f"path/{rung_name(cell.rung)}"
    with safe_open(findings.runs[cell.signature].folder / "gallery.safetensors", "pt") as file:
        count, *picture = file.get_slice("original").get_shape()
        on_the_way = file.get_slice(path).get_shape()[1:] if path in set(file.keys()) else [0]
        return count, math.prod(picture), math.prod(on_the_way)


def _extent(findings: Findings) -> Extent:
    last = [_sizes(findings, cell) for cell in findings.last_cells]
    rungs = len(findings.cells) / len(findings.last_cells)

    def cost(extent: Extent) -> float:
        paths, most = extent.every_path, 2 * extent.images
        values = sum(min(most, count) * (picture + paths * path) for count, picture, path in last)
        return values * (rungs if extent.every_rung else 1)

    most = max(1, *(-(-count // 2) for count, _, _ in last))
    levels = [(most, True, True), *((images, False, True) for images in range(most, 2, -1))]
    levels += [(images, False, False) for images in range(most, 0, -1)]
    extents = [Extent(*level, every_path) for level in levels for every_path in (True, False)]
    fitting = (extent for extent in extents if cost(extent) <= (LOSSLESS if extent.lossless else LOSSY))
    return next(fitting, extents[-1])


def _scene(findings: Findings, cells: Sequence[Cell], extent: Extent) -> Scene:
    """`cells` are those of one autoencoder and degradation, so that their images were degraded alike."""
    galleries = {name: Run(findings.runs[name].folder).gallery for name in {cell.signature for cell in cells}}
    kept = [_kept(galleries[cell.signature]["row"], findings.rows[cell.signature, cell.rung]) for cell in cells]
    best = max(range(len(cells)), key=lambda place: strength(cells[place]))
    chosen = _chosen([kept[best], *kept], extent.images)
    scene = Scene((0, 0), [{} for _ in chosen], {}, {})
    for place, cell in enumerate(cells):
        pictures = galleries[cell.signature]
        answers = [""] * len(chosen)
        paths: list[dict[str, Any] | None] = [None] * len(chosen)
        for key, image in kept[place].items():
            if (row := chosen.get(key)) is None:
                continue
            if not scene.images[row]:
                scene.size = (pictures["original"].shape[3], pictures["original"].shape[2])
                texts = {name: webp(pictures[name][image.at], extent.lossless) for name in ("original", "degraded")}
                scene.images[row] = {"member": key[0], "image": key[1], **texts}
            answers[row] = webp(pictures[f"answer/{rung_name(cell.rung)}"][image.at], extent.lossless)
            path = pictures.get(f"path/{rung_name(cell.rung)}")
            if path is not None and (extent.every_path or place == best):
                steps = [step for step in pictures["steps"].tolist() if step < image.iterations]
                pixels = webp(torch.cat(path[image.at, : len(steps)].unbind(), 2), extent.lossless)  # side by side
                paths[row] = {"pixels": pixels, "steps": steps, "iterations": image.iterations}
        scene.answers[findings.places[cell.signature, cell.rung]] = answers
        if any(paths):
            scene.paths[findings.places[cell.signature, cell.rung]] = paths
    return scene


def _kept(rows: Tensor, scores: pd.DataFrame) -> dict[Key, Kept]:
    table = scores.iloc[rows.tolist()]
    columns = [table[name].tolist() for name in ("member", "image", "psnr_erased", "iterations")]
    return {(member, image): Kept(at, *facts) for at, (member, image, *facts) in enumerate(zip(*columns, strict=True))}


def _chosen(galleries: Sequence[dict[Key, Kept]], count: int) -> dict[Key, int]:
    """The images to show, in rows: members first, `count` of each kind, from best to worst in the first gallery."""
    keys: list[Key] = []
    for kind in (True, False):
        best = sorted((key for key in galleries[0] if key[0] == kind), key=lambda key: -galleries[0][key].psnr)
        found = [*dict.fromkeys([*best, *(key for each in galleries for key in each if key[0] == kind)])]
        if len(found) > count:
            last = len(found) - 1
            found = [found[i] for i in np.linspace(0 if count > 1 else last / 2, last, count).round().astype(int)]
        keys += found
    return {key: row for row, key in enumerate(keys)}
