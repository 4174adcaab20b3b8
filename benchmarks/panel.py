"""One panel of the paper, LunarLander under avg_zero, with both presets: makes docs/lunarlander.md and its picture.

    python benchmarks/panel.py [--processes 2] [--seeds 3] [--trajectories 8000]

K=13, f=3, complete graph, N/B/p = 96/32/0.2, lr 1e-3, EnvPool; a run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from official import COLOURS, OFFICIAL, band, interval, released, train

from byzbench.reports.plots import curve
from byzbench.reproduce.published import digitised_curves

ATTACKED = {"attack": "avg_zero", "topology": "complete", "agents": 13, "byzantine": 3}
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "decbyzpg": (ATTACKED, "DecByzPG K=13 a=3/13"),
    "dec_page_pg": (ATTACKED, "Dec-PAGE-PG K=13 a=3/13"),
    "page_pg": ({}, "PAGE-PG K=1"),
}
"""The setting of each method, and the name of its published curve."""
PRESETS: dict[str, dict[str, Any]] = {"official": OFFICIAL, "paper": {"preset": "paper"}}
HEAD = """Made by `{command}`.

LunarLander-v3 (EnvPool), K=13, f=3, avg_zero, complete graph (page_pg: one agent alone), N/B/p = 96/32/0.2, Adam with
lr 1e-3; training return (mean over the last twentieth of the budget) at trajectories per agent; {seeds} seeds, with
Student's 95 % interval. The preset `official` runs with the released code's random streams. The rows of the released
code are fresh runs of it, of one agent alone only; in brackets the number of runs."""

READING = """The preset `official` follows the published curves of both methods with 13 agents. The preset `paper`, the
pseudo-code with Adam, leaves the plateau at -110 near 3,000 trajectories and not near 5,000. `avg_zero` makes the plain
mean zero, so dec_page_pg never moves: its level is the return of the initial policies, one for all seeds in the
released code's streams, and one a seed in ours. Alone, the released code's runs end at 3,000 trajectories, where both
presets are within 15 of them."""


def main() -> None:
    """Run every cell, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--out", default="runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    names = [(m, p) for m in METHODS for p in PRESETS for _ in range(args.seeds)]
    fixed = {"env": "lunarlander:backend=envpool", "trajectories": args.trajectories}
    jobs = [
        ({"algo": method, **METHODS[method][0], **PRESETS[preset], **fixed, "seed": number % args.seeds}, args.out)
        for number, (method, preset) in enumerate(names)
    ]
    grid = np.arange(50, args.trajectories + 1, 50, dtype=float)
    curves: dict[tuple[str, str], list[np.ndarray]] = {name: [] for name in names}
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as workers:
        for name, folder in zip(names, workers.map(train, jobs), strict=True):
            curves[name].append(curve(Path(folder), "return", grid))
            print(f"{' '.join(name)}: {curves[name][-1][-1]:.0f}", file=sys.stderr)
    stacked = {name: np.stack(values) for name, values in curves.items()}
    draw(grid, stacked, args.docs / "lunarlander.png")
    command = f"python benchmarks/panel.py --seeds {args.seeds} --trajectories {args.trajectories}"
    (args.docs / "lunarlander.md").write_text(page(grid, stacked, args.seeds, command))


def published(name: str) -> tuple[list[float], list[float]]:
    """The published curve, as read off the figure; its points that lie on the axis."""
    data = digitised_curves()
    points = zip(data["x"], data["lunar"]["AvgZero"][name], strict=True)
    x, y = zip(*((x, y) for x, y in points if y is not None), strict=True)
    return list(x), list(y)


def page(grid: np.ndarray, curves: dict[tuple[str, str], np.ndarray], seeds: int, command: str) -> str:
    """The text, with its tables."""
    marks = [m for m in (1000, 2000, 3000, 4000, 6000, 8000) if m <= grid[-1]]
    columns = [int(np.searchsorted(grid, m)) for m in marks]
    lines = ["# LunarLander: one panel of the paper", "", HEAD.format(command=command, seeds=seeds)]
    for method, (_, name) in METHODS.items():
        drawn = dict(zip(*published(name), strict=True))
        lines += ["", f"## {method}", "", "| | " + " | ".join(f"{m:,}" for m in marks) + " |"]
        lines += ["|---" * (len(marks) + 1) + "|"]
        lines += ["| published figure | " + " | ".join(f"{drawn[m]:.0f}" if m in drawn else "" for m in marks) + " |"]
        if method == "page_pg":
            runs = [dict(zip(r["trajectories"], r["training_return"], strict=True)) for r in released(1, "LunarLander")]
            returns = [[r[m] for r in runs if m in r] for m in marks]
            cells = [f"{np.mean(values):.0f} ({len(values)})" if values else "" for values in returns]
            lines += ["| released code (runs) | " + " | ".join(cells) + " |"]
        for preset in PRESETS:
            cells = [interval(curves[method, preset][:, i]) for i in columns]
            lines += [f"| preset {preset} | " + " | ".join(cells) + " |"]
    return "\n".join([*lines, "", "![Curves](lunarlander.png)", "", READING, ""])


def draw(grid: np.ndarray, curves: dict[tuple[str, str], np.ndarray], path: Path) -> None:
    """A panel a method: both presets, the published curve, and where there are any, runs of the released code."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    for axes, (method, (_, name)) in zip(figure.subplots(1, 3, sharey=True), METHODS.items(), strict=True):
        for preset, colour in COLOURS.items():
            band(axes, grid, curves[method, preset], colour, f"preset {preset}")
        if method == "page_pg":
            for number, run in enumerate(released(1, "LunarLander")):
                label = "released code" if number == 0 else None
                axes.plot(run["trajectories"], run["training_return"], color="0.35", lw=0.8, label=label)
        axes.plot(*published(name), "k--", lw=1.2, label="published figure")
        axes.set(title=f"{method}" + (", alone" if method == "page_pg" else ", K=13, f=3, avg_zero"))
        axes.set(xlabel="trajectories per agent", ylim=(-420, 220))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    figure.axes[0].set_ylabel("training return")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
