"""Compare optimizers with and without variance reduction by whether runs stay where they arrive: docs/stability.md.

    python benchmarks/stability.py [--seeds 3] [--fresh-seeds 20] [--trajectories 2000] [--jobs 2]

CartPole, K=13, complete graph, rfa and mda. A run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from _cells import options, results
from scipy.stats import binomtest

from byzbench import registry
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.result import Result
from byzbench.identity import ENGINE
from byzbench.records.run_folder import RunFolder
from byzbench.reports.statistics import mean_interval

REACHED, STAY = 475, 400
"""The evaluation that a run must reach, and that it must not fall below afterwards."""
FIRST, FIRST_FRESH = 9300, 9400

METHODS = {
    "dec_pg": "dec_pg(N=8,baseline=others",
    "decbyzpg": "decbyzpg(N=10,B=5,p=0.5,baseline=others",
    "decbyzpg, weights <= 2": "decbyzpg(N=10,B=5,p=0.5,baseline=others,max_weight=2",
    "decbyzpg, no baseline": "decbyzpg(N=10,B=5,p=0.5",
}
STEPS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "adam, constant": ("optimizer=adam", (0.003, 0.01, 0.03)),
    "adam, linear": ("optimizer=adam,lr_schedule=linear", (0.005, 0.015, 0.05)),
    "adam, inverse_sqrt": ("optimizer=adam,lr_schedule=inverse_sqrt", (0.015, 0.05, 0.15)),
    "normalized, inverse_sqrt": ("optimizer=normalized,lr_schedule=inverse_sqrt", (0.3, 1.0, 3.0)),
    "clipped, inverse_sqrt": ("optimizer=clipped,max_norm=100,lr_schedule=inverse_sqrt", (0.003, 0.01, 0.03)),
    "sgd, constant": ("optimizer=sgd", (1e-5, 1e-4, 1e-3)),
}
"""By name, the optimizer and its schedule, and the step sizes that are tried."""
OTHERS = ("decbyzpg, weights <= 2", "decbyzpg, no baseline")
COMPARED = [(m, s) for m in METHODS for s in STEPS if m not in OTHERS or s == "adam, inverse_sqrt"]
"""The methods and optimizers of the first table: variants of `decbyzpg` with one optimizer only."""
ATTACKS = ("none", "alie", "ipm")
SEVERE = ("avg_zero", "agr_tailored", "rop")
"""Attacks of the recommended parameters; the severe ones run with half of the seeds, as searching attacks are slow."""

HEAD = """# Stability

Made by `python benchmarks/stability.py`, at engine {engine}.

