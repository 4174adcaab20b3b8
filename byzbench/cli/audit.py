"""Command `byzbench leaderboard audit`: replay cells of every row with the installed code."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli import options
from byzbench.cli.completion import complete_suite


def audit(
    source: Annotated[
        Path,
        typer.Option("--from", help="The folder of the leaderboards, which holds `submissions`.", metavar="FOLDER"),
    ] = Path("leaderboards"),
    cells: Annotated[int, typer.Option(min=1, help="Number of cells of each row to replay.")] = 1,
    suite: Annotated[
        str | None, typer.Option("--suite", "-s", help="Only rows of this suite.", autocompletion=complete_suite)
    ] = None,
    salt: Annotated[str | None, typer.Option(help="Text that seeds the choice of cells; default: the engine.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the results; default: audit.json beside `submissions`.")
    ] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
    cell_timeout: options.CellTimeout = None,
) -> None:
    """Replay cells of every row on its own seeds, print one line for each row, and save the results for `build`.

    Exit 0: no row is contradicted. 1: a row is contradicted or refused. 3: none is, but a row cannot be replayed.

    Examples:
        byzbench leaderboard audit
        byzbench leaderboard audit --suite smoke-v1 --cells 3
    """
    import tempfile
    import time

    from byzbench.errors import UserError
    from byzbench.identity import ENGINE
    from byzbench.leaderboard.audits import Audit, audit_row, audited_entries
    from byzbench.reports.progress import announce, time_left
    from byzbench.sweeps.executors import make_executor as open_executor

    if not (source / "submissions").is_dir():
        raise UserError(f"{source} has no folder `submissions`; give the folder of the leaderboards with --from")
    path = out or source / "audit.json"
    record, worst = Audit.read(path), 0
    opened = partial(open_executor, executor, jobs=jobs, ray_address=ray_address, cell_timeout=cell_timeout)
    entries = [*audited_entries(source / "submissions", suite)]
    began = time.monotonic()
    for done, (entry, folder) in enumerate(entries):
        announce(f"row {done + 1} of {len(entries)}{time_left(time.monotonic() - began, done, len(entries))}")
        with (
            tempfile.TemporaryDirectory(prefix="byzbench-") as scratch,
            opened(Path(scratch)) as workers,
        ):
            audited = audit_row(folder, entry, cells, salt or f"engine-{ENGINE}", Path(scratch), workers)
        typer.echo(f"{folder.relative_to(source / 'submissions')}: {audited}")
        for line in audited.evidence:
            typer.echo(f"  {line}")
        record = record.with_row(entry.digest, audited)
        worst = max(worst, audited.exit_code, key=(0, 3, 1).index)
    record.write(path)
    raise typer.Exit(worst)
