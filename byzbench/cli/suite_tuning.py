"""Tuning of a leaderboard entry for `byzbench leaderboard run --tune`, with the tuning budget of its suite."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.leaderboard.schema import Method
    from byzbench.leaderboard.suites import Suite
    from byzbench.records.tuned import TunedParameters
    from byzbench.sweeps.executors import Executor


def tune_for_suite(suite: Suite, method: Method, out: Path, opened: AbstractContextManager[Executor]) -> Path:
    """Run the tuning study of a method to its end, run the best parameters on fresh seeds, and write them to a file.

    Args:
        suite: The suite that the method enters.
        method: The method as written.
        out: The folder of the store; the study and its file are in `out/studies`.
        opened: A context manager of the executor.

    Returns:
        The file of the tuned parameters.

    Raises:
        typer.Exit: The user interrupted the study; the same command resumes.
        UnfinishedRun: The process of a run on fresh seeds was killed after a time limit, or died.
        CorruptRecord: The records of a run are damaged.
        StorageError: The records of a run could not be written.
    """
    from byzbench.cli.sweep import interruptible
    from byzbench.cli.tune import trial_line
    from byzbench.leaderboard.suite_study import best_parameters, suite_study, winner
    from byzbench.sweeps.grid import SweepPlan
    from byzbench.sweeps.sweep import run_sweep
    from byzbench.tuning.search import finished, open_study, run_study

    study = suite_study(suite, method)
    home = out / "studies"
    optuna_study = open_study(study, home / f"{study.hash}.journal")
    typer.echo(
        f"study {study.name}: {study.trials} trials of {len(study.pairs)} runs, {finished(optuna_study)} finished; "
        f"tuned: {', '.join(study.space)}",
        err=True,
    )

    def print_trial(trial: Any) -> None:
        typer.echo(trial_line(trial, finished(optuna_study), study.trials, len(study.pairs)), err=True)

    with interruptible("the current runs of the trials") as stopped, opened as workers:
        run_study(study, optuna_study, workers, study.trials, callback=print_trial, stopped=stopped)
        if finished(optuna_study) < study.trials:
            typer.echo(f"{finished(optuna_study)} of {study.trials} trials; the same command resumes", err=True)
            raise typer.Exit(130)
        again = [
            *study.fresh_experiments({}).values(),
            *study.fresh_experiments(best_parameters(study, optuna_study)).values(),
        ]
        cells = {cell.hash: cell for cell in again}
        summary = run_sweep(SweepPlan(study.name, cells, {}), out, workers, stopped=stopped)
    if summary.remaining:
        typer.echo("the runs on fresh seeds are not finished; the same command resumes", err=True)
        raise typer.Exit(130)
    tuned = winner(study, optuna_study, summary.outcomes)
    path = home / f"tuned-{study.name}.json"
    tuned.write(path)
    _print_tuned(tuned)
    return path


def _print_tuned(tuned: TunedParameters) -> None:
    """Print the values of a study and the tuned parameters."""
    assert tuned.search is not None
    written, best = float(tuned.search["default"]), float(tuned.search["again"])
    typer.echo(
        f"tuned: {tuned.objective['value']:.1f} in the search; on fresh seeds {best:.1f}, as written {written:.1f}"
    )
    for kind, values in tuned.parameters.items():
        typer.echo(f"  {kind}: {', '.join(f'{key}={value}' for key, value in values.items())}")
