"""`byzbench tune`: search the parameters of an algorithm, or of an attack."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.errors import InvalidParameter, UserError

if TYPE_CHECKING:
    from byzbench.contracts import Choice, Range
    from byzbench.experiments.question import Question


def tune(
    algo: Annotated[str | None, typer.Option("--algo", "-a", help="Search its parameters, and its rules'.")] = None,
    attacks: Annotated[list[str] | None, typer.Option(help="The attacks that it is tuned against.")] = None,
    attack: Annotated[str | None, typer.Option("--attack", "-x", help="Search an attack's parameters instead.")] = None,
    against: Annotated[list[str] | None, typer.Option(help="The algorithms that it is tuned against.")] = None,
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="Graph; default: the algorithm's.")] = None,
    env: Annotated[str, typer.Option("--env", "-e", help="Task.")] = "cartpole",
    aggregator: Annotated[str | None, typer.Option(help="Rule for gradients; default: the algorithm's.")] = None,
    agreement: Annotated[str | None, typer.Option(help="Protocol for parameters; default: the algorithm's.")] = None,
    agents: options.Agents = None,
    byzantine: options.Byzantine = None,
    trajectories: options.Trajectories = None,
    trials: Annotated[int, typer.Option(min=1, help="How many trials the study shall have.")] = 64,
    seeds: Annotated[int, typer.Option(min=3, help="Runs of a trial against each rival.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    search: Annotated[
        list[str] | None,
        typer.Option(help="kind.key=LOW..HIGH, LOW..HIGH:log, or A|B|C: search this, and only what is named so."),
    ] = None,
    parameter: options.Parameter = None,
    storage: Annotated[
        str | None, typer.Option(help="A journal file, or any Optuna URL; default: in the store.", metavar="WHERE")
    ] = None,
    out: options.Out = Path("runs"),
    file: Annotated[Path | None, typer.Option(help="Where the best parameters go.", metavar="FILE")] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """Search parameters with Optuna: an algorithm's for the worst of several attacks, or an attack's. It resumes."""
    from byzbench.experiments.question import question

    if (algo is None) == (attack is None):
        raise UserError("give --algo NAME --attacks a,b to tune an algorithm, or --attack NAME --against a,b an attack")
    rivals = options.components(attacks if algo else against)
    if not rivals or (against if algo else attacks):
        raise UserError("--algo is tuned against --attacks" if algo else "--attack is tuned --against algorithms")
    given = {
        "algo": algo,
        "attack": attack,
        "topology": topology,
        "env": env,
        "aggregator": aggregator,
        "agreement": agreement,
        "agents": agents,
        "byzantine": byzantine,
        "trajectories": trajectories,
    }
    asked = question(
        "algorithm" if algo else "attack",
        {flag: value for flag, value in given.items() if value is not None},
        rivals,
        seeds=seeds,
        search=dict(map(_range, search or [])),
        fixed=options.parameters(parameter or []),
        sampler_seed=seed,
    )
    tuned, path = study(asked, trials, out, storage, file, executor, jobs, ray_address, quiet=as_json)
    if as_json:
        import json

        typer.echo(json.dumps({"file": str(path), **tuned.model_dump(by_alias=True)}))


def study(
    asked: Question,
    trials: int,
    out: Path,
    storage: str | None,
    file: Path | None,
    executor: Any,
    jobs: int | None,
    ray_address: str | None,
    quiet: bool,
) -> tuple[Any, Path]:
    """Run a study to its end, show it, and write what it found: the best parameters, and where they are."""
    from byzbench.cli.sweep import interruptible
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.experiments.tuning import best, finished, open_study
    from byzbench.experiments.tuning import tune as run_study
    from byzbench.reports.studies import pictures

    home = out / "studies"
    where = storage or str(home / f"{asked.hash}.journal")
    found = open_study(asked, where)

    def watch(trial: Any) -> None:
        if not quiet:
            typer.echo(trial_line(trial, finished(found), trials, len(asked.pairs)), err=True)

    if not quiet:
        typer.echo(f"study {asked.name} in {where}: {finished(found)} of {trials} trials there", err=True)
        typer.echo(f"{len(asked.pairs)} runs a trial; searched: {', '.join(asked.space)}", err=True)
    with (
        interruptible("the trials' present runs") as stopped,
        open_executor(executor, out, jobs=jobs, ray_address=ray_address) as workers,
    ):
        run_study(asked, found, workers, trials, watch=watch, stopped=stopped)
    if finished(found) < trials:
        typer.echo(f"{finished(found)} of {trials} trials; the same command goes on", err=True)
        raise typer.Exit(130)
    tuned = best(asked, found)
    path = file or home / f"tuned-{asked.name}.json"
    tuned.write(path)
    drawn = pictures(found, home / asked.hash)
    if not quiet:
        _tell(asked, found, tuned, path, drawn, where)
    return tuned, path


def trial_line(trial: Any, done: int, trials: int, runs: int) -> str:
    """Return a trial that is over in one line: its value or why it has none, and its parameters.

    Args:
        trial: of a study.
        done: how many trials are over.
        trials: how many there will be.
        runs: of a whole trial.
    """
    said = trial.user_attrs.get("refused", "")
    if not said and trial.state.name == "PRUNED":
        said = f"pruned after {len(trial.intermediate_values)} of {runs} runs"
    said = said or f"{trial.value:.1f}"
    values = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in trial.params.items())
    return f"trial {trial.number}, {done}/{trials}: {said}  {values}"


def _tell(asked: Question, found: Any, tuned: Any, path: Path, drawn: list[Path], where: str) -> None:
    first = found.trials[0]
    start = "" if first.value is None else f"; without a search {first.value:.1f}"
    typer.echo(f"best of {tuned.objective['trials']} trials: {tuned.objective['value']:.1f}{start}")
    for kind, values in tuned.parameters.items():
        for key, value in values.items():
            typer.echo(f"  {kind}.{key} = {value}")
    flag = "algo" if asked.side == "algorithm" else "attack"
    typer.echo(f"saved: {path}   use: byzbench run --{flag} {tuned.components[asked.side]} --tuned {path}")
    for picture in drawn:
        typer.echo(f"picture: {picture}")
    typer.echo(f"look closer: optuna-dashboard {where}")


def _range(text: str) -> tuple[str, Range | Choice]:
    """`kind.key=LOW..HIGH[:log]` or `kind.key=A|B|C`."""
    from byzbench.contracts import Choice, Range
    from byzbench.registry import kind_of, literal

    path, sign, where = text.partition("=")
    kind, dot, key = path.strip().partition(".")
    number = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
    if sign and dot and key:
        name = f"{kind_of(kind)}.{key}"
        if "|" in where:
            return name, Choice(*map(literal, where.split("|")))
        if read := re.fullmatch(rf"\s*({number})\.\.({number})(:log)?\s*", where):
            low, high = float(read[1].rstrip(".")), float(read[2])
            if low < high and (low > 0 or not read[3]):
                return name, Range(low, high, bool(read[3]))
    raise InvalidParameter(f"--search takes kind.key=LOW..HIGH, LOW..HIGH:log or A|B|C with LOW < HIGH; got {text!r}")
