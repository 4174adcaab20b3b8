"""Executors of sweeps: this process, one process for each core, or a Ray cluster, with identical results.

An executor runs up to `width` cells at a time. `submit` starts a cell, `next` waits until one has ended. If the worker
of a cell is lost (a killed process, a dead node), the cell is started again, at most `RETRIES` times.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import re
import signal
import socket
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from byzbench.errors import ArchivedRun, InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.termination import exit_on_sigterm, keeping_sigterm
from byzbench.platforms import num_cores
from byzbench.records.store import OnExisting
from byzbench.sweeps.cells import CellOutcome, deliver, run_cell, run_elsewhere, timed_out

RETRIES = 3
"""The maximal number of times that a cell is started again after its worker was lost."""

PATIENCE = 8.0
"""The seconds that workers have to end after SIGTERM; clusters and containers give 10 or more to all processes."""

FRESH_AFTER = 20
"""The number of cells after which a worker process is replaced, as thousands of simulators fragment its memory."""


class Executor(ABC):
    """A runner of cells, which writes them to a store.

    Attributes:
        width: The number of cells that can run at a time.
        lost: The lost workers, one line each.
    """

    width: int = 1

    def __init__(self, out: Path, on_existing: OnExisting = "reuse") -> None:
        self._out, self._on_existing = out, on_existing
        self._in_flight: dict[Future[Any], tuple[Experiment, bool, int]] = {}
        self.lost: list[str] = []

    def submit(self, experiment: Experiment, wait: bool = False, tries: int = 0) -> None:
        """Start a cell.

        Args:
            experiment: The experiment of the cell.
            wait: Whether to wait for another process that writes the run folder.
            tries: The number of times that the cell was started before.
        """
        self._in_flight[self._start(experiment, wait)] = experiment, wait, tries

    @property
    def num_in_flight(self) -> int:
        """Return the number of cells that have been submitted and not been returned by `next`."""
        return len(self._in_flight)

    def next(self) -> tuple[Experiment, CellOutcome]:
        """Wait until a cell has ended, and return its experiment and its outcome."""
        while True:
            done = wait(self._in_flight, timeout=self._patience(), return_when=FIRST_COMPLETED).done
            if not done:
                if (expired := self._expire()) is not None:
                    return expired
                continue
            future = next(iter(done))
            experiment, waiting, tries = self._in_flight.pop(future)
            error = future.exception()
            if error is None:
                outcome = self._receive(experiment, future.result())
                if outcome.archived:
                    warnings.warn(ArchivedRun(outcome.archived), stacklevel=2)
                return experiment, replace(outcome, retries=tries)
            if not self._was_lost(error):
                raise error
            message = f"cell {experiment.hash}: {self._worker_name} was lost"
            if tries == RETRIES:
                error_line = f"{message} {tries + 1} times"
                return experiment, CellOutcome("failed", error=error_line, retries=tries, cause="process")
            self.lost.append(f"{message}, and it was started again")
            self.submit(experiment, waiting, tries + 1)

    _worker_name = "its process"

    @abstractmethod
    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        """Start a cell."""

    def _receive(self, experiment: Experiment, result: Any) -> CellOutcome:
        """Return the outcome, after writing any returned files to the store."""
        return result

    def _was_lost(self, error: BaseException) -> bool:
        return False

    def _patience(self) -> float | None:
        """Return the seconds until a cell has to be ended; None without a limit."""
        return None

    def _expire(self) -> tuple[Experiment, CellOutcome] | None:
        """End a cell that has run longer than the limit, and return it with its outcome; None if there is none."""
        return None

    def close(self, kill: bool = False) -> None:
        """Release all resources; with `kill`, end running cells."""
        return


class SerialExecutor(Executor):
    """An executor that runs cells in this process, one after the other."""

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(run_cell(experiment.describe(), str(self._out), self._on_existing, wait))
        return future


class ProcessExecutor(Executor):
    """An executor that runs cells in `jobs` processes on this machine.

    Each process is a pool of its own, so that the death of a process affects one cell only. Processes are forked from a
    server process that has imported all modules and has no other threads, which is fast and safe.

    With a time limit, the process of a cell that runs longer is killed, whatever it does, and the cell has failed.
    A cell that waits for another process has no limit.
    """

    def __init__(
        self,
        out: Path,
        on_existing: OnExisting = "reuse",
        jobs: int | None = None,
        cell_timeout: float | None = None,
    ) -> None:
        super().__init__(out, on_existing)
        self._cell_timeout, self._deadlines = cell_timeout, dict[Future[Any], float]()
        self.width = jobs or num_cores()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        _start_server()
        self._idle = [(self._pool(), 0) for _ in range(self.width)]
        self._busy: dict[Future[Any], tuple[ProcessPoolExecutor, int]] = {}

    def _pool(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self._context, initializer=_begin)

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        self._collect()
        pool, cells = self._idle.pop()
        try:
            future = pool.submit(run_cell, experiment.describe(), str(self._out), self._on_existing, wait)
        except BrokenProcessPool:  # the process died while it was idle
            pool, cells = self._pool(), 0
            future = pool.submit(run_cell, experiment.describe(), str(self._out), self._on_existing, wait)
        self._busy[future] = pool, cells + 1
        if self._cell_timeout is not None and not wait:
            self._deadlines[future] = time.monotonic() + self._cell_timeout
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

    def _patience(self) -> float | None:
        self._deadlines = {future: at for future, at in self._deadlines.items() if future in self._in_flight}
        return max(0.0, min(self._deadlines.values()) - time.monotonic()) if self._deadlines else None

    def _expire(self) -> tuple[Experiment, CellOutcome] | None:
        future = min(self._deadlines, key=self._deadlines.__getitem__)
        if future.done() or self._deadlines[future] > time.monotonic():
            return None
        pool, _ = self._busy.pop(future)
        for process in list((pool._processes or {}).values()):
            process.kill()
            process.join()  # its lock on the run folder ends with it
        pool.shutdown(wait=False)
        self._idle.append((self._pool(), 0))
        experiment, _, tries = self._in_flight.pop(future)
        assert self._cell_timeout is not None
        return experiment, replace(timed_out(experiment, self._out, self._cell_timeout), retries=tries)

    def close(self, kill: bool = False) -> None:
        """End all processes; with `kill`, running cells end with a checkpoint after their round."""
        pools = [pool for pool, _ in (*self._idle, *self._busy.values())]
        if kill:
            _terminate([process for pool in pools for process in list((pool._processes or {}).values())])
        for pool in pools:
            pool.shutdown(cancel_futures=True)


def _start_server() -> None:
    """Start the server process from which workers are forked, with SIGTERM blocked.

    The tracker of resources is started first, since its start unblocks the signal.

    Raises:
        UserError: A worker imports the script of the parent, which calls this again.
    """
    resource_tracker.ensure_running()
    try:
        with _blocked_sigterm():
            forkserver.ensure_running()
    except RuntimeError as error:
        if "bootstrapping" not in str(error):
            raise
        raise UserError(
            'a script runs cells in processes below `if __name__ == "__main__":`; executor="serial" starts no process'
        ) from None


@contextmanager
def _blocked_sigterm() -> Iterator[None]:
    """Block SIGTERM in this thread and in the processes that it starts.

    A cluster sends the signal to all processes of a job. If the server ended before the workers that it forks, these
    would appear to have ended as well, and if Ray's servers ended first, `ray.shutdown` would wait a minute for them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(processes: Sequence[BaseProcess]) -> None:
    """End workers by SIGTERM, and those that have not ended after `PATIENCE` seconds by SIGKILL."""
    for process in processes:
        process.terminate()
    running, until = {process.sentinel: process for process in processes}, time.monotonic() + PATIENCE
    try:
        while running and (seconds := until - time.monotonic()) > 0:
            for sentinel in multiprocessing.connection.wait(list(running), seconds):
                del running[sentinel]  # type: ignore[arg-type]
    finally:
        for process in running.values():
            process.kill()


