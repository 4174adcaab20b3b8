"""`byzbench leaderboard run --tune`: a row's parameters, searched as its suite allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from byzbench.leaderboard.schema import Method
    from byzbench.leaderboard.suites import Suite


def tune_for_suite(
    suite: Suite, method: Method, out: Path, executor: Any, jobs: int | None, ray_address: str | None
) -> Path:
    """Run the study of a method to its end, run its winner on fresh seeds, and return the file of what it found.

    Args:
        suite: the suite that the method enters.
        method: the method as written.
        out: the store; the study and its file stand in `out/studies`.
        executor: serial, process or ray.
        jobs: how many processes.
        ray_address: of a cluster.

    Raises:
        typer.Exit: it was interrupted; the same command goes on.
    """
    from byzbench.cli.sweep import interruptible
    from byzbench.cli.tune import trial_line
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.experiments.suite import Plan
    from byzbench.experiments.sweep import sweep
    from byzbench.experiments.tuning import finished, open_study, tune
    from byzbench.leaderboard.suite_study import best_parameters, suite_study, winner

    study = suite_study(suite, method)
    home = out / "studies"
    found = open_study(study, home / f"{study.hash}.journal")
    typer.echo(
        f"study {study.name}: {study.trials} trials of {len(study.pairs)} runs, {finished(found)} there; "
        f"searched: {', '.join(study.space)}",
        err=True,
    )

    def watch(trial: Any) -> None:
        typer.echo(trial_line(trial, finished(found), study.trials, len(study.pairs)), err=True)

    with (
        interruptible("the trials' present runs") as stopped,
        open_executor(executor, out, jobs=jobs, ray_address=ray_address) as workers,
    ):
        tune(study, found, workers, study.trials, watch=watch, stopped=stopped)
        if finished(found) < study.trials:
            typer.echo(f"{finished(found)} of {study.trials} trials; the same command goes on", err=True)
            raise typer.Exit(130)
        again = [*study.again({}).values(), *study.again(best_parameters(study, found)).values()]
        cells = {cell.hash: cell for cell in again}
        summary = sweep(Plan(study.name, cells, {}), out, workers, stopped=stopped)
    if summary.left:
        typer.echo("the winner was not yet run again; the same command goes on", err=True)
        raise typer.Exit(130)
    tuned = winner(study, found, summary.outcomes)
    path = home / f"tuned-{study.name}.json"
    tuned.write(path)
    assert tuned.search is not None
    written, best = float(tuned.search["default"]), float(tuned.search["again"])
    typer.echo(
        f"tuned: {tuned.objective['value']:.1f} in the search; on fresh seeds {best:.1f}, as written {written:.1f}"
    )
    for kind, values in tuned.parameters.items():
        typer.echo(f"  {kind}: {', '.join(f'{key}={value}' for key, value in values.items())}")
    return path
