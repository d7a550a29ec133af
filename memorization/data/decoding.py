"""From the bytes of an image file to pixels: orientation, depth, palettes, transparency, colour and size."""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from memorization.components import SettingError, choose


class Mode(StrEnum):
    """The colours of the images: RGB, grey, or grey if every image is and else RGB."""

    auto = "auto"
    RGB = "RGB"
    L = "L"


class UnusableError(ValueError):
    """An image that cannot be used; the message is the reason."""


@dataclass(frozen=True)
class Decoder:
    """How files become images of one kind."""

    mode: Mode = Mode.auto  # `auto` gives RGB
    size: int = 0  # of the square to which the shorter side is scaled and the middle cropped; 0 leaves the image
    min_side: int = 8  # pixels that the shorter side of the file must have

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", choose("mode", self.mode, Mode))
        if self.size and self.size < 8:
            raise SettingError("size", self.size, "it must be at least 8 pixels, or 0 to leave images as they are")
        if self.min_side < 1:
            raise SettingError("min_side", self.min_side, "it must be at least 1 pixel")

    def decode(self, content: bytes) -> Image.Image:
        """The image that the bytes of a file hold, upright; raises `UnusableError` if they hold none that can be used.

        16 bits a channel become 8, rounded (grey) or cut (colour, by Pillow); what is transparent is laid on white.
        """
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(content)) as file:
                # MPO: a camera's JPEG with previews behind the photograph
                frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
                image = file if frames > 1 else ImageOps.exif_transpose(file)
        except Exception as error:  # of what kind depends on the format and the damage
            unknown = isinstance(error, UnidentifiedImageError)
            reason = "of no format that is known" if unknown else " ".join(str(error).split()) or type(error).__name__
            raise UnusableError(f"cannot be read as an image ({reason})") from error
        if frames > 1:
            raise UnusableError(f"animated or of several pages: {frames} of them")
        if min(image.size) < self.min_side:
            raise UnusableError(f"tiny: {image.width}x{image.height} pixels; `min_side` is {self.min_side}")
        grey_pnm = image.mode == "I" and content[:1] == b"P"  # scaled to 16 bits by Pillow
        if grey_pnm or image.mode.startswith("I;16"):
            values = np.asarray(image).astype(np.uint32)
            image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
        elif image.mode in ("I", "F"):
            raise UnusableError("has 32 bits a pixel, of a range that is not told; convert it to 8 or 16")
        if image.has_transparency_data:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("L" if self.mode is Mode.L else "RGB")

    def fit(self, image: Image.Image) -> Image.Image:
        """`image`, scaled and cropped to `size`."""
        return ImageOps.fit(image, (self.size, self.size)) if self.size else image
