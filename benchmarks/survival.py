"""Training under attack on CartPole: makes docs/survival.md and its picture.

    python benchmarks/survival.py [--processes 2] [--seeds 5] [--trajectories 8000]

K=13, f=3, complete graph, N/B/p = 50/4/0.2, lr 5e-4; a run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import byzbench
from byzbench.experiments.result import pool
from byzbench.reports.plots import curve

ALGORITHMS = ("decbyzpg", "dec_page_pg")
ATTACKS = ("none", "random_action", "large_noise(relative=False)", "avg_zero")


def train(cell: tuple[str, str, int, int, str]) -> byzbench.Result:
    """One run."""
    algo, attack, seed, trajectories, out = cell
    return byzbench.run(
        algo=algo,
        attack=attack,
        topology="complete",
        trajectories=trajectories,
        seed=seed,
        agents=13,
        byzantine=3,
        preset="paper",
        out=out,
    )


def main() -> None:
    """Run every cell, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--out", default="runs")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    pairs = list(product(ALGORITHMS, ATTACKS))
    cells = [(a, x, s, args.trajectories, args.out) for s in range(args.seeds) for a, x in pairs]
    results: dict[tuple[str, str], list[byzbench.Result]] = {pair: [] for pair in pairs}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.processes, mp_context=spawn) as workers:
        for (algo, attack, seed, *_), result in zip(cells, workers.map(train, cells), strict=True):
            results[algo, attack].append(result)
            print(
                f"{algo:12} {attack:14} seed {seed}: {result.final['mean']:7.1f}  {result.verdict.name}",
                file=sys.stderr,
            )

    command = f"python benchmarks/survival.py --seeds {args.seeds} --trajectories {args.trajectories}"
    page = [
        "# Training under attack on CartPole",
        "",
        "CartPole, K=13, f=3, complete graph, N/B/p = 50/4/0.2, Adam with lr 5e-4, "
        f"{args.trajectories:,} trajectories per agent,",
        f"{args.seeds} seeds; the placement of the Byzantine agents is drawn anew for each seed. Made by `{command}`.",
        "",
        "Mean training return over the last 500 trajectories, with Student's 95 % interval over seeds; then each seed.",
        "",
        "| algorithm | attack | return | 95 % interval | seeds 0, 1, ... | verdicts |",
        "|---|---|---|---|---|---|",
    ]
    for (algo, attack), runs in results.items():
        final = pool(runs).final
        each = ", ".join(f"{r.final['mean']:.0f}" for r in runs)
        verdicts = sorted({r.verdict.name for r in runs})
        interval = "" if final["low"] is None else f"{final['low']:.0f} to {final['high']:.0f}"
        page.append(f"| {algo} | {attack} | {final['mean']:.1f} | {interval} | {each} | {', '.join(verdicts)} |")
    page += ["", "![Training return against trajectories per agent](survival.png)", ""]
    args.docs.mkdir(exist_ok=True)
    (args.docs / "survival.md").write_text("\n".join(page))
    draw(results, args.trajectories, args.docs / "survival.png")


def draw(results: dict[tuple[str, str], list[byzbench.Result]], trajectories: int, path: Path) -> None:
    """One panel an attack; mean over seeds, and their range as a band."""
    grid = np.linspace(trajectories / 200, trajectories, 200)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = figure.subplots(1, len(ATTACKS), sharey=True)
    for axes, attack in zip(panels, ATTACKS, strict=True):
        for algo, colour in zip(ALGORITHMS, ("#1f5fa8", "#c0504d"), strict=True):
            curves = np.stack([curve(Path(str(r.run)), "return", grid) for r in results[algo, attack]])
            axes.plot(grid, curves.mean(0), color=colour, label=algo)
            axes.fill_between(grid, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)
        axes.set(title=attack, xlabel="trajectories per agent", xlim=(0, trajectories), ylim=(0, 510))
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("training return")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
