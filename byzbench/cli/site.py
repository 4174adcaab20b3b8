"""`byzbench leaderboard build` and `serve`: the static site, written and looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def build(
    source: Annotated[
        Path, typer.Option("--from", help="The leaderboards: a folder with `submissions` in it.", metavar="FOLDER")
    ] = Path("leaderboards"),
    out: Annotated[Path, typer.Option(help="Where the site goes.", metavar="FOLDER")] = Path("docs/leaderboard"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the site there is another.")] = False,
) -> None:
    """Build the static site of all submissions; the same submissions give the same bytes.

    Submissions that are refused are left out, each with its reasons, and the exit code is 1.
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard.site.build import differences, site, write
    from byzbench.leaderboard.site.collection import collect

    if not (source / "submissions").is_dir():
        raise UserError(f"{source} has no folder `submissions`; name the leaderboards with --from")
    found, findings = collect(source / "submissions")
    for finding in findings:
        typer.echo(str(finding), err=True)
    pages = dict(site(found))
    changed = differences(pages, out)
    if not check:
        write(pages, out)
    counts = f"{len(found.entries)} entries, {len(found.boards)} boards, {len(pages)} files"
    if check and changed:
        typer.echo(f"{out}: {len(changed)} files differ, the first is {changed[0]}")
    else:
        typer.echo(f"{out}: {counts}{', up to date' if check else ''}")
    if findings or (check and changed):
        raise typer.Exit(1)


def serve(
    folder: Annotated[Path, typer.Argument(help="A built site.", metavar="FOLDER")] = Path("docs/leaderboard"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
) -> None:
    """Show a built site at 127.0.0.1, to this machine alone, until it is interrupted."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from byzbench.errors import UserError

    if not (folder / "index.html").is_file():
        raise UserError(f"{folder} holds no site; make one with `byzbench leaderboard build --out {folder}`")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    except OSError as error:
        raise UserError(f"port {port} of 127.0.0.1: {error.strerror}") from None
    with server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ (Ctrl+C ends it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
