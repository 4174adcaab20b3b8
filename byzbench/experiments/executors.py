"""Who runs the cells of a sweep: this process, one process a core, or a Ray cluster. The same cells, the same bytes.

An executor has room for `width` cells at a time. `submit` hands one in, `next` waits until one is over. What ran a cell
may be lost with it (a killed process, a dead node): the cell is started again, `RETRIES` times at most.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.cells import OnExisting, Outcome, deliver, run_cell, run_elsewhere
from byzbench.experiments.experiment import Experiment

RETRIES = 3

FRESH_AFTER = 20
"""Cells that a process runs before another takes its place: thousands of simulators leave holes in its memory."""

Name = Literal["serial", "process", "ray"]


class Executor(ABC):
    """Runs cells into a store.

    Attributes:
        width: how many cells it takes at a time.
        lost: a line for each time that what ran a cell was lost.
    """

    width: int = 1

    def __init__(self, out: Path, on_existing: OnExisting = "reuse") -> None:
        self._out, self._on_existing = out, on_existing
        self._flying: dict[Future[Any], tuple[Experiment, bool, int]] = {}
        self.lost: list[str] = []

    def submit(self, experiment: Experiment, wait: bool = False, tries: int = 0) -> None:
        """Start a cell; `wait` for it if another process is at it."""
        self._flying[self._start(experiment, wait)] = experiment, wait, tries

    @property
    def flying(self) -> int:
        """How many cells have been started and not been returned."""
        return len(self._flying)

    def next(self) -> tuple[Experiment, Outcome]:
        """Wait until a cell is over."""
        while True:
            done = next(iter(wait(self._flying, return_when=FIRST_COMPLETED).done))
            experiment, waiting, tries = self._flying.pop(done)
            error = done.exception()
            if error is None:
                return experiment, replace(self._receive(experiment, done.result()), retries=tries)
            if not self._was_lost(error):
                raise error
            said = f"cell {experiment.hash}: {self._lost_what} was lost"
            if tries == RETRIES:
                return experiment, Outcome("failed", error=f"{said} {tries + 1} times", retries=tries)
            self.lost.append(f"{said}, and it was started again")
            self.submit(experiment, waiting, tries + 1)

    _lost_what = "its process"

    @abstractmethod
    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        """Start a cell."""

    def _receive(self, experiment: Experiment, result: Any) -> Outcome:
        """The outcome, once what came back is in the store."""
        return result

    def _was_lost(self, error: BaseException) -> bool:
        return False

    def close(self, kill: bool = False) -> None:
        """Let go of everything; `kill` what still runs."""
        return


class Serial(Executor):
    """Here, one after the other."""

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(run_cell(experiment.describe(), str(self._out), self._on_existing, wait))
        return done


class Process(Executor):
    """Processes on this machine, `jobs` of them.

    Each is a pool of one, so that the death of a process costs one cell and one start, and nobody else anything. They
    are forked from a server that has imported everything and done nothing, which is cheap and leaves no thread behind.
    """

    def __init__(self, out: Path, on_existing: OnExisting = "reuse", jobs: int | None = None) -> None:
        super().__init__(out, on_existing)
        self.width = jobs or len(os.sched_getaffinity(0))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._idle = [(self._pool(), 0) for _ in range(self.width)]
        self._busy: dict[Future[Any], tuple[ProcessPoolExecutor, int]] = {}

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin)

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        self._collect()
        pool, cells = self._idle.pop()
        try:
            future = pool.submit(run_cell, experiment.describe(), str(self._out), self._on_existing, wait)
        except BrokenProcessPool:  # it died while it had nothing to do
            pool, cells = self._pool(), 0
            future = pool.submit(run_cell, experiment.describe(), str(self._out), self._on_existing, wait)
        self._busy[future] = pool, cells + 1
        return future

    def _collect(self) -> None:
        for future in [f for f in self._busy if f.done()]:
            pool, cells = self._busy.pop(future)
            if cells == FRESH_AFTER or self._was_lost(future.exception()):
                pool.shutdown(wait=False)
                pool, cells = self._pool(), 0
            self._idle.append((pool, cells))

    def _was_lost(self, error: BaseException | None) -> bool:
        return isinstance(error, BrokenProcessPool)

    def close(self, kill: bool = False) -> None:
        """End all processes."""
        pools = [pool for pool, _ in (*self._idle, *self._busy.values())]
        if kill:
            for pool in pools:
                for process in list((pool._processes or {}).values()):
                    process.terminate()
        for pool in pools:
            pool.shutdown(wait=not kill, cancel_futures=True)


def _begin() -> None:
    """In a fresh worker: the keyboard is the parent's business, and so is its life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Ray(Executor):
    """A Ray cluster: the one at `address`, or one of this machine's cores for as long as this lasts.

    Cells run where the store need not be; their files come back through Ray and are put into the store here.
    """

    _lost_what = "the node or the process that ran it"

    def __init__(self, out: Path, on_existing: OnExisting = "reuse", address: str | None = None) -> None:
        super().__init__(out, on_existing)
        self._ray = ray = _library()
        self._mine = not ray.is_initialized()
        if self._mine:
            options: dict[str, Any] = {"address": address}
            if not address:  # Ray of our own listens to this machine alone
                cores = len(os.sched_getaffinity(0))
                options |= {"include_dashboard": False, "num_cpus": cores, "_node_ip_address": "127.0.0.1"}
            try:
                _knock(address)
                ray.init(log_to_driver=False, logging_level="ERROR", **options)
            except (OSError, ValueError, RuntimeError) as error:
                said = str(error).strip().splitlines()[0]
                raise UserError(f"no Ray cluster at {address or 'this machine'}: {said}") from None
        self._task = ray.remote(num_cpus=1, max_retries=0)(run_elsewhere)

    @property
    def width(self) -> int:  # type: ignore[override]
        """A cell a core of the cluster as it is now, and one more for each two, so that no core waits for the next."""
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return cores + (cores + 1) // 2

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        return self._task.remote(experiment.describe()).future()

    def _receive(self, experiment: Experiment, result: Any) -> Outcome:
        outcome, files = result
        return deliver(experiment, self._out, outcome, files, rerun=self._on_existing == "rerun")

    def _was_lost(self, error: BaseException) -> bool:
        lost = self._ray.exceptions
        kinds = (lost.WorkerCrashedError, lost.NodeDiedError, lost.OutOfMemoryError, lost.ObjectLostError)
        return isinstance(error, kinds)

    def close(self, kill: bool = False) -> None:
        """Leave the cluster."""
        if self._mine:
            self._ray.shutdown()


