"""Command `byzbench evaluate`: tune an algorithm, run a suite with its tuned parameters on fresh seeds, and report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.cli import options
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.sweeps.executors import Executor
    from byzbench.sweeps.grid import SweepPlan


def evaluate(
    algo: Annotated[str, typer.Option("--algo", "-a", help="The algorithm to tune and evaluate.")],
    suite: Annotated[Path, typer.Option(help="A TOML file of axes; --algo replaces its algorithms.", metavar="SUITE")],
    attacks: Annotated[
        list[str] | None, typer.Option(help="Attacks to tune against, not in the suite; default: two of a list.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of tuning trials.")] = 32,
    tuning_seeds: Annotated[int, typer.Option(min=3, help="Seeds of a trial for each attack.")] = 3,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Tune an algorithm, run a suite on fresh seeds with its default and its tuned parameters, and report both.

    Examples:
        byzbench evaluate --algo decbyzpg --suite suite.toml
        byzbench evaluate --algo fed_ppo --suite suite.toml --attacks ipm,mimic
    """
    from byzbench.cli.report import gathered, print_report
    from byzbench.cli.tune import study
    from byzbench.reports.summary import group
    from byzbench.sweeps.executors import make_executor
    from byzbench.sweeps.grid import SweepGrid
    from byzbench.tuning.evaluation import evaluation_plan, evaluation_suite, tuning_attacks, tuning_problems

    content = evaluation_suite(SweepGrid.read(suite), algo)
    rivals = tuning_attacks(content, options.components(attacks))
    opened = partial(make_executor, executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    problems = tuning_problems(content, rivals, tuning_seeds)
    files = [study(problem, trials, out, None, None, opened(), as_json)[1] for problem in problems]
    cells = _run(evaluation_plan(content, files), out, opened(), as_json)
    groups = group(gathered([str(cells)], {}, everything=False), ["attack", "algo"])
    print_report(groups, "json" if as_json else "table")


def _run(plan: SweepPlan, out: Path, opened: AbstractContextManager[Executor], quiet: bool) -> Path:
    """Run the cells of an evaluation.

    Args:
        plan: The cells, with the default and with the tuned parameters.
        out: The folder of the store.
        opened: A context manager of the executor.
        quiet: Print no progress.

    Returns:
        The file that lists all cells.

    Raises:
        typer.Exit: A cell failed, or the user interrupted the runs.
    """
    from byzbench.cli.sweep import interruptible
    from byzbench.records.store import save_sweep
    from byzbench.reports.progress import SweepProgress
    from byzbench.sweeps.sweep import run_sweep

    for label, reason in plan.undefined.items():
        echo(f"undefined: {label}: {reason}", err=True)
    saved = save_sweep(out, plan.name, plan.hash, [cell.hash for cell in plan.cells.values()])
    with SweepProgress(len(plan.cells), quiet) as progress, interruptible() as stopped, opened as executor:
        summary = run_sweep(plan, out, executor, callback=progress, stopped=stopped)
    for label, outcome in summary.failed.items():
        echo(f"failed: {label}: {outcome.error}", err=True)
    if summary.failed or summary.remaining:
        raise typer.Exit(1 if summary.failed else 130)
    return saved
