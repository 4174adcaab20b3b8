"""FedPG-BR as its authors tried it, and its filter on three tasks: makes docs/fedpg.md and its picture.

    python benchmarks/fedpg.py [--jobs 2] [--seeds 10]

K=10; a run that is already in `runs/` is not repeated. Twenty minutes of one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from byzbench import run
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.result import Result
from byzbench.experiments.verdict import mean_of
from byzbench.records.run_folder import RunFolder
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

CARTPOLE = {"algo": "fedpg_br", "agents": 10, "byzantine": 0, "trajectories": 2000, "preset": "paper"}
ACROBOT = {**CARTPOLE, "env": "acrobot", "trajectories": 1000}
LUNARLANDER = {**CARTPOLE, "env": "lunarlander:backend=envpool", "trajectories": 150}
GIVEN = "fedpg_filter(sigma=0.06, batch=16)"
CELLS: Mapping[str, Mapping[str, Any]] = {
    "CartPole": CARTPOLE,
    "CartPole, preset official": {**CARTPOLE, "preset": "official"},
    "CartPole, pool=episodes": {**CARTPOLE, "parameters": {"algorithm": {"pool": "episodes"}}},
    "CartPole, large_noise": {**CARTPOLE, "byzantine": 3, "attack": "large_noise"},
    "CartPole, random_action": {**CARTPOLE, "byzantine": 3, "attack": "random_action"},
    "CartPole, sign_flip": {**CARTPOLE, "byzantine": 3, "attack": "sign_flip"},
    "CartPole, ipm": {**CARTPOLE, "byzantine": 3, "attack": "ipm"},
    "CartPole, normalized": {**CARTPOLE, "byzantine": 3, "attack": "normalized"},
    "Acrobot": ACROBOT,
    "Acrobot, ipm": {**ACROBOT, "byzantine": 3, "attack": "ipm"},
    "Acrobot, ipm, CartPole's sigma": {**ACROBOT, "byzantine": 3, "attack": "ipm", "aggregator": GIVEN},
    "LunarLander": LUNARLANDER,
    "LunarLander, ipm": {**LUNARLANDER, "byzantine": 3, "attack": "ipm"},
}
"""The options of `Experiment.create` by the name of a row."""

PUBLISHED: Mapping[int, float] = {700: 500, 1000: 500, 1500: 500, 2000: 500}
"""CartPole, K=10, f=0: the return by trajectories, as read off the authors' figure, to 5 %."""

FEW_SEEDS = dict.fromkeys(("CartPole, large_noise", "CartPole, random_action", "CartPole, normalized"), 3)
"""The number of seeds of rows that have fewer than the others."""

REACHED: Mapping[str, float] = {"CartPole": 475, "Acrobot": -150}
"""The return by task that the table counts seeds above."""

FIGURE = ("CartPole", "CartPole, preset official")
MARKS = (300, 500, 700, 1000, 1500, 2000)

