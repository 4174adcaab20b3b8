"""`byzbench leaderboard audit`: replay cells of every row with the code that is here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from byzbench.cli import options


def audit(
    source: Annotated[
        Path, typer.Option("--from", help="The leaderboards: a folder with `submissions` in it.", metavar="FOLDER")
    ] = Path("leaderboards"),
    cells: Annotated[int, typer.Option(min=1, help="How many cells of each row are run again.")] = 1,
    suite: Annotated[str | None, typer.Option("--suite", "-s", help="Only rows of this suite.")] = None,
    salt: Annotated[str | None, typer.Option(help="What the draw of cells follows from; default: the engine.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where it is written down; default: audit.json beside `submissions`.")
    ] = None,
    executor: options.Executor = "process",
    jobs: options.Jobs = None,
    ray_address: options.RayAddress = None,
) -> None:
    """Replay cells of every row on its own seeds, print a line for each, and write it down for `build`.

    Exit 0: no row is contradicted. 1: one is, or is refused. 3: none is, but one could not be replayed.
    """
    import tempfile

    from byzbench.errors import UserError
    from byzbench.experiments.executors import executor as open_executor
    from byzbench.identity import ENGINE
    from byzbench.leaderboard.audits import Audit, audit_row, audited_entries

    if not (source / "submissions").is_dir():
        raise UserError(f"{source} has no folder `submissions`; name the leaderboards with --from")
    path = out or source / "audit.json"
    record, worst = Audit.read(path), 0
    for entry, folder in audited_entries(source / "submissions", suite):
        with (
            tempfile.TemporaryDirectory(prefix="byzbench-") as scratch,
            open_executor(executor, Path(scratch), jobs=jobs, ray_address=ray_address) as workers,
        ):
            audited = audit_row(folder, entry, cells, salt or f"engine-{ENGINE}", Path(scratch), workers)
        typer.echo(f"{folder.relative_to(source / 'submissions')}: {audited}")
        for line in audited.evidence:
            typer.echo(f"  {line}")
        record = record.with_row(entry.digest, audited)
        worst = max(worst, audited.exit_code, key=(0, 3, 1).index)
    record.write(path)
    raise typer.Exit(worst)
