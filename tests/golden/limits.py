"""A limit on the processor time that a case may take, so that code that never ends fails its case and no more."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 300
"""Seconds after which a process whose compiled code does not return is ended."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in the main thread once the body has used more.

    A signal interrupts only what Python runs: where compiled code does not return, the process prints where it is and
    exits with 1.

    Args:
        seconds: of the processor.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"used more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
