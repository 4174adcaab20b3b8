"""Command `byzbench sweep`: run every cell of a product of axes once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.integrations.modes import WandbMode
    from byzbench.records.remote import LocalStore
    from byzbench.records.store import OnExisting
    from byzbench.reports.progress import SweepProgress
    from byzbench.sweeps.cells import CellOutcome
    from byzbench.sweeps.executors import Executor
    from byzbench.sweeps.grid import SweepGrid, SweepPlan
    from byzbench.sweeps.sweep import CellState, SweepSummary

_SHOWN = 20


@takes_axes("list", without=["seed"])
def sweep(
    point: Point,
    suite: Annotated[
        Path | None, typer.Argument(help="A TOML file of axes; options replace its axes.", metavar="[SUITE.toml]")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds (5), or a list (0,3,7).")] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Store = "runs",
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    on_existing: options.OnExisting = "reuse",
    cell_timeout: options.CellTimeout = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and run nothing.")] = False,
    wandb: options.Wandb = "off",
    as_json: options.Json = False,
) -> None:
    """Run every cell of a product of axes; the same command resumes an interrupted sweep.

    An axis takes several values, separated by commas or in a repeated option.

    Exit 0: all cells finished. 1: a cell failed, or could not be uploaded. 130: interrupted. 143: terminated.

    Examples:
        byzbench sweep --algo decbyzpg,fed_ppo --attack none,alie,ipm --seeds 5
        byzbench sweep suite.toml --dry-run
    """
    from byzbench.records.remote import open_store
    from byzbench.sweeps.grid import plan_sweep

    axes = point | ({"seeds": options.seed_list(None, seeds)} if seeds else {})
    tuned_files = [str(path) for path in tuned or []]
    cell_plan = plan_sweep(_suite(suite, axes, options.parameters(parameter or []), tuned_files))
    with open_store(out) as store:
        problems = store.pull(cell.hash for cell in cell_plan.cells.values())
        earlier = _preflight(cell_plan, store.path, on_existing, problems, quiet=as_json)
        if dry_run:
            return
        from byzbench.records.store import save_sweep
        from byzbench.sweeps.executors import make_executor

        saved = save_sweep(store.path, cell_plan.name, cell_plan.hash, [cell.hash for cell in cell_plan.cells.values()])
        workers = make_executor(
            executor, store.path, on_existing, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout
        )
        summary = _run_plan(cell_plan, store, workers, on_existing, earlier, wandb, quiet=as_json)
        is_uploaded = _upload(store, saved)
    _report(cell_plan, summary, store.path, is_uploaded, as_json)


def _run_plan(
    plan: SweepPlan,
    store: LocalStore,
    opened: AbstractContextManager[Executor],
    on_existing: OnExisting,
    earlier: list[Any],
    wandb: WandbMode,
    quiet: bool,
) -> SweepSummary:
    """Run the cells of a plan with progress until all have ended or the user interrupts."""
    from byzbench.reports.progress import SweepProgress
    from byzbench.sweeps.sweep import run_sweep

    with SweepProgress(len(plan.cells), quiet=quiet) as progress, interruptible() as stopped, opened as workers:
        return run_sweep(
            plan,
            store.path,
            workers,
            on_existing=on_existing,
            earlier=earlier,
            callback=_cell_callback(plan, store, progress, wandb),
            stopped=stopped,
        )


def _cell_callback(
    plan: SweepPlan, store: LocalStore, progress: SweepProgress, wandb: WandbMode
) -> Callable[[str, CellOutcome], None]:
    """Return a function that shows the outcome of a cell, uploads it, and tracks a finished one."""
    from byzbench.cli.sync import draw
    from byzbench.integrations.tracking import Tracker

    tracker = Tracker(wandb, group=f"sweep-{plan.hash}")

    def watch(label: str, outcome: CellOutcome) -> None:
        progress(label, outcome)
        folder = store.path / plan.cells[label].hash
        if outcome.cause != "damage":
            store.push(folder)
        if outcome.status == "finished" and wandb != "off":
            draw(folder)
            tracker.show(folder)

    return watch


def _suite(path: Path | None, axes: dict[str, Any], parameters: dict[str, Any], tuned: list[str]) -> SweepGrid:
    """Return the suite of a file, if there is one, with the axes and parameters of the options.

    Args:
        path: The file, if any.
        axes: The values of axes, which replace those of the file.
        parameters: Parameters by kind, which replace those of the file.
        tuned: Further files of tuned parameters.

    Raises:
        UserError: There is neither a file nor an axis, or the suite is not valid.
    """
    from byzbench.errors import UserError
    from byzbench.sweeps.grid import SweepGrid

    file_axes = SweepGrid.read(path).model_dump(exclude_unset=True) if path else {}
    values = {**file_axes, **axes}
    if not values:
        raise UserError("give a suite (a TOML file) or axes, for example --algo decbyzpg,dec_page_pg --seeds 3")
    values["exclude"] = [entry for entry in values.get("exclude", []) if not set(axes) & set(entry)]
    merged_parameters = SweepGrid.of({"parameters": values.get("parameters", {})}).parameters
    for kind, values_of_kind in parameters.items():
        merged_parameters[kind] = {**merged_parameters.get(kind, {}), **values_of_kind}
    return SweepGrid.of({**values, "parameters": merged_parameters, "tuned": [*values.get("tuned", []), *tuned]})


def _preflight(cell_plan: SweepPlan, out: Path, on_existing: Any, problems: list[str], quiet: bool) -> list[Any]:
    """Print the plan of a sweep.

    Args:
        cell_plan: The plan.
        out: The folder of the store.
        on_existing: What to do with cells that ran before.
        problems: A line for each damaged run at the URL of the store, to be printed too.
        quiet: Print nothing.

    Returns:
        The runs of the store.
    """
    from collections import Counter

    from byzbench.records.files import REMEDY
    from byzbench.records.run_folder import RunFolder
    from byzbench.records.store import scan_runs
    from byzbench.reports.progress import duration
    from byzbench.sweeps.cells import stored_differences
    from byzbench.sweeps.sweep import seconds_expected, sweep_state

    earlier, damaged = scan_runs(out)
    states = sweep_state(cell_plan, out, on_existing)
    if quiet:
        return earlier
    counts = Counter(states.values())
    parts = [f"{counts[state]} {text}" for state, text in _WORDS.items() if counts[state]]
    echo(f"{len(cell_plan.cells)} cells: {', '.join(parts) or 'none'}", err=True)
    for label, reason in list(cell_plan.undefined.items())[:_SHOWN]:
        echo(f"undefined: {label}: {reason}", err=True)
    if len(cell_plan.undefined) > _SHOWN:
        echo(f"undefined: {len(cell_plan.undefined) - _SHOWN} more", err=True)
    for label, state in states.items():
        if state == "failed":
            echo(f"failed before: {label} (to retry: --on-existing retry-failed)", err=True)
    for problem in (*problems, *damaged):
        echo(f"not trusted: {problem.removesuffix(f'; {REMEDY}')}", err=True)
    outdated = [cell_plan.cells[label] for label, state in states.items() if state == "outdated"]
    reasons = Counter(
        reason for cell in outdated for reason in stored_differences(RunFolder(out / cell.hash), cell) or ()
    )
    for reason, count in reasons.most_common(_SHOWN):
        echo(f"outdated: {count} stored run{'s' * (count != 1)}, which will be archived: {reason}", err=True)
    pending = [cell_plan.cells[label] for label, state in states.items() if state not in ("finished", "failed")]
    if pending:
        expected = [seconds_expected(cell, earlier) for cell in pending]
        known = [s for s in expected if s is not None]
        if len(known) == len(pending):
            echo(f"about {duration(sum(known))} of one core, estimated from similar earlier runs", err=True)
        else:
            echo(f"time unknown: no earlier runs similar to {len(pending) - len(known)} of the cells", err=True)
    return earlier


_WORDS: dict[CellState, str] = {
    "finished": "reused",
    "failed": "failed before",
    "damaged": "damaged, to be archived and run again",
    "unfinished": "to be resumed",
    "outdated": "outdated",
    "new": "to run",
}


@contextmanager
def interruptible(what: str = "the cells that run") -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a request to stop; the second one interrupts.

    Args:
        what: What will finish before the command stops, for the message.

    Yields:
        A function that returns whether the user asked to stop.
    """
    requested = False

    def request(number: int, frame: Any) -> None:
        nonlocal requested
        if requested:
            raise KeyboardInterrupt
        requested = True
        typer.echo(f"\nfinishing {what}, starting no others; press Ctrl-C again to stop now", err=True)

    before = signal.signal(signal.SIGINT, request)
    try:
        yield lambda: requested
    finally:
        signal.signal(signal.SIGINT, before)


