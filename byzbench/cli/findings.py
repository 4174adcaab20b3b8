"""`byzbench leaderboard findings`: what the rows of a suite show."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli.completion import complete_suite


def findings(
    suite: Annotated[str, typer.Argument(help="An open suite.", metavar="SUITE", autocompletion=complete_suite)],
    source: Annotated[
        Path, typer.Option("--from", help="The leaderboards: a folder with `submissions` in it.", metavar="FOLDER")
    ] = Path("leaderboards"),
    page: Annotated[Path | None, typer.Option(help="A Markdown page to write.", metavar="FILE.md")] = None,
    figure: Annotated[
        Path | None, typer.Option(help="A figure to write: retention of methods under attacks.", metavar="FILE.png")
    ] = None,
) -> None:
    """Print what the rows of a suite show, by division: span, separation, gain of joining, effect of tuning.

    Examples:
        byzbench leaderboard findings smoke-v2
        byzbench leaderboard findings smoke-v2 --page findings.md
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard import findings_page
    from byzbench.leaderboard.findings import examine_board
    from byzbench.leaderboard.site.collection import collect_entries
    from byzbench.leaderboard.suites import CLOSED
    from byzbench.leaderboard.suites import suite as load_suite
    from byzbench.records.files import write_file
    from byzbench.reports.sheets import render_tables

    content = load_suite(suite)
    if suite in CLOSED:
        raise UserError(f"suite {suite} is closed: its rows can be verified, and are not shown")
    collection, refused = collect_entries(source / "submissions")
    for finding in refused:
        typer.echo(str(finding), err=True)
    boards = [board for board in collection.of(content) if board.track == "defence"]
    divisions = [division for board in boards if (division := examine_board(board)).rows]
    if not divisions:
        raise UserError(f"suite {suite} has no ranked row in {source}")
    if figure is not None:
        from byzbench.leaderboard.headline import write_headline

        write_headline(divisions, figure)
    if page is not None:
        given = {"--from": source if source != Path("leaderboards") else None, "--page": page, "--figure": figure}
        words = [word for flag, file in given.items() if file for word in (flag, str(file))]
        command = shlex.join(["byzbench", "leaderboard", "findings", suite, *words])
        write_file(page, findings_page.findings_page(content, divisions, command))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for division in divisions:
        lines = "\n".join(f"- {sentence}" for sentence in findings_page.sentences(division))
        typer.echo(f"{suite}, division {division.board.division}\n\n{lines}\n")
        typer.echo(render_tables(list(findings_page.division_tables(division)), "table", {}, width))
    if figure is not None:
        from byzbench.leaderboard.headline import caption

        typer.echo(caption(divisions))
