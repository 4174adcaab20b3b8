"""`byzbench sync`: finished runs to Weights & Biases, each once."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from byzbench.experiments.store import Entry
    from byzbench.experiments.tracking import Tracker


def sync(
    runs: Annotated[
        list[Path], typer.Argument(help="Run folders, folders of them, files of sweeps.", metavar="RUNS...")
    ],
    wandb: Annotated[
        Literal["online", "offline"], typer.Option(help="Send them, or write files for `wandb sync` to send.")
    ] = "online",
    force: Annotated[bool, typer.Option("--force", help="Upload again what is there already.")] = False,
) -> None:
    """Upload finished runs to Weights & Biases, each once; those of a sweep's file as a group. Exit 1 if one failed."""
    from byzbench.experiments.store import gather
    from byzbench.experiments.tracking import Tracker

    Tracker(wandb)  # without the library nothing is read
    entries, problems = gather(runs)
    for problem in problems:
        typer.echo(f"not trusted: {problem}", err=True)
    groups = _groups(runs)
    counts = Counter(_one(entry, Tracker(wandb, groups.get(entry.hash)), force) for entry in entries)
    always, sometimes = ("uploaded", "already there", "not finished"), ("busy", "failed")
    typer.echo(", ".join(f"{word} {counts[word]}" for word in (*always, *(w for w in sometimes if counts[w]))))
    if counts["failed"]:
        raise typer.Exit(1)


def _groups(places: Sequence[Path]) -> Mapping[str, str]:
    """The sweep of every run that the file of one names; of several, the first."""
    from byzbench.experiments.store import gather

    found: dict[str, str] = {}
    for place in places:
        if place.is_file() and re.fullmatch("sweep-[0-9a-f]{16}", place.stem):
            for entry in gather([place])[0]:
                found.setdefault(entry.hash, place.stem)
    return found


def _one(entry: Entry, tracker: Tracker, force: bool) -> str:
    """Upload a run, if it is finished and not there; say what came of it in a line and in a word."""
    from byzbench.errors import Busy

    if entry.status != "finished":
        typer.echo(f"{entry.path}: {entry.status}, and left out", err=True)
        return "not finished"
    try:
        draw(entry.path)
        place = tracker.upload(entry.path, force=force)
    except Busy as error:
        typer.echo(f"{entry.path}: left out: {error}", err=True)
        return "busy"
    except (Exception, SystemExit) as error:  # W&B raises whatever it likes
        said = " ".join(f"{type(error).__name__}: {error}".split())
        typer.echo(f"{entry.path}: failed: {said}", err=True)
        return "failed"
    if place is None:
        return "already there"
    typer.echo(f"{entry.path}: {place}")
    return "uploaded"


def draw(folder: Path) -> None:
    """The learning curve, where there is none: cells of a sweep are not drawn when they are run."""
    picture, temporary = folder / "curve.png", folder / f".curve.{os.getpid()}.png"
    if picture.exists() or picture.is_symlink():
        return

    from byzbench.errors import UserError
    from byzbench.reports.plots import learning_curve

    try:
        learning_curve([folder], temporary)
        temporary.replace(picture)
    except (UserError, OSError) as error:  # a plug-in that is not here, for example; the records are shown all the same
        typer.echo(f"{folder}: no learning curve: {error}", err=True)
    finally:
        temporary.unlink(missing_ok=True)