def _upload(store: LocalStore, saved: Path) -> bool:
    """Upload what the store at a URL lacks, and the file of the sweep; print a line and return False if it fails."""
    from byzbench.errors import StorageError

    try:
        store.flush()
        store.push_file(saved)
    except StorageError as error:
        echo(f"{error}; the same command uploads what the store lacks", err=True)
        return False
    return True


def _report(cell_plan: SweepPlan, summary: SweepSummary, out: Path, is_uploaded: bool, as_json: bool) -> None:
    """Print the outcomes of the cells; exit 1 if any failed or is not uploaded, 130 if any is left."""
    reused = sum(outcome.reused for outcome in summary.outcomes.values())
    finished = len(summary.outcomes) - len(summary.failed)
    if as_json:
        cells = {
            label: {
                "hash": cell_plan.cells[label].hash,
                "status": outcome.status,
                "reused": outcome.reused,
                "error": outcome.error or None,
            }
            for label, outcome in sorted(summary.outcomes.items())
        }
        content = {
            "sweep": cell_plan.hash,
            "cells": cells,
            "undefined": dict(cell_plan.undefined),
            "left": sorted(summary.remaining),
        }
        write_json({**content, "lost": summary.worker_failures})
    else:
        for line in summary.worker_failures:
            echo(f"lost: {line}", err=True)
        for label, outcome in summary.failed.items():
            typer.echo(
                f"failed: {label}: {outcome.error}  ({out / cell_plan.cells[label].hash}/failure.json)", err=True
            )
        left = f", {len(summary.remaining)} left: the same command resumes" if summary.remaining else ""
        counts = (
            f"{finished} finished ({reused} reused), {len(summary.failed)} failed, {len(cell_plan.undefined)} undefined"
        )
        typer.echo(f"{counts}{left}")
        typer.echo(f"report: byzbench report {out / f'sweep-{cell_plan.hash}.json'}")
    if summary.failed or summary.remaining or not is_uploaded:
        raise typer.Exit(130 if summary.remaining and not summary.failed else 1)
