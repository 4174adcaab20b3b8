"""Termination by SIGTERM, which clusters send some seconds before they take a machine away.

The command line and the worker processes of sweeps handle the signal; a program that imports byzbench keeps its own
handler. While a run trains, the signal waits for the end of the round, when a checkpoint is written. Otherwise the
process ends at once: whatever byzbench writes is complete or not there.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn


class Terminated(KeyboardInterrupt):
    """Interrupt by SIGTERM."""

    exit_code = 143


@dataclass
class _Termination:
    """Handler of SIGTERM in this process.

    Attributes:
        end: A function that ends the command or the process.
        is_deferred: Whether a run trains, so that the signal waits for the end of the round.
        is_requested: Whether the signal has come.
        ends_on_repeat: Whether a second signal does not wait.
    """

    end: Callable[[], NoReturn]
    is_deferred: bool = False
    is_requested: bool = False
    ends_on_repeat: bool = True

    def __call__(self, number: int, frame: Any) -> None:
        """Handle the signal."""
        is_repeated, self.is_requested = self.is_requested, True
        if not self.is_deferred or (is_repeated and self.ends_on_repeat):
            self.end()


def _interrupt() -> NoReturn:
    raise Terminated


_termination = _Termination(_interrupt)


def is_terminated() -> bool:
    """Return whether this process has received SIGTERM; plug-ins can raise `Terminated` themselves."""
    return _termination.is_requested


@contextmanager
def interrupting_sigterm() -> Iterator[None]:
    """Raise `Terminated` on SIGTERM in a block, as Ctrl-C raises `KeyboardInterrupt`; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _termination.is_requested = False
    before = signal.signal(signal.SIGTERM, _termination)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        _termination.is_requested = False  # a later run in this process would end at once


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Restore the handler of `interrupting_sigterm` after a block that replaces it, as the start of Ray does."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is _termination and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def exit_on_sigterm() -> None:
    """End this worker process on SIGTERM, also where it was blocked when the process began.

    The signal may come twice, from a cluster and from the process that started this one, so a second one is ignored
    while a run trains.
    """
    _termination.end, _termination.ends_on_repeat = lambda: os._exit(Terminated.exit_code), False
    signal.signal(signal.SIGTERM, _termination)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


@contextmanager
def deferred_termination() -> Iterator[Callable[[], bool]]:
    """Defer SIGTERM to the end of a block, where it then takes effect.

    Yields:
        A function that returns whether the signal has come, upon which the block should end soon.
    """
    _termination.is_deferred = True
    try:
        yield is_terminated
    finally:
        _termination.is_deferred = False
    if _termination.is_requested:
        _termination.end()
