"""The draw: members and non-members from a pool of images, seeded, disjoint, and without duplicates between them.

The pool need not lie in memory: the draw knows it by a digest and a perceptual hash of each image, and asks for the
pixels of those that it chose. Members are the first of a random order of the distinct images; non-members are the next,
less those that are near duplicates of a member.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memorization.components import Record, SettingError, is_whole
from memorization.data.duplicates import alike, hashes_of, limit_of, thumbnails

REVISION = 1  # of decoding, of finding duplicates and of the draw
ROUNDING = 1e-6  # by which a pixel may leave [0, 1], as after a change of scale in float32
COLUMNS_AT_ONCE = 4096  # pixels whose mean is taken together; a multiple of every vector width
MANY, VALUES_AT_ONCE = 2**30, 2**24  # values of a set that may not fit into memory, and of which it is read at once


@dataclass(frozen=True)
class Split:
    """Members and non-members (N, C, H, W), and each image's index in its pool, by which it can be found again.

    Images are uint8 where their source has 8 bits, else float32 in [0, 1]; `as_float` makes a batch of either float32.
    """

    members: Tensor
    non_members: Tensor
    member_indices: list[int]
    non_member_indices: list[int]
    exact_duplicates: int = 0  # images of the pool that equal another one, which counts once
    near_duplicates: int = 0  # images that were not taken as non-members because a member is nearly the same
    skipped: Sequence[str] = ()  # images that could not be used, each with the reason
    notes: Sequence[str] = ()  # what else is worth knowing of the pool, a line each

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        _, channels, height, width = self.members.shape
        return channels, height, width

    def sampled(self, count: int, seed: int) -> "Split":
        """At most `count` members and `count` non-members, in their order, drawn by the seed; 0 is all."""
        if not count:
            return self
        generator, sizes = np.random.default_rng([seed, 4]), (len(self.members), len(self.non_members))
        own, others = (np.sort(generator.permutation(size)[:count]).tolist() for size in sizes)
        return replace(
            self,
            members=self.members[own],
            non_members=self.non_members[others],
            member_indices=[self.member_indices[row] for row in own],
            non_member_indices=[self.non_member_indices[row] for row in others],
        )

    @property
    def left_out(self) -> Record:
        """What the draw left out, for the record of a run."""
        counts = {name: getattr(self, name) for name in ("exact_duplicates", "near_duplicates")}
        return {**counts, "skipped": list(self.skipped)}


class Dataset(ABC):
    """Where members and non-members come from: a frozen dataclass, whose fields are its settings."""

    revision: ClassVar[int] = 1  # raised whenever the same settings may give other images
    has_images: ClassVar[bool] = True  # without any, nothing can be trained or recovered

    @abstractmethod
    def load(self, seed: int) -> Split:
        """Draw both sets; raises `SettingError` for settings, `ValueError` for images that do not allow it."""

    @abstractmethod
    def fingerprint(self) -> str:
        """What identifies the pool, wherever it lies."""

    def identity(self) -> Record:
        """The fingerprint and the settings that can change the draw: what the signature of a run is made of."""
        identity: Record = asdict(self)  # type: ignore[call-overload]
        identity |= {"fingerprint": self.fingerprint(), "revision": self.revision}
        return identity | {"revisions": {"drawing": REVISION}}


def as_float(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1]; uint8 ones are divided by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def has_double(device: torch.device) -> bool:
    """Can `device` hold float64? Apple's cannot."""
    return device.type != "mps"


def in_double(tensor: Tensor) -> Tensor:
    """`tensor` in float64, on the CPU where its device has none."""
    return (tensor if has_double(tensor.device) else tensor.cpu()).double()


