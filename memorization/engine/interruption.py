"""SIGTERM and Ctrl-C end the process with status 143 or 130, at a place from which the work can go on.

`Interrupted` is not an `Exception`, so that nothing which catches failures, a sweep's jobs above all, goes on after it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

_deferring = False
_received: int | None = None


class Interrupted(BaseException):
    """The process was told to stop; `status` is the one to exit with."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


def _handle(signum: int, frame: Any) -> None:
    global _received
    if _deferring and _received is None:
        _received = signum
    else:
        raise Interrupted(signum)


def handle() -> None:
    """Turn both signals into `Interrupted`, where nobody else has claimed them.

    In a SLURM job, submitit has: SIGTERM comes before it queues the job again. In a local one, it only comes from us.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    local = os.environ.get("SUBMITIT_EXECUTOR") == "local"
    for signum in (signal.SIGTERM, signal.SIGINT):
        if local or signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _handle)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """In this block a signal waits for `pending` and `stop`; a second one does not."""
    global _deferring, _received
    _deferring, _received = True, None
    try:
        yield
    finally:
        _deferring = False
        stop()  # also where the block fails: the signal came first


def pending() -> bool:
    """Did a signal come in the block of `deferred`?"""
    return _received is not None


def stop() -> None:
    """Raise `Interrupted` for a signal that was deferred."""
    global _received
    if _received is not None:
        signum, _received = _received, None
        raise Interrupted(signum)
