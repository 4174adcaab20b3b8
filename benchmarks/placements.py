"""The effect of the placement of Byzantine agents: makes docs/placements.md and docs/placements.png.

    python benchmarks/placements.py [--jobs 2] [--seeds 3] [--trajectories 3000]

CartPole, K=13, f=2. A run that is already in `runs/` is not repeated. An hour and a half on two cores.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from _cells import options, results
from matplotlib.figure import Figure

from byzbench import registry
from byzbench.sweeps.grid import SweepGrid, plan_sweep

ALGORITHMS = ("dec_page_pg", "decbyzpg", "clipped_gossip", "nna")
ATTACKS = ("alie(z=1.5, on=both)", "dissensus")
GRAPHS = (
    "complete",
    "random_regular(degree=6)",
    "small_world",
    "barabasi_albert(links=3)",
    "ring_of_cliques",
    "ring",
)
PLACEMENTS = ("random", "degree", "min_cut", "influence_greedy")
COLOURS = ("#8c8c8c", "#1f5fa8", "#c0504d", "#4f9d53")
MARKS = ("o", "^")

PAGE = """# Placements of the Byzantine agents

Made by `{command}`.

CartPole, K = 13, f = 2, {trajectories:,} trajectories, {seeds} seeds. A cell is the evaluation return at the end, the
mean over seeds, and in brackets the largest share of Byzantine agents in an honest agent's closed neighbourhood, the
mean over seeds: the local Byzantine weight. 500 is the largest return. A cell is empty where the rules are undefined
for the inboxes of the graph. `dissensus` crafts parameters, which `dec_page_pg` does not send.

{tables}

![Return against local Byzantine weight](placements.png)

{reading}
"""


def main() -> None:
    """Run what is missing, then write."""
    args = options(__doc__).parse_args()
    suite = {
        "algo": list(ALGORITHMS),
        "preset": "paper",
        "attack": list(ATTACKS),
        "topology": list(GRAPHS),
        "placement": list(PLACEMENTS),
        "agents": 13,
        "byzantine": 2,
        "trajectories": args.trajectories,
        "seeds": args.seeds,
    }
    cells = plan_sweep(SweepGrid.of(suite)).cells
    points_of: dict[tuple[str, ...], list[tuple[float, float]]] = defaultdict(list)
    for label, result in results("placements", cells, args).items():
        cell = cells[label]
        parts = (cell.attack, cell.algorithm, cell.topology, cell.placement)
        point = (result.evaluation["evaluation"], result.diagnostics["local_weight"])
        points_of[tuple(registry.name_of(part) for part in parts)].append((point[0] or 0.0, point[1] or 0.0))
    means = {key: tuple(np.mean(values, 0)) for key, values in points_of.items()}
    picture(means, args.docs / "placements.png")
    page = PAGE.format(
        command=f"python benchmarks/placements.py --seeds {args.seeds} --trajectories {args.trajectories}",
        trajectories=args.trajectories,
        seeds=args.seeds,
        tables="\n\n".join(table(attack, means) for attack in ATTACKS),
        reading=reading(points_of),
    )
    (args.docs / "placements.md").write_text(page)


def table(attack: str, means: dict[tuple[str, ...], tuple[float, ...]]) -> str:
    """Graphs and placements down, algorithms across."""
    lines = [f"## Under `{attack}`", "", "| graph | placement | " + " | ".join(ALGORITHMS) + " |"]
    lines.append("|---|---|" + "--:|" * len(ALGORITHMS))
    name = registry.parse_spec(attack).name
    for graph in GRAPHS:
        for placement in PLACEMENTS:
            keys = [(name, algorithm, registry.parse_spec(graph).name, placement) for algorithm in ALGORITHMS]
            cells = [f"{means[key][0]:.0f} ({means[key][1]:.2f})" if key in means else "" for key in keys]
            lines.append(f"| `{graph}` | {placement} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def reading(points_of: dict[tuple[str, ...], list[tuple[float, float]]]) -> str:
    """Return the worst cell of each algorithm, and Spearman's correlation of return and local weight over its runs."""
    from scipy.stats import spearmanr

    lines = [
        "The worst graph and placement of each method, by seed, and beside it the complete graph with a random "
        "placement:",
        "",
    ]
    for attack in ATTACKS:
        name = registry.parse_spec(attack).name
        for algorithm in ALGORITHMS:
            returns_of = {
                key[2:]: [r for r, _ in runs] for key, runs in points_of.items() if key[:2] == (name, algorithm)
            }
            graph, placement = worst = min(returns_of, key=lambda place: np.mean(returns_of[place]))
            ends, usual = (", ".join(f"{r:.0f}" for r in returns_of[at]) for at in (worst, ("complete", "random")))
            lines.append(f"- `{algorithm}` under `{attack}`: {ends} on `{graph}`, {placement}; {usual}")
    lines += ["", "Over all runs of an algorithm, the rank correlation of return and local Byzantine weight:", ""]
    for algorithm in ALGORITHMS:
        for attack in ATTACKS:
            name = registry.parse_spec(attack).name
            points = [p for key, runs in points_of.items() if key[:2] == (name, algorithm) for p in runs]
            value = spearmanr(*np.array(points).T).statistic
            lines.append(f"- `{algorithm}` under `{attack}`: {value:.2f} over {len(points)} runs")
    return "\n".join(lines)


def picture(means: dict[tuple[str, ...], tuple[float, ...]], path: Path) -> None:
    """A point a cell: colours are algorithms, marks attacks."""
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for algorithm, colour in zip(ALGORITHMS, COLOURS, strict=True):
        for attack, mark in zip(ATTACKS, MARKS, strict=True):
            points = [v for key, v in means.items() if key[:2] == (registry.parse_spec(attack).name, algorithm)]
            returns, weights = np.array(points).T
            axes.scatter(weights, returns, s=22, c=colour, marker=mark, alpha=0.8, lw=0, label=f"{algorithm}, {attack}")
    axes.set(xlabel="largest local Byzantine weight", ylabel="evaluation return", ylim=(0, 520))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
