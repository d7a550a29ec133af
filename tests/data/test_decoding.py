"""Image files as people have them: every depth, colour space and kind of transparency is read right, or refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, PngImagePlugin
from skimage.color import lab2rgb, rgb2lab

from memorization.data import Images
from memorization.data.decoding import Decoder, UnusableError

ROWS, COLUMNS = np.mgrid[:16, :15]
COLOUR = np.stack([ROWS * 17, COLUMNS * 18, (ROWS * 7 + COLUMNS * 5) % 256], axis=2).astype(np.uint8)  # (16, 15, 3)
GREY = COLOUR[..., 2]
HALF = np.full((16, 15, 1), 128, np.uint8)


def deep(pixels):
    return pixels.astype(np.uint16) * 257


def on_white(pixels):
    return (pixels * (128 / 255) + 127).round()


def premultiplied(pixels):
    return np.concatenate([(pixels * (128 / 255)).round().astype(np.uint8), HALF], axis=-1)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def by_hand(data, bits, *tags, compression=1, samples=1):
    """A TIFF of 16 rows of 15 pixels in one uncompressed strip, with more tags."""
    own = [
        (256, 15),
        (257, 16),
        (258, bits),
        (259, compression),
        (273, 8 + 2 + 12 * (8 + len(tags)) + 4),
        (277, 1),
        (278, 16),
    ]
    every = sorted([*own, (279, len(data)), *tags])
    directory = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in every)
    return b"II*\0\10\0\0\0" + struct.pack("<H", len(every)) + directory + bytes(4) + data


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(bits, colour, rows, *chunks):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 15, 16, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b"")


def packed(values, bits):
    """Rows of `values` of so many bits each, padded to whole bytes."""
    every = np.unpackbits(values.astype(">u2").view(np.uint8).reshape(*values.shape, 2), axis=2)
    return np.packbits(every[..., 16 - bits :].reshape(len(values), -1), axis=1)


def assert_shows(content, expected, tolerance=1):
    image = np.asarray(Decoder().decode(content)).astype(int)
    expected = np.broadcast_to(expected[..., None] if expected.ndim == 2 else expected, image.shape)
    assert np.abs(image - expected).max() <= tolerance


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}], ids=str)
@pytest.mark.parametrize("zero", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.uint16])
def test_grey_tiff_is_read_as_it_is_shown_or_refused(kind, zero, options, order):
    if kind is np.bool_ and "tile" in options:
        options = {}
    pixels = {np.bool_: GREY > 127, np.uint8: GREY, np.uint16: deep(GREY)}[kind]
    stored = pixels if zero == "minisblack" else ~pixels
    content = tiff(stored, photometric=zero, byteorder=order, **options)
    if (kind, zero, order) == (np.uint16, "miniswhite", ">"):
        with pytest.raises(UnusableError, match="kind of pixels"):
            Decoder().decode(content)
        return
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        read = file.pages[0].asarray()
        np.testing.assert_array_equal(read, stored)
    assert_shows(content, (pixels > 0) * 255 if kind is np.bool_ else GREY)


@pytest.mark.parametrize("compressed", [False, True])
def test_twelve_bits_become_eight(compressed):
    values = (ROWS * 255 + COLUMNS * 17) % 4096
    data = packed(values, 12).tobytes()
    content = by_hand(zlib.compress(data), 12, (262, 1), compression=8) if compressed else by_hand(data, 12, (262, 1))
    assert_shows(content, values * 255 / 4095)


COLOURS = {
    "RGB": (COLOUR, {"photometric": "rgb"}, COLOUR),
    "deep": (deep(COLOUR), {"photometric": "rgb"}, COLOUR),
    "apart": (COLOUR.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}, COLOUR),
    "deep apart": (
        deep(COLOUR.transpose(2, 0, 1)),
        {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
        COLOUR,
    ),
    "alpha": (
        np.concatenate([COLOUR, HALF], axis=2),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        on_white(COLOUR),
    ),
    "deep alpha": (
        deep(np.concatenate([COLOUR, HALF], axis=2)),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        on_white(COLOUR),
    ),
    "premultiplied": (
        premultiplied(COLOUR),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        on_white(COLOUR),
    ),
    "no alpha": (
        np.concatenate([COLOUR, HALF], axis=2),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        COLOUR,
    ),
    "grey alpha": (
        np.concatenate([GREY[..., None], HALF], axis=2),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        on_white(GREY),
    ),
    "grey premultiplied": (
        premultiplied(GREY[..., None]),
        {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["assocalpha"]},
        on_white(GREY),
    ),
    "palette": (
        GREY,
        {"photometric": "palette", "colormap": np.stack([np.arange(256) * 256, *[np.arange(255, -1, -1) * 256] * 2])
         .astype(np.uint16)},
        np.stack([GREY, 255 - GREY, 255 - GREY], axis=2),
    ),
    "CMYK": (
        np.concatenate([255 - COLOUR, np.full_like(HALF, 51)], axis=2),
        {"photometric": "separated"},
        COLOUR * 0.8,
    ),
    "deep CMYK": (
        deep(np.concatenate([255 - COLOUR, np.full_like(HALF, 51)], axis=2)),
        {"photometric": "separated"},
        COLOUR * 0.8,
    ),
    "YCbCr": (
        np.asarray(Image.fromarray(COLOUR).convert("YCbCr")),
        {"photometric": "ycbcr", "subsampling": (1, 1)},
        COLOUR,
    ),
}  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", COLOURS)
def test_colours_of_tiff_are_those_that_it_holds(name, order):
    stored, options, expected = COLOURS[name]
    assert_shows(tiff(stored, byteorder=order, **options), expected, tolerance=3)


def test_lab_becomes_rgb():
    muted = (96 + COLOUR / 4).astype(np.uint8)
    lab = rgb2lab(muted)
    stored = np.stack([lab[..., 0] * 2.55, lab[..., 1], lab[..., 2]], axis=2).round().astype(np.int64)
    assert np.abs(lab2rgb(lab) * 255 - muted).max() < 1
    assert_shows(tiff((stored & 255).astype(np.uint8), photometric="cielab"), muted, tolerance=6)


def test_inverted_cmyk_of_adobe_becomes_rgb():
    inks = np.concatenate([np.full((16, 15, 3), 155), np.full((16, 15, 1), 51)], axis=2).astype(np.uint8)
    content = encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in content
    assert_shows(content, np.full((16, 15), 100 * 0.8), tolerance=3)


TOO_WIDE = "32 bits a pixel, of a range that is not told"
SIGNED = "signed numbers, of a range that is not told"
REFUSED = {
    "signed 8": (tiff(GREY.astype(np.int8)), SIGNED),
    "signed 16": (tiff(GREY.astype(np.int16)), SIGNED),
    "signed 32": (tiff(GREY.astype(np.int32)), SIGNED),
    "unsigned 32": (tiff(GREY.astype(np.uint32)), TOO_WIDE),
    "float": (tiff(GREY.astype(np.float32)), TOO_WIDE),
    "double": (tiff(GREY.astype(np.float64)), "of no format or kind of pixels that is known"),
    "deep apart": (
        tiff(deep(COLOUR.transpose(2, 0, 1)), photometric="rgb", planarconfig="separate"),
        "channels one after the other and is not compressed",
    ),
    "grey apart": (by_hand(GREY.tobytes(), 8, (262, 0), (284, 2)), "one after the other and is not compressed"),
    "fewer colours": (
        by_hand(bytes(3 * 16 * 15), 8, (262, 6), samples=3),
        "at a lower resolution and is not compressed",
    ),
    "deep transparent colour": (
        png(16, 2, deep(COLOUR).astype(">u2"), chunk(b"tRNS", struct.pack(">HHH", 0, 1, 2))),
        "16 bits a channel and a transparent colour",
    ),
    "pages": (tiff(np.stack([GREY, 255 - GREY])), "animated or of several pages: 2 of them"),
    "empty": (b"", "of no format"),
    "cut short": (encoded(Image.fromarray(COLOUR), "PNG")[:-40], "cannot be read"),
    "bomb": (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b""),
        "decompression bomb",
    ),
    **{
        f"animated {kind}": (
            encoded(
                Image.fromarray(COLOUR), kind, save_all=True, append_images=[Image.fromarray(255 - COLOUR)], duration=99
            ),
            "animated or of several pages: 2 of them",
        )
        for kind in ("GIF", "WEBP", "PNG", "AVIF")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_right_is_refused_by_its_name_or_skipped(tmp_path, name):
    content, reason = REFUSED[name]
    for i in range(4):
        Image.fromarray(np.roll(COLOUR, i, axis=0)).save(tmp_path / f"{i}.png")
    (tmp_path / "odd.tif").write_bytes(content)
    with pytest.raises(ValueError, match=rf"odd\.tif: .*{reason}"):
        Images(str(tmp_path), 2, 2).load(0)
    assert len(Images(str(tmp_path), 2, 2, unusable="skip").load(0).skipped) == 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_is_white_at_every_depth(bits):
    white = 2**bits - 1
    values = (ROWS * 7919 + COLUMNS) % (white + 1)
    rows = values.astype(">u2") if bits == 16 else packed(values, bits)
    shown = values * 255 / white
    assert_shows(png(bits, 0, rows), shown)
    for clear in (0, white, int(values[3, 5])):
        content = png(bits, 0, rows, chunk(b"tRNS", struct.pack(">H", clear)))
        assert_shows(content, np.where(values == clear, 255, shown))


def test_transparent_colours_of_a_png_are_white():
    clear = COLOUR[3, 5]
    content = png(8, 2, COLOUR, chunk(b"tRNS", struct.pack(">HHH", *map(int, clear))))
    assert_shows(content, np.where((clear == COLOUR).all(2, keepdims=True), 255, COLOUR))
    palette = np.array([[0, 0, 0], [200, 0, 0], [0, 100, 0], [0, 0, 50]], np.uint8)
    alpha = np.array([0, 51, 255, 255])[:, None]
    content = png(8, 3, GREY % 4, chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", bytes([0, 51])))
    assert_shows(content, (palette * (alpha / 255) + 255 - alpha)[GREY % 4])
    for pixels, colour, expected in ((COLOUR, 6, on_white(COLOUR)), (GREY[..., None], 4, on_white(GREY))):
        both = np.concatenate([pixels, HALF], axis=2)
        assert_shows(png(8, colour, both), expected)
        assert_shows(png(16, colour, deep(both).astype(">u2")), expected, tolerance=2)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_png_with_long_texts_and_profiles_is_read(zipped):
    info = PngImagePlugin.PngInfo()
    for i in range(70 if zipped else 1):
        info.add_text(f"workflow {i}", "x" * 2**20 + "y", zip=zipped)
    info.add_itxt("parameters", "ä" * 2**20, zip=zipped)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(2**21)
    assert_shows(encoded(Image.fromarray(COLOUR), "PNG", pnginfo=info, icc_profile=profile), COLOUR, tolerance=0)


def test_profiles_leave_the_pixels_as_they_are_stored():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        assert_shows(encoded(Image.fromarray(COLOUR), kind, icc_profile=profile, **options), COLOUR, tolerance=0)


TURNED = {1: COLOUR, 3: COLOUR[::-1, ::-1], 4: COLOUR[::-1], 6: np.rot90(COLOUR, -1), 8: np.rot90(COLOUR)}


@pytest.mark.parametrize("turn", TURNED)
def test_every_format_is_shown_upright_once(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(COLOUR)
    assert_shows(encoded(image, "PNG", exif=exif), TURNED[turn], tolerance=0)
    assert_shows(encoded(image, "WEBP", exif=exif, lossless=True), TURNED[turn], tolerance=0)
    assert_shows(encoded(image, "TIFF", tiffinfo={0x0112: turn}), TURNED[turn], tolerance=0)
    assert_shows(encoded(image, "TIFF", tiffinfo={0x0112: turn}, compression="tiff_lzw"), TURNED[turn], tolerance=0)
    clear = deep(COLOUR[..., 0])
    turned = np.where(TURNED[turn][..., 0] == 17, 255, TURNED[turn][..., 0])
    transparent = chunk(b"tRNS", struct.pack(">H", 17 * 257))
    assert_shows(png(16, 0, clear.astype(">u2"), transparent, chunk(b"eXIf", exif.tobytes()[6:])), turned)
    note = PngImagePlugin.PngInfo()
    note.add_itxt("XML:com.adobe.xmp", f'<x tiff:Orientation="{turn}"/>')
    assert_shows(encoded(image, "PNG", pnginfo=note), TURNED[turn], tolerance=0)


def test_interlaced_png_and_deep_pnm_are_read():
    rows = [GREY[0::8, 0::8], GREY[0::8, 4::8], GREY[4::8, 0::4], GREY[0::4, 2::4], GREY[2::4, 0::2], GREY[0::2, 1::2],
            GREY[1::2]]  # fmt: skip
    data = b"".join(b"\0" + row.tobytes() for part in rows for row in part)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 15, 16, 8, 0, 0, 0, 1))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    assert_shows(content, GREY, tolerance=0)
    for kind, pixels in ((b"P5", GREY), (b"P6", COLOUR)):
        stored = (pixels.astype(np.uint32) * 4095 // 255).astype(">u2")
        assert_shows(kind + b" 15 16 4095\n" + stored.tobytes(), pixels)