def _begin() -> None:
    """Initialise a worker: ignore SIGINT, which the parent handles, and exit on SIGTERM or when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    exit_on_sigterm()
    parent = multiprocessing.parent_process()

    def exit_with_parent() -> None:
        if parent is not None:
            multiprocessing.connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


class RayExecutor(Executor):
    """An executor that runs cells on a Ray cluster: the one at `address`, or a temporary one on this machine.

    Cells need no access to the store: Ray returns their files, and this process writes them to the store.
    """

    _worker_name = "the node or the process that ran it"

    def __init__(self, out: Path, on_existing: OnExisting = "reuse", address: str | None = None) -> None:
        super().__init__(out, on_existing)
        self._ray = ray = _library()
        self._initialized_here = not ray.is_initialized()
        if self._initialized_here:
            # Without an address Ray would join any cluster that runs on this machine; "local" starts one.
            options: dict[str, Any] = {"address": address or "local"}
            if not address:  # a temporary cluster accepts connections from this machine only
                options |= {"include_dashboard": False, "num_cpus": num_cores(), "_node_ip_address": "127.0.0.1"}
            try:
                _check_reachable(address)
                with keeping_sigterm(), _blocked_sigterm():
                    ray.init(log_to_driver=False, logging_level="ERROR", **options)
            except (OSError, ValueError, RuntimeError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError(f"no Ray cluster at {address or 'this machine'}: {reason}") from None
        self._task = ray.remote(num_cpus=1, max_retries=0)(run_elsewhere)

    @property
    def width(self) -> int:  # type: ignore[override]
        """Return 1.5 times the present number of cores of the cluster, so that no core waits for its next cell."""
        cores = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        return cores + (cores + 1) // 2

    def _start(self, experiment: Experiment, wait: bool) -> Future[Any]:
        return self._task.remote(experiment.describe()).future()

    def _receive(self, experiment: Experiment, result: Any) -> CellOutcome:
        outcome, files = result
        return deliver(experiment, self._out, outcome, files, rerun=self._on_existing == "rerun")

    def _was_lost(self, error: BaseException) -> bool:
        errors = self._ray.exceptions
        kinds = (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError, errors.ObjectLostError)
        return isinstance(error, kinds)

    def close(self, kill: bool = False) -> None:
        """Disconnect from the cluster, if this executor connected to it."""
        if self._initialized_here:
            self._ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise an OSError if no process listens at host:port, as Ray itself would retry for minutes."""
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
def make_executor(
    name: str,
    out: Path,
    on_existing: OnExisting = "reuse",
    *,
    jobs: int | None = None,
    ray_address: str | None = None,
    cell_timeout: float | None = None,
) -> Iterator[Executor]:
    """Open an executor by name, and close it after the block; an error in the block ends running cells.

    Args:
        name: `serial`, `process` or `ray`.
        out: The store.
        on_existing: What to do with cells that are finished or failed.
        jobs: The number of processes of `process`; None: one for each core.
        ray_address: The address of the cluster of `ray`; None: a temporary cluster on this machine.
        cell_timeout: The seconds after which `process` ends a cell, which then has failed; None: no limit.

    Raises:
        InvalidParameter: The name is unknown, the number of jobs is below 1, or another executor has a limit.
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    if jobs is not None and jobs < 1:
        raise InvalidParameter(f"jobs must be at least 1, got {jobs}")
    if cell_timeout is not None and (name != "process" or not 0 < cell_timeout <= threading.TIMEOUT_MAX):
        raise InvalidParameter("a cell timeout must be above 0 seconds, and needs the executor process")
    if name == "serial":
        instance: Executor = SerialExecutor(out, on_existing)
    elif name == "process":
        instance = ProcessExecutor(out, on_existing, jobs, cell_timeout)
    elif name == "ray":
        instance = RayExecutor(out, on_existing, ray_address)
    else:
        raise InvalidParameter(f"executor must be serial, process or ray, got {name!r}")
    try:
        yield instance
    except BaseException:
        instance.close(kill=True)
        raise
    instance.close()
