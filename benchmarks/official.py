"""The method, its released code, and the published figures, on one axis: makes docs/official.md and its pictures.

    python benchmarks/official.py [--processes 2] [--seeds 5] [--trajectories 8000]

CartPole; one agent alone, and K=13 with f=3 under avg_zero. A run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

import byzbench
from byzbench.reports.plots import curve
from byzbench.reproduce.published import digitised_curves

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
ALONE = {"algo": "page_pg", "preset": "paper"}
ATTACKED = {
    "algo": "decbyzpg",
    "preset": "paper",
    "attack": "avg_zero",
    "topology": "complete",
    "agents": 13,
    "byzantine": 3,
}
OFFICIAL = {"preset": "official"}
QUIRKS = {
    "Q1": ("snapshot", "after_step", "the correction is taken at the present parameters"),
    "Q2": ("weights", "product", "importance weights are products, and underflow"),
    "Q3": ("logits", "tanh", "the logits pass through tanh"),
    "Q7": ("reference", "local", "small batches refer to the agent's own last estimate"),
    "Q4": ("streams", "official", "one initial policy, one coin and one action stream for all seeds"),
}
CELLS: dict[str, dict[str, Any]] = {
    "K=1 paper": ALONE,
    "K=1 official": ALONE | OFFICIAL,
    "K=13 paper": ATTACKED,
    "K=13 official": ATTACKED | OFFICIAL,
    **{f"paper + {q}": ATTACKED | {"parameters": {"algo": {k: v}}} for q, (k, v, _) in QUIRKS.items()},
}
HEAD = """Made by `{command}`.

CartPole, N/B/p = 50/4/0.2, Adam with lr 5e-4; training return (mean over the last twentieth of the budget) at
trajectories per agent; {seeds} seeds, with Student's 95 % interval. The rows of the released code are fresh runs of it,
unchanged but for its budget: means over the last 100 trajectories, and in brackets the number of runs."""
READING = """The preset `official` follows the fresh runs of the released code. Both stay below the published curves
from 3,000 trajectories on, so those come from settings that were not released. The preset `paper`, the pseudo-code with
Adam, rises faster than the published curves and ends as high."""
ABLATION = """K=13, f=3, avg_zero. Each row is the preset `paper` with one habit of the code.

Squashed logits cost most: a third of the return at 4,000 trajectories, and an eighth at the end. Products of
probabilities cost less; what they do in the mean is within the spread of seeds. The void correction and the local
reference by themselves do no harm here. Seeds that share policy, coin and actions leave the mean where it is and make
the interval four to eight times narrower up to 6,000 trajectories: they are hardly repetitions. All together are slower
than any one."""
COLOURS = {"paper": "#1f5fa8", "official": "#c0504d"}


def train(job: tuple[dict[str, Any], str]) -> str:
    """One run; its folder."""
    options, out = job
    return str(byzbench.run(**options, out=out).run)


def main() -> None:
    """Run every cell, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--out", default="runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    names = [name for name in CELLS for _ in range(args.seeds)]
    jobs = [
        ({**cell, "seed": seed, "trajectories": args.trajectories}, args.out)
        for cell in CELLS.values()
        for seed in range(args.seeds)
    ]
    grid = np.arange(50, args.trajectories + 1, 50, dtype=float)
    curves: dict[str, list[np.ndarray]] = {name: [] for name in CELLS}
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as workers:
        for name, folder in zip(names, workers.map(train, jobs), strict=True):
            curves[name].append(curve(Path(folder), "return", grid))
            print(f"{name}: {curves[name][-1][-1]:.0f}", file=sys.stderr)
    stacked = {name: np.stack(values) for name, values in curves.items()}

    args.docs.mkdir(exist_ok=True)
    compare(grid, stacked, args.docs / "official.png")
    ablate(grid, stacked, args.docs / "official-quirks.png")
    command = f"python benchmarks/official.py --seeds {args.seeds} --trajectories {args.trajectories}"
    (args.docs / "official.md").write_text(page(grid, stacked, args.seeds, command))


