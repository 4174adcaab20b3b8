"""Command `byzbench worst`: find the worst attack of a fixed ensemble."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.reports.terminal import echo, terminal_width, wrap_line

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment
    from byzbench.reports.estimators import Interval
    from byzbench.reports.worst_case import WorstCaseResult
    from byzbench.sweeps.cells import CellOutcome


@takes_axes(without=["attack", "seed"], defaults={"trajectories": 3000})
def worst(
    point: Point,
    selection: Annotated[int, typer.Option(min=1, max=1000, help="Number of seeds to choose the attack on.")] = 3,
    reporting: Annotated[int, typer.Option(min=1, help="Number of other seeds to report it on.")] = 5,
    also: Annotated[
        list[str] | None, typer.Option(help=f"A further attack, beside those of the ensemble; {options.AXIS}.")
    ] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Find the worst attack of a fixed ensemble, and report it on fresh seeds; the same command resumes.

    Examples:
        byzbench worst --algo decbyzpg
        byzbench worst --algo fed_ppo --aggregator krum --reporting 10
        byzbench worst --also my_attack
    """
    from byzbench.reports.progress import StepsProgress
    from byzbench.reports.worst_case import ALSO, REPORTING, SELECTION, STANDARD_V1, WorstCaseSearch, extend_ensemble
    from byzbench.sweeps.executors import make_executor as open_executor

    values: dict[str, Any] = options.filled(point, parameter, tuned)
    selection_seeds, reporting_seeds = range(SELECTION, SELECTION + selection), range(REPORTING, REPORTING + reporting)
    ensemble = extend_ensemble(STANDARD_V1, options.components(also) or [])
    search = WorstCaseSearch(point, selection_seeds, reporting_seeds, parameters=values, ensemble=ensemble)

    def print_run(label: str, outcome: CellOutcome) -> None:
        shown = outcome.error or _number(outcome.result["evaluation"].get("evaluation"))
        reused = " (reused)" if outcome.reused else ""
        progress(f"{progress.done + 1}/{search.size}  {label}: {shown}{reused}", instant=outcome.reused)

    if not as_json:
        for attack, reason in search.skipped.items():
            echo(f"skipped: {attack}: {reason}", err=True)
    opened = open_executor(executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    with StepsProgress(search.size, quiet=as_json) as progress, opened as workers:
        result = search.run(out, workers, print_run)
    if as_json:
        problem = _problem(search.clean[0], selection, reporting)
        further = {"also": ensemble[ALSO]} if ALSO in ensemble else {}
        write_json({**problem, **further, **asdict(result)})
    else:
        _print(search.clean[0], selection, reporting, result)


def _problem(clean: Experiment, selection: int, reporting: int) -> dict[str, Any]:
    """Return the ensemble, the experiment and the seeds for JSON output."""
    from byzbench.reports.worst_case import REPORTING, SELECTION, STANDARD

    description = {name: value for name, value in clean.describe().items() if name not in ("attack", "seed")}
    seeds = {
        "selection": [*range(SELECTION, SELECTION + selection)],
        "reporting": [*range(REPORTING, REPORTING + reporting)],
    }
    return {"ensemble": STANDARD, "experiment": description, "seeds": seeds}


def _print(clean: Experiment, selection: int, reporting: int, result: WorstCaseResult) -> None:
    from byzbench.registry import name_of
    from byzbench.reports.worst_case import FLAGS, REPORTING, SELECTION, STANDARD

    parts = (clean.algorithm, clean.aggregator, clean.agreement, clean.topology, clean.task)
    typer.echo(
        f"{STANDARD} against {' · '.join(map(name_of, parts))}   K={clean.agents}, f={clean.byzantine}, "
        f"{clean.trajectories:,} trajectories\n\nevaluation return, mean over {selection} seeds from {SELECTION} on"
    )
    width = max(map(len, result.tried))
    for attack, tried in result.tried.items():
        mark = "*" if attack == result.attack else " "
        shown = f"not run: {tried.why}" if tried.mean is None else f"{_number(tried.mean):>9}"
        by_seed = f"   ({', '.join(map(_number, tried.returns))})" if len(tried.returns) > 1 else ""
        typer.echo(f"{mark} {attack:<{width}}  {tried.needs:<12}  {shown}{by_seed}{'  inert' if tried.inert else ''}")
    harmful = result.loss.low is not None and result.loss.low > 0
    worst_attack = (
        f"the worst attack: {result.attack}" if harmful else f"no certain harm; the lowest mean: {result.attack}"
    )
    typer.echo(f"\n{worst_attack}; on {reporting} fresh seeds from {REPORTING} on")
    for name, estimate in (("without an attack", result.clean), ("under it", result.attacked), ("loss", result.loss)):
        typer.echo(f"  {name:<17}  {_interval_text(estimate)}")
    typer.echo(f"  {'verdicts':<17}  {', '.join(result.verdicts)}\n")
    for name, flag in result.flags.items():
        line = f"{'yes' if flag.raised else 'no ':<3}  {name}: {flag.why}"
        typer.secho(wrap_line(line, terminal_width(), indent=5), bold=flag.raised)
        if flag.raised:
            echo(f"       {FLAGS[name]}", indent=7)
    for note in result.notes:
        echo(f"note: {note}", indent=6)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1f}"


def _interval_text(estimate: Interval) -> str:
    if estimate.low is None:
        return f"{estimate.value:.1f}  (too few seeds for an interval)"
    return f"{estimate.value:.1f}  (95 % interval {estimate.low:.1f} to {estimate.high:.1f})"
