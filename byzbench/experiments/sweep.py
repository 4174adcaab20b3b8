"""Running a plan: every cell once, whatever fails or is interrupted, and whoever else is at work in the store."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from byzbench.experiments.cells import OnExisting, Outcome, known, stored
from byzbench.experiments.executors import Executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.records import RunFolder
from byzbench.experiments.store import Entry
from byzbench.experiments.suite import Plan

State = Literal["new", "outdated", "unfinished", "finished", "failed"]
"""`outdated`: a run of another behaviour than is here, which will be archived; the others as they say."""


@dataclass
class Summary:
    """How a sweep stands: cells over by label, and what is left.

    Attributes:
        outcomes: of the cells that are over.
        left: labels of those that are not: only where the sweep was stopped.
        lost: a line for each time that whatever ran a cell was lost.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def failed(self) -> dict[str, Outcome]:
        """The cells that failed."""
        return {label: o for label, o in self.outcomes.items() if o.status == "failed"}


def standing(plan: Plan, out: Path, on_existing: OnExisting) -> dict[str, State]:
    """What the store already has of every cell, and will not be run again."""
    found: dict[str, State] = {}
    for label, cell in plan.cells.items():
        outcome = known(cell, out, on_existing)
        if outcome is not None and outcome.status != "busy":
            found[label] = outcome.status
        else:
            why = stored(RunFolder(out / cell.hash), cell)
            if on_existing == "rerun" or why is None:
                found[label] = "new"
            else:
                found[label] = "outdated" if why else "unfinished"
    return found


def seconds_expected(cell: Experiment, earlier: list[Entry]) -> float | None:
    """Seconds that a cell will take on one core, by finished runs of its kind in the store; None without any.

    The rate is the median over runs of the same task and algorithm, of seconds for an episode of an agent.
    """
    described = cell.describe()
    rates = [
        entry.result["steps"] / entry.result["steps_per_second"] / (e["trajectories"] * e["agents"])
        for entry in earlier
        if entry.result and (e := entry.experiment)["algorithm"]["name"] == described["algorithm"]["name"]
        if e["task"] == described["task"]
    ]
    return statistics.median(rates) * cell.trajectories * cell.agents if rates else None


def sweep(
    plan: Plan,
    out: Path,
    executor: Executor,
    *,
    on_existing: OnExisting = "reuse",
    earlier: list[Entry] | None = None,
    watch: Callable[[str, Outcome], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Run what a plan has left to run, longest cells first.

    A cell that another process is at is put off, and waited for when nothing else is left. Cells write to folders of
    their own, so that a sweep can be killed at any moment and started again, and two sweeps can share a store.

    Args:
        plan: what to run.
        out: the store.
        executor: who runs it.
        on_existing: what to do with cells that are finished or failed.
        earlier: runs by which the length of cells is judged.
        watch: called with the label and the outcome of every cell that is over.
        stopped: asked before a cell is started; once it says yes, running cells are finished and no other is begun.
    """
    summary, labels = Summary(), {cell.hash: label for label, cell in plan.cells.items()}

    def over(cell: Experiment, outcome: Outcome) -> None:
        summary.outcomes[labels[cell.hash]] = outcome
        if watch:
            watch(labels[cell.hash], outcome)

    queue: list[Experiment] = []
    for cell in plan.cells.values():
        outcome = known(cell, out, on_existing)
        if outcome is None:
            queue.append(cell)
        else:
            over(cell, outcome)
    length = {cell.hash: _length(cell, earlier or []) for cell in queue}
    queue.sort(key=lambda cell: (length[cell.hash], cell.hash))

    put_off: list[Experiment] = []
    while queue or put_off or executor.flying:
        while (queue or put_off) and executor.flying < executor.width and not stopped():
            waits = not queue
            executor.submit(put_off.pop() if waits else queue.pop(), wait=waits)
        if not executor.flying:
            break
        cell, outcome = executor.next()
        if outcome.status == "busy":
            put_off.append(cell)
        else:
            over(cell, outcome)
    summary.left = [labels[cell.hash] for cell in (*queue, *put_off)]
    summary.lost = list(executor.lost)
    return summary


def _length(cell: Experiment, earlier: list[Entry]) -> float:
    """Seconds where they can be judged; else steps at most, at a rate that only has to put cells in order."""
    expected = seconds_expected(cell, earlier)
    return cell.trajectories * cell.agents * cell.task.horizon / 3e5 if expected is None else expected
