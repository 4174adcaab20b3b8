"""Runner of the cells of a plan, with progress and a resumable interrupt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.integrations.tracking import Tracker
    from byzbench.records.store import OnExisting
    from byzbench.sweeps.cells import CellOutcome
    from byzbench.sweeps.executors import Executor
    from byzbench.sweeps.grid import SweepPlan


def run_cells(
    plan: SweepPlan,
    out: Path,
    opened: AbstractContextManager[Executor],
    on_existing: OnExisting = "reuse",
    tracker: Tracker | None = None,
) -> int:
    """Run the cells that the store lacks, print the failed ones, and return their number.

    Args:
        plan: The cells.
        out: The folder of the store.
        opened: A context manager of the executor.
        on_existing: What to do with cells that the store has.
        tracker: The tracker of finished cells, if any.

    Returns:
        The number of failed cells.

    Raises:
        typer.Exit: The user interrupted the runs.
    """
    from byzbench.cli.sweep import interruptible
    from byzbench.cli.sync import draw
    from byzbench.records.store import scan_runs
    from byzbench.reports.progress import SweepProgress
    from byzbench.sweeps.sweep import run_sweep

    with SweepProgress(len(plan.cells)) as progress, interruptible() as stopped, opened as workers:

        def on_cell(label: str, outcome: CellOutcome) -> None:
            progress(label, outcome)
            if tracker is not None and outcome.status == "finished":
                draw(out / plan.cells[label].hash)
                tracker.show(out / plan.cells[label].hash)

        earlier = scan_runs(out)[0]
        summary = run_sweep(
            plan, out, workers, on_existing=on_existing, earlier=earlier, callback=on_cell, stopped=stopped
        )
    if reused := sum(outcome.reused for outcome in summary.outcomes.values()):
        echo(f"reused: {reused} of {len(plan.cells)} cells from {out}", err=True)
    for label, outcome in summary.failed.items():
        echo(f"failed: {label}: {outcome.error}", err=True)
    if summary.remaining:
        typer.echo(f"{len(summary.remaining)} cells left; the same command resumes", err=True)
        raise typer.Exit(130)
    return len(summary.failed)
