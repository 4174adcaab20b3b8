"""Command `byzbench evaluate`: tune an algorithm, run a suite with its tuned parameters on fresh seeds, and report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from byzbench.cli import options
from byzbench.errors import InvalidParameter, UserError
from byzbench.reports.terminal import echo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from byzbench.sweeps.executors import Executor
    from byzbench.sweeps.grid import SweepGrid

CANDIDATES = ("ipm", "sign_flip", "large_noise", "avg_zero", "gaussian", "min_max", "min_sum", "alie(z=1.5)", "mimic")
"""Default attacks to tune against, in this order, without those that the suite has."""


def evaluate(
    algo: Annotated[str, typer.Option("--algo", "-a", help="The algorithm to tune and evaluate.")],
    suite: Annotated[Path, typer.Option(help="A TOML file of axes; --algo replaces its algorithms.", metavar="SUITE")],
    attacks: Annotated[
        list[str] | None, typer.Option(help="Attacks to tune against, not in the suite; default: two of a list.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Number of tuning trials.")] = 32,
    tuning_seeds: Annotated[int, typer.Option(min=3, help="Seeds of a trial for each attack.")] = 3,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    as_json: options.Json = False,
) -> None:
    """Tune an algorithm, run a suite on fresh seeds with its default and its tuned parameters, and report both.

    Examples:
        byzbench evaluate --algo decbyzpg --suite suite.toml
        byzbench evaluate --algo fed_ppo --suite suite.toml --attacks ipm,mimic
    """
    from byzbench.sweeps.executors import make_executor
    from byzbench.sweeps.grid import SweepGrid

    content = SweepGrid.read(suite)
    if content.tuned:
        raise UserError(f"{suite} has tuned parameters already; remove them, since an evaluation tunes its own")
    content = content.model_copy(update={"algo": [algo]})
    rivals = _rivals(content, options.components(attacks))
    opened = partial(make_executor, executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    files = [_tune(content, env, rivals, trials, tuning_seeds, out, opened(), as_json) for env in content.env]
    cells = _run(content, files, out, opened(), as_json)

    from byzbench.cli.report import report

    report([str(cells)], by=["attack", "algo"], form="json" if as_json else "table")


def _rivals(suite: SweepGrid, given: list[str] | None) -> list[str]:
    """Return the attacks to tune against.

    Args:
        suite: The suite to evaluate on.
        given: The attacks that the user names, if any.

    Raises:
        InvalidParameter: An attack is in the suite, with whatever parameters, or a seed of the suite is for tuning.
    """
    from byzbench.registry import parse_spec
    from byzbench.tuning.problem import FIRST_SEED

    suite_attacks = {parse_spec(attack).name for attack in suite.attack}
    rivals = given or [attack for attack in CANDIDATES if parse_spec(attack).name not in suite_attacks][:2]
    shared = sorted({parse_spec(attack).name for attack in rivals} & suite_attacks)
    if shared:
        raise InvalidParameter(f"--attacks must not be in the suite, which has {', '.join(shared)}")
    if any(seed >= FIRST_SEED for seed in suite.seeds):
        raise InvalidParameter(f"the seeds of a suite must be below {FIRST_SEED}; larger ones are for tuning")
    return rivals


def _tune(
    suite: SweepGrid,
    env: str,
    rivals: list[str],
    trials: int,
    seeds: int,
    out: Path,
    opened: AbstractContextManager[Executor],
    quiet: bool,
) -> Path:
    """Tune for one task, with the first value of each other axis of the suite.

    Args:
        suite: The suite.
        env: The task.
        rivals: The attacks to tune against.
        trials: The number of trials.
        seeds: The number of seeds of a trial for each attack.
        out: The folder of the store.
        opened: A context manager of the executor.
        quiet: Print no progress.

    Returns:
        The file of the tuned parameters.
    """
    from byzbench.cli.tune import study
    from byzbench.registry import kind_of
    from byzbench.tuning.problem import tuning_problem

    first = {axis: values[0] for axis, values in suite.axes().items() if axis != "attack"}
    fixed = {kind: values for kind, values in suite.parameters.items() if kind_of(kind) != "attack"}
    problem = tuning_problem("algorithm", {**first, "env": env}, rivals, seeds=seeds, fixed=fixed)
    return study(problem, trials, out, None, None, opened, quiet)[1]


def _run(suite: SweepGrid, files: list[Path], out: Path, opened: AbstractContextManager[Executor], quiet: bool) -> Path:
    """Run the suite with the default and with the tuned parameters.

    Args:
        suite: The suite.
        files: The file of tuned parameters of each task.
        out: The folder of the store.
        opened: A context manager of the executor.
        quiet: Print no progress.

    Returns:
        The file that lists all cells.

    Raises:
        typer.Exit: A cell failed, or the user interrupted the runs.
    """
    from byzbench.cli.progress import SweepProgress
    from byzbench.cli.sweep import interruptible
    from byzbench.records.store import save_sweep
    from byzbench.sweeps.grid import SweepPlan, plan_sweep
    from byzbench.sweeps.sweep import run_sweep

    default_plan = plan_sweep(suite)
    for label, reason in default_plan.undefined.items():
        echo(f"undefined: {label}: {reason}", err=True)
    cells = {f"default · {label}": cell for label, cell in default_plan.cells.items()}
    for env, file in zip(suite.env, files, strict=True):
        tuned_plan = plan_sweep(suite.model_copy(update={"env": [env], "tuned": [str(file)]}))
        # Tuned and default cells are equal where tuning found nothing better.
        known = {cell.hash for cell in cells.values()}
        cells |= {f"tuned · {label}": cell for label, cell in tuned_plan.cells.items() if cell.hash not in known}
    combined = SweepPlan(f"evaluate-{suite.name}", cells, {})
    saved = save_sweep(out, combined.name, combined.hash, [cell.hash for cell in cells.values()])
    with SweepProgress(len(cells), quiet) as progress, interruptible() as stopped, opened as executor:
        summary = run_sweep(combined, out, executor, callback=progress, stopped=stopped)
    for label, outcome in summary.failed.items():
        echo(f"failed: {label}: {outcome.error}", err=True)
    if summary.failed or summary.remaining:
        raise typer.Exit(1 if summary.failed else 130)
    return saved
