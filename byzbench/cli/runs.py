"""Command `byzbench runs`: list the runs of a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from byzbench.cli import options

if TYPE_CHECKING:
    from byzbench.experiments.store import Entry


def runs(
    algo: Annotated[str | None, typer.Option("--algo", "-a", help="Only this algorithm.")] = None,
    attack: Annotated[str | None, typer.Option("--attack", "-x", help="Only this attack.")] = None,
    topology: Annotated[str | None, typer.Option("--topology", "-t", help="Only this topology.")] = None,
    env: Annotated[str | None, typer.Option("--env", "-e", help="Only this task.")] = None,
    aggregator: Annotated[str | None, typer.Option(help="Only this aggregator.")] = None,
    seed: Annotated[int | None, typer.Option(help="Only this seed.")] = None,
    status: Annotated[
        Literal["finished", "failed", "unfinished"] | None, typer.Option(help="Only this status.")
    ] = None,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict: ok, not_learning, ...")] = None,
    out: options.Store = "runs",
    as_json: options.Json = False,
) -> None:
    """List the runs of a store: folder, axes, status, return and verdict; unreadable folders on standard error.

    Examples:
        byzbench runs
        byzbench runs --algo decbyzpg --status finished --json
    """
    from byzbench.experiments.mirror import opened
    from byzbench.experiments.store import scan

    filters = {"algo": algo, "attack": attack, "topology": topology, "env": env, "aggregator": aggregator, "seed": seed}
    with opened(out) as store:
        store.pull()
        entries, problems = scan(store.path)
    selected = [
        entry
        for entry in entries
        if all(value is None or entry.name(axis) == value for axis, value in filters.items())
        if status in (None, entry.status)
        if verdict is None or (entry.result and entry.result["verdict"]["name"] == verdict)
    ]
    for problem in problems:
        typer.echo(f"not trusted: {problem}", err=True)
    if as_json:
        typer.echo(json.dumps([_described(entry) for entry in selected]))
        return
    for entry in selected:
        typer.echo(_line(entry))
    distrusted = f", {len(problems)} not trusted" if problems else ""
    typer.echo(f"{len(selected)} of {len(entries)} runs{distrusted}")


def _described(entry: Entry) -> dict[str, Any]:
    axes = ("algo", "attack", "topology", "env", "aggregator", "agents", "byzantine", "trajectories", "seed")
    return {
        "hash": entry.path.name,
        **{axis: entry.name(axis) for axis in axes},
        "status": entry.status,
        "return": entry.value,
        "verdict": entry.result["verdict"]["name"] if entry.result else None,
        "error": entry.error or None,
    }


def _line(entry: Entry) -> str:
    axes = " · ".join(str(entry.name(axis)) for axis in ("algo", "attack", "topology", "env"))
    counts = f"K={entry.name('agents')} f={entry.name('byzantine')} n={entry.name('trajectories')}"
    value = "" if not entry.result else "not finite" if entry.value is None else f"{entry.value:.1f}"
    outcome = entry.result["verdict"]["name"] if entry.result else entry.error
    return f"{entry.path.name}  {axes}  {counts} seed {entry.name('seed')}  {entry.status}  {value}  {outcome}".rstrip()
