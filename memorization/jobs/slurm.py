"""What SLURM says of jobs: which it has, what they wait for, and why one has ended."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

IN_QUEUE = "--format=%i|%T|%r|%V|%c|%m|%l"


@dataclass(frozen=True)
class State:
    """How a job stands in the queue: its state, why, since when, and what it asks for."""

    state: str
    reason: str
    since: str
    cpus: str
    memory: str
    limit: str


def states() -> dict[str, State] | None:
    """Our jobs in the queue, by their names; None if SLURM does not answer."""
    said = _said("squeue", "--me", "--noheader", "--array", IN_QUEUE)
    if said is None:
        return None
    rows = [line.strip().split("|") for line in said.splitlines()]
    return {row[0]: State(*row[1:]) for row in rows if len(row) == 7}


def waiting(stand: dict[str, State]) -> str:
    """What waits of some jobs, why, and since when, in a line; nothing if nothing does."""
    groups: dict[tuple[str, ...], dict[str, str]] = {}
    for name, job in stand.items():
        if job.state == "PENDING" and job.reason != "None":  # SLURM has not looked at it yet
            groups.setdefault((job.reason, job.cpus, job.memory, job.limit), {})[name] = job.since
    return "; ".join(
        f"{numbers(found)} pending since {min(found.values()).replace('T', ' ')}: {reason} (hydra.launcher asks for "
        f"{cpus} CPUs, {memory} and {limit} each: .cpus_per_task, .mem_gb, .timeout_min)"
        for (reason, cpus, memory, limit), found in groups.items()
    )


def cause(name: str) -> str:
    """Why a job has ended, in SLURM's words."""
    reason = "None"
    if said := _said("scontrol", "show", "job", "--oneliner", name):
        fields = dict(word.split("=", 1) for word in said.splitlines()[0].split() if "=" in word)
        state, code, reason = (fields.get(key, "") for key in ("JobState", "ExitCode", "Reason"))
    elif said := _said("sacct", "-n", "-X", "-P", "--format=State,ExitCode", "--jobs", name):
        state, _, code = said.splitlines()[0].partition("|")
    else:
        return "SLURM has forgotten it"
    status, _, number = code.partition(":")
    parts = [state, *([reason] if reason not in ("", "None", state) else [])]
    parts += [f"exit status {status}"] if status.strip("0") else []
    parts += [f"signal {number}"] if number.strip("0") else []
    return ", ".join(parts)


def _said(*command: str) -> str | None:
    """What a command prints; None if it fails."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return None


def numbers(names: Iterable[str]) -> str:
    """The names of jobs, those of an array in one: `12_[0-3,7] 13`."""
    arrays: dict[str, list[int]] = {}
    for name in names:
        main, _, index = name.partition("_")
        arrays.setdefault(main, []).extend([int(index)] if index else [])
    return " ".join(f"{main}_[{_spans(sorted(found))}]" if found else main for main, found in arrays.items())


def _spans(indices: list[int]) -> str:
    spans: list[list[int]] = []
    for index in indices:
        if spans and spans[-1][-1] == index - 1:
            spans[-1].append(index)
        else:
            spans.append([index])
    return ",".join(str(span[0]) if len(span) == 1 else f"{span[0]}-{span[-1]}" for span in spans)


def ended_by(names: Iterable[str]) -> str:
    """The command that ends jobs, and the rest of their arrays."""
    return f"scancel {' '.join(dict.fromkeys(name.partition('_')[0] for name in names))}"
