"""Functions that do what the commands of the same names do, with the same checks and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from byzbench.catalogue import summary
from byzbench.core import Categorical, Component, FloatRange
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.keywords import AxisKeywords, takes_axis_keywords
from byzbench.experiments.result import Result
from byzbench.experiments.runner import RoundCallback, run_experiment
from byzbench.records.store import ExecutorName, OnExisting, OnExistingRun, save_sweep
from byzbench.records.tuned import TunedParameters, TunedSide
from byzbench.registry import kind_of, origins, written_form
from byzbench.reports.breakdown import Breakdown, BreakdownTrial, find_breakdown
from byzbench.reports.labels import experiment_label
from byzbench.reports.progress import Progress, SweepProgress
from byzbench.reports.results import Results, load_results
from byzbench.reports.worst_case import (
    REPORTING,
    SELECTION,
    STANDARD_V1,
    WorstCaseResult,
    WorstCaseSearch,
    extend_ensemble,
)
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor, make_executor
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep
from byzbench.sweeps.sweep import run_sweep

if TYPE_CHECKING:  # searches import Optuna, which other functions do not need
    from byzbench.tuning.problem import TuningProblem

Parameters: TypeAlias = Mapping[str, Mapping[str, Any]]
"""Further parameters of components by kind: {"attack": {"z": 1.5}}."""
CellCallback: TypeAlias = Callable[[str, CellOutcome], None]
"""A function that is called with the label and the outcome of every cell that is over."""


@takes_axis_keywords()
def run(
    experiment: Experiment | None = None,
    *,
    out: str | Path = "runs",
    on_existing: OnExistingRun = "reuse",
    callback: RoundCallback | None = None,
    progress: bool = False,
    wait: bool = False,
    parameters: Parameters | None = None,
    **axes: Unpack[AxisKeywords],
) -> Result:
    """Train, or return the result of a finished run of the same experiment.

    An interrupted run is resumed, and ends with the same bytes as an uninterrupted one: see
    `byzbench.experiments.runner.run_experiment`.

    Args:
        experiment: The experiment; None: that of `axes` and `parameters`.
        out: The store, a folder of run folders.
        on_existing: `reuse` an existing run, or `rerun` from the start.
        callback: A function that is called with every line of metrics.
        progress: Show a progress bar, in a terminal or in a notebook.
        wait: Whether to wait for another process that writes the folder.
        parameters: Further parameters of components by kind.
        **axes: The axes of the experiment: algo, attack, topology, env, agents, seed and others.

    Returns:
        The result.

    Raises:
        UserError: A keyword or the folder is invalid; the message is one line.
        Busy: Another process is writing the folder.
        StorageError: The disk cannot be written; the same call resumes the run.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     result = run(algo="solo", agents=1, trajectories=4, out=out)
        >>> result.verdict.name, result.trajectories
        ('not_learning', 4)
    """
    if experiment is not None and (axes or parameters):
        given = ", ".join([*axes, *(["parameters"] if parameters else [])])
        raise InvalidParameter(f"give an experiment or its axes, not both: {given}")
    todo = Experiment.create(**axes, parameters=parameters) if experiment is None else experiment
    if not progress:
        return run_experiment(todo, out=out, on_existing=on_existing, callback=callback, wait=wait)
    with Progress(todo.trajectories, experiment_label(todo)) as bar:

        def show(line: Mapping[str, Any]) -> None:
            bar(line)
            if callback is not None:
                callback(line)

        return run_experiment(todo, out=out, on_existing=on_existing, callback=show, wait=wait)


def sweep(
    grid: SweepGrid | Mapping[str, Any] | str | Path,
    *,
    executor: ExecutorName | Executor = "process",
    jobs: int | None = None,
    out: str | Path = "runs",
    on_existing: OnExisting = "reuse",
    callback: CellCallback | None = None,
    progress: bool = False,
) -> Results:
    """Run every cell of a product of axes once; the same call resumes an interrupted sweep.

    Args:
        grid: A TOML file, or its content: axes with one value or a list of them, `seeds`, `parameters` and others, see
            `byzbench.sweeps.grid.SweepGrid`.
        executor: Where cells run, or an executor.
        jobs: The number of processes; None: one per core.
        out: The store, a folder.
        on_existing: What to do with cells that are finished or failed.
        callback: A function that is called with every cell that is over.
        progress: Show a progress bar, in a terminal or in a notebook.

    Returns:
        The results of the cells; `failed` has those that failed, and `problems` those whose process died.

    Raises:
        UserError: The grid is invalid; the message is one line.

    Example:
        >>> import tempfile
        >>> grid = {"algo": "solo", "agents": 1, "trajectories": 4, "seeds": 2}
        >>> with tempfile.TemporaryDirectory() as out:
        ...     results = sweep(grid, executor="serial", out=out)
        >>> len(results), results.failed
        (2, ())
    """
    plan, store = plan_sweep(_grid(grid)), Path(out)
    with (
        SweepProgress(len(plan.cells), quiet=not progress) as bar,
        _opened(executor, store, jobs, on_existing) as workers,
    ):

        def show(label: str, outcome: CellOutcome) -> None:
            bar(label, outcome)
            if callback is not None:
                callback(label, outcome)

        return _run_plan(plan, store, workers, on_existing, show)


@takes_axis_keywords(without=["seed"])
def tune(
    *,
    attacks: Sequence[str] = (),
    against: Sequence[str] = (),
    trials: int = 64,
    seeds: int = 3,
    search: Mapping[str, FloatRange | Categorical] | None = None,
    storage: str | Path | None = None,
    executor: ExecutorName | Executor = "process",
    jobs: int | None = None,
    out: str | Path = "runs",
    parameters: Parameters | None = None,
    **axes: Unpack[AxisKeywords],
) -> TunedParameters:
    """Tune an algorithm for the worst of several attacks, or an attack, with Optuna; the same call resumes.

    Args:
        attacks: The attacks to tune the algorithm against.
        against: The algorithms to tune the attack against, in place of `attacks`.
        trials: The number of trials of the study.
        seeds: The number of seeds of a trial for each opponent.
        search: A range or choice for each `kind.field`; None: those that the components declare.
        storage: An Optuna journal or URL; None for a file in the store.
        executor: Where cells run, or an executor.
        jobs: The number of processes; None: one per core.
        out: The store, a folder.
        parameters: Further parameters of components by kind, which are not searched.
        **axes: The axes of the experiment, with `algo` or `attack`.

    Returns:
        The tuned parameters; `parameters` has them by kind, and `write` makes the file that `--tuned` takes.

    Raises:
        UserError: The study is invalid; the message is one line.
    """
    from byzbench.tuning.problem import tuning_problem

    attacks, against = _listed("attacks", attacks), _listed("against", against)
    if bool(attacks) == bool(against):
        raise InvalidParameter("tune takes attacks=[...] to tune an algorithm, or against=[...] to tune an attack")
    kind: TunedSide = "algorithm" if attacks else "attack"
    side, opponent = ("algo", "attack") if attacks else ("attack", "algo")
    point = {"env": "cartpole", **{name: _written(value) for name, value in axes.items()}}
    if opponent in point or side not in point:
        raise InvalidParameter(f"to tune an {side}, name it, and name its opponents in place of {opponent}=")
    problem = tuning_problem(kind, point, attacks or against, seeds=seeds, search=search, fixed=parameters)
    with _opened(executor, Path(out), jobs) as workers:
        return _study(problem, trials, Path(out), workers, storage)


def evaluate(
    algo: str,
    suite: SweepGrid | Mapping[str, Any] | str | Path,
    *,
    attacks: Sequence[str] = (),
    trials: int = 32,
    tuning_seeds: int = 3,
    executor: ExecutorName | Executor = "process",
    jobs: int | None = None,
    out: str | Path = "runs",
    callback: CellCallback | None = None,
) -> Results:
    """Tune an algorithm, and run a suite on fresh seeds with its default and its tuned parameters.

    Args:
        algo: The algorithm.
        suite: The suite, as `sweep` takes it; the algorithm replaces those of the suite.
        attacks: Attacks to tune against, not in the suite; by default two of a list.
        trials: The number of tuning trials.
        tuning_seeds: The number of seeds of a trial for each attack.
        executor: Where cells run, or an executor.
        jobs: The number of processes; None: one per core.
        out: The store, a folder.
        callback: A function that is called with every cell of the suite that is over.

    Returns:
        The results of the suite, with both parameters.

    Raises:
        UserError: The suite or an attack is invalid; the message is one line.
    """
    from byzbench.tuning.evaluation import evaluation_plan, evaluation_suite, tuning_attacks, tuning_problems

    store, content = Path(out), evaluation_suite(_grid(suite), algo)
    with _opened(executor, store, jobs) as workers:
        files = []
        for problem in tuning_problems(content, tuning_attacks(content, _listed("attacks", attacks)), tuning_seeds):
            files.append(store / "studies" / f"tuned-{problem.name}.json")
            _study(problem, trials, store, workers).write(files[-1])
        plan = evaluation_plan(content, files)
        return _run_plan(plan, store, workers, "reuse", callback)


@takes_axis_keywords(without=["attack", "seed"])
def worst_case(
    *,
    selection: int = 3,
    reporting: int = 5,
    also: Sequence[str] = (),
    executor: ExecutorName | Executor = "process",
    jobs: int | None = None,
    out: str | Path = "runs",
    callback: CellCallback | None = None,
    parameters: Parameters | None = None,
    **axes: Unpack[AxisKeywords],
) -> WorstCaseResult:
    """Find the worst attack of a fixed ensemble, and report it on fresh seeds.

    Args:
        selection: The number of seeds on which the attack is chosen.
        reporting: The number of other seeds on which it is reported.
        also: Further attacks, beside those of the ensemble.
        executor: Where cells run, or an executor.
        jobs: The number of processes; None: one per core.
        out: The store, a folder.
        callback: A function that is called with every cell that is over.
        parameters: Further parameters of components by kind.
        **axes: The axes of the experiment.

    Returns:
        The worst attack with its report.

    Raises:
        UserError: The experiment is invalid, or a run failed; the message is one line.
    """
    search = WorstCaseSearch(
        {"trajectories": 3000, **axes},
        range(SELECTION, SELECTION + selection),
        range(REPORTING, REPORTING + reporting),
        parameters=parameters,
        ensemble=extend_ensemble(STANDARD_V1, _listed("also", also)),
    )
    with _opened(executor, Path(out), jobs) as workers:
        return search.run(Path(out), workers, callback)


@takes_axis_keywords(without=["byzantine", "seed"])
def breakdown(
    *,
    seeds: int | Sequence[int] = 5,
    most: int | None = None,
    executor: ExecutorName | Executor = "process",
    jobs: int | None = None,
    out: str | Path = "runs",
    callback: Callable[[int, BreakdownTrial], None] | None = None,
    parameters: Parameters | None = None,
    **axes: Unpack[AxisKeywords],
) -> Breakdown:
    """Find the largest number of Byzantine agents under which a method keeps 0.8 of its return, by bisection.

    Args:
        seeds: The number of seeds, or the seeds.
        most: The largest f to try; None for the largest minority.
        executor: Where cells run, or an executor.
        jobs: The number of processes; None: one per core.
        out: The store, a folder.
        callback: A function that is called with every f that was tried.
        parameters: Further parameters of components by kind.
        **axes: The axes of the experiment; the default attack is large_noise.

    Returns:
        The breakdown point with its interval.

    Raises:
        UserError: The experiment is invalid, or a run failed; the message is one line.
    """
    numbers = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    point = {"attack": "large_noise", **axes}
    with _opened(executor, Path(out), jobs) as workers:
        return find_breakdown(point, numbers, Path(out), workers, most=most, parameters=parameters, callback=callback)


def components(kind: str) -> dict[str, str]:
    """Return the components of a kind by name, each with its summary, without importing them.

    Args:
        kind: A kind, for example "attack", "aggregator", "algo" or "env".

    Raises:
        UnknownName: There is no such kind.

    Example:
        >>> components("coin")["split"]
        'Common strings whose last bits split the agents.'
    """
    return {name: summary(origin) for name, origin in origins(kind_of(kind)).items()}


@contextmanager
def _opened(
    executor: ExecutorName | Executor, out: Path, jobs: int | None, on_existing: OnExisting = "reuse"
) -> Iterator[Executor]:
    """Open an executor by name, and close it at the end; one that is passed in is left open."""
    if isinstance(executor, Executor):
        yield executor
    else:
        with make_executor(executor, out, on_existing, jobs=jobs) as opened:
            yield opened


def _listed(keyword: str, given: Sequence[str]) -> list[str]:
    """Return the names that a keyword lists; a name alone is a list of one.

    Raises:
        InvalidParameter: It lists something else.
    """
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidParameter(f"{keyword} must be a list of names, got {given!r}")
    return [*names]


def _grid(given: SweepGrid | Mapping[str, Any] | str | Path) -> SweepGrid:
    """Return a suite from a file or from its content."""
    if isinstance(given, str | Path):
        return SweepGrid.read(Path(given))
    if not isinstance(given, SweepGrid | Mapping):
        raise InvalidParameter(f"a grid is a TOML file, or its content as a dict, got {given!r}")
    return given if isinstance(given, SweepGrid) else SweepGrid.of(given)


def _run_plan(
    plan: SweepPlan, store: Path, workers: Executor, on_existing: OnExisting, callback: CellCallback | None
) -> Results:
    """Run the cells of a plan, and return their results."""
    saved = save_sweep(store, plan.name, plan.hash, [cell.hash for cell in plan.cells.values()])
    failed = run_sweep(plan, store, workers, on_existing=on_existing, callback=callback).failed
    results = load_results(saved)
    recorded = {run.hash for run in results.failed}
    lost = [f"{label}: {cell.error}" for label, cell in failed.items() if plan.cells[label].hash not in recorded]
    return replace(results, problems=(*results.problems, *lost), undefined=plan.undefined)


def _study(
    problem: TuningProblem, trials: int, store: Path, workers: Executor, storage: str | Path | None = None
) -> TunedParameters:
    """Run a study up to a number of trials, and return its best parameters."""
    from byzbench.tuning.search import best, open_study, run_study

    study = open_study(problem, storage or store / "studies" / f"{problem.hash}.journal")
    run_study(problem, study, workers, trials)
    return best(problem, study)


def _written(value: Any) -> Any:
    """Return a component as it is written, as studies keep it; any other value as it is."""
    return written_form(value) if isinstance(value, Component) else value
