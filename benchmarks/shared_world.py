"""Five agents in one game: makes docs/shared-world.md.

    python benchmarks/shared_world.py [--jobs 2] [--seeds 3] [--trajectories 2000]

simple_spread with five players, each of whom is an agent of the federation; a run that is already in `runs/` is not
repeated.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from _cells import options, results

from byzbench import registry
from byzbench.core import Task
from byzbench.experiments.experiment import Experiment
from byzbench.reports.plots import curve
from byzbench.tasks._references import random_returns

GAME = "pettingzoo(id='mpe2/simple_spread_v3', options='N=5', world=shared)"
METHODS: dict[str, dict[str, Any]] = {
    "federated averaging (`fed_ppo`, mean)": {"algo": "fed_ppo", "aggregator": "mean"},
    "`fed_ppo`, geometric median": {"algo": "fed_ppo"},
    "`decbyzpg`": {
        "algo": "decbyzpg",
        "parameters": {"algorithm": {"lr": 1e-3, "B": 13, "p": 0.5, "baseline": "others"}},
    },
}
ATTACKS: dict[str, dict[str, Any]] = {
    "none Byzantine": {"byzantine": 0},
    "acts at random": {"byzantine": 1, "attack": "random_action"},
    "large_noise": {"byzantine": 1, "attack": "large_noise"},
    "sign_flip": {"byzantine": 1, "attack": "sign_flip"},
}

PAGE = """# Five agents in one game

Made by `{command}`.

`simple_spread` of PettingZoo with five players, all in the same game: each is an agent of the federation, learns
from its own observations and rewards, and affects the others through its messages and its actions. One of the five is
Byzantine: it acts at random, whatever it has learned, or plays by its policy and sends Byzantine messages.
{trajectories:,} games, {seeds} seeds. `decbyzpg` measures returns from those of other games and takes large batches
every other time, at twice its step size (`baseline=others,p=0.5,B=13,lr=1e-3`).

Each cell is the honest players' return, averaged over the last tenth of the games that they learn from: the mean over
seeds, and in brackets the least and the most. Random players return {random:.1f} ({games:,} games, standard
error {error:.1f}).

{table}

{sentences}
"""


def main() -> None:
    """Run what is missing, then write."""
    args = options(__doc__, trajectories=2000).parse_args()
    todo = {
        (method, attack, seed): Experiment.create(
            **rules, **attack_axes, env=GAME, agents=5, trajectories=args.trajectories, seed=seed
        )
        for method, rules in METHODS.items()
        for attack, attack_axes in ATTACKS.items()
        for seed in range(args.seeds)
    }
    ends: dict[tuple[str, str], list[float]] = defaultdict(list)
    for (method, attack, _), result in results("shared world", todo, args).items():
        last = np.array([0.95, 1.0]) * args.trajectories
        ends[method, attack].append(float(curve(Path(str(result.run)), "return", last).mean()))
    task = registry.make("task", GAME)
    assert isinstance(task, Task)
    chance = random_returns(task, 500, np.random.default_rng(0), agents=5)
    page = PAGE.format(
        command=f"python benchmarks/shared_world.py --seeds {args.seeds} --trajectories {args.trajectories}",
        trajectories=args.trajectories,
        seeds=args.seeds,
        random=chance.mean(),
        games=len(chance),
        error=chance.std(ddof=1) / len(chance) ** 0.5,
        table=table(ends),
        sentences="\n".join(sentence(method, ends, float(chance.mean())) for method in METHODS),
    )
    (args.docs / "shared-world.md").write_text(page)


def table(ends: dict[tuple[str, str], list[float]]) -> str:
    """A row a method, a column an attack."""
    lines = [["method", *ATTACKS], ["---", *["--:"] * len(ATTACKS)]]
    for method in METHODS:
        cells = [ends[method, attack] for attack in ATTACKS]
        lines.append([method, *(f"{np.mean(x):.1f} ({min(x):.1f} to {max(x):.1f})" for x in cells)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def sentence(method: str, ends: dict[tuple[str, str], list[float]], chance: float) -> str:
    """The share of the improvement over random players that each attack leaves."""
    clean, *attacked = ({attack: float(np.mean(ends[method, attack]))} for attack in ATTACKS)
    (learned,) = (value - chance for value in clean.values())
    if learned <= 0:
        return f"- {method} learns nothing here, even without a Byzantine agent."
    left = ", ".join(f"{(v - chance) / learned:.0%} under {a}" for part in attacked for a, v in part.items())
    return (
        f"- {method}: of the {learned:.1f} points that learning gains without a Byzantine agent, there are left {left}."
    )


if __name__ == "__main__":
    main()
