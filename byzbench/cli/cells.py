"""Runner of the cells of a plan, with progress and a resumable interrupt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.experiments.cells import OnExisting
    from byzbench.experiments.executors import Executor
    from byzbench.experiments.suite import Plan


def run_cells(
    plan: Plan, out: Path, opened: AbstractContextManager[Executor], on_existing: OnExisting = "reuse"
) -> int:
    """Run the cells that the store lacks, print the failed ones, and return their number.

    Args:
        plan: The cells.
        out: The folder of the store.
        opened: A context manager of the executor.
        on_existing: What to do with cells that the store has.

    Returns:
        The number of failed cells.

    Raises:
        typer.Exit: The user interrupted the runs.
    """
    from byzbench.cli.progress import SweepProgress
    from byzbench.cli.sweep import interruptible
    from byzbench.experiments.store import scan
    from byzbench.experiments.sweep import sweep

    with SweepProgress(len(plan.cells)) as progress, interruptible() as stopped, opened as workers:
        earlier = scan(out)[0]
        summary = sweep(plan, out, workers, on_existing=on_existing, earlier=earlier, watch=progress, stopped=stopped)
    for label, outcome in summary.failed.items():
        typer.echo(f"failed: {label}: {outcome.error}", err=True)
    if summary.left:
        typer.echo(f"{len(summary.left)} cells left; the same command resumes", err=True)
        raise typer.Exit(130)
    return len(summary.failed)
