"""Command `byzbench sync`: upload finished runs to Weights & Biases, each once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from byzbench.integrations.tracking import Tracker
    from byzbench.records.store import StoredRun


def sync(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, stores, or files of sweeps.", metavar="RUNS...")],
    wandb: Annotated[
        Literal["online", "offline"], typer.Option(help="Upload, or write files for a later `wandb sync`.")
    ] = "online",
    force: Annotated[bool, typer.Option("--force", help="Upload also runs that were uploaded before.")] = False,
) -> None:
    """Upload finished runs to Weights & Biases, each once; the runs of a sweep's file form a group.

    Exit 0: no upload failed. 1: an upload failed.

    Examples:
        byzbench sync runs
        byzbench sync runs/sweep-0123456789abcdef.json --wandb offline
    """
    from byzbench.integrations.tracking import Tracker
    from byzbench.records.store import gather

    Tracker(wandb)  # fails early if the library is not installed
    entries, problems = gather(runs)
    for problem in problems:
        typer.echo(f"not trusted: {problem}", err=True)
    groups = _groups(runs)
    counts = Counter(_upload(entry, Tracker(wandb, groups.get(entry.hash)), force) for entry in entries)
    always_shown, shown_if_any = ("uploaded", "already there", "not finished"), ("busy", "failed")
    typer.echo(
        ", ".join(
            f"{status} {counts[status]}"
            for status in (*always_shown, *(other for other in shown_if_any if counts[other]))
        )
    )
    if counts["failed"]:
        raise typer.Exit(1)


def _groups(places: Sequence[Path]) -> Mapping[str, str]:
    """Return the sweep of each run that a file of a sweep lists; the first one, if several do."""
    from byzbench.records.store import gather

    sweep_of: dict[str, str] = {}
    for place in places:
        if place.is_file() and re.fullmatch("sweep-[0-9a-f]{16}", place.stem):
            for entry in gather([place])[0]:
                sweep_of.setdefault(entry.hash, place.stem)
    return sweep_of


def _upload(entry: StoredRun, tracker: Tracker, force: bool) -> str:
    """Upload a run if it is finished and not uploaded; print one line, and return its status."""
    from byzbench.errors import Busy

    if entry.status != "finished":
        typer.echo(f"{entry.path}: {entry.status}, not uploaded", err=True)
        return "not finished"
    try:
        draw(entry.path)
        place = tracker.upload(entry.path, force=force)
    except Busy as error:
        typer.echo(f"{entry.path}: not uploaded: {error}", err=True)
        return "busy"
    except (Exception, SystemExit) as error:  # the errors of W&B have no common base class
        text = " ".join(f"{type(error).__name__}: {error}".split())
        typer.echo(f"{entry.path}: failed: {text}", err=True)
        return "failed"
    if place is None:
        return "already there"
    typer.echo(f"{entry.path}: {place}")
    return "uploaded"


def draw(folder: Path) -> None:
    """Plot the learning curve of a run if it has none, since cells of a sweep are not plotted when they run."""
    picture = folder / "curve.png"
    if not (picture.exists() or picture.is_symlink()):
        draw_curve([folder], picture)


def draw_curve(folders: Sequence[Path], picture: Path) -> None:
    """Plot the learning curve of the runs of one experiment, or print why it cannot be: no run depends on it."""
    from byzbench.errors import UserError
    from byzbench.reports.plots import learning_curve

    temporary = picture.with_name(f".{picture.stem}.{os.getpid()}.png")
    try:
        learning_curve(folders, temporary)
        temporary.replace(picture)
    except (UserError, OSError) as error:  # for example a missing plug-in, or a folder that is read-only
        typer.echo(f"{folders[0]}: no learning curve: {error}", err=True)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
