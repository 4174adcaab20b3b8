"""Command `byzbench breakdown`: find the largest number of Byzantine agents that a method withstands."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from byzbench.sweeps.cells import CellOutcome


@takes_axes(without=["byzantine", "seed"], defaults={"attack": "large_noise"})
def breakdown(
    point: Point,
    most: Annotated[int | None, typer.Option(help="The largest f to try; default: the largest minority.")] = None,
    seeds: Annotated[
        str, typer.Option(help="Number of seeds (5), or a list (0,3,7); each draws a new placement.")
    ] = "5",
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Find the largest number of Byzantine agents under which a method keeps 0.8 of its return, by bisection.

    Examples:
        byzbench breakdown --algo decbyzpg --attack large_noise
        byzbench breakdown --algo fed_ppo --agents 20 --most 8 --seeds 10
    """
    from byzbench.reports.breakdown import BreakdownTrial
    from byzbench.reports.breakdown import find_breakdown as search
    from byzbench.reports.progress import StepsProgress
    from byzbench.sweeps.executors import make_executor as open_executor

    def print_trial(f: int, tried: BreakdownTrial) -> None:
        if not as_json:
            echo(f"f={f}: {_result_text(tried)}", err=True)

    def print_run(label: str, outcome: CellOutcome, total: int) -> None:
        reused = " (reused)" if outcome.reused else ""
        progress(f"{label}: {outcome.error or outcome.status}{reused}", instant=outcome.reused, total=total)

    values: dict[str, Any] = options.filled(point, parameter, tuned)
    seed_numbers = options.seed_list(None, seeds)
    opened = open_executor(executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    with StepsProgress(0, bound="at least", quiet=as_json) as progress, opened as workers:
        result = search(
            point, seed_numbers, out, workers, most=most, parameters=values, callback=print_trial, on_run=print_run
        )
    if as_json:
        data = asdict(result)
        data["tried"] = {
            str(f): {name: _finite(value) for name, value in asdict(trial).items()} for f, trial in result.tried.items()
        }
        write_json(data)
        return
    typer.echo(f"return without Byzantine agents {result.clean:.1f}")
    for f, tried in result.tried.items():
        echo(f"f={f}: {_result_text(tried)}")
    beyond = f"; every f up to {result.most} was survived" if result.f == result.most else ""
    typer.echo(
        f"breakdown point f={result.f} (95 % interval {result.low} to {result.high}, {len(seed_numbers)} seeds){beyond}"
    )


def _result_text(tried: Any) -> str:
    if tried.retention is None:
        return f"undefined, so not survived: {tried.why}"
    verdict = "survived" if tried.low >= 0 else "not survived" if tried.high < 0 else "undecided"
    return f"retention {tried.retention:.2f}, {verdict}{tried.why and '; ' + tried.why}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and abs(value) == float("inf") else value
