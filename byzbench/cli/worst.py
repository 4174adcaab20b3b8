"""Command `byzbench worst`: find the worst attack of a fixed ensemble."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.cells import Outcome
    from byzbench.experiments.experiment import Experiment
    from byzbench.reports.estimators import Interval
    from byzbench.reports.worst import Found


def worst(
    algo: Annotated[str, typer.Option("--algo", "-a", help="Algorithm.")] = "decbyzpg",
    topology: Annotated[
        str | None, typer.Option("--topology", "-t", help="Communication graph; default: the algorithm's.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    preset: options.Preset = "recommended",
    aggregator: Annotated[str | None, typer.Option(help="Aggregator of gradients; default: the algorithm's.")] = None,
    agreement: Annotated[
        str | None, typer.Option(help="Agreement protocol for parameters; default: the algorithm's.")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="Placement of the Byzantine agents.")] = None,
    agents: options.Agents = None,
    byzantine: options.Byzantine = None,
    trajectories: Annotated[int, typer.Option(help="Budget in trajectories per agent.")] = 3000,
    selection: Annotated[int, typer.Option(min=1, max=1000, help="Number of seeds to choose the attack on.")] = 3,
    reporting: Annotated[int, typer.Option(min=1, help="Number of other seeds to report it on.")] = 5,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """Find the worst attack of a fixed ensemble, and report it on fresh seeds; the same command resumes.

    Examples:
        byzbench worst --algo decbyzpg
        byzbench worst --algo fed_ppo --aggregator krum --reporting 10
    """
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.reports.worst import REPORTING, SELECTION, STANDARD_V1, Contest

    axes = {
        "algo": algo,
        "topology": topology,
        "env": env,
        "preset": preset,
        "aggregator": aggregator,
        "agreement": agreement,
        "placement": placement,
        "agents": agents,
        "byzantine": byzantine,
        "trajectories": trajectories,
    }
    point = {flag: value for flag, value in axes.items() if value is not None}
    values: dict[str, Any] = options.filled(point, parameter, tuned)
    selection_seeds, reporting_seeds = range(SELECTION, SELECTION + selection), range(REPORTING, REPORTING + reporting)
    search = Contest(point, selection_seeds, reporting_seeds, parameters=values, ensemble=STANDARD_V1)
    done = 0

    def watch(label: str, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if not as_json:
            shown = outcome.error or _number(outcome.result["evaluation"].get("evaluation"))
            reused = " (reused)" if outcome.reused else ""
            typer.echo(f"{done}/{search.size}  {label}: {shown}{reused}", err=True)

    if not as_json:
        for attack, reason in search.skipped.items():
            typer.echo(f"skipped: {attack}: {reason}", err=True)
    with open_executor(executor, out, jobs=jobs, ray_address=ray_address) as workers:
        result = search.run(out, workers, watch)
    if as_json:
        typer.echo(json.dumps({**_problem(search.clean[0], selection, reporting), **asdict(result)}, allow_nan=False))
    else:
        _print(search.clean[0], selection, reporting, result)


def _problem(clean: Experiment, selection: int, reporting: int) -> dict[str, Any]:
    """Return the ensemble, the experiment and the seeds for JSON output."""
    from byzbench.reports.worst import REPORTING, SELECTION, STANDARD

    description = {name: value for name, value in clean.describe().items() if name not in ("attack", "seed")}
    seeds = {
        "selection": [*range(SELECTION, SELECTION + selection)],
        "reporting": [*range(REPORTING, REPORTING + reporting)],
    }
    return {"ensemble": STANDARD, "experiment": description, "seeds": seeds}


def _print(clean: Experiment, selection: int, reporting: int, result: Found) -> None:
    from byzbench.registry import name_of
    from byzbench.reports.worst import FLAGS, REPORTING, SELECTION, STANDARD

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
        typer.secho(f"{'yes' if flag.raised else 'no ':<3}  {name}: {flag.why}", bold=flag.raised)
        if flag.raised:
            typer.echo(f"       {FLAGS[name]}")
    for note in result.notes:
        typer.echo(f"note: {note}")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1f}"


def _interval_text(estimate: Interval) -> str:
    if estimate.low is None:
        return f"{estimate.value:.1f}  (too few seeds for an interval)"
    return f"{estimate.value:.1f}  (95 % interval {estimate.low:.1f} to {estimate.high:.1f})"
