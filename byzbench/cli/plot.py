"""`byzbench plot`: finished runs as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from byzbench.cli import report

_BY = {
    "curves": ["attack", "algo"],
    "heatmap": ["attack", "algo"],
    "profile": ["attack", "algo"],
    "speedup": ["algo", "agents", "byzantine"],
}


def plot(
    runs: report.Runs,
    kind: Annotated[
        Literal["curves", "heatmap", "profile", "speedup"],
        typer.Option(
            help="Learning curves; attacks against defences; shares of runs above a score; speed-up by honest agents."
        ),
    ] = "curves",
    by: Annotated[
        list[str] | None, typer.Option(help="Axes that tell things apart; default: attack,algo or what the kind needs.")
    ] = None,
    panel: Annotated[
        list[str] | None, typer.Option(help="Axes with a panel for each value, for example attack.")
    ] = None,
    metric: report.Metric = None,
    target: Annotated[
        float | None, typer.Option(help="Of speed-up: the training return to be reached; on cartpole 400.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="FILE.png, .pdf or .svg; default: the kind's name, .png.")] = None,
) -> None:
    """Plot learning curves, heat maps, performance profiles or speed-up, and print the caption."""
    from byzbench.reports.figures import draw
    from byzbench.reports.summary import group

    entries, problems = report.gathered(runs)
    report.tell(problems, "not trusted")
    across = report.axes(panel or [])
    groups = group(entries, [*(report.axes(by) if by else _BY[kind]), *across], metric)
    report.tell(groups.problems, "not trusted")
    report.tell(groups.notes, "note")
    path = out or Path(f"{kind}.png")
    drawn = draw(kind, groups, path, panel=across, target=target)
    report.tell(drawn.problems, "not trusted")
    typer.echo(f"{path}: {drawn.caption}")
