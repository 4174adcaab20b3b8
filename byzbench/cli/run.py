"""Command `byzbench run`: run one experiment on one or several seeds."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.cells import Outcome
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.records import Result
    from byzbench.experiments.tracking import Tracker
    from byzbench.reports.comparison import Companion


def run(
    algo: Annotated[str, typer.Option("--algo", "-a", help=f"Algorithm: {options.COMPONENT}.")] = "decbyzpg",
    attack: Annotated[str, typer.Option("--attack", "-x", help="Attack of the Byzantine agents.")] = "none",
    topology: Annotated[
        str | None, typer.Option("--topology", "-t", help="Communication graph; default: the algorithm's.")
    ] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    preset: options.Preset = "recommended",
    aggregator: Annotated[str | None, typer.Option(help="Aggregator of gradients; default: the algorithm's.")] = None,
    agreement: Annotated[
        str | None, typer.Option(help="Agreement protocol for parameters; default: the algorithm's.")
    ] = None,
    placement: Annotated[str, typer.Option(help="Placement of the Byzantine agents in the graph.")] = "random",
    channel: Annotated[str, typer.Option(help="Channel of messages: perfect, loss, delay, top_k, ...")] = "perfect",
    relay: Annotated[
        bool, typer.Option("--relay", help="Forward messages, so that all agents receive all messages.")
    ] = False,
    mixing: Annotated[
        str, typer.Option(help="Mixing weights of gossip: metropolis, max_degree, uniform, laplacian.")
    ] = "metropolis",
    coin: Annotated[str, typer.Option(help="Source of common randomness.")] = "shared",
    agents: options.Agents = None,
    byzantine: options.Byzantine = None,
    declared: Annotated[int | None, typer.Option(help="The f that honest agents assume; default: the true f.")] = None,
    trajectories: options.Trajectories = None,
    evaluations: options.Evaluations = 20,
    evaluation_episodes: options.EvaluationEpisodes = 10,
    seed: Annotated[int | None, typer.Option(help="The seed; default 0.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds (5), or a list (0,3,7).")] = None,
    heterogeneity: Annotated[
        float | None, typer.Option(help="Spread of physical constants between agents, 0 to 1; as env.heterogeneity.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Simulation backend: gymnasium, envpool; as env.backend.")] = None,
    world: Annotated[
        str | None, typer.Option(help="Environments: own (one per agent) or shared (one for all); as env.world.")
    ] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    device: Annotated[str, typer.Option(help="Device of gradients and aggregation.")] = "cpu",
    on_existing: Annotated[Literal["reuse", "rerun"], typer.Option(help="What to do with a finished run.")] = "reuse",
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also run without the attack, with plain averaging, and one agent alone."),
    ] = False,
    wandb: options.Wandb = "off",
    as_json: options.Json = False,
) -> None:
    """Train, and print whether the honest agents learned. The same command resumes an interrupted run.

    Examples:
        byzbench run --algo decbyzpg --attack alie --seeds 5
        byzbench run --algo fed_ppo --attack ipm --aggregator krum --compare
    """
    from byzbench.cli.progress import announce

    if compare and not as_json:
        announce("--compare: checking the runs")
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.records import pool
    from byzbench.experiments.tracking import Tracker

    numbers = options.seed_list(seed, seeds)
    parts = {"algo": algo, "attack": attack, "aggregator": aggregator, "agreement": agreement, "channel": channel}
    values = options.filled(parts, parameter, tuned)
    for key, value in (("heterogeneity", heterogeneity), ("backend", backend), ("world", world)):
        if value is not None:
            values.setdefault("task", {})[key] = value
    experiments = [
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
    if compare:
        _compare(experiments, out, on_existing, tracker if wandb != "off" else None, as_json)
        return
    results = [_train(experiment, out, on_existing, tracker, quiet=as_json) for experiment in experiments]
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
    print_result(experiments[0], result, picture)
    _print_places(tracker, wandb)


def _print_places(tracker: Tracker, wandb: str) -> None:
    """Print where runs are tracked, or how to track them."""
    for place in tracker.places:
        typer.echo(f"tracked: {place}")
    if wandb == "off":
        typer.secho("to track runs: --wandb offline|online", dim=True)


def _train(
    experiment: Experiment, out: Path, on_existing: Literal["reuse", "rerun"], tracker: Tracker, quiet: bool
) -> Result:
    """Run one experiment, plot its learning curve, and track both."""
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


def _compare(
    experiments: Sequence[Experiment],
    out: Path,
    on_existing: Literal["reuse", "rerun"],
    tracker: Tracker | None,
    as_json: bool,
) -> None:
    """Run a comparison and print it.

    Raises:
        UserError: The requested run fails.
    """
    from byzbench.errors import UserError
    from byzbench.experiments.records import Result, pool
    from byzbench.reports.comparison import companions, compare, comparison_lines, comparison_table
    from byzbench.reports.sheets import render

    rows = companions(experiments)
    results = _run_all(rows, out, on_existing, tracker, as_json)
    for experiment in experiments:
        if error := results[experiment.hash].get("error"):
            raise UserError(str(error))
    comparison = compare(rows, results)
    if as_json:
        result = pool([Result.from_json(dict(results[experiment.hash])) for experiment in experiments])
        typer.echo(json.dumps({**result.to_json(), "comparison": comparison.to_json()}, allow_nan=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    typer.echo(render([comparison_table(comparison)], "table", {}, width))
    for line in comparison_lines(comparison):
        typer.echo(line)
    typer.echo("saved: " + ", ".join(f"{row.runs[0]} ({row.name})" for row in comparison.rows if row.runs))
    for place in tracker.places if tracker else ():
        typer.echo(f"tracked: {place}")


def _run_all(
    rows: Sequence[Companion], out: Path, on_existing: Literal["reuse", "rerun"], tracker: Tracker | None, quiet: bool
) -> dict[str, Mapping[str, Any]]:
    """Run the experiments of a comparison in parallel processes.

    Args:
        rows: The rows of the comparison.
        out: The folder of the store.
        on_existing: What to do with finished runs.
        tracker: The tracker of runs, if any.
        quiet: Print no progress.

    Returns:
        The result of each experiment by its hash, or `{"error": ...}`.
    """
    from byzbench.cli.progress import RunsProgress
    from byzbench.cli.sync import draw
    from byzbench.experiments.executors import executor
    from byzbench.experiments.suite import Plan
    from byzbench.experiments.sweep import sweep

    cells: dict[str, Experiment] = {}
    hashes: set[str] = set()
    for row in rows:
        for experiment in row.experiments:
            if experiment.hash not in hashes:
                hashes.add(experiment.hash)
                cells[f"{row.name} · seed {experiment.seed}"] = experiment
    results: dict[str, Mapping[str, Any]] = {}
    jobs = min(len(cells), len(os.sched_getaffinity(0)))
    on_existing_cell: Literal["retry-failed", "rerun"] = "rerun" if on_existing == "rerun" else "retry-failed"
    with (
        RunsProgress({label: (out / e.hash, e.trajectories) for label, e in cells.items()}, jobs, quiet) as progress,
        executor("process", out, on_existing_cell, jobs=jobs) as workers,
    ):

        def watch(label: str, outcome: Outcome) -> None:
            progress(label, outcome)
            cell = cells[label]
            results[cell.hash] = {"error": outcome.error} if outcome.status == "failed" else outcome.result
            if tracker is not None and outcome.status == "finished":
                draw(out / cell.hash)
                tracker.show(out / cell.hash)

        sweep(Plan("compare", cells, {}), out, workers, on_existing=on_existing_cell, watch=watch)
    return results
