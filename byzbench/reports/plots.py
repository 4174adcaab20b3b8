"""Learning curves as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from byzbench.errors import CorruptRecord
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.records import RunFolder
from byzbench.registry import name_of

_POINTS = 200


def trace(folder: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """The log of a run: trajectories before its first round and after each [n+1], and a metric of each round [n].

    Of evaluations, which not every round has, only the rounds that do.

    Raises:
        CorruptRecord: the log cannot be trusted, or does not have this metric.
    """
    path, lines = folder / "metrics.jsonl", RunFolder(folder).metrics()
    if key.startswith("evaluation"):
        lines = [line for line in lines if key in line]
    if not lines:
        raise CorruptRecord(f"{path} has no {key} in any of its lines")
    if not all(line.get(key, "") is None or type(line.get(key)) in (int, float) for line in lines):
        raise CorruptRecord(f"{path} has no {key} in some of its lines")
    at = np.array([0.0, *(line["trajectories"] or 0.0 for line in lines)])
    if at[-1] <= 0 or (np.diff(at) < 0).any():
        raise CorruptRecord(f"{path} does not count trajectories upwards")
    values = np.array([math.nan if line[key] is None else line[key] for line in lines], float)
    return at, np.where(np.abs(values) < 1e100, values, math.nan)  # what is larger may overflow in sums


def curve(folder: Path, key: str, grid: np.ndarray) -> np.ndarray:
    """A metric of a run at the trajectories of `grid`, as a mean over the last twentieth of the budget."""
    at, values = trace(folder, key)
    total = np.concatenate([[0.0], np.cumsum(values * np.diff(at))])
    start = np.maximum(grid - max(grid[-1] / 20, at[1]), 0.0)
    return (np.interp(grid, at, total) - np.interp(start, at, total)) / (grid - start)


def learning_curve(folders: Sequence[Path], path: Path) -> None:
    """Training return against trajectories per agent: honest agents' mean, the worst of them, seeds as a band."""
    todo = Experiment.from_description((RunFolder(folders[0]).read("experiment.json") or {})["experiment"])
    grid = np.linspace(todo.trajectories / _POINTS, todo.trajectories, _POINTS)
    means = np.stack([curve(f, "return", grid) for f in folders])
    worst = np.stack([curve(f, "return_worst", grid) for f in folders])

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(grid, means.mean(0), color="#1f5fa8", label="mean of honest agents")
    axes.plot(grid, worst.min(0), color="#c0504d", lw=1, label="worst honest agent")
    if len(folders) > 1:
        axes.fill_between(grid, means.min(0), means.max(0), color="#1f5fa8", alpha=0.15, lw=0, label="range of seeds")
    for word, level in todo.task.reference.items():
        axes.axhline(level, color="0.6", lw=0.8, ls=":")
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axes.annotate(word, (1, level), fontsize=8, color="0.4", **place)
    axes.set(xlabel="trajectories per agent", ylabel="training return", xlim=(0, todo.trajectories))
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(worst)) if np.isfinite(worst).any() else 0.0))
    names = " · ".join(name_of(part) for part in (todo.algorithm, todo.attack, todo.topology, todo.task))
    seeds = f", {len(folders)} seeds" if len(folders) > 1 else f", seed {todo.seed}"
    axes.set_title(f"{names}   K={todo.agents}, f={todo.byzantine}{seeds}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="best")
    figure.savefig(path, dpi=150)
