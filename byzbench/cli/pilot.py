"""`byzbench pilot`: decide by data which strata and attacks a suite takes."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from byzbench.cli import options
from byzbench.cli.output import write_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from byzbench.leaderboard.admission import PilotResult
    from byzbench.leaderboard.pilot import Pilot, Selection, Stage, StageRuns
    from byzbench.sweeps.executors import Executor

    OpenExecutor = Callable[[], AbstractContextManager[Executor]]


def pilot(
    file: Annotated[Path, typer.Argument(help="A candidate suite with a design and a panel.", metavar="FILE.toml")],
    stage: Annotated[
        Literal["choose", "confirm", "both"],
        typer.Option(help="choose: run everything and select; confirm: repeat the tests on other seeds."),
    ] = "both",
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    page: Annotated[Path | None, typer.Option(help="A Markdown page to write.", metavar="FILE.md")] = None,
    as_json: options.Json = False,
) -> None:
    """Run the pilot of a suite, and decide which strata and attacks it takes. Interrupted? The same command resumes.

    Exit 0: admitted; with --stage choose: there is something to confirm. 1: not admitted.

    Examples:
        byzbench pilot leaderboards/pilots/smoke-v2.toml
        byzbench pilot leaderboards/pilots/smoke-v2.toml --stage choose
    """
    from byzbench.leaderboard import admission, pilot_page
    from byzbench.leaderboard.pilot import read_pilot
    from byzbench.records.files import require_writable, write_file
    from byzbench.sweeps.executors import make_executor as open_executor

    todo = read_pilot(file)
    if page is not None:
        require_writable(page)

    def workers() -> AbstractContextManager[Executor]:
        return open_executor(executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)

    def runs_of(one: Stage, selection: Selection) -> StageRuns:
        reads_only = stage == "confirm" and one == "choose"
        return _run_stage(todo, one, selection, out, None if reads_only else workers)

    result, _ = admission.run_stages(todo, stage, runs_of)
    if page is not None:
        command = shlex.join(["byzbench", "pilot", str(file), "--stage", stage, "--page", str(page)])
        write_file(page, pilot_page.markdown_page(todo, result, command))
    write_output(pilot_page.to_json(todo, result) if as_json else _text(todo, result))
    if result.failures:
        raise typer.Exit(1)


def _run_stage(todo: Pilot, stage: Stage, selection: Selection, out: Path, workers: OpenExecutor | None) -> StageRuns:
    """Return the runs of a stage; with workers, run the cells that the store lacks first."""
    from byzbench.cli.cells import run_cells
    from byzbench.leaderboard.pilot import load_runs, pilot_cells, pilot_plan

    cells = pilot_cells(todo, stage, selection)
    if workers is not None:
        typer.echo(f"{todo.name}: stage {stage}, {len(cells)} cells", err=True)
        run_cells(pilot_plan(todo, stage, cells), out, workers())
    return load_runs(cells, out)


def _text(todo: Pilot, result: PilotResult) -> str:
    """Return the tables of the stages and the verdict, as wide as the terminal."""
    from byzbench.leaderboard.pilot_page import stage_line, stage_tables, verdict
    from byzbench.reports.sheets import render_tables

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    stages = [result_of_stage for result_of_stage in (result.choose, result.confirm) if result_of_stage is not None]
    parts = [
        f"{stage_line(result_of_stage)}\n\n{render_tables(stage_tables(todo, result_of_stage), 'table', {}, width)}"
        for result_of_stage in stages
    ]
    return "\n".join([*parts, *verdict(todo, result)])
