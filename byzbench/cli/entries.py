"""Entries of leaderboards on the command line: their suites, and the runs of all their cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from byzbench.integrations.modes import WandbMode
    from byzbench.leaderboard.plan import SubmissionPlan
    from byzbench.leaderboard.suites import Suite
    from byzbench.records.store import OnExisting
    from byzbench.sweeps.executors import Executor


def open_suite(name: str) -> Suite:
    """Return a suite that accepts entries.

    Raises:
        UserError: The suite is closed, or does not exist.
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard.suites import CLOSED, suite

    if name in CLOSED:
        raise UserError(f"suite {name} is closed: its rows can be verified, but it accepts no new entries")
    return suite(name)


def run_entry(
    plan: SubmissionPlan,
    out: Path,
    opened: AbstractContextManager[Executor],
    *,
    on_existing: OnExisting = "reuse",
    wandb: WandbMode = "off",
    tuned: Sequence[Path] = (),
    dry_run: bool = False,
) -> None:
    """Run the cells of an entry that the store lacks, and print the command that submits them.

    Args:
        plan: The cells of the entry.
        out: The folder of the store.
        opened: A context manager of the executor.
        on_existing: What to do with cells that the store has.
        wandb: The mode of Weights & Biases.
        tuned: The files of its tuned parameters.
        dry_run: Whether to print the plan and run nothing.

    Raises:
        typer.Exit: A cell failed, or the user interrupted the runs.
    """
    from byzbench.cli.cells import run_cells
    from byzbench.integrations.tracking import Tracker
    from byzbench.leaderboard.submitting import RunManifest
    from byzbench.sweeps.grid import SweepPlan

    division = f", division {plan.division}" if plan.division else ""
    count, engine = len(plan.cells), plan.code.engine
    typer.echo(f"{plan.suite.name}: track {plan.track}{division}, {count} cells at engine {engine}", err=True)
    if dry_run:
        return
    labels = {key: str(key) for key in plan.cells}
    cells = SweepPlan(plan.suite.name, {labels[key]: cell for key, cell in plan.cells.items()}, {})
    manifest = RunManifest.of(plan)
    tracker = None if wandb == "off" else Tracker(wandb, group=Path(manifest.name).stem)
    ticket = manifest.write(out)
    failed = run_cells(cells, out, opened, on_existing, tracker)
    typer.echo(f"{count - failed} finished, {failed} failed")
    tuned_options = "".join(f" --tuned {file}" for file in tuned)
    typer.echo(f"submit: byzbench leaderboard submit {ticket}{tuned_options} --name NAME --author AUTHOR")
    if failed:
        raise typer.Exit(1)
