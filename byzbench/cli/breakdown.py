"""`byzbench breakdown`: how many liars a method bears."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from byzbench.cli import options


def breakdown(
    algo: Annotated[str, typer.Option("--algo", "-a", help="Algorithm.")] = "decbyzpg",
    attack: Annotated[str, typer.Option("--attack", "-x", help="What the liars do.")] = "large_noise",
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="Graph; default: the algorithm's.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    aggregator: Annotated[str | None, typer.Option(help="Rule for gradients; default: the algorithm's.")] = None,
    agreement: Annotated[str | None, typer.Option(help="Protocol for parameters; default: the algorithm's.")] = None,
    agents: options.Agents = None,
    most: Annotated[int | None, typer.Option(help="The largest f asked about; default: the largest minority.")] = None,
    trajectories: options.Trajectories = None,
    seeds: Annotated[str, typer.Option(help="How many seeds (5), or which (0,3,7); each seats its liars anew.")] = "5",
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """The largest number of liars with at least 0.8 of the return without them, by bisection, with an interval."""
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.reports.breakdown import Tried
    from byzbench.reports.breakdown import breakdown as search

    given = {
        "algo": algo,
        "attack": attack,
        "topology": topology,
        "env": env,
        "aggregator": aggregator,
        "agreement": agreement,
        "agents": agents,
        "trajectories": trajectories,
    }
    point = {flag: value for flag, value in given.items() if value is not None}

    def watch(f: int, tried: Tried) -> None:
        if not as_json:
            typer.echo(f"f={f}: {_said(tried)}", err=True)

    values: dict[str, Any] = options.filled(point, parameter, tuned)
    with open_executor(executor, out, jobs=jobs, ray_address=ray_address) as workers:
        numbers = options.seed_list(None, seeds)
        found = search(point, numbers, out, workers, most=most, parameters=values, watch=watch)
    if as_json:
        data = asdict(found)
        data["tried"] = {str(f): {k: _finite(v) for k, v in asdict(t).items()} for f, t in found.tried.items()}
        typer.echo(json.dumps(data, allow_nan=False))
        return
    typer.echo(f"without liars {found.clean:.1f}")
    for f, tried in found.tried.items():
        typer.echo(f"f={f}: {_said(tried)}")
    beyond = f"; every f up to {found.most} was survived" if found.f == found.most else ""
    typer.echo(f"breakdown point f={found.f} (95 % interval {found.low} to {found.high}, {len(numbers)} seeds){beyond}")


def _said(tried: Any) -> str:
    if tried.retention is None:
        return f"undefined, so not survived: {tried.why}"
    sure = "survived" if tried.low >= 0 else "not survived" if tried.high < 0 else "undecided"
    return f"retention {tried.retention:.2f}, {sure}{tried.why and '; ' + tried.why}"


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and abs(value) == float("inf") else value
