"""Command `byzbench tune`: tune the parameters of an algorithm or of an attack."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.errors import InvalidParameter, UserError
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.core import Categorical, FloatRange
    from byzbench.sweeps.executors import Executor
    from byzbench.tuning.problem import TuningProblem


@takes_axes(
    without=["seed"],
    defaults={"env": "cartpole"},
    texts={"algo": "Algorithm to tune, with its rules.", "attack": "Attack to tune instead."},
)
def tune(
    point: Point,
    attacks: Annotated[list[str] | None, typer.Option(help="Attacks to tune the algorithm against.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="Algorithms to tune the attack against.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of trials of the study.")] = 64,
    seeds: Annotated[int, typer.Option(min=3, help="Seeds of a trial for each opponent.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampler.")] = 0,
    search: Annotated[
        list[str] | None,
        typer.Option(help="A search range, kind.key=LOW..HIGH, LOW..HIGH:log or A|B|C, instead of the default ones."),
    ] = None,
    parameter: options.Parameter = None,
    storage: Annotated[
        str | None, typer.Option(help="Journal file or Optuna URL; default: a file in the store.", metavar="WHERE")
    ] = None,
    out: options.Out = Path("runs"),
    file: Annotated[Path | None, typer.Option(help="File for the best parameters.", metavar="FILE")] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Tune an algorithm for the worst of several attacks, or an attack, with Optuna; the same command resumes.

    Examples:
        byzbench tune --algo decbyzpg --attacks ipm,large_noise --trials 64
        byzbench tune --attack alie --against decbyzpg --search attack.z=0.1..3
    """
    from byzbench.sweeps.executors import make_executor
    from byzbench.tuning.problem import tuning_problem

    algo = "algo" in point
    if algo == ("attack" in point):
        raise UserError(
            "give --algo NAME --attacks A,B to tune an algorithm, or --attack NAME --against A,B for an attack"
        )
    opponents = options.components(attacks if algo else against)
    if not opponents or (against if algo else attacks):
        side, needed = ("--algo NAME", "--attacks A,B") if algo else ("--attack NAME", "--against A,B")
        raise UserError(f"{side} needs {needed}: the opponents to tune against")
    problem = tuning_problem(
        "algorithm" if algo else "attack",
        point,
        opponents,
        seeds=seeds,
        search=dict(map(_range, search or [])),
        fixed=options.parameters(parameter or []),
        sampler_seed=seed,
    )
    opened = make_executor(executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    tuned, path = study(problem, trials, out, storage, file, opened, quiet=as_json)
    if as_json:
        write_json({"file": str(path), **tuned.model_dump(by_alias=True)})


def study(
    asked: TuningProblem,
    trials: int,
    out: Path,
    storage: str | None,
    file: Path | None,
    opened: AbstractContextManager[Executor],
    quiet: bool,
) -> tuple[Any, Path]:
    """Run a study to its end, print it, and write its best parameters and its plots.

    Args:
        asked: The tuning problem.
        trials: The number of trials.
        out: The folder of the store.
        storage: A journal file or an Optuna URL; None for a file in the store.
        file: The file for the best parameters; None for one in the store.
        opened: A context manager of the executor.
        quiet: Print nothing.

    Returns:
        The tuned parameters and their file.

    Raises:
        typer.Exit: The user interrupted the study.
    """
    from byzbench.cli.sweep import interruptible
    from byzbench.reports.studies import pictures
    from byzbench.tuning.search import best, finished, open_study
    from byzbench.tuning.search import run_study as run_study

    home = out / "studies"
    location = storage or str(home / f"{asked.hash}.journal")
    optuna_study = open_study(asked, location)

    if not quiet:
        echo(f"study {asked.name} in {location}: {finished(optuna_study)} of {trials} trials finished", err=True)
        echo(f"{len(asked.pairs)} runs per trial; tuned: {', '.join(asked.space)}", err=True)
    with (
        trials_progress(optuna_study, trials, len(asked.pairs), quiet) as print_trial,
        interruptible("the current runs of the trials") as stopped,
        opened as workers,
    ):
        run_study(asked, optuna_study, workers, trials, callback=print_trial, stopped=stopped)
    if finished(optuna_study) < trials:
        typer.echo(f"{finished(optuna_study)} of {trials} trials; the same command resumes", err=True)
        raise typer.Exit(130)
    tuned = best(asked, optuna_study)
    path = file or home / f"tuned-{asked.name}.json"
    tuned.write(path)
    figures = pictures(optuna_study, home / asked.hash)
    if not quiet:
        _print_study(asked, optuna_study, tuned, path, figures, location)
    return tuned, path


@contextmanager
def trials_progress(optuna_study: Any, trials: int, runs: int, quiet: bool = False) -> Iterator[Callable[[Any], None]]:
    """Show the progress of a study, and yield a function that is called with every trial that is over.

    Args:
        optuna_study: The study.
        trials: The number of trials of the study.
        runs: The number of runs of a trial that is not pruned.
        quiet: Print nothing.
    """
    from byzbench.reports.progress import StepsProgress
    from byzbench.tuning.search import finished

    with StepsProgress(trials, done=finished(optuna_study), quiet=quiet) as progress:
        yield lambda trial: progress(trial_line(trial, finished(optuna_study), trials, runs))


def trial_line(trial: Any, done: int, trials: int, runs: int) -> str:
    """Return one line about a trial that is over: its value or why it has none, and its parameters.

    Args:
        trial: The trial.
        done: The number of trials that are over.
        trials: The number of trials of the study.
        runs: The number of runs of a trial that is not pruned.
    """
    result = trial.user_attrs.get("refused", "")
    if not result and trial.state.name == "PRUNED":
        result = f"pruned after {len(trial.intermediate_values)} of {runs} runs"
        if failure := trial.user_attrs.get("failure"):
            result += f", as one failed: {failure}"
    result = result or f"{trial.value:.5g}"
    values = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
    return f"trial {trial.number}, {done}/{trials}: {result}  {values}"


def _print_study(
    problem: TuningProblem, optuna_study: Any, tuned: Any, path: Path, figures: list[Path], location: str
) -> None:
    first = optuna_study.trials[0]
    default_value = "" if first.value is None else f"; with the defaults {first.value:.1f}"
    typer.echo(f"best of {tuned.objective['trials']} trials: {tuned.objective['value']:.1f}{default_value}")
    for kind, values in tuned.parameters.items():
        for key, value in values.items():
            typer.echo(f"  {kind}.{key} = {value}")
    flag = "algo" if problem.side == "algorithm" else "attack"
    typer.echo(f"saved: {path}   use: byzbench run --{flag} {tuned.components[problem.side]} --tuned {path}")
    for picture in figures:
        typer.echo(f"figure: {picture}")
    typer.echo(f"inspect: optuna-dashboard {location}")


def _range(text: str) -> tuple[str, FloatRange | Categorical]:
    """Parse the search range of a parameter, `kind.key=LOW..HIGH[:log]` or `kind.key=A|B|C`.

    Raises:
        InvalidParameter: The text does not have that form.

    Example:
        >>> _range("attack.z=0.1..3:log")[0]
        'attack.z'
    """
    from byzbench.core import Categorical, FloatRange
    from byzbench.registry import kind_of, literal

    path, sign, written_range = text.partition("=")
    kind, dot, key = path.strip().partition(".")
    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    if sign and dot and key:
        name = f"{kind_of(kind)}.{key}"
        if "|" in written_range:
            return name, Categorical(*map(literal, written_range.split("|")))
        if match := re.fullmatch(rf"\s*({number})\.\.({number})(:log)?\s*", written_range):
            low, high = float(match[1].rstrip(".")), float(match[2])
            if low < high and (low > 0 or not match[3]):
                return name, FloatRange(low, high, bool(match[3]))
    raise InvalidParameter(f"--search takes kind.key=LOW..HIGH, LOW..HIGH:log or A|B|C with LOW < HIGH; got {text!r}")
