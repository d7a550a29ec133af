"""Standard output and standard error: what becomes of them changes no result and no exit status.

They may be closed, be read by nobody (`| head`), lead to a full disk, or lack a character of ours. What cannot be
encoded becomes `?`. What cannot be written is dropped by commands that work for the run store, which go on; it ends
those whose result is what they print.
"""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Stream(io.FileIO):
    """Standard output or error, where the first text that cannot be written, and all that follows, is dropped.

    ends: it ends the process as well, as SIGPIPE would (status 141, no message) if nobody reads, else with an error.
    """

    ends = False

    def write(self, text: Any) -> int:
        try:
            return super().write(text)
        except OSError as error:
            _silence(self.fileno())
            if self.ends:
                unread = isinstance(error, BrokenPipeError)
                sys.exit(128 + signal.SIGPIPE if unread else f"error: the output cannot be written ({error.strerror})")
            return memoryview(text).nbytes


def settle(printing: bool = False) -> None:
    """Make the standard streams such that they always can be written; `printing`: for a command that prints its result.

    A stream that is none of the interpreter's own (a notebook's, a test's) stays what it is.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _occupy(number)
            setattr(sys, name, Path(os.devnull).open("w" if number else "r"))  # noqa: SIM115 (for good)
        elif number and _is_plain(stream, number):
            raw = Stream(number, "w", closefd=False)
            raw.ends = printing and name == "stdout"
            lines = stream.line_buffering or stream.write_through  # as PYTHONUNBUFFERED has it
            own = io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=lines)
            setattr(sys, name, own)


@contextlib.contextmanager
def printing() -> Iterator[None]:
    """In this block, a command prints its result."""
    settle(printing=True)
    try:
        yield
    except BrokenPipeError:  # of another file than standard output
        sys.exit(128 + signal.SIGPIPE)
    finally:
        sys.stdout.flush()


def _is_plain(stream: object, number: int) -> bool:
    """Is it the stream that the interpreter opened, and none that somebody put in its place?"""
    with contextlib.suppress(OSError, ValueError):
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == number
    return False


def _silence(number: int) -> None:
    """Let the file of this number lead nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _occupy(number: int) -> None:
    """Let a number that is free lead nowhere, so that no file that is opened later gets what is printed."""
    try:
        os.fstat(number)
    except OSError:
        _silence(number)