CartPole, K=13, complete graph, `rfa` and `mda`, {trajectories} trajectories per agent. A run has *reached* the task if
an evaluation (the honest agents' mean return of the policy as trained) is {reached} or more, and *stayed* if no later
one is below {stay}.

"""
TRIED = """## Optimizers, with and without variance reduction

No Byzantine agents. `dec_pg` takes batches of 8 episodes, without variance reduction; `decbyzpg` PAGE with N=10, B=5,
p=0.5. Both have the baseline of other episodes (`baseline=others`); `decbyzpg` is also shown without it, and with
importance weights clipped at 2 (`max_weight=2`). Three step sizes of each, as far apart as shown; of a method and an
optimizer the one is shown that stays most often and, of those, has the largest area under the curve. {seeds} seeds.
*first* is the mean number of trajectories per agent at which an evaluation first is {reached} or more, of the runs that
reach it.

"""
CONFIRMED = """
## The recommended parameters

- `decbyzpg`: {page}. This is PAGE: half of the rounds take small batches.
- `dec_pg`: {plain}.

Up to {count} seeds that no choice has used. f=3 under an attack. In brackets the two-sided 95 % interval of Clopper and
Pearson of the share of runs that stayed; *end* is the mean of the last evaluation, with its 95 % interval, and the
lowest.

"""


def experiment(algo: str, attack: str, seed: int, trajectories: int, preset: str) -> Experiment:
    """The experiment of one run."""
    byzantine = 0 if attack == "none" else 3
    return Experiment.create(
        algo,
        attack,
        "complete",
        agents=13,
        byzantine=byzantine,
        trajectories=trajectories,
        evaluations=20,
        seed=seed,
        preset=preset,
    )


def curve(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """The trajectories and the evaluations of a run."""
    lines = [line for line in RunFolder(Path(str(result.run))).metrics() if line.get("evaluation") is not None]
    return np.array([line["trajectories"] for line in lines]), np.array([line["evaluation"] for line in lines])


def first_passage(evaluations: np.ndarray) -> int | None:
    """The index of the first evaluation that is high enough; None if there is none."""
    reached = np.flatnonzero(evaluations >= REACHED)
    return int(reached[0]) if len(reached) else None


def stayed(evaluations: np.ndarray) -> bool:
    """Return True if a run reaches the task, and never falls below the lower bound afterwards."""
    first = first_passage(evaluations)
    return first is not None and bool((evaluations[first:] >= STAY).all())


def tried(runs: Mapping[tuple[str, str, float], Sequence[Result]]) -> Iterator[str]:
    """The lines of the table of optimizers: one for each method and optimizer, at its best step size."""
    yield "| method | optimizer | lr | of | reached | stayed | first | area | end (lowest) |"
    yield "| --- | --- | --: | --- | --: | --: | --: | --: | --: |"
    for method, name in COMPARED:
        _, rates = STEPS[name]
        facts = {}
        for lr in rates:
            curves = [curve(result) for result in runs[method, name, lr]]
            firsts = [trajectories[i] for trajectories, c in curves if (i := first_passage(c)) is not None]
            area = float(np.mean([r.evaluation["evaluation_auc"] for r in runs[method, name, lr]]))
            facts[lr] = sum(stayed(c) for _, c in curves), area, firsts, [c[-1] for _, c in curves]
        best = max(facts, key=lambda lr: facts[lr][:2])
        stay, area, firsts, ends = facts[best]
        first = f"{np.mean(firsts):,.0f}" if firsts else ""
        grid = ", ".join(f"{lr:g}" for lr in rates)
        yield (
            f"| {method} | {name} | {best:g} | {grid} | {len(firsts)}/{len(ends)} | {stay}/{len(ends)} | {first} | "
            f"{area:.0f} | {np.mean(ends):.0f} ({min(ends):.0f}) |"
        )


def confirmed(runs: Mapping[tuple[str, str], Sequence[Result]]) -> Iterator[str]:
    """The lines of the table of the recommended parameters."""
    yield "| method | attack | stayed | end | lowest |"
    yield "| --- | --- | --: | --: | --: |"
    for (algo, attack), group in runs.items():
        curves = [curve(result)[1] for result in group]
        count, ends = sum(map(stayed, curves)), [float(c[-1]) for c in curves]
        share = binomtest(count, len(curves)).proportion_ci(method="exact")
        mean = mean_interval(ends)
        yield (
            f"| {algo} | {attack} | {count}/{len(curves)} ({share.low:.2f} to {share.high:.2f}) | "
            f"{mean.value:.0f} ({mean.low:.0f} to {mean.high:.0f}) | {min(ends):.0f} |"
        )


def recommended(algo: str) -> str:
    """The recommended parameters of a method, as text."""
    parameters = registry.find("algorithm", algo).recommended["cartpole"].parameters
    return ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in parameters.items()
    )


def main() -> None:
    """Run what is missing, and write the page."""
    parser = options(__doc__, seeds=3, trajectories=2000)
    parser.add_argument("--fresh-seeds", type=int, default=20)
    args: argparse.Namespace = parser.parse_args()
    seeds, fresh = range(FIRST, FIRST + args.seeds), range(FIRST_FRESH, FIRST_FRESH + args.fresh_seeds)
    half = fresh[: len(fresh) // 2]
    confirming = {("decbyzpg", attack): fresh for attack in ATTACKS} | {("decbyzpg", attack): half for attack in SEVERE}
    confirming |= {("dec_pg", attack): fresh for attack in ATTACKS}
    cells: dict[tuple[object, ...], Experiment] = {
        (algo, attack, seed): experiment(algo, attack, seed, args.trajectories, "recommended")
        for (algo, attack), several in confirming.items()
        for seed in several
    }
    settings = [(method, name, lr) for method, name in COMPARED for lr in STEPS[name][1]]
    for method, name, lr in settings:
        algo = f"{METHODS[method]},lr={lr},{STEPS[name][0]})"
        cells |= {
            (method, name, lr, seed): experiment(algo, "none", seed, args.trajectories, "paper") for seed in seeds
        }
    done = results("stability", cells, args)
    compared = {setting: [done[*setting, seed] for seed in seeds] for setting in settings}
    final = {key: [done[*key, seed] for seed in several] for key, several in confirming.items()}
    page = HEAD.format(engine=ENGINE, trajectories=f"{args.trajectories:,}", reached=REACHED, stay=STAY)
    page += TRIED.format(seeds=args.seeds, reached=REACHED) + "\n".join(tried(compared)) + "\n"
    page += CONFIRMED.format(count=args.fresh_seeds, page=recommended("decbyzpg"), plain=recommended("dec_pg"))
    page += "\n".join(confirmed(final)) + "\n"
    path = Path(args.docs) / "stability.md"
    path.write_text(page, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
