"""Command `byzbench run`: run one experiment on one or several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.records.store import OnExisting, OnExistingRun

if TYPE_CHECKING:
    from byzbench.experiments.experiment import Experiment
    from byzbench.experiments.result import Result
    from byzbench.integrations.tracking import Tracker
    from byzbench.sweeps.cells import CellOutcome


@takes_axes()
def run(
    point: Point,
    seeds: Annotated[str | None, typer.Option(help="Number of seeds (5), or a list (0,3,7).")] = None,
    heterogeneity: Annotated[
        float | None, typer.Option(help="Earlier form of --scenario heterogeneous(spread=...).")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Simulation backend: gymnasium, envpool; as env.backend.")] = None,
    world: Annotated[
        str | None, typer.Option(help="Environments: own (one per agent) or shared (one for all); as env.world.")
    ] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Out = Path("runs"),
    on_existing: Annotated[OnExistingRun, typer.Option(help="What to do with a finished run.")] = "reuse",
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Also run without the attack, with plain averaging, and one agent alone."),
    ] = False,
    cell_timeout: options.CellTimeout = None,
    wandb: options.Wandb = "off",
    as_json: options.Json = False,
) -> None:
    """Train, and print whether the honest agents learned. The same command resumes an interrupted run.

    A component is written name, name:key=value,... or name(key=value, ...).

    Examples:
        byzbench run --algo decbyzpg --attack alie --seeds 5
        byzbench run --algo fed_ppo --attack ipm --aggregator krum --compare
    """
    from byzbench.reports.progress import announce

    if compare and not as_json:
        announce("--compare: checking the runs")
    from byzbench.experiments.experiment import Experiment
    from byzbench.integrations.tracking import Tracker

    numbers = options.seed_list(point.pop("seed", None), seeds)
    values = options.filled(point, parameter, tuned)
    for key, value in (("heterogeneity", heterogeneity), ("backend", backend), ("world", world)):
        if value is not None:
            values.setdefault("task", {})[key] = value
    experiments = [Experiment.create(**point, seed=number, parameters=values) for number in numbers]
    tracker = Tracker(wandb)
    tracker_of_cells = tracker if wandb != "off" else None
    if compare:
        _compare(experiments, out, on_existing, tracker_of_cells, as_json, cell_timeout)
        return
    if cell_timeout is None:
        results = [_train(experiment, out, on_existing, tracker, quiet=as_json) for experiment in experiments]
    else:
        results = _train_limited(experiments, out, on_existing, tracker_of_cells, as_json, cell_timeout)
    _print_results(experiments[0], results, out, as_json)
    if not as_json:
        _print_places(tracker, wandb)


def _print_results(experiment: Experiment, results: Sequence[Result], out: Path, as_json: bool) -> None:
    """Print the result over all seeds of an experiment, and plot their learning curve."""
    from byzbench.experiments.result import pool

    result = pool(results)
    if as_json:
        write_json(result.to_json())
        return

    from byzbench.cli.sync import draw_curve
    from byzbench.reports.result_tables import print_result

    folders = [Path(str(r.run)) for r in results]
    picture = folders[0] / "curve.png"
    if len(folders) > 1:
        picture = out / f"curve-{folders[0].name}-{len(folders)}.png"
        draw_curve(folders, picture)
    print_result(experiment, result, picture)


def _print_places(tracker: Tracker, wandb: str) -> None:
    """Print where runs are tracked, or how to track them."""
    for place in tracker.places:
        typer.echo(f"tracked: {place}")
    if wandb == "off":
        typer.secho("to track runs: --wandb offline|online", dim=True)


def _train(experiment: Experiment, out: Path, on_existing: OnExistingRun, tracker: Tracker, quiet: bool) -> Result:
    """Run one experiment, plot its learning curve, and track both."""
    from byzbench.experiments.runner import run_experiment
    from byzbench.reports.labels import experiment_label
    from byzbench.reports.progress import Progress

    rounds = 0

    def on_round(line: Mapping[str, Any]) -> None:
        nonlocal rounds
        rounds += 1
        progress(line)
        track(line)

    with tracker.follow(out / experiment.hash) as track:
        with Progress(experiment.trajectories, experiment_label(experiment), quiet) as progress:
            result = run_experiment(experiment, out=out, on_existing=on_existing, callback=on_round)
        if not quiet:
            from byzbench.cli.sync import draw, draw_curve

            folder = Path(str(result.run))
            if rounds:
                draw_curve([folder], folder / "curve.png")
            else:
                draw(folder)
                typer.echo(f"reused: {folder}", err=True)
    return result


def _train_limited(
    experiments: Sequence[Experiment],
    out: Path,
    on_existing: OnExistingRun,
    tracker: Tracker | None,
    quiet: bool,
    cell_timeout: float,
) -> list[Result]:
    """Run experiments in processes that are killed after a time limit, and plot and track those that finish.

    Raises:
        UnfinishedRun: The process of a run was killed, or died.
        UserError: A run failed.
    """
    from byzbench.experiments.result import Result
    from byzbench.reports.labels import experiment_label

    cells = {experiment_label(experiment): experiment for experiment in experiments}
    outcomes = _run_all(cells, out, on_existing, tracker, quiet, cell_timeout)
    _raise_failure(experiments, outcomes)
    if not quiet:
        from byzbench.cli.sync import draw_curve

        for experiment in experiments:
            draw_curve([out / experiment.hash], out / experiment.hash / "curve.png")
    return [Result.from_json({**outcomes[e.hash].result, "run": str(out / e.hash)}) for e in experiments]


def _raise_failure(experiments: Sequence[Experiment], outcomes: Mapping[str, CellOutcome]) -> None:
    """Raise the error of the first experiment that failed, if any did."""
    for experiment in experiments:
        if (outcome := outcomes[experiment.hash]).status == "failed":
            raise outcome.exception(f"seed {experiment.seed}")


def _compare(
    experiments: Sequence[Experiment],
    out: Path,
    on_existing: OnExistingRun,
    tracker: Tracker | None,
    as_json: bool,
    cell_timeout: float | None,
) -> None:
    """Run a comparison and print it.

    Raises:
        UnfinishedRun: The process of the requested run was killed after a time limit, or died.
        UserError: The requested run failed.
    """
    from byzbench.experiments.result import Result, pool
    from byzbench.reports.comparison import companions, compare, comparison_lines, comparison_table
    from byzbench.reports.sheets import render_tables
    from byzbench.reports.terminal import echo, terminal_width

    rows = companions(experiments)
    cells: dict[str, tuple[str, Experiment]] = {}
    for row in rows:
        for experiment in row.experiments:
            cells.setdefault(experiment.hash, (f"{row.name} · seed {experiment.seed}", experiment))
    outcomes = _run_all(dict(cells.values()), out, on_existing, tracker, as_json, cell_timeout)
    _raise_failure(experiments, outcomes)
    results = {hash: {"error": o.error} if o.status == "failed" else o.result for hash, o in outcomes.items()}
    comparison = compare(rows, results)
    if as_json:
        result = pool([Result.from_json(dict(results[experiment.hash])) for experiment in experiments])
        write_json({**result.to_json(), "comparison": comparison.to_json()})
        return
    typer.echo(render_tables([comparison_table(comparison)], "table", {}, terminal_width()))
    for line in comparison_lines(comparison):
        echo(line, indent=2)
    echo("saved: " + ", ".join(f"{row.runs[0]} ({row.name})" for row in comparison.rows if row.runs), indent=2)
    for place in tracker.places if tracker else ():
        typer.echo(f"tracked: {place}")


def _run_all(
    cells: Mapping[str, Experiment],
    out: Path,
    on_existing: OnExistingRun,
    tracker: Tracker | None,
    quiet: bool,
    cell_timeout: float | None,
) -> dict[str, CellOutcome]:
    """Run experiments in parallel processes.

    Args:
        cells: The experiments by label, `name · seed 0`.
        out: The folder of the store.
        on_existing: What to do with finished runs.
        tracker: The tracker of runs, if any.
        quiet: Print no progress.
        cell_timeout: The seconds after which a run is killed; None: no limit.

    Returns:
        The outcome of each experiment by its hash.
    """
    from byzbench.cli.sync import draw
    from byzbench.platforms import num_cores
    from byzbench.reports.progress import RunsProgress
    from byzbench.sweeps.executors import make_executor
    from byzbench.sweeps.grid import SweepPlan
    from byzbench.sweeps.sweep import run_sweep

    jobs = min(len(cells), num_cores())
    on_existing_cell: OnExisting = "rerun" if on_existing == "rerun" else "retry-failed"
    with (
        RunsProgress({label: (out / e.hash, e.trajectories) for label, e in cells.items()}, jobs, quiet) as progress,
        make_executor("process", out, on_existing_cell, jobs=jobs, cell_timeout=cell_timeout) as workers,
    ):

        def on_cell(label: str, outcome: CellOutcome) -> None:
            progress(label, outcome)
            if tracker is not None and outcome.status == "finished":
                draw(out / cells[label].hash)
                tracker.show(out / cells[label].hash)

        plan = SweepPlan("run", dict(cells), {})
        outcomes = run_sweep(plan, out, workers, on_existing=on_existing_cell, callback=on_cell).outcomes
    return {cells[label].hash: outcome for label, outcome in outcomes.items()}
