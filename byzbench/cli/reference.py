"""Command `byzbench leaderboard reference`: run the reference method of a suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.cli import options
from byzbench.cli.completion import complete_suite

if TYPE_CHECKING:
    from byzbench.records.store import OnExisting


def reference(
    suite: Annotated[
        str, typer.Argument(help="The name of a frozen suite.", metavar="SUITE", autocompletion=complete_suite)
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the stored reference differs.")
    ] = False,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
) -> None:
    """Run the reference method of a suite, whose clean return is the unit of its scores, and write the result.

    Examples:
        byzbench leaderboard reference smoke-v2
        byzbench leaderboard reference smoke-v2 --check
    """
    from byzbench.cli.cells import run_cells
    from byzbench.errors import InvalidParameter, UserError
    from byzbench.leaderboard import references
    from byzbench.leaderboard.submitting import cell_of
    from byzbench.leaderboard.suites import suite as board
    from byzbench.sweeps.cells import stored_outcome
    from byzbench.sweeps.executors import make_executor as open_executor
    from byzbench.sweeps.grid import SweepPlan

    of = board(suite)
    cells = references.reference_cells(of)
    on_existing: OnExisting = "rerun" if check else "reuse"
    opened = open_executor(executor, out, on_existing, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    if run_cells(SweepPlan(suite, {str(place): cell for place, cell in cells.items()}, {}), out, opened, on_existing):
        raise UserError(f"{suite}: a run of the reference failed; nothing was written")
    outcomes = {place: stored_outcome(cell, out, "reuse") for place, cell in cells.items()}
    runs = {
        p: cell_of(p.key, cells[p].hash, outcome, out / cells[p].hash) for p, outcome in outcomes.items() if outcome
    }
    result = references.reference_of(cells, runs)
    for name, stratum in result.strata.items():
        typer.echo(f"{name}: {stratum.mean:.2f}, the mean over {len(stratum.areas)} seeds")
    if not check:
        typer.echo(str(references.write_reference(of, result)))
        return
    on_file = references.suite_references(of).get(result.engine)
    if on_file is None or on_file.strata != result.strata:
        raise InvalidParameter(f"{suite}: the stored reference differs from the one of these runs")
    typer.echo("the stored reference equals the one of these runs")
