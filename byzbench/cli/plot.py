"""Command `byzbench plot`: plot finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from byzbench.cli import report
from byzbench.cli.axis_options import Point, takes_axes
from byzbench.errors import UserError
from byzbench.reports.abscissa import AbscissaName

_BY = {
    "curves": ["attack", "algo"],
    "heatmap": ["attack", "algo"],
    "profile": ["attack", "algo"],
    "speedup": ["algo", "agents", "byzantine"],
}


@takes_axes("filter")
def plot(
    runs: report.Runs,
    kind: Annotated[
        Literal["curves", "heatmap", "profile", "speedup"],
        typer.Option(
            help="Learning curves, heat map of attacks and methods, performance profile, or speed-up in honest agents."
        ),
    ] = "curves",
    by: Annotated[
        list[str] | None, typer.Option(help="Axes that distinguish rows; default: attack,algo, or what the kind needs.")
    ] = None,
    panel: Annotated[
        list[str] | None, typer.Option(help="Axes with a panel for each value, for example attack.")
    ] = None,
    metric: report.Metric = None,
    x: Annotated[
        AbscissaName,
        typer.Option(help="Abscissa of learning curves; seconds are virtual, of a schedule with a clock."),
    ] = "trajectories",
    target: Annotated[
        float | None, typer.Option(help="Training return to reach, for speedup; default on cartpole: 400.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Figure to write, .png, .pdf or .svg; default: KIND.png.")] = None,
    everything: report.All = False,
    *,
    point: Point,
) -> None:
    """Plot learning curves, heat maps, performance profiles or speed-up, and print the caption.

    Of a store with sweeps, the runs of the last sweep are plotted.

    Examples:
        byzbench plot runs
        byzbench plot runs --kind heatmap --by attack,algo --out heatmap.pdf
        byzbench plot runs --by schedule --x seconds
    """
    from byzbench.reports.figures import draw_figure
    from byzbench.reports.summary import group

    entries = report.gathered(runs, point, everything)
    if x != "trajectories" and kind != "curves":
        raise UserError(f"--x {x} is for --kind curves")
    panel_axes = report.axes(panel or [])
    groups = group(entries, [*(report.axes(by) if by else _BY[kind]), *panel_axes], metric)
    report.tell(groups.problems, "not trusted")
    report.tell(groups.notes, "note")
    path = out or Path(f"{kind}.png")
    drawn = draw_figure(kind, groups, path, panel=panel_axes, target=target, x=x)
    report.tell(drawn.problems, "not trusted")
    typer.echo(f"{path}: {drawn.caption}")
