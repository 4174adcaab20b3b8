"""Command `byzbench runs`: list the runs of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.axes import recorded_axes
from byzbench.cli import options
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.cli.output import write_json
from byzbench.records.store import RunStatus

if TYPE_CHECKING:
    from byzbench.records.store import StoredRun


@takes_axes("filter")
def runs(
    point: Point,
    status: Annotated[RunStatus | None, typer.Option(help="Only this status.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only this verdict: ok, not_learning, ...")] = None,
    out: options.Store = "runs",
    as_json: options.Json = False,
) -> None:
    """List the runs of a store: folder, axes, status, return and verdict; unreadable folders on standard error.

    Examples:
        byzbench runs
        byzbench runs --algo decbyzpg --status finished --json
    """
    from byzbench.records.remote import open_store
    from byzbench.records.store import scan_runs
    from byzbench.reports.terminal import echo

    with open_store(out) as store:
        problems = store.pull()
        entries, more = scan_runs(store.path)
        problems += more
    selected = [
        entry
        for entry in entries
        if entry.matches(point)
        if status in (None, entry.status)
        if verdict is None or (entry.result and entry.result["verdict"]["name"] == verdict)
    ]
    for problem in problems:
        echo(f"not trusted: {problem}", err=True)
    if as_json:
        write_json([_described(entry) for entry in selected])
        return
    for entry in selected:
        echo(_line(entry), indent=18)
    distrusted = f", {len(problems)} not trusted" if problems else ""
    typer.echo(f"{len(selected)} of {len(entries)} runs{distrusted}")


def _described(entry: StoredRun) -> dict[str, Any]:
    return {
        "hash": entry.path.name,
        **{axis.name: entry.name(axis.name) for axis in recorded_axes()},
        "status": entry.status,
        "return": entry.value,
        "verdict": entry.result["verdict"]["name"] if entry.result else None,
        "error": entry.error or None,
    }


def _line(entry: StoredRun) -> str:
    axes = " · ".join(str(entry.name(axis)) for axis in ("algo", "attack", "topology", "env"))
    counts = f"K={entry.name('agents')} f={entry.name('byzantine')} n={entry.name('trajectories')}"
    value = "" if not entry.result else "not finite" if entry.value is None else f"{entry.value:.1f}"
    outcome = entry.result["verdict"]["name"] if entry.result else entry.error
    return f"{entry.path.name}  {axes}  {counts} seed {entry.name('seed')}  {entry.status}  {value}  {outcome}".rstrip()