def interval(values: np.ndarray) -> str:
    """Mean and half the width of Student's 95 % interval, over seeds."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{values.mean():.0f} ± {half:.0f}"


def released(agents: int, env: str = "CartPole") -> list[Mapping[str, Any]]:
    """Fresh runs of the released code: one agent alone, or 13 agents under avg_zero."""
    runs = json.loads((GOLDEN / "official_runs.json").read_text())["runs"]
    return [r for r in runs if r["env"] == env and r["agents"] == agents and r["trajectories"]]


def published(agents: int) -> tuple[list[float], list[float]]:
    """The published curve, as read off the figure."""
    data = digitised_curves()
    name = "PAGE-PG K=1" if agents == 1 else "DecByzPG K=13 a=3/13"
    return data["x"], data["cartpole"]["AvgZero"][name]


def page(grid: np.ndarray, curves: Mapping[str, np.ndarray], seeds: int, command: str) -> str:
    """The text, with its tables."""
    marks = [m for m in (1000, 2000, 3000, 4000, 6000, 8000) if m <= grid[-1]]
    columns = {m: int(np.searchsorted(grid, m)) for m in marks}
    head = ["| | " + " | ".join(f"{m:,}" for m in marks) + " |", "|---" * (len(marks) + 1) + "|"]

    def ours(label: str, name: str) -> str:
        return f"| {label} | " + " | ".join(interval(curves[name][:, i]) for i in columns.values()) + " |"

    lines = [
        "# The method, its released code, and the published figures",
        "",
        HEAD.format(command=command, seeds=seeds),
    ]
    for agents, title in ((1, "One agent"), (13, "K=13, f=3, avg_zero")):
        x, y = published(agents)
        drawn = dict(zip(x, y, strict=True))
        lines += ["", f"## {title}", "", *head]
        lines.append(
            "| published figure | " + " | ".join(f"{drawn[m]:.0f}" if m in drawn else "" for m in marks) + " |"
        )
        runs = released(agents)
        cells = []
        for m in marks:
            values = [r["training_return"][r["trajectories"].index(m)] for r in runs if m in r["trajectories"]]
            cells.append(f"{np.mean(values):.0f} ({len(values)})" if values else "")
        lines.append("| released code (runs) | " + " | ".join(cells) + " |")
        lines += [ours("preset official", f"K={agents} official")]
        lines += [ours("preset paper", f"K={agents} paper")]
    lines += [
        "",
        "![Curves](official.png)",
        "",
        READING,
        "",
        "## One quirk at a time",
        "",
        ABLATION,
        "",
        *head,
        ours("paper", "K=13 paper"),
        *(ours(f"{q}: {explanation} (`{k}={v}`)", f"paper + {q}") for q, (k, v, explanation) in QUIRKS.items()),
        ours("all, preset official", "K=13 official"),
        "",
        "![One quirk at a time](official-quirks.png)",
        "",
    ]
    return "\n".join(lines)


def band(axes: Any, grid: np.ndarray, curves: np.ndarray, colour: str, label: str) -> None:
    """Mean over seeds and their range."""
    axes.plot(grid, curves.mean(0), color=colour, label=label)
    axes.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)


def dress(axes: Any, title: str) -> None:
    """What all panels share."""
    axes.set(title=title, xlabel="trajectories per agent", ylim=(0, 510))
    axes.spines[["top", "right"]].set_visible(False)


def compare(grid: np.ndarray, curves: Mapping[str, np.ndarray], path: Path) -> None:
    """Figure, code and both presets, for one agent and for thirteen."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, agents in zip(figure.subplots(1, 2, sharey=True), (1, 13), strict=True):
        for preset, colour in COLOURS.items():
            band(axes, grid, curves[f"K={agents} {preset}"], colour, f"preset {preset}")
        for number, run in enumerate(released(agents)):
            label = "released code" if number == 0 else None
            axes.plot(run["trajectories"], run["training_return"], color="0.35", lw=0.8, label=label)
        axes.plot(*published(agents), "k--", lw=1.2, label="published figure")
        dress(axes, "one agent" if agents == 1 else "K=13, f=3, avg_zero")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.axes[0].set_ylabel("training return")
    figure.savefig(path, dpi=130)


def ablate(grid: np.ndarray, curves: Mapping[str, np.ndarray], path: Path) -> None:
    """Each quirk beside the preset that lacks it."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    for axes, (quirk, (key, value, _)) in zip(
        figure.subplots(1, len(QUIRKS), sharey=True), QUIRKS.items(), strict=True
    ):
        band(axes, grid, curves["K=13 paper"], COLOURS["paper"], "paper")
        band(axes, grid, curves[f"paper + {quirk}"], COLOURS["official"], f"paper + {quirk}")
        dress(axes, f"{quirk}: {key}={value}")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.axes[0].set_ylabel("training return")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
