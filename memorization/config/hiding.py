"""Files of the user's that have the name of a package, and hide it: with `PYTHONPATH=.`, `./datasets.py` is `datasets`.

A module that is imported late would fail late, and in an odd way.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path


def hiding(error: BaseException) -> str:
    """What to say of an error that comes of such a file; empty of another error."""
    chain = list(_chain(error))
    text = "\n".join(map(str, chain))
    run = {frame.filename for one in chain for frame in traceback.extract_tb(one.__traceback__)}
    loaded = {str(getattr(module, "__file__", "")) for name, module in list(sys.modules.items()) if "." not in name}
    for file in map(Path, sorted(run | loaded)):
        place = file.parent if file.name == "__init__.py" else file
        told = str(file) in run or re.search(rf"\b{re.escape(place.stem)}\b", text)
        if told and _hides(place):
            shown = os.path.relpath(place)
            shown = str(place) if shown.startswith("..") else f"./{shown}"
            way = "rename it, or leave its folder off the path (PYTHONPATH; with python -m, the current folder)"
            return (
                f"{shown} hides the module {place.stem}, which is needed here: {way} ({' '.join(str(error).split())})"
            )
    return ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _hides(place: Path) -> bool:
    """Is there, later on the path, another module of the name of this file or folder?"""
    entries = [Path(entry or ".").resolve() for entry in sys.path]
    if place.parent.resolve() not in entries or place.stem in ("__main__", "memorization"):
        return False
    later = entries[entries.index(place.parent.resolve()) + 1 :]
    spec = PathFinder.find_spec(place.stem, [str(entry) for entry in later if entry != place.parent.resolve()])
    return spec is not None and spec.origin is not None
