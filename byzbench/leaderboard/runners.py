"""Runners of the cells that a verification needs: in this environment, or in a sandbox for entries with plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from byzbench.experiments.experiment import Experiment
from byzbench.leaderboard.sandbox import NoCell as NoCell
from byzbench.leaderboard.sandbox import Sandbox
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.submitting import cell_of
from byzbench.leaderboard.suites import CellKey
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

Verdict: TypeAlias = Literal["exact", "consistent", "undecided", "infrastructure", "refused", "mismatch"]
CellsByLabel: TypeAlias = Mapping[str, tuple[CellKey, Experiment]]


class Runner(Protocol):
    """A runner of experiments, with results in the form of cells.

    Attributes:
        on_failure: The verdict on a cell that fails here and did not fail by the claim.
    """

    on_failure: Verdict

    def __call__(self, cells: CellsByLabel) -> Mapping[str, Cell | NoCell]:
        """Run experiments, each with its place, by label; return cells by hash. Equal experiments run once."""


RunCallback: TypeAlias = Callable[[str, int], None]
"""A function that is called after each run, with a line and the number of runs that are planned by then."""


class LocalRunner:
    """A runner by an executor and a scratch store.

    Args:
        store: The store, an empty folder.
        executor: The executor.
        callback: See `RunCallback`.
    """

    on_failure: Verdict = "infrastructure"

    def __init__(self, store: Path, executor: Executor, callback: RunCallback | None = None) -> None:
        self._store, self._executor, self._callback = store, executor, callback
        self._num_runs = self._num_planned = 0

    def __call__(self, cells: CellsByLabel) -> dict[str, Cell | NoCell]:
        """Run experiments; see `Runner`."""
        labels = {cell.hash: label for label, (_, cell) in cells.items()}
        distinct = {label: cells[label] for label in labels.values()}
        self._num_planned += len(distinct)

        def report(label: str, outcome: CellOutcome) -> None:
            self._num_runs += 1
            if self._callback:
                status = f"failed: {outcome.error}" if outcome.error else "finished"
                self._callback(f"run {self._num_runs}: {label}: {status}", self._num_planned)

        plan = SweepPlan("replay", {label: cell for label, (_, cell) in distinct.items()}, {})
        outcomes = run_sweep(plan, self._store, self._executor, callback=report).outcomes

        def result(label: str, place: CellKey, cell: Experiment) -> Cell | NoCell:
            outcome = outcomes[label]
            if outcome.status == "failed" and outcome.cause != "experiment":  # which is no failure of the entry
                return NoCell(f"it ended here with: {outcome.error}", "infrastructure")
            return cell_of(place.key, cell.hash, outcome, self._store / cell.hash)

        return {cell.hash: result(label, place, cell) for label, (place, cell) in distinct.items()}


class SandboxRunner:
    """A runner of cells with plug-ins, each in a sandbox of its own.

    Args:
        sandbox: The sandbox.
        jobs: Number of cells that run at a time.
        callback: See `RunCallback`.
    """

    on_failure: Verdict = "refused"

    def __init__(self, sandbox: Sandbox, jobs: int = 1, callback: RunCallback | None = None) -> None:
        self._sandbox, self._jobs, self._callback = sandbox, jobs, callback
        self._num_runs = self._num_planned = 0

    def __call__(self, cells: CellsByLabel) -> dict[str, Cell | NoCell]:
        """Run experiments; see `Runner`."""
        distinct = {cell.hash: (label, place, cell) for label, (place, cell) in cells.items()}
        self._num_planned += len(distinct)

        def run(job: tuple[str, CellKey, Experiment]) -> Cell | NoCell:
            label, place, experiment = job
            cell = self._sandbox.run(place.key, experiment.hash, experiment.describe())
            self._num_runs += 1
            if self._callback:
                failed = isinstance(cell, NoCell) or cell.status == "failed"
                status = f"failed: {cell.reason}" if failed else "finished"
                self._callback(f"run {self._num_runs}: {label}: {status}", self._num_planned)
            return cell

        with ThreadPoolExecutor(self._jobs) as threads:
            return dict(zip(distinct, threads.map(run, distinct.values()), strict=True))
