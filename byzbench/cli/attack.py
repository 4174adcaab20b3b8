"""Command `byzbench leaderboard attack`: tune an attack against a row of a leaderboard."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli import options


def attack(
    row: Annotated[str, typer.Argument(help="The slug of a row, or the folder of its submission.", metavar="ROW")],
    attacks: Annotated[
        list[str] | None, typer.Option(help="Names of the attacks to try; default: a dozen of the zoo.")
    ] = None,
    source: Annotated[
        Path, typer.Option("--from", help="The folder of the leaderboards, in which a slug is looked up.")
    ] = Path("leaderboards"),
    out: options.Out = Path("runs"),
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the study and run nothing.")] = False,
) -> None:
    """Tune an attack against a row, and run it on the suite's seeds as an entry of the track adaptive.

    The search has the budget of the suite's tuning, and seeds of its own; the same command resumes it.

    Exit 0: all cells finished. 1: a cell failed.

    Examples:
        byzbench leaderboard attack decbyzpg-tuned-3 --dry-run
        byzbench leaderboard attack nna-2 --attacks rop,ipm,freeze --dry-run
    """
    from byzbench.cli.entries import open_suite, run_entry
    from byzbench.cli.suite_tuning import run_suite_study, study_line
    from byzbench.errors import UserError
    from byzbench.leaderboard.attack_study import CANDIDATES, attack_study, plan_attack
    from byzbench.leaderboard.checks import submission_plan_of
    from byzbench.leaderboard.entries import find_entry, read_entry
    from byzbench.leaderboard.resolved import current_method, text_of
    from byzbench.records.tuned import TunedParameters
    from byzbench.sweeps.executors import make_executor

    entry = read_entry(find_entry(row, source / "submissions"))
    submission = entry.submission
    suite = open_suite(submission.suite)
    if submission.track != "defence" or not submission.replayable or submission.suite_sha256 != suite.sha256:
        raise UserError(f"{row} is no row of the track defence of {suite.name} that can be run again")
    plan = submission_plan_of(entry, suite)
    method = current_method(submission.method, submission.version).model_copy(update={"against": entry.slug})
    study = attack_study(plan, method, options.components(attacks) or CANDIDATES)
    if dry_run:
        typer.echo(study_line(study))
        return
    opened = partial(make_executor, executor, out, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    path = run_suite_study(study, out, opened())
    tuned = TunedParameters.read(path)
    text = text_of({"name": tuned.components["attack"], "parameters": tuned.parameters.get("attack", {})})
    run_entry(plan_attack(plan, method, text), out, opened(), tuned=[path])
