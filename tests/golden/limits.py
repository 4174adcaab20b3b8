"""A limit on the processor time that a case may take, so that code that never ends fails its case and no more."""

from __future__ import annotations

import faulthandler
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `TimeoutError` in the main thread once the body has used more.

    Args:
        seconds: of the processor; SIGPROF interrupts what Python runs.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"used more than {seconds} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
