"""SIGTERM and Ctrl-C end the process with status 143 or 130, at a place from which the work can go on.

`Interrupted` is not an `Exception`, so that nothing which catches failures, a sweep's jobs above all, goes on after it.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

GRACE = 5.0  # seconds that a process has to end by itself once the one that it works for is gone
_deferring = False
_received: int | None = None
_claimed: dict[int, Callable[[int, Any], Any]] = {}  # what is done on a signal that another package has claimed


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
        _end(signum)


def _end(signum: int) -> None:
    if signum in _claimed:
        _claimed[signum](signum, None)  # submitit's, which queues the job again and exits
    raise Interrupted(signum)


def handle() -> None:
    """Turn both signals into `Interrupted`, where nobody else has claimed them.

    In a SLURM job, submitit has: SIGTERM comes before it queues the job again. In a local one, it only comes from us.
    The notice before a SLURM job's time limit is submitit's as well, once what runs has been brought to a good end.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    executor = os.environ.get("SUBMITIT_EXECUTOR")
    for signum in (signal.SIGTERM, signal.SIGINT):
        if executor == "local" or signal.getsignal(signum) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(signum, _handle)
    if executor != "slurm":
        return
    notice = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}", signal.SIGUSR2)
    theirs = signal.getsignal(notice)
    if callable(theirs) and theirs is not _handle:
        _claimed[notice] = theirs
        signal.signal(notice, _handle)


def end_with(number: int) -> None:
    """Stop this process, as SIGTERM does, once the process `number` on this machine is gone, killed for instance."""
    child = os.getppid() == number

    def lives() -> bool:
        if child:
            return os.getppid() == number
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, 0)
            return True
        return False

    def watch() -> None:
        while lives():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


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
        _end(signum)