def to_uint8(images: Tensor) -> Tensor:
    """Images in [0, 1], clipped to it, as 8-bit values on the CPU."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()


def as_picture(image: Tensor) -> NDArray[np.uint8]:
    """An image (C, H, W) uint8 as it is drawn: (H, W, 3), or in grey (H, W), its first channel, below three."""
    array: NDArray[np.uint8] = (image[:3].permute(1, 2, 0) if len(image) >= 3 else image[0]).numpy()
    return array


def mean_image(images: Tensor) -> Tensor:
    """(C, H, W) float32: the mean of `images` (N, C, H, W), a few columns at a time, so that no float copy is made.

    Of more than `MANY` values a few images at a time, and summed in float64.
    """
    if images.numel() > MANY:
        parts = images.split(max(1, VALUES_AT_ONCE // images[0].numel()))
        return sum((in_double(as_float(part)).sum(0) for part in parts), torch.zeros(())).div(len(images)).float()
    parts = images.flatten(1).split(COLUMNS_AT_ONCE, dim=1)
    return torch.cat([as_float(part).mean(0) for part in parts]).view(images.shape[1:])


def check_images(images: Tensor, source: str) -> None:
    """Raise `ValueError` unless `images` are finite, (N, C, H, W) and within [0, 1], but for rounding."""
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"{source}: images must have the shape (N, C, H, W) with N > 0, not {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        first = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"{source}: image {first} holds NaN or infinite pixels; remove or repair it")
    if images.min() < -ROUNDING or images.max() > 1 + ROUNDING:
        digits = 3 if images.max() >= 1.005 else 9
        span = f"pixels span {images.min():.3g} to {images.max():.{digits}g}"
        raise ValueError(f"{source}: {span}; scale them to [0, 1] (divide 8-bit values by 255)")


def check_tensor(images: Any, source: str) -> None:
    """Raise `ValueError` unless `images` are a tensor of numbers that pixels can be."""
    if not isinstance(images, Tensor):
        raise ValueError(f"{source} are a {type(images).__name__}; give a tensor, torch.as_tensor(...) makes one")
    if not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(f"{source} are {images.dtype}; give float32 in [0, 1], or uint8")


def check_distinct(members: Tensor, non_members: Tensor) -> None:
    """Raise `ValueError` for an image that is given twice: as a member and a non-member, or as two of a kind."""
    seen: dict[bytes, tuple[str, int]] = {}
    for name, images in (("members", members), ("non_members", non_members)):
        for i, image in enumerate(images):
            kind, first = seen.setdefault(hashlib.sha256(image.cpu().numpy().tobytes()).digest(), (name, i))
            if kind != name:
                raise ValueError(f"{name}: image {i} is member {first}; give images that the autoencoder never saw")
            if first != i:
                raise ValueError(f"{name}: image {i} is image {first} again; give each once, or it counts twice")


def check_seed(seed: Any) -> None:
    """Raise `SettingError` for a seed that a generator cannot take."""
    if not is_whole(seed) or not 0 <= seed < 2**63:
        raise SettingError("seed", seed, "it must be a whole number, at least 0 and below 2^63")


def as_shape(shape: Any) -> tuple[int, int, int]:
    """(C, H, W) of whole numbers, those of NumPy included; raises `SettingError` for anything else."""
    sides: list[Any] = [*shape] if isinstance(shape, Sequence | np.ndarray) else []
    if len(sides) != 3 or not all(is_whole(side) and side > 0 for side in sides):
        raise SettingError("shape", shape, "give the channels, height and width, such as [3,64,64]")
    channels, height, width = map(int, sides)
    return channels, height, width


def split(pool: Tensor, members: int, non_members: int, seed: int, source: str) -> Split:
    """Draw from a `pool` (N, C, H, W) in memory, float32 in [0, 1] or uint8; see `draw`."""
    if pool.dtype != torch.uint8:
        check_images(pool, source)
    digests = [hashlib.sha256(image.numpy().tobytes()).digest() for image in pool]
    return draw(digests, hashes_of(pool), lambda chosen: pool[chosen], members, non_members, seed, source)


def draw(
    digests: Sequence[bytes],
    hashes: np.ndarray,
    load: Callable[[list[int]], Tensor],
    members: int,
    non_members: int,
    seed: int,
    source: str,
    *,
    apart: Sequence[bool] | None = None,
    near: bool = True,
    beside: str = "",
) -> Split:
    """Draw disjoint members and non-members from a pool known by its images' `digests` and perceptual `hashes`.

    Images of one digest count once. `load` gives the pixels (N, C, H, W) of a list of indices, in a tensor of its own.
    apart: for each image, whether it can be a non-member only; the rest, of which the members are a sample, are then
        all taken for images that the autoencoder was trained on.
    near: leave out non-members that are near duplicates of an image trained on.
    beside: what an error adds of the files that hold no image.
    Raises `SettingError` if too few images remain.
    """
    unique = sorted({digest: i for i, digest in reversed(list(enumerate(digests)))}.values())
    for name, count in (("members", members), ("non_members", non_members)):
        if count < 1:
            raise SettingError(name, count, "it must be at least 1")
    wanted = f"with `non_members` {non_members} it needs {members + non_members} images"
    order = np.random.default_rng([seed, 0]).permutation(unique)
    if apart is None:
        trained_on, candidates, has = order[:members], order[members:], f"{source} has {len(unique)} distinct ones"
    else:
        other = np.asarray(apart)[order]
        trained_on, candidates = order[~other], order[other]
        has = f"{source} has {len(trained_on)} distinct ones, and `others` {len(candidates)} beside those"
        wanted = f"with `non_members` {non_members} it needs {members} images trained on, and {non_members} of `others`"
    chosen = trained_on[:members]
    if len(chosen) < members or len(candidates) < non_members:
        raise SettingError("members", members, f"{wanted}; {has}{beside}")

    suspects: dict[int, np.ndarray] = {}  # a candidate's rank to the images trained on whose hash is near its own
    limit = limit_of(hashes[unique]) if near else -1
    taken = 0
    while taken < len(candidates) and taken - len(suspects) < non_members:
        close = trained_on[np.bitwise_count(hashes[trained_on] ^ hashes[candidates[taken]]) <= limit]
        if len(close):
            suspects[taken] = close
        taken += 1
    loaded = dict.fromkeys([*chosen, *candidates[:taken], *(index for close in suspects.values() for index in close)])
    images = load([int(index) for index in loaded])
    row = {index: place for place, index in enumerate(loaded)}

    copies = set()
    for rank, close in suspects.items():
        small = thumbnails(images[[row[index] for index in (candidates[rank], *close)]])
        if alike(small[0], small[1:]).any():
            copies.add(rank)
    kept = [rank for rank in range(taken) if rank not in copies][:non_members]
    if len(kept) < non_members:
        reason = f"{len(copies)} are near duplicates of an image trained on{beside}"
        raise SettingError("members", members, f"{wanted}; of the {len(unique)} distinct ones of {source}, {reason}")
    for place, rank in enumerate(kept):
        images[members + place] = images[members + rank]  # in place: `rank` is never below `place`
    return Split(
        members=images[:members],
        non_members=images[members : members + non_members],
        member_indices=chosen.tolist(),
        non_member_indices=candidates[kept].tolist(),
        exact_duplicates=len(digests) - len(unique),
        near_duplicates=sum(rank <= kept[-1] for rank in copies),
    )
