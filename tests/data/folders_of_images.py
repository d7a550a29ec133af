"""Folders and tables of images that several test files write."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from memorization.data import Patches, as_float


def as_set(images):
    return {image.numpy().tobytes() for image in images}


def checksums(drawn):
    """Of members and non-members as float32, and of their indices."""
    indices = str([drawn.member_indices, drawn.non_member_indices]).encode()
    tensors = (as_float(images).numpy().tobytes() for images in (drawn.members, drawn.non_members))
    return tuple(hashlib.sha256(content).hexdigest()[:16] for content in (*tensors, indices))


def photographs(count=40):
    """Distinct natural crops (N, 32, 32, 3) uint8."""
    drawn = Patches(members=count // 2, non_members=count - count // 2).load(0)
    return torch.cat([drawn.members, drawn.non_members]).permute(0, 2, 3, 1).numpy()


def compressed(image, quality=75):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert(image.mode)


def parquet_of(folder, path, rows_as="struct"):
    """The files of `folder` in one table: as the hub's sets have them, or as plain bytes."""
    files = [file.read_bytes() for file in sorted(folder.rglob("*.png"))]
    column = files if rows_as == "bytes" else [{"bytes": content, "path": None} for content in files]
    pq.write_table(pa.table({"label": list(range(len(files))), "img": column}), path)


def gradient(height=12, width=16, phase=0):
    """uint8 (H, W), no two alike for different phases."""
    rows, columns = np.mgrid[:height, :width]
    return (127 + 120 * np.sin(rows * (0.3 + phase) + columns * (0.7 - phase))).astype(np.uint8)


GREY = [gradient(phase=i / 10) for i in range(4)]
COLOUR = [np.stack([grey, grey[::-1], grey[:, ::-1]], axis=2) for grey in GREY]
