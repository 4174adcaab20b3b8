"""Running a study: its cells as resumable sweeps, then what is measured of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.experiment import Experiment
from byzbench.identity import ENGINE
from byzbench.reproduce.catalog import find_study
from byzbench.reproduce.study import MeasuredRow, Options, Study, StudyResult
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

RunPlan: TypeAlias = Callable[[SweepPlan], int]
"""Function that runs the cells of a plan that the store lacks, and returns the number of failed ones."""
Setting: TypeAlias = tuple[str, int]
"""A row and the position of a candidate in it."""


def reproduce_study(
    study: Study | str, out: str | Path = "runs", *, seeds: int | None = None, run_plan: RunPlan | None = None
) -> StudyResult:
    """Run a study and measure its runs. Runs that the store has are not repeated.

    Args:
        study: The study, or its name.
        out: The folder of the store.
        seeds: The number of seeds of each row; None for the usual ones.
        run_plan: How cells run; by default one after the other in this process.

    Returns:
        What was measured.

    Raises:
        UnknownName: There is no study of that name.
        UserError: A run failed.
    """
    store, chosen_study = Path(out), find_study(study) if isinstance(study, str) else study
    if seeds is not None and seeds < 1:
        raise InvalidParameter(f"a study needs at least one seed, got {seeds}")
    run_cells = run_plan or (lambda plan: _run_here(plan, store))
    chosen = _search(chosen_study, store, run_cells)
    rows = chosen_study.rows()
    numbers = {row: chosen_study.seeds(chosen_study.num_seeds_of(row) if seeds is None else seeds) for row in rows}
    settings = {(row, place): rows[row][place] for row, place in chosen.items()}
    measured = _measure(chosen_study, settings, numbers, store, run_cells)
    measured_rows = {
        row: MeasuredRow(settings[row, place], numbers[row], measured[row, place], len(rows[row]))
        for row, place in chosen.items()
    }
    return StudyResult(chosen_study.name, ENGINE, measured_rows)


def _search(study: Study, out: Path, run_plan: RunPlan) -> dict[str, int]:
    """Return the position of the chosen candidate of each row; only rows with several candidates are searched."""
    rows = study.rows()
    best = dict.fromkeys(rows, 0)
    searched = {row: several for row, several in rows.items() if len(several) > 1 and study.choice_of(row) == row}
    settings = {(row, place): options for row, several in searched.items() for place, options in enumerate(several)}
    measured = _measure(study, settings, dict.fromkeys(rows, study.search_seeds), out, run_plan)
    for row, candidates in searched.items():
        scores = [study.score(measured[row, place]) for place in range(len(candidates))]
        best[row] = scores.index(max(scores))
    return {row: best[study.choice_of(row)] for row in rows}


def _measure(
    study: Study, settings: Mapping[Setting, Options], seeds: Mapping[str, Sequence[int]], out: Path, run_plan: RunPlan
) -> dict[Setting, list[Any]]:
    """Run settings on the seeds of their rows, and return what is measured of each, in the order of the seeds."""
    cells = {
        ((row, place), seed): Experiment.create(**options, seed=seed)
        for (row, place), options in settings.items()
        for seed in seeds[row]
    }
    labels: dict[str, Experiment] = {}
    hashes: set[str] = set()
    for ((row, place), seed), cell in cells.items():  # two rows may share runs
        if cell.hash not in hashes:
            hashes.add(cell.hash)
            labels[f"{row} · setting {place} · seed {seed}"] = cell
    if labels and (failed := run_plan(SweepPlan(study.name, labels, {}))):
        raise UserError(f"{study.name}: {failed} of {len(labels)} runs failed; nothing was written")
    return {
        setting: [study.measure(out / cells[setting, seed].hash) for seed in seeds[setting[0]]] for setting in settings
    }


def _run_here(plan: SweepPlan, out: Path) -> int:
    with make_executor("serial", out) as workers:
        return len(run_sweep(plan, out, workers).failed)
