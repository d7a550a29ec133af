"""From the bytes of an image file to pixels: orientation, depth, palettes, transparency, colour and size.

Pixels are those stored: ICC profiles, gamma and texts are not used. What Pillow would read wrongly is corrected or
refused.
"""

import io
import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from memorization.components import SettingError, choose

REVISION = 2  # raised whenever the same file may give other pixels


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

        12 and 16 bits a channel become 8, rounded (grey) or cut (colour, by Pillow); what is transparent is laid on
        white.
        """
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(_without_texts(content))) as file:
                self._check(file)
                image = _eight_bits(file, content)
                if image.has_transparency_data:
                    image = image.convert("LA") if image.mode == "La" else image
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                return image.convert("L" if self.mode is Mode.L else "RGB")
        except UnusableError:
            raise
        except Exception as error:  # of what kind depends on the format and the damage
            unknown = isinstance(error, UnidentifiedImageError)
            reason = " ".join(str(error).split()) or type(error).__name__
            reason = "of no format or kind of pixels that is known" if unknown else reason
            raise UnusableError(f"cannot be read as an image ({reason})") from error

    def _check(self, file: Image.Image) -> None:
        # MPO: a camera's JPEG with previews behind the photograph
        frames = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
        if frames > 1:
            raise UnusableError(f"animated or of several pages: {frames} of them")
        if min(file.size) < self.min_side:
            raise UnusableError(f"tiny: {file.width}x{file.height} pixels; `min_side` is {self.min_side}")

    def fit(self, image: Image.Image) -> Image.Image:
        """`image`, scaled and cropped to `size`."""
        return ImageOps.fit(image, (self.size, self.size)) if self.size else image


TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
ORIENTED = (b"Raw profile type exif", b"XML:com.adobe.xmp")  # texts that can hold the orientation


def _without_texts(content: bytes) -> bytes:
    """A PNG without its texts and profile, of which Pillow refuses long ones; any other file as it is."""
    if not content.startswith(b"\x89PNG\r\n\x1a\n"):
        return content
    kept, at = [content[:8]], 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4])  # length, type, the data, checksum
        if content[at + 4 : at + 8] not in TEXTS or content.startswith(ORIENTED, at + 8):
            kept.append(content[at:end])
        at = end
    return b"".join(kept)


def _eight_bits(file: Image.Image, content: bytes) -> Image.Image:
    """The image of a file, upright, with 8 bits a channel.

    Raises `UnusableError` for values of which white is not known, and for what Pillow would read wrongly.
    """
    transparent, white, inverted = file.info.get("transparency"), 65535, False
    depth = content[24] if file.format == "PNG" else 8
    if isinstance(file, TiffImagePlugin.TiffImageFile):
        _check_tiff(file.tag_v2)
        white = 4095 if 12 in file.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, ()) else white
        inverted = file.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION, 0) == 0
    if file.mode == "RGB" and depth == 16 and transparent is not None:
        raise UnusableError("has 16 bits a channel and a transparent colour; convert it to 8")
    if file.format == "PNG" and file.mode == "L" and transparent is not None:
        file.info["transparency"] = transparent * 255 // (2**depth - 1)
    image = ImageOps.exif_transpose(file)
    grey_pnm = file.mode == "I" and file.format == "PPM"  # scaled to 16 bits by Pillow
    if not (grey_pnm or file.mode.startswith("I;16")):
        if file.mode in ("I", "F"):
            raise UnusableError("has 32 bits a pixel, of a range that is not told; convert it to 8 or 16")
        return image
    values = np.asarray(image).astype(np.uint32)
    eight = ((values * 255 + white // 2) // white).astype(np.uint8)
    image = Image.fromarray(255 - eight if inverted else eight)
    if transparent is not None:
        image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return image


def _check_tiff(tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
    """Raise `UnusableError` for the kinds of TIFF that Pillow opens and reads wrongly."""
    if 2 in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise UnusableError("has signed numbers, of a range that is not told; convert it to unsigned ones")
    if tags.get(TiffImagePlugin.COMPRESSION, 1) != 1:
        return  # libtiff reads it
    colours, bytewise = (
        tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION),
        {*tags.get(TiffImagePlugin.BITSPERSAMPLE, ())} == {8},
    )
    plain = bytewise and colours in (1, 2, 5) and 1 not in tags.get(TiffImagePlugin.EXTRASAMPLES, ())
    if tags.get(TiffImagePlugin.PLANAR_CONFIGURATION) == 2 and not plain:
        raise UnusableError("has its channels one after the other and is not compressed; save it with compression")
    if colours == 6 and tags.get(TiffImagePlugin.YCBCRSUBSAMPLING, (2, 2)) != (1, 1):
        raise UnusableError("has colours at a lower resolution and is not compressed; save it with compression")
