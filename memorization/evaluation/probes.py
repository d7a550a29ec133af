"""Near-member probes: non-members made from members. Is the answer the probe, or the member it came from?

A probe is a member that was shifted, rotated, cropped, coded as JPEG or blended with another image, so that its
distance to the member can be chosen. It is degraded and recovered like any image. An autoencoder that memorised the
member draws the answer to it (`attracted`), up to some distance; one that only learned such images answers with the
probe.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from memorization.architectures.autoencoder import taken_by
from memorization.degradations import Jpeg
from memorization.evaluation.batch import Recipe, recover_batch
from memorization.evaluation.metrics import psnr
from memorization.evaluation.summary import attraction as attraction  # which needs no torch
from memorization.recovery import Autoencoder, Status


def shift(images: Tensor, pixels: float, others: Tensor) -> Tensor:
    """Moved right and down by whole `pixels`; the edge is repeated where nothing is known."""
    step = round(pixels)
    return functional.pad(images, (step, 0, step, 0), mode="replicate")[..., : images.shape[2], : images.shape[3]]


def rotate(images: Tensor, degrees: float, others: Tensor) -> Tensor:
    """Turned counter-clockwise about the centre, bilinear; what lies outside is mirrored in."""
    angle, (height, width) = math.radians(degrees), images.shape[2:]
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = [[cosine, -sine * height / width, 0], [sine * width / height, cosine, 0]]
    return _sampled(images, torch.tensor(turn))


def crop(images: Tensor, share: float, others: Tensor) -> Tensor:
    """Cut from the top left corner to `share` of the height and width, enlarged to the old size (bilinear)."""
    return _sampled(images, torch.tensor([[share, 0, share - 1], [0, share, share - 1]]))


def _sampled(images: Tensor, transform: Tensor) -> Tensor:
    grid = functional.affine_grid(transform.to(images).expand(len(images), 2, 3), list(images.shape), False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)


def jpeg(images: Tensor, quality: float, others: Tensor) -> Tensor:
    """Coded and decoded as JPEG of this `quality`."""
    return Jpeg(round(quality))(images, range(len(images))).y


def blend(images: Tensor, share: float, others: Tensor) -> Tensor:
    """`share` of another image mixed in: image `i` of `others`, taken in turns."""
    return torch.lerp(images, others[torch.arange(len(images)) % len(others)].to(images), share)


class Kind(NamedTuple):
    """A way to make probes, with the strengths to try, from the nearest to the farthest."""

    make: Callable[[Tensor, float, Tensor], Tensor]
    strengths: Sequence[float]
    unit: str


KINDS = {
    "shift": Kind(shift, (1, 2, 3, 5), "pixels"),
    "rotate": Kind(rotate, (2, 5, 10, 20), "degrees"),
    "crop": Kind(crop, (0.95, 0.9, 0.8, 0.6), "of the side"),
    "jpeg": Kind(jpeg, (90, 50, 20, 5), "quality"),
    "blend": Kind(blend, (0.1, 0.25, 0.5, 0.75), "of another image"),
}


def recover_probes(
    recipe: Recipe,
    autoencoder: Autoencoder,
    members: Tensor,
    others: Tensor,
    *,
    count: int | None = None,
    indices: Sequence[int] | None = None,
    batch_size: int = 100,
    kinds: dict[str, Kind] | None = None,
    bank: Tensor | None = None,
    loss: float | None = None,
) -> pd.DataFrame:
    """Make probes of the first `count` of `members` (N, C, H, W; all by default), degrade and recover them.

    One row a probe. `others` (M, C, H, W) are blended in; they and members are float in [0, 1] or uint8. `indices` (N)
    are the members' in their pool; a probe is degraded with the randomness of its member. For `bank` and `loss` see
    `recover_batch`.

    Columns: `member`, `kind`, `strength`, `distance` (root mean square difference of probe and member, pixels in
    [0, 1]), `psnr_probe` and `psnr_member` (of the answer to each, in dB, on the erased pixels), `status`, `attracted`
    (the answer is closer to the member than to the probe, and did not diverge) and `captured` (it also is the member,
    to `threshold_db`). Kind `none` is the member itself, whose `captured` says whether it is held. JPEG is left out for
    images that are neither grey nor RGB.
    """
    chosen = dict(KINDS if kinds is None else kinds)
    if members.shape[1] not in (1, 3):
        chosen.pop("jpeg", None)
    members, others = (taken_by(autoencoder, images) for images in (members, others))
    names = list(range(len(members)) if indices is None else indices)
    origins = members[:count]
    sets = [("none", 0.0, origins)]
    sets += [(name, s, kind.make(origins, s, others)) for name, kind in chosen.items() for s in kind.strengths]
    tables = []
    for name, strength, probes in sets:
        for rows in torch.arange(len(origins)).split(batch_size):
            own = [names[i] for i in rows.tolist()]
            table = _recovered(recipe, autoencoder, probes[rows], origins[rows], members, own, bank=bank, loss=loss)
            tables.append(table.assign(kind=name, strength=float(strength)))
    table = pd.concat(tables, ignore_index=True)
    return table[["member", "kind", "strength", *table.columns.drop(["member", "kind", "strength"])]]


def _recovered(
    recipe: Recipe,
    autoencoder: Autoencoder,
    probes: Tensor,
    origins: Tensor,
    members: Tensor,
    indices: Sequence[int],
    **known: Any,
) -> pd.DataFrame:
    done = recover_batch(recipe, autoencoder, probes, indices, members, **known)
    to_member = psnr(done.answers, origins, done.erased).cpu().numpy()
    to_probe = done.scores["psnr_erased"].to_numpy()
    distance = (probes - origins).flatten(1).square().mean(1).sqrt().cpu().numpy()
    solved = (done.scores["status"] != Status.diverged).to_numpy()
    attracted = (to_member > to_probe) & solved
    held = np.where(distance == 0, solved, attracted)
    columns = {"member": list(indices), "distance": distance, "psnr_probe": to_probe, "psnr_member": to_member}
    columns |= {"status": done.scores["status"], "attracted": attracted}
    return pd.DataFrame(columns | {"captured": held & (to_member >= recipe.threshold_db)})
