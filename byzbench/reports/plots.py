"""Learning curves of runs, read from their logs, and the plot of one experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from byzbench.errors import CorruptRecord
from byzbench.experiments.experiment import Experiment
from byzbench.records.run_folder import RunFolder
from byzbench.reports.labels import component_label

_POINTS = 200


def trace(folder: Path, key: str, x: str = "trajectories") -> tuple[np.ndarray, np.ndarray]:
    """Read a metric from the log of a run.

    Args:
        folder: The folder of the run.
        key: The name of the metric. Of an evaluation metric, only the rounds with an evaluation are read.
        x: The abscissa: `trajectories` per agent, virtual `seconds`, or `bytes` of all agents.

    Returns:
        The abscissa before the first round and after each round, [n+1], and the metric of each round, [n].

    Raises:
        CorruptRecord: The log cannot be trusted, or it does not hold the metric.
    """
    path, lines = folder / "metrics.jsonl", RunFolder(folder).metrics()
    if key.startswith("evaluation"):
        lines = [line for line in lines if key in line]
    if not lines:
        raise CorruptRecord(f"{path} has no {key} in any of its lines")
    if not all(line.get(key, "") is None or type(line.get(key)) in (int, float) for line in lines):
        raise CorruptRecord(f"{path} has no {key} in some of its lines")
    if any(x not in line for line in lines):
        raise CorruptRecord(f"{path} has no {x}; only runs whose schedule has a clock have seconds")
    at = np.array([0.0, *(line[x] or 0.0 for line in lines)])
    if (at[-1] <= 0 and x != "bytes") or (np.diff(at) < 0).any():
        raise CorruptRecord(f"{path} does not count {x} upwards")
    values = np.array([math.nan if line[key] is None else line[key] for line in lines], float)
    return at, np.where(np.abs(values) < 1e100, values, math.nan)  # larger values may overflow in sums


def curve(folder: Path, key: str, grid: np.ndarray, x: str = "trajectories") -> np.ndarray:
    """Return a smoothed metric of a run on a grid.

    The value at a point is the mean over the abscissa before it, as far back as a twentieth of its range.

    Args:
        folder: The folder of the run.
        key: The name of the metric.
        grid: Values of the abscissa, rising, to the end of its range: for trajectories the budget.
        x: The abscissa, see `trace`.

    Returns:
        The values, with the shape of `grid`; NaN beyond the end of the run, unless `x` is trajectories.

    Raises:
        CorruptRecord: The log cannot be trusted, or it does not hold the metric.
    """
    at, values = trace(folder, key, x)
    if at[-1] <= 0:
        raise CorruptRecord(f"{folder} has sent no bytes, over which it could be drawn")
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(at))])
    start = np.maximum(grid - max(grid[-1] / 20, at[1]), 0.0)
    smoothed = (np.interp(grid, at, total) - np.interp(start, at, total)) / (grid - start)
    return smoothed if x == "trajectories" else np.where(grid <= at[-1], smoothed, math.nan)


def learning_curve(folders: Sequence[Path], path: Path) -> None:
    """Plot the training return of one experiment against trajectories per agent and write the figure.

    The figure shows the mean of the honest agents, the worst honest agent, and the range of the seeds.

    Args:
        folders: The folder of each seed's run.
        path: The file to write.
    """
    experiment = Experiment.from_description((RunFolder(folders[0]).record() or {})["experiment"])
    grid = np.linspace(experiment.trajectories / _POINTS, experiment.trajectories, _POINTS)
    means = np.stack([curve(folder, "return", grid) for folder in folders])
    worst = np.stack([curve(folder, "return_worst", grid) for folder in folders])

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(grid, means.mean(0), color="#1f5fa8", label="mean of honest agents")
    axes.plot(grid, worst.min(0), color="#c0504d", lw=1, label="worst honest agent")
    if len(folders) > 1:
        axes.fill_between(grid, means.min(0), means.max(0), color="#1f5fa8", alpha=0.15, lw=0, label="range of seeds")
    for name, level in experiment.task.reference.items():
        axes.axhline(level, color="0.6", lw=0.8, ls=":")
        text_style: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(name, (1, level), fontsize=8, color="0.4", **text_style)
    axes.set(xlabel="trajectories per agent", ylabel="training return", xlim=(0, experiment.trajectories))
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(worst)) if np.isfinite(worst).any() else 0.0))
    parts = (experiment.algorithm, experiment.attack, experiment.topology, experiment.task)
    names = " · ".join(map(component_label, parts))
    seeds = f", {len(folders)} seeds" if len(folders) > 1 else f", seed {experiment.seed}"
    axes.set_title(f"{names}   K={experiment.agents}, f={experiment.byzantine}{seeds}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    figure.savefig(path, dpi=150)
