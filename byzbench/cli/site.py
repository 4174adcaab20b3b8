"""Commands `byzbench leaderboard build` and `serve`: write the static site, and serve it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def build(
    source: Annotated[
        Path,
        typer.Option("--from", help="The folder of the leaderboards, which holds `submissions`.", metavar="FOLDER"),
    ] = Path("leaderboards"),
    out: Annotated[Path, typer.Option(help="The folder of the site.", metavar="FOLDER")] = Path("docs/leaderboard"),
    docs: Annotated[
        str, typer.Option(help="Address of the documentation that pages link to: https, or relative to --out.")
    ] = "../index.html",
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the site is out of date.")] = False,
) -> None:
    """Build the static site of all submissions; the same submissions give the same bytes.

    Refused submissions are left out, their reasons are printed, and the exit code is 1.

    Examples:
        byzbench leaderboard build
        byzbench leaderboard build --from leaderboards --out site --check
    """
    from byzbench.errors import UserError
    from byzbench.leaderboard.site.build import site, site_differences, write_site
    from byzbench.leaderboard.site.collection import collect_entries

    if not (source / "submissions").is_dir():
        raise UserError(f"{source} has no folder `submissions`; give the folder of the leaderboards with --from")
    collection, findings = collect_entries(source / "submissions")
    for finding in findings:
        typer.echo(str(finding), err=True)
    pages = dict(site(collection, docs))
    changed = site_differences(pages, out)
    if not check:
        write_site(pages, out)
    counts = f"{len(collection.entries)} entries, {len(collection.boards)} boards, {len(pages)} files"
    if check and changed:
        typer.echo(f"{out}: {len(changed)} files differ, the first is {changed[0]}")
    else:
        typer.echo(f"{out}: {counts}{', up to date' if check else ''}")
    if findings or (check and changed):
        raise typer.Exit(1)


def serve(
    folder: Annotated[Path, typer.Argument(help="The folder of a built site.", metavar="FOLDER")] = Path(
        "docs/leaderboard"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8000,
) -> None:
    """Serve a built site at 127.0.0.1, to this machine only, until interrupted.

    Examples:
        byzbench leaderboard serve
        byzbench leaderboard serve site --port 0
    """
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    from byzbench.errors import UserError

    if not (folder / "index.html").is_file():
        raise UserError(f"{folder} holds no site; build one with `byzbench leaderboard build --out {folder}`")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    except OSError as error:
        raise UserError(f"port {port} of 127.0.0.1: {error.strerror}") from None
    with server:
        typer.echo(f"http://127.0.0.1:{server.server_port}/ (Ctrl+C stops it)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
