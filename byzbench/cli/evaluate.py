"""`byzbench evaluate`: tune, freeze, run a suite on fresh seeds, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.errors import InvalidParameter, UserError

if TYPE_CHECKING:
    from byzbench.experiments.suite import Suite

CANDIDATES = ("ipm", "sign_flip", "large_noise", "avg_zero", "gaussian", "min_max", "min_sum", "alie(z=1.5)", "mimic")
"""Attacks to tune against, in this order, where the user names none: those that the suite does not hold."""


def evaluate(
    algo: Annotated[str, typer.Option("--algo", "-a", help="The algorithm to tune and to evaluate.")],
    suite: Annotated[Path, typer.Option(help="A TOML file of axes; its algorithms are replaced.", metavar="SUITE")],
    attacks: Annotated[
        list[str] | None, typer.Option(help="Attacks to tune against; none of the suite's. Default: two others.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="The tuning budget, in trials.")] = 32,
    tuning_seeds: Annotated[int, typer.Option(min=3, help="Runs of a trial against each attack.")] = 3,
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    as_json: options.Json = False,
) -> None:
    """Tune an algorithm under a budget, freeze what was found, run a suite on fresh seeds, and report both."""
    from byzbench.experiments.suite import Suite

    asked = Suite.read(suite)
    if asked.tuned:
        raise UserError(f"{suite} names tuned parameters already; an evaluation finds its own")
    asked = asked.model_copy(update={"algo": [algo]})
    rivals = _rivals(asked, options.components(attacks))
    workers: dict[str, Any] = {"executor": executor, "jobs": jobs, "ray_address": ray_address}
    files = [_tune(asked, env, rivals, trials, tuning_seeds, out, workers, as_json) for env in asked.env]
    cells = _run(asked, files, out, workers, as_json)

    from byzbench.cli.report import report

    report([str(cells)], by=["attack", "algo"], form="json" if as_json else "table")


def _rivals(suite: Suite, given: list[str] | None) -> list[str]:
    """The attacks to tune against; none of them, whatever its parameters, is in the suite, whose seeds are others."""
    from byzbench.experiments.question import FIRST_SEED
    from byzbench.registry import parse

    held = {parse(attack).name for attack in suite.attack}
    rivals = given or [attack for attack in CANDIDATES if parse(attack).name not in held][:2]
    seen = sorted({parse(attack).name for attack in rivals} & held)
    if seen:
        raise InvalidParameter(f"--attacks are tuned against, and the suite evaluates on {', '.join(seen)} too")
    if any(seed >= FIRST_SEED for seed in suite.seeds):
        raise InvalidParameter(f"seeds from {FIRST_SEED} on are for tuning, and the suite has one of them")
    return rivals


def _tune(
    suite: Suite, env: str, rivals: list[str], trials: int, seeds: int, out: Path, workers: dict[str, Any], quiet: bool
) -> Path:
    """The file of the parameters tuned for one task, on the first of each of the suite's other axes."""
    from byzbench.cli.tune import study
    from byzbench.experiments.question import question
    from byzbench.registry import kind_of

    first = {axis: values[0] for axis, values in suite.axes().items() if axis != "attack"}
    fixed = {kind: values for kind, values in suite.parameters.items() if kind_of(kind) != "attack"}
    asked = question("algorithm", {**first, "env": env}, rivals, seeds=seeds, fixed=fixed)
    return study(asked, trials, out, None, None, **workers, quiet=quiet)[1]


def _run(suite: Suite, files: list[Path], out: Path, workers: dict[str, Any], quiet: bool) -> Path:
    """Run the suite with what stands without a search and with what was tuned; the file of all of its cells."""
    from byzbench.cli.progress import SweepProgress
    from byzbench.cli.sweep import interruptible
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.experiments.store import save_sweep
    from byzbench.experiments.suite import Plan, plan
    from byzbench.experiments.sweep import sweep

    whole = plan(suite)
    for label, why in whole.undefined.items():
        typer.echo(f"undefined: {label}: {why}", err=True)
    cells = {f"default · {label}": cell for label, cell in whole.cells.items()}
    for env, file in zip(suite.env, files, strict=True):
        frozen = plan(suite.model_copy(update={"env": [env], "tuned": [str(file)]}))
        there = {cell.hash for cell in cells.values()}  # where nothing better was found, both are the same
        cells |= {f"tuned · {label}": cell for label, cell in frozen.cells.items() if cell.hash not in there}
    both = Plan(f"evaluate-{suite.name}", cells, {})
    saved = save_sweep(out, both.name, both.hash, [cell.hash for cell in cells.values()])
    options_ = {"jobs": workers["jobs"], "ray_address": workers["ray_address"]}
    with (
        SweepProgress(len(cells), quiet) as progress,
        interruptible() as stopped,
        open_executor(workers["executor"], out, **options_) as chosen,
    ):
        summary = sweep(both, out, chosen, watch=progress, stopped=stopped)
    for label, outcome in summary.failed.items():
        typer.echo(f"failed: {label}: {outcome.error}", err=True)
    if summary.failed or summary.left:
        raise typer.Exit(1 if summary.failed else 130)
    return saved
