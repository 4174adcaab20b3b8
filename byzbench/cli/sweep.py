"""`byzbench sweep`: cross the axes, and run every cell once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.suite import Plan, Suite
    from byzbench.experiments.sweep import State, Summary

_SHOWN = 20

Axis = list[str] | None


def sweep(
    suite: Annotated[
        Path | None, typer.Argument(help="A TOML file of axes; flags replace what it says.", metavar="[SUITE.toml]")
    ] = None,
    algo: Annotated[Axis, typer.Option("--algo", "-a", help=f"Algorithms; {options.AXIS}.")] = None,
    attack: Annotated[Axis, typer.Option("--attack", "-x", help="Attacks.")] = None,
    topology: Annotated[Axis, typer.Option("--topology", "-t", help="Graphs.")] = None,
    env: Annotated[Axis, typer.Option("--env", "-e", help="Tasks.")] = None,
    aggregator: Annotated[Axis, typer.Option(help="Rules for gradients.")] = None,
    agreement: Annotated[Axis, typer.Option(help="Protocols for parameters.")] = None,
    placement: Annotated[Axis, typer.Option(help="Where the liars sit.")] = None,
    channel: Annotated[Axis, typer.Option(help="What becomes of messages.")] = None,
    preset: Annotated[Axis, typer.Option(help="recommended, paper, official.")] = None,
    agents: Annotated[Axis, typer.Option(help="K.")] = None,
    byzantine: Annotated[Axis, typer.Option(help="f.")] = None,
    trajectories: Annotated[Axis, typer.Option(help="Budget of episodes per agent; default: the task's.")] = None,
    evaluations: Annotated[Axis, typer.Option(help="Evaluations over the budget.")] = None,
    evaluation_episodes: Annotated[Axis, typer.Option(help="Episodes of each agent in an evaluation.")] = None,
    seeds: Annotated[str | None, typer.Option(help="How many seeds (5), or which (0,3,7).")] = None,
    parameter: options.Parameter = None,
    tuned: options.Tuned = None,
    out: options.Store = "runs",
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    on_existing: Annotated[
        Literal["reuse", "retry-failed", "rerun"], typer.Option(help="What to do with cells that were run before.")
    ] = "reuse",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, and run nothing.")] = False,
    wandb: options.Wandb = "off",
    as_json: options.Json = False,
) -> None:
    """Run every cell of a product of axes. Interrupted? The same command goes on. Exit 1 if a cell failed."""
    from byzbench.experiments.mirror import opened
    from byzbench.experiments.suite import plan

    given = {
        "algo": options.components(algo),
        "attack": options.components(attack),
        "topology": options.components(topology),
        "env": options.components(env),
        "aggregator": options.components(aggregator),
        "agreement": options.components(agreement),
        "placement": options.components(placement),
        "channel": options.components(channel),
        "preset": options.components(preset),
        "agents": options.numbers("agents", agents),
        "byzantine": options.numbers("byzantine", byzantine),
        "trajectories": options.numbers("trajectories", trajectories),
        "evaluations": options.numbers("evaluations", evaluations),
        "evaluation_episodes": options.numbers("evaluation-episodes", evaluation_episodes),
        "seeds": options.seed_list(None, seeds) if seeds else None,
    }
    todo = plan(_suite(suite, given, options.parameters(parameter or []), [str(t) for t in tuned or []]))
    with opened(out) as store:
        store.pull(cell.hash for cell in todo.cells.values())
        waiting = _preflight(todo, store.path, on_existing, quiet=as_json)
        if dry_run:
            return
        from byzbench.cli.progress import SweepProgress
        from byzbench.cli.sync import draw
        from byzbench.experiments.executors import executor as open_executor
        from byzbench.experiments.store import save_sweep
        from byzbench.experiments.sweep import sweep as run_sweep
        from byzbench.experiments.tracking import Tracker

        saved = save_sweep(store.path, todo.name, todo.hash, [cell.hash for cell in todo.cells.values()])
        tracker = Tracker(wandb, group=f"sweep-{todo.hash}")
        with SweepProgress(len(todo.cells), quiet=as_json) as progress, interruptible() as stopped:

            def watch(label: str, outcome: Any) -> None:
                progress(label, outcome)
                if not outcome.reused:
                    store.push(store.path / todo.cells[label].hash)
                if outcome.status == "finished" and wandb != "off":
                    draw(store.path / todo.cells[label].hash)
                    tracker.show(store.path / todo.cells[label].hash)

            with open_executor(executor, store.path, on_existing, jobs=jobs, ray_address=ray_address) as workers:
                summary = run_sweep(
                    todo,
                    store.path,
                    workers,
                    on_existing=on_existing,
                    earlier=waiting,
                    watch=watch,
                    stopped=stopped,
                )
        store.push_file(saved)
    _report(todo, summary, store.path, as_json)


def _suite(path: Path | None, axes: dict[str, Any], parameters: dict[str, Any], tuned: list[str]) -> Suite:
    """The suite of a file, if there is one, with what flags replace."""
    from byzbench.errors import UserError
    from byzbench.experiments.suite import Suite

    base = Suite.read(path).model_dump(exclude_unset=True) if path else {}
    values = {**base, **{k: v for k, v in axes.items() if v is not None}}
    if not values:
        raise UserError("give a suite (a TOML file) or axes, for example --algo decbyzpg,dec_page_pg --seeds 3")
    replaced = {axis for axis, value in axes.items() if value is not None}
    values["exclude"] = [entry for entry in values.get("exclude", []) if not replaced & set(entry)]
    merged = Suite.of({"parameters": values.get("parameters", {})}).parameters
    for kind, own in parameters.items():
        merged[kind] = {**merged.get(kind, {}), **own}
    return Suite.of({**values, "parameters": merged, "tuned": [*values.get("tuned", []), *tuned]})


def _preflight(todo: Plan, out: Path, on_existing: Any, quiet: bool) -> list[Any]:
    """Print the plan; the runs by which its length was judged."""
    from collections import Counter

    from byzbench.experiments.cells import stored
    from byzbench.experiments.records import RunFolder
    from byzbench.experiments.store import scan
    from byzbench.experiments.sweep import seconds_expected, standing

    earlier, problems = scan(out)
    states = standing(todo, out, on_existing)
    if quiet:
        return earlier
    counts = Counter(states.values())
    parts = [f"{counts[state]} {word}" for state, word in _WORDS.items() if counts[state]]
    typer.echo(f"{len(todo.cells)} cells: {', '.join(parts) or 'none'}", err=True)
    for label, why in list(todo.undefined.items())[:_SHOWN]:
        typer.echo(f"undefined: {label}: {why}", err=True)
    if len(todo.undefined) > _SHOWN:
        typer.echo(f"undefined: {len(todo.undefined) - _SHOWN} more", err=True)
    for label, state in states.items():
        if state == "failed":
            typer.echo(f"failed before: {label} (--on-existing retry-failed tries again)", err=True)
    for problem in problems:
        typer.echo(f"not trusted: {problem}", err=True)
    outdated = [todo.cells[label] for label, state in states.items() if state == "outdated"]
    reasons = Counter(why for cell in outdated for why in stored(RunFolder(out / cell.hash), cell) or ())
    for why, count in reasons.most_common(_SHOWN):
        typer.echo(f"outdated: {count} stored run{'s' * (count != 1)}, which will be archived: {why}", err=True)
    left = [todo.cells[label] for label, state in states.items() if state in ("new", "outdated", "unfinished")]
    if left:
        expected = [seconds_expected(cell, earlier) for cell in left]
        judged = [s for s in expected if s is not None]
        if len(judged) == len(left):
            typer.echo(f"about {_duration(sum(judged))} of one core's time, by earlier runs of the same kind", err=True)
        else:
            typer.echo(f"time unknown: no earlier runs like {len(left) - len(judged)} of these cells here", err=True)
    return earlier


_WORDS: dict[State, str] = {
    "finished": "cached",
    "failed": "failed before",
    "unfinished": "to be resumed",
    "outdated": "outdated",
    "new": "to run",
}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@contextmanager
def interruptible(what: str = "the cells that run") -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C only asks to stop; the second is an interrupt."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        typer.echo(f"\nfinishing {what}, and starting no other; again to stop at once", err=True)

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _report(todo: Plan, summary: Summary, out: Path, as_json: bool) -> None:
    """What came of the cells; exit 1 if any failed, 130 if any is left."""
    import json

    reused = sum(o.reused for o in summary.outcomes.values())
    finished = len(summary.outcomes) - len(summary.failed)
    if as_json:
        cells = {
            label: {"hash": todo.cells[label].hash, "status": o.status, "reused": o.reused, "error": o.error or None}
            for label, o in sorted(summary.outcomes.items())
        }
        found = {"sweep": todo.hash, "cells": cells, "undefined": dict(todo.undefined), "left": sorted(summary.left)}
        typer.echo(json.dumps({**found, "lost": summary.lost}))
    else:
        for line in summary.lost:
            typer.echo(f"lost: {line}", err=True)
        for label, outcome in summary.failed.items():
            typer.echo(f"failed: {label}: {outcome.error}  ({out / todo.cells[label].hash}/failure.json)", err=True)
        left = f", {len(summary.left)} left: the same command goes on" if summary.left else ""
        said = f"{finished} finished ({reused} before), {len(summary.failed)} failed, {len(todo.undefined)} undefined"
        typer.echo(f"{said}{left}")
        typer.echo(f"report: byzbench report {out / f'sweep-{todo.hash}.json'}")
    if summary.failed or summary.left:
        raise typer.Exit(1 if summary.failed else 130)
