"""Which code made a run: the revisions of its parts, by which runs of equal settings may still differ.

`done.json` says them under `revisions`, a number for each part (`{"energy": 1, "solver": 1, ...}`); runs of older code
have none.
"""

import importlib.metadata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

OLDER = "older code"
Revisions = Mapping[str, int]  # by part; empty for a run of older code


def installed(package: str) -> str:
    """The version of a package, such as `1.2.0`; `unknown` where it is not installed, as in a mere checkout."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def revisions_of(done: Mapping[str, Any]) -> Revisions:
    """The revisions that a run's `done.json` says."""
    return dict(done.get("revisions") or {})


def only(revisions: Revisions, parts: Collection[str]) -> Revisions:
    """The revisions of some parts."""
    return {part: number for part, number in revisions.items() if part in parts}


def words(runs: Sequence[Revisions]) -> list[str]:
    """What tells each of several runs of equal settings from the others: `robust revision 1`, `older code`, or nothing.

    A part of which a run says nothing is of older code, if others say something of it.
    """
    known = Counter(part for part, _ in dict.fromkeys(item for run in runs for item in run.items()))
    several = [[f"{part} revision {run[part]}" for part in known if part in run and known[part] > 1] for run in runs]
    older = [[OLDER] if known.keys() - run.keys() else [] for run in runs]
    return [", ".join([*more, *old]) for more, old in zip(several, older, strict=True)]


def differing(runs: Iterable[Mapping[str, Any]]) -> str:
    """A note on the parts of which `runs` (what their `done.json` say) have several revisions; empty if none has."""
    noted = [revisions_of(done) for done in runs]
    numbers: defaultdict[str, list[str]] = defaultdict(list)
    for (part, number), count in sorted(Counter(item for each in noted for item in each.items()).items()):
        numbers[part].append(f"revision {number} ({_runs(count)})")
    several = [f"{part} {' and '.join(found)}" for part, found in numbers.items() if len(found) > 1]
    newer = sum(map(bool, noted))
    if 0 < newer < len(noted):
        several.append(f"{_runs(len(noted) - newer)} of {OLDER}, which noted no revisions, beside {newer} that did")
    remedy = "Run the sweep again with the present version, or keep the stores of each version apart."
    note = f"Runs of different versions stand in this table: {'; '.join(several)}. Their numbers may differ for this "
    return f"{note}reason alone. {remedy}" if several else ""


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
