"""FedPG-BR on CartPole, as its authors tried it: makes docs/fedpg.md.

    python benchmarks/fedpg.py [--jobs 2] [--seeds 3]

K=10; a run that is already in `runs/` is not repeated. A quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import run
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

ROWS = (
    ("none", 0, 1000, "about 500"),
    ("none", 0, 2000, "about 500"),
    ("large_noise", 3, 2000, ""),
    ("random_action", 3, 2000, ""),
    ("sign_flip", 3, 2000, ""),
    ("normalized", 3, 2000, "101"),
)
"""Attack, f, trajectories, and what was published: by the method's authors, and by those of the last attack."""

ALGORITHMS = ("fedpg_br",)

PAGE = """# FedPG-BR

CartPole, K=10, a trusted server with an environment of its own, N and B and the step size of the released code, {seeds}
seeds; budgets count episodes of an agent, or of the server, whichever is more. Made by `{command}`.

Each cell is the evaluation return at the end of likeliest actions, as the authors evaluate, and in brackets of the
policy as trained: means over seeds.

{table}

Published is what figures of Fan et al. (2021, arXiv 2110.14074) show without Byzantine agents, and what Fang et al.
(2025) report of their attack on 30 agents of which 9 are Byzantine.
"""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    cells = {
        (algo, *row[:3]): [
            Experiment.create(algo, row[0], agents=10, byzantine=row[1], trajectories=row[2], seed=seed, preset="paper")
            for seed in range(args.seeds)
        ]
        for row in ROWS
        for algo in ALGORITHMS
    }
    todo = SweepPlan("fedpg", {c.hash: c for each in cells.values() for c in each}, {})
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        summary = run_sweep(todo, args.out, workers, callback=lambda cell, _: print(cell, file=sys.stderr))
    if summary.failed:
        raise SystemExit(f"failed: {summary.failed}")

    lines = [["attack", "f", "trajectories", *ALGORITHMS, "published"], ["---", *["--:"] * (3 + len(ALGORITHMS))]]
    for attack, f, trajectories, published in ROWS:
        shown = []
        for algo in ALGORITHMS:
            evaluations = [run(c, out=args.out).evaluation for c in cells[algo, attack, f, trajectories]]
            greedy, trained = (mean(evaluations, key) for key in ("evaluation_greedy", "evaluation"))
            shown.append(f"{greedy:.0f} ({trained:.0f})")
        lines.append([attack, str(f), f"{trajectories:,}", *shown, published])
    page = PAGE.format(
        seeds=args.seeds,
        command=f"python benchmarks/fedpg.py --seeds {args.seeds}",
        table="\n".join("| " + " | ".join(line) + " |" for line in lines),
    )
    args.docs.mkdir(exist_ok=True)
    (args.docs / "fedpg.md").write_text(page)


def mean(evaluations: list[dict[str, float | None]], key: str) -> float:
    """Return the mean over seeds; a policy that is not finite counts as 0."""
    return sum(one.get(key) or 0.0 for one in evaluations) / len(evaluations)


if __name__ == "__main__":
    main()
