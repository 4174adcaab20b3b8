"""Searches with the tuning budget of a suite, for `byzbench leaderboard run --tune` and `leaderboard attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.leaderboard.suite_study import SuiteStudy
    from byzbench.records.tuned import TunedParameters
    from byzbench.sweeps.executors import Executor


def study_line(study: SuiteStudy) -> str:
    """Return the plan of a study in one line."""
    task = f", {study.task}" if study.task else ""
    return f"{study.name}{task}: {study.trials} trials of {len(study.pairs)} runs over {', '.join(study.attacks)}"


def run_suite_study(study: SuiteStudy, out: Path, opened: AbstractContextManager[Executor]) -> Path:
    """Run a study of a suite to its end, run the best trials on fresh seeds, and write the best parameters to a file.

    Args:
        study: The study.
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
    from byzbench.cli.tune import trials_progress
    from byzbench.leaderboard.suite_study import winner
    from byzbench.reports.progress import SweepProgress
    from byzbench.sweeps.grid import SweepPlan
    from byzbench.sweeps.sweep import run_sweep
    from byzbench.tuning.search import finished, open_study, run_study

    home = out / "studies"
    optuna_study = open_study(study, home / f"{study.hash}.journal")
    task = f", {study.task}" if study.task else ""
    typer.echo(
        f"study {study.name}{task}: {study.trials} trials of {len(study.pairs)} runs, {finished(optuna_study)} "
        f"finished; tuned: {', '.join(study.space)}",
        err=True,
    )

    with interruptible("the current runs of the trials") as stopped, opened as workers:
        with trials_progress(optuna_study, study.trials, len(study.pairs)) as print_trial:
            run_study(study, optuna_study, workers, study.trials, callback=print_trial, stopped=stopped)
        if finished(optuna_study) < study.trials:
            typer.echo(f"{finished(optuna_study)} of {study.trials} trials; the same command resumes", err=True)
            raise typer.Exit(130)
        finalists = study.finalists(optuna_study)
        cells = {cell.hash: cell for values in finalists for cell in study.fresh_experiments(values).values()}
        with SweepProgress(len(cells)) as progress:
            fresh = SweepPlan(study.name, cells, {})
            summary = run_sweep(fresh, out, workers, callback=progress, stopped=stopped)
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
    before, best = float(tuned.search["default"]), float(tuned.search["again"])
    without = "as written" if tuned.kind == "algorithm" else "without an attack"
    task = f" in {tuned.task}" if tuned.task else ""
    typer.echo(
        f"tuned{task}: {tuned.objective['value']:.5g} in the search; on fresh seeds {best:.5g}, {without} {before:.5g}"
    )
    for kind, values in tuned.parameters.items():
        typer.echo(f"  {kind}: {', '.join(f'{key}={value}' for key, value in values.items())}")