PAGE = """# FedPG-BR

K=10, a trusted server with an environment of its own, {seeds} seeds; budgets count episodes of an agent, or of the
server, whichever is more. Made by `{command}`.

## The authors' figure

CartPole without Byzantine agents: the return of likeliest actions, as the authors evaluate, by trajectories; means over
seeds with the 90 % interval of the mean, which the authors draw. Published is what the figure of Fan et al. (2021,
arXiv 2110.14074) shows, to 5 %.

{figure}

![Return by trajectories](fedpg.png)

The preset `official` has the released code's network, ReLU layers and squashed logits; the other row has the task's.
Where ours is below the band of 5 %, the published curve rises faster.

## The filter on three tasks

f is 3 in rows with an attack, and 0 in the others. Sigma is the filter's own estimate, but for two rows: the preset
`official`, and the one with CartPole's sigma of 0.06. Returns are those at the end, after 2,000 trajectories on
CartPole, 1,000 on Acrobot and 150 on LunarLander, where most of learning is yet to come: of likeliest actions and, in
brackets, of the policy as trained, means over seeds. The next column counts the seeds in which the latter is above
{reached}.
The last is the share of rounds in which no gradient is within 2 sigma of most others, so that the source has no
aggregate.

{table}

With an estimated sigma there always is such a gradient: see `byzbench show aggregator fedpg_filter`. Gradients on
Acrobot are not whitened, and are some hundred times as long as those that CartPole's sigma is for.

Fang et al. (2025) report 101 on CartPole under `normalized`, with 30 agents of which 9 are Byzantine.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    cells = {
        name: [Experiment.create(**cell, seed=s) for s in range(min(args.seeds, FEW_SEEDS.get(name, args.seeds)))]
        for name, cell in CELLS.items()
    }
    todo = SweepPlan("fedpg", {c.hash: c for each in cells.values() for c in each}, {})
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        summary = run_sweep(todo, args.out, workers, callback=lambda cell, _: print(cell, file=sys.stderr))
    if summary.failed:
        raise SystemExit(f"failed: {summary.failed}")
    results = {name: [run(c, out=args.out) for c in each] for name, each in cells.items()}

    args.docs.mkdir(exist_ok=True)
    grid = np.arange(100, CARTPOLE["trajectories"] + 1, 50, dtype=float)
    curves = {name: np.stack([evaluations(r, grid) for r in results[name]]) for name in FIGURE}
    draw(grid, curves, args.docs / "fedpg.png")
    page = PAGE.format(
        seeds=args.seeds,
        command=f"python benchmarks/fedpg.py --seeds {args.seeds}",
        figure=figure_table(grid, curves),
        reached=", ".join(f"{value:g} on {task}" for task, value in REACHED.items()),
        table=table(
            ["", "return", "seeds above", "rounds without a majority"],
            [row(name, results[name]) for name in CELLS],
        ),
    )
    (args.docs / "fedpg.md").write_text(page)


def folder(result: Result) -> Path:
    """Return the run folder of the result of one seed."""
    return Path(str(result.run))


def evaluations(result: Result, grid: np.ndarray) -> np.ndarray:
    """Return the returns of likeliest actions on a grid of trajectories, between evaluations on a line."""
    lines = [line for line in RunFolder(folder(result)).metrics() if line.get("evaluation_greedy") is not None]
    return np.interp(grid, [line["trajectories"] for line in lines], [line["evaluation_greedy"] for line in lines])


def half_width(values: np.ndarray) -> np.ndarray:
    """Return half the width of the normal 90 % interval of the mean over seeds, of values [seeds, points]."""
    return np.asarray(stats.norm.ppf(0.95) * stats.sem(values, axis=0))


def figure_table(grid: np.ndarray, curves: Mapping[str, np.ndarray]) -> str:
    """Return the published figure and ours as a table."""
    columns = [int(np.searchsorted(grid, mark)) for mark in MARKS]
    lines = [["published", *(f"{PUBLISHED[mark]:.0f}" if mark in PUBLISHED else "" for mark in MARKS)]]
    for name, values in curves.items():
        mean, half = values.mean(0), half_width(values)
        lines.append([name, *(f"{mean[i]:.0f} ± {half[i]:.0f}" for i in columns)])
    return table(["", *(f"{mark:,}" for mark in MARKS)], lines)


def row(name: str, results: Sequence[Result]) -> list[str]:
    """Return a line of the table of all rows; a policy that is not finite has the return 0."""
    greedy, trained = ([r.evaluation.get(key) or 0.0 for r in results] for key in ("evaluation_greedy", "evaluation"))
    reached = REACHED.get(name.partition(",")[0])
    above = "" if reached is None else f"{sum(value > reached for value in trained)} of {len(trained)}"
    shares = [mean_of(line.get("no_majority") for line in RunFolder(folder(r)).metrics()) or 0.0 for r in results]
    returns = f"{np.mean(greedy):.0f} ({np.mean(trained):.0f})"
    return [name, returns, above, f"{100 * np.mean(shares):.1f} %"]


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    rows = [head, ["---", *["--:"] * (len(head) - 1)], *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows)


def draw(grid: np.ndarray, curves: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw the published figure and ours."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    for (name, values), colour in zip(curves.items(), ("#1f5fa8", "#c0504d"), strict=True):
        mean, half = values.mean(0), half_width(values)
        axes.plot(grid, mean, color=colour, label=name)
        axes.fill_between(grid, mean - half, mean + half, color=colour, alpha=0.15, lw=0)
    axes.plot(list(PUBLISHED), list(PUBLISHED.values()), "k--", lw=1.2, label="published")
    axes.set(xlabel="trajectories per agent", ylabel="return of likeliest actions", ylim=(0, 520))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
