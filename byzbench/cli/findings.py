"""`byzbench leaderboard findings`: what the rows of a suite show."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli import options


def findings(
    suite: Annotated[str, typer.Argument(help="An open suite.", metavar="SUITE")],
    source: Annotated[
        Path, typer.Option("--from", help="The leaderboards: a folder with `submissions` in it.", metavar="FOLDER")
    ] = Path("leaderboards"),
    page: Annotated[Path | None, typer.Option(help="A Markdown page to write.", metavar="FILE.md")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="A figure to write: retention of methods under attacks.", metavar="FILE.png")
    ] = None,
) -> None:
    """Print what the rows of a suite show, by division: spans, separation, joining, and what tuning changed."""
    from byzbench.errors import UserError
    from byzbench.leaderboard import findings_page
    from byzbench.leaderboard.findings import findings as examine
    from byzbench.leaderboard.site.collection import collect
    from byzbench.leaderboard.suites import CLOSED
    from byzbench.leaderboard.suites import suite as board
    from byzbench.reports.sheets import render

    its = board(suite)
    if suite in CLOSED:
        raise UserError(f"suite {suite} is closed: its rows can be verified, and are not shown")
    content, refused = collect(source / "submissions")
    for finding in refused:
        typer.echo(str(finding), err=True)
    found = [one for b in content.of(its) if b.track == "defence" and (one := examine(b)).rows]
    if not found:
        raise UserError(f"suite {suite} has no ranked row in {source}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for one in found:
        typer.echo(f"{suite}, division {one.board.division}\n\n{findings_page.bullets(one)}\n")
        typer.echo(render(list(findings_page.sheets(one)), "table", {}, width))
    if figure is not None:
        from byzbench.leaderboard.headline import caption, write_headline

        write_headline(found, figure)
        typer.echo(caption(found))
    if page is not None:
        files = [word for flag, file in (("--page", page), ("--figure", figure)) if file for word in (flag, str(file))]
        command = shlex.join(["byzbench", "leaderboard", "findings", suite, *files])
        options.write_page(page, findings_page.markdown_page(its, found, command))
