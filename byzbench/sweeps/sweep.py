"""Sweeps: running all cells of a plan once, robust to failures, interruptions and concurrent sweeps in the store."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from byzbench.errors import CorruptRecord
from byzbench.experiments.experiment import Experiment
from byzbench.records.run_folder import RunFolder
from byzbench.records.store import OnExisting, StoredRun
from byzbench.sweeps.cells import CellOutcome, stored_differences, stored_outcome
from byzbench.sweeps.executors import Executor
from byzbench.sweeps.grid import SweepPlan

CellState: TypeAlias = Literal["new", "outdated", "unfinished", "finished", "failed", "damaged"]
"""The state of a cell in the store; an `outdated` run, of another numerical behaviour, and a `damaged` one will be
archived."""


@dataclass
class SweepSummary:
    """The result of a sweep.

    Attributes:
        outcomes: The outcomes of the cells that have ended, by label.
        remaining: The labels of the cells that have not run, because the sweep was stopped.
        worker_failures: The lost workers, one line each.
    """

    outcomes: dict[str, CellOutcome] = field(default_factory=dict)
    remaining: list[str] = field(default_factory=list)
    worker_failures: list[str] = field(default_factory=list)

    @property
    def failed(self) -> dict[str, CellOutcome]:
        """Return the outcomes of the cells that failed, by label."""
        return {label: o for label, o in self.outcomes.items() if o.status == "failed"}


def sweep_state(plan: SweepPlan, out: Path, on_existing: OnExisting) -> dict[str, CellState]:
    """Return the state of every cell of a plan in the store, by label.

    Args:
        plan: The plan.
        out: The store.
        on_existing: What to do with cells that are finished or failed; those that will run again are not reported as
            such.
    """
    states: dict[str, CellState] = {}
    for label, cell in plan.cells.items():
        try:
            states[label] = _state(cell, out, on_existing)
        except CorruptRecord:
            states[label] = "damaged"
    return states


def _state(cell: Experiment, out: Path, on_existing: OnExisting) -> CellState:
    if on_existing == "rerun":
        return "new"
    outcome = stored_outcome(cell, out, on_existing)
    if outcome is not None and outcome.status != "busy":
        return outcome.status
    reasons = stored_differences(RunFolder(out / cell.hash), cell)
    return "new" if reasons is None else "outdated" if reasons else "unfinished"


def seconds_expected(cell: Experiment, earlier: list[StoredRun]) -> float | None:
    """Estimate the seconds that a cell will take on one core from finished runs of its task and algorithm.

    The estimate is the median of the runs' seconds per episode of an agent, times the number of episodes.

    Args:
        cell: The experiment.
        earlier: The runs in the store.

    Returns:
        The seconds; None without a run of this task and algorithm.
    """
    description = cell.describe()
    rates = [
        entry.result["steps"] / entry.result["steps_per_second"] / (e["trajectories"] * e["agents"])
        for entry in earlier
        if entry.result and (e := entry.experiment)["algorithm"]["name"] == description["algorithm"]["name"]
        if e["task"] == description["task"]
    ]
    return statistics.median(rates) * cell.trajectories * cell.agents if rates else None


def run_sweep(
    plan: SweepPlan,
    out: Path,
    executor: Executor,
    *,
    on_existing: OnExisting = "reuse",
    earlier: list[StoredRun] | None = None,
    callback: Callable[[str, CellOutcome], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> SweepSummary:
    """Run the remaining cells of a plan, longest first.

    A cell that another process runs is deferred until no other cell remains, and then waited for. Each cell writes to
    its own folder, so that a sweep can be killed and started again at any time, and two sweeps can share a store.

    Args:
        plan: The plan.
        out: The store.
        executor: The executor of the cells.
        on_existing: What to do with cells that are finished or failed.
        earlier: The runs from which the durations of cells are estimated.
        callback: A function that is called with the label and the outcome of every cell that has ended.
        stopped: A function that is called before a cell is started. Once it returns True no further cell is started,
            and running cells are completed.

    Returns:
        The outcomes, and the cells that have not run.
    """
    summary, labels = SweepSummary(), {cell.hash: label for label, cell in plan.cells.items()}

    def finish(cell: Experiment, outcome: CellOutcome) -> None:
        summary.outcomes[labels[cell.hash]] = outcome
        if callback:
            callback(labels[cell.hash], outcome)

    queue: list[Experiment] = []
    for cell in plan.cells.values():
        try:
            outcome = stored_outcome(cell, out, on_existing)
        except CorruptRecord:  # which is archived when the cell runs
            outcome = None
        if outcome is None:
            queue.append(cell)
        else:
            finish(cell, outcome)
    length = {cell.hash: _length(cell, earlier or []) for cell in queue}
    queue.sort(key=lambda cell: (length[cell.hash], cell.hash))

    deferred: list[Experiment] = []
    while queue or deferred or executor.num_in_flight:
        while (queue or deferred) and executor.num_in_flight < executor.width and not stopped():
            wait_for_others = not queue
            executor.submit(deferred.pop() if wait_for_others else queue.pop(), wait=wait_for_others)
        if not executor.num_in_flight:
            break
        cell, outcome = executor.next()
        if outcome.status == "busy":
            deferred.append(cell)
        else:
            finish(cell, outcome)
    summary.remaining = [labels[cell.hash] for cell in (*queue, *deferred)]
    summary.worker_failures = list(executor.lost)
    return summary


def _length(cell: Experiment, earlier: list[StoredRun]) -> float:
    """Return the estimated seconds of a cell, or else its maximal number of steps at a typical rate, for sorting."""
    expected = seconds_expected(cell, earlier)
    return cell.trajectories * cell.agents * cell.task.horizon / 3e5 if expected is None else expected
