"""Which tables a picture was drawn from: their checksums, as a text inside of the PNG.

So that a test can tell a picture that is older than the tables that it shows.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from memorization.store.signature import checksum

KEY = "tables"  # of the text


def record_tables(picture: Path, tables: Iterable[Path]) -> None:
    """Write the checksums of `tables` into a PNG, by their paths from its folder. Its pixels stay as they are."""
    found = {Path(os.path.relpath(table, picture.parent)).as_posix(): checksum(table) for table in tables}
    text = PngInfo()
    text.add_text(KEY, json.dumps(found))
    with Image.open(picture) as image:
        image.load()
        image.save(picture, pnginfo=text, optimize=True)


def recorded_tables(picture: Path) -> dict[str, str]:
    """The checksum of each table that a PNG was drawn from, by its path from the PNG's folder; empty without any."""
    with Image.open(picture) as image:
        image.load()
        found: dict[str, str] = json.loads(image.info.get(KEY, "{}"))
    return found


def changed_tables(picture: Path) -> list[str]:
    """The tables that are gone, or are not as they were when the picture was drawn from them."""
    recorded = recorded_tables(picture)
    paths = {name: picture.parent / name for name in recorded}
    return [name for name, path in paths.items() if not path.is_file() or checksum(path) != recorded[name]]
