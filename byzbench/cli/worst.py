"""`byzbench worst`: how bad it can get."""

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
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="Graph; default: the algorithm's.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    preset: options.Preset = "recommended",
    aggregator: Annotated[str | None, typer.Option(help="Rule for gradients; default: the algorithm's.")] = None,
    agreement: Annotated[str | None, typer.Option(help="Protocol for parameters; default: the algorithm's.")] = None,
    placement: Annotated[str | None, typer.Option(help="Where the liars sit.")] = None,
    agents: options.Agents = None,
    byzantine: options.Byzantine = None,
    trajectories: Annotated[int, typer.Option(help="Budget of episodes per agent.")] = 3000,
    selection: Annotated[int, typer.Option(min=1, max=1000, help="How many seeds the attack is chosen on.")] = 3,
    reporting: Annotated[int, typer.Option(min=1, help="How many others it is reported on.")] = 5,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """Try a fixed ensemble of attacks, and report the worst on seeds it was not chosen on. Interrupted? It resumes."""
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.reports.worst import REPORTING, SELECTION, STANDARD_V1, Contest

    given = {
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
    point = {flag: value for flag, value in given.items() if value is not None}
    values: dict[str, Any] = options.filled(point, parameter, tuned)
    chosen_on, reported_on = range(SELECTION, SELECTION + selection), range(REPORTING, REPORTING + reporting)
    contest = Contest(point, chosen_on, reported_on, parameters=values, ensemble=STANDARD_V1)
    done = 0

    def watch(label: str, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if not as_json:
            said = outcome.error or _number(outcome.result["evaluation"].get("evaluation"))
            again = " (reused)" if outcome.reused else ""
            typer.echo(f"{done}/{contest.size}  {label}: {said}{again}", err=True)

    if not as_json:
        for attack, why in contest.skipped.items():
            typer.echo(f"skipped: {attack}: {why}", err=True)
    with open_executor(executor, out, jobs=jobs, ray_address=ray_address) as workers:
        found = contest.run(out, workers, watch)
    if as_json:
        typer.echo(json.dumps({**_asked(contest.clean[0], selection, reporting), **asdict(found)}, allow_nan=False))
    else:
        _print(contest.clean[0], selection, reporting, found)


def _asked(clean: Experiment, selection: int, reporting: int) -> dict[str, Any]:
    """What was asked, for JSON."""
    from byzbench.reports.worst import REPORTING, SELECTION, STANDARD

    asked = {name: value for name, value in clean.describe().items() if name not in ("attack", "seed")}
    seeds = {
        "selection": [*range(SELECTION, SELECTION + selection)],
        "reporting": [*range(REPORTING, REPORTING + reporting)],
    }
    return {"ensemble": STANDARD, "experiment": asked, "seeds": seeds}


def _print(clean: Experiment, selection: int, reporting: int, found: Found) -> None:
    from byzbench.registry import name_of
    from byzbench.reports.worst import FLAGS, REPORTING, SELECTION, STANDARD

    parts = (clean.algorithm, clean.aggregator, clean.agreement, clean.topology, clean.task)
    typer.echo(
        f"{STANDARD} against {' · '.join(map(name_of, parts))}   K={clean.agents}, f={clean.byzantine}, "
        f"{clean.trajectories:,} trajectories\n\nevaluation return, mean over {selection} seeds from {SELECTION} on"
    )
    width = max(map(len, found.tried))
    for attack, tried in found.tried.items():
        mark = "*" if attack == found.attack else " "
        said = f"not tried: {tried.why}" if tried.mean is None else f"{_number(tried.mean):>9}"
        each = f"   ({', '.join(map(_number, tried.returns))})" if len(tried.returns) > 1 else ""
        typer.echo(f"{mark} {attack:<{width}}  {tried.needs:<12}  {said}{each}{'  inert' if tried.inert else ''}")
    harmed = found.loss.low is not None and found.loss.low > 0
    worst_attack = (
        f"the worst attack: {found.attack}" if harmed else f"no certain harm; the lowest mean: {found.attack}"
    )
    typer.echo(f"\n{worst_attack}; on {reporting} fresh seeds from {REPORTING} on")
    for what, number in (("without an attack", found.clean), ("under it", found.attacked), ("loss", found.loss)):
        typer.echo(f"  {what:<17}  {_estimated(number)}")
    typer.echo(f"  {'verdicts':<17}  {', '.join(found.verdicts)}\n")
    for name, flag in found.flags.items():
        typer.secho(f"{'yes' if flag.raised else 'no ':<3}  {name}: {flag.why}", bold=flag.raised)
        if flag.raised:
            typer.echo(f"       {FLAGS[name]}")
    for note in found.notes:
        typer.echo(f"note: {note}")


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1f}"


def _estimated(number: Interval) -> str:
    if number.low is None:
        return f"{number.value:.1f}  (too few seeds for an interval)"
    return f"{number.value:.1f}  (95 % interval {number.low:.1f} to {number.high:.1f})"
