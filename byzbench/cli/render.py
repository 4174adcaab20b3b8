"""Command `byzbench render`: render an episode of a trained policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def render(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.", metavar="RUN")],
    agent: Annotated[int | None, typer.Option(help="Id of the agent; default: the first honest one.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the episode.")] = 0,
    out: Annotated[Path | None, typer.Option(help="GIF to write; default: episode.gif in the run folder.")] = None,
) -> None:
    """Render an episode of a trained policy with greedy actions as a GIF.

    Examples:
        byzbench render runs/0123456789abcdef
        byzbench render runs/0123456789abcdef --agent 3 --out agent3.gif
    """
    from byzbench.experiments.episodes import render_episode

    path = out or run / "episode.gif"
    score, steps = render_episode(run, path, agent=agent, seed=seed)
    typer.echo(f"{path}: return {score:.1f} in {steps} steps")