def _knock(address: str | None) -> None:
    """Find out at once whether anybody is there: Ray itself would try for many minutes."""
    if address and re.fullmatch(r"[^:/]+:\d+", address):
        host, _, port = address.partition(":")
        socket.create_connection((host, int(port)), timeout=5).close()


def _library() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("--executor ray needs Ray: pip install 'byzbench[ray]'") from None
    return ray


@contextmanager
def executor(
    name: str, out: Path, on_existing: OnExisting = "reuse", *, jobs: int | None = None, ray_address: str | None = None
) -> Iterator[Executor]:
    """An executor by name; whatever still runs when the block ends in an error is killed.

    Raises:
        InvalidParameter: no such name, or a number of jobs that is none.
        UserError: Ray is not installed, or there is no cluster.
    """
    if jobs is not None and jobs < 1:
        raise InvalidParameter(f"jobs must be at least 1, got {jobs}")
    if name == "serial":
        chosen: Executor = Serial(out, on_existing)
    elif name == "process":
        chosen = Process(out, on_existing, jobs)
    elif name == "ray":
        chosen = Ray(out, on_existing, ray_address)
    else:
        raise InvalidParameter(f"executor must be serial, process or ray, got {name!r}")
    try:
        yield chosen
    except BaseException:
        chosen.close(kill=True)
        raise
    chosen.close()
