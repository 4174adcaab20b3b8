"""`byzbench run`: one experiment, or the same one under several seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.records import Result
    from byzbench.experiments.tracking import Tracker


def run(
    algo: Annotated[str, typer.Option("--algo", "-a", help=f"Algorithm: {options.COMPONENT}.")] = "decbyzpg",
    attack: Annotated[str, typer.Option("--attack", "-x", help="What the liars do.")] = "none",
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="Graph; default: the algorithm's.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    preset: Annotated[str, typer.Option(help="paper, or official: the habits of the authors' code.")] = "paper",
    aggregator: Annotated[str | None, typer.Option(help="Rule for gradients; default: the algorithm's.")] = None,
    agreement: Annotated[str | None, typer.Option(help="Protocol for parameters; default: the algorithm's.")] = None,
    placement: Annotated[str, typer.Option(help="Where the liars sit.")] = "random",
    channel: Annotated[str, typer.Option(help="What becomes of messages: loss, delay, top_k, ...")] = "perfect",
    relay: Annotated[bool, typer.Option("--relay", help="Pass messages on, so that all agents hear all.")] = False,
    mixing: Annotated[
        str, typer.Option(help="Weights of gossip: metropolis, max_degree, uniform, laplacian.")
    ] = "metropolis",
    coin: Annotated[str, typer.Option(help="Common randomness.")] = "shared",
    agents: options.Agents = None,
    byzantine: options.Byzantine = None,
    declared: Annotated[int | None, typer.Option(help="What agents are told about f; default: the truth.")] = None,
    trajectories: Annotated[int, typer.Option(help="Budget of episodes per agent.")] = 2000,
    evaluations: options.Evaluations = 20,
    evaluation_episodes: options.EvaluationEpisodes = 10,
    seed: Annotated[int | None, typer.Option(help="The seed; default 0.")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds (5), or which (0,3,7).")] = None,
    heterogeneity: Annotated[
        float | None, typer.Option(help="How far agents' physical constants lie apart, 0 to 1; as env.heterogeneity.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Who simulates: gymnasium, envpool; as env.backend.")] = None,
    world: Annotated[str | None, typer.Option(help="A game each, or one for all: own, shared; as env.world.")] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    device: Annotated[str, typer.Option(help="Where gradients and rules are computed.")] = "cpu",
    on_existing: Annotated[Literal["reuse", "rerun"], typer.Option(help="What to do with a finished run.")] = "reuse",
    wandb: options.Wandb = "off",
    as_json: options.Json = False,
) -> None:
    """Train, and say whether honest agents learned. Interrupted? The same command resumes."""
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.records import pool
    from byzbench.experiments.tracking import Tracker

    numbers = options.seed_list(seed, seeds)
    named = {"algo": algo, "attack": attack, "aggregator": aggregator, "agreement": agreement, "channel": channel}
    values = options.filled(named, parameter, tuned)
    for key, value in (("heterogeneity", heterogeneity), ("backend", backend), ("world", world)):
        if value is not None:
            values.setdefault("task", {})[key] = value
    todo = [
        Experiment.create(
            algo,
            attack,
            topology,
            env,
            aggregator=aggregator,
            agreement=agreement,
            placement=placement,
            channel=channel,
            relay=relay,
            mixing=mixing,
            coin=coin,
            agents=agents,
            byzantine=byzantine,
            declared=declared,
            trajectories=trajectories,
            evaluations=evaluations,
            evaluation_episodes=evaluation_episodes,
            seed=number,
            device=device,
            preset=preset,
            parameters=values,
        )
        for number in numbers
    ]
    tracker = Tracker(wandb)
    results = [_train(experiment, out, on_existing, tracker, quiet=as_json) for experiment in todo]
    result = pool(results)
    if as_json:
        typer.echo(json.dumps(result.to_json(), allow_nan=False))
        return

    from byzbench.reports.plots import learning_curve
    from byzbench.reports.tables import print_result

    folders = [Path(str(r.run)) for r in results]
    picture = folders[0] / "curve.png"
    if len(folders) > 1:
        picture = out / f"curve-{folders[0].name}-{len(folders)}.png"
        learning_curve(folders, picture)
    print_result(todo[0], result, picture)
    for place in tracker.places:
        typer.echo(f"tracked: {place}")
    if wandb == "off":
        typer.secho("track with --wandb offline|online", dim=True)


def _train(
    experiment: Experiment, out: Path, on_existing: Literal["reuse", "rerun"], tracker: Tracker, quiet: bool
) -> Result:
    """One run and its learning curve, both of which the tracker shows."""
    from byzbench.cli.progress import Progress
    from byzbench.experiments.runner import run as train
    from byzbench.registry import name_of

    rounds = 0

    def watch(line: Mapping[str, Any]) -> None:
        nonlocal rounds
        rounds += 1
        progress(line)
        track(line)

    title = f"{name_of(experiment.algorithm)} · {name_of(experiment.attack)} · {name_of(experiment.topology)}"
    with tracker.follow(out / experiment.hash) as track:
        with Progress(experiment.trajectories, f"{title} · seed {experiment.seed}", quiet) as progress:
            result = train(experiment, out=out, on_existing=on_existing, watch=watch)
        if not quiet:
            from byzbench.reports.plots import learning_curve

            learning_curve([Path(str(result.run))], Path(str(result.run)) / "curve.png")
            if not rounds:
                typer.echo(f"reused: {result.run}", err=True)
    return result
