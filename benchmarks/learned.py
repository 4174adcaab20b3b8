"""Measure what a federation of five honest agents learns: makes docs/learned.md and its picture.

    python benchmarks/learned.py [--jobs 2] [--seeds 3] [--page]

fed_ppo as it comes, K=5, f=0; a run that is already in `runs/` is not repeated. With `--page` nothing is run: the page
is made of the runs that are there, also of those that earlier code made or that have only spent the steps that count.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _cells import results
from matplotlib.figure import Figure

from byzbench.experiments.experiment import Experiment
from byzbench.records.run_folder import RunFolder
from byzbench.tasks._references import task_references

SPREAD = "pettingzoo:mpe2/simple_spread_v3"

LIMIT = 2_000_000
"""Steps of all agents together; what is learned later does not count."""


@dataclass(frozen=True)
class Goal:
    """What a task is to return after so many trajectories of each agent; None where that is measured."""

    env: str
    trajectories: int
    target: float | None
    scenario: str = "none"

    @property
    def command(self) -> str:
        scenario = "" if self.scenario == "none" else f" --scenario {self.scenario}"
        return (
            f"byzbench run --algo fed_ppo --env {self.env}{scenario} --agents 5 --byzantine 0 "
            f"--trajectories {self.trajectories}"
        )


GOALS = {
    "CartPole": Goal("cartpole", 200, 475.0),
    "LunarLander": Goal("lunarlander:backend=envpool", 500, 200.0),
    "Pendulum": Goal("pendulum", 240, -250.0, "normalized:episodes=2"),
    "Hopper": Goal("hopper:backend=envpool", 1000, 1500.0, "normalized:episodes=8"),
    "simple_spread": Goal(SPREAD, 500, None),
}
ALONE = "simple_spread, alone"

WITHOUT: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "whole returns less the critic's value (lambda = 1)": {"gae_lambda": 1.0},
    "one pass instead of eight": {"epochs": 1},
    "no entropy bonus": {"ent_coef": 0.0},
    "a constant step size": {"lr_schedule": "constant"},
    "the task's discount": {"discount": None},
    "returns not in units (u = 1)": {"return_scale": 1.0},
}
"""What is taken away from LunarLander, one at a time."""
ABLATED = (0,)
"""The seeds of that."""

PAGE = """# What five honest agents learn

`fed_ppo` with the parameters that it suggests for each task, five agents, none of them Byzantine (f = 0), updates
aggregated by the geometric median. Made by `{command}`, from
{runs} of

<!-- not run by a test: they take minutes; `benchmarks/learned.py` runs them -->
```sh
{commands}
```

with `--seed` from 0. The figure that counts is the evaluation return of the last record within {limit:,} steps: fresh
episodes, ten of each agent, of the policy as it is trained, which draws its actions. Beside it stands the mean of
likeliest actions, of runs that end within the limit. Steps are those of all agents together, trajectories those of
each.

| task | trajectories | steps in all | target | evaluation return, by seed | mean | likeliest actions | reached by |
|---|--:|--:|--:|---|--:|--:|---|
{table}

![Learning curves](learned.png)

Thin lines are seeds, the thick one their mean as far as all go, dots the target; grey dots are random play.

## simple_spread

The target is half of the way from random play ({random:.1f}) to one agent that learns by itself, by the same method and
with the same parameters, from as many episodes as the five have together: {alone} by seed,
{solo:.1f} in the mean.

## What lands

{lander}
"""

LANDER = """\
In 8,000 trajectories an agent, policy gradients without a critic [do not land](lunarlander.md). What is here and not
there: a critic, which also bootstraps episodes cut off at the horizon; generalised advantages by it, measured by
their own deviation; several clipped passes over a batch; an entropy bonus; a step size that decays to zero; and a
discount of 0.99 where the task has 0.999, so that a landing now is worth more than one after more hovering."""

ABLATION = """

With one of them taken away, everything else as above, seed 0:

| | evaluation return | likeliest actions |
|---|--:|--:|
{rows}

{needed}"""


def alone(seed: int) -> Experiment:
    """One agent with the episodes of five."""
    count = 5 * GOALS["simple_spread"].trajectories
    return Experiment.create(
        "fed_ppo", env=SPREAD, agents=1, byzantine=0, aggregator="mean", trajectories=count, seed=seed
    )


def together(goal: Goal, seed: int, **parameters: Any) -> Experiment:
    return Experiment.create(
        "fed_ppo",
        env=goal.env,
        scenario=goal.scenario,
        agents=5,
        byzantine=0,
        trajectories=goal.trajectories,
        seed=seed,
        parameters={"algorithm": parameters},
    )


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--page", action="store_true", help="run nothing")
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    seeds = range(args.seeds)
    cells = {name: [together(goal, seed) for seed in seeds] for name, goal in GOALS.items()}
    cells[ALONE] = [alone(seed) for seed in seeds]
    cells |= {
        name: [together(GOALS["LunarLander"], seed, **less) for seed in ABLATED] for name, less in WITHOUT.items()
    }
    if not args.page:
        results("learned", {(name, cell.seed): cell for name, each in cells.items() for cell in each}, args)
    runs_of = {name: list(stored(args.out / cell.hash for cell in each)) for name, each in cells.items()}
    (args.docs / "learned.md").write_text(page(runs_of, args))
    draw(runs_of, targets(runs_of), args.docs / "learned.png")


@dataclass(frozen=True)
class Learned:
    """What a run came to within the steps that count.

    Attributes:
        steps, returns: of its evaluations.
        greedy: of likeliest actions, at the end; None if that is beyond the limit.
    """

    steps: np.ndarray
    returns: np.ndarray
    greedy: float | None


def stored(folders: Iterable[Path]) -> Iterator[Learned]:
    """The runs that are finished, or past the limit."""
    for folder in map(RunFolder, folders):
        result, lines = folder.result(), list(folder.metrics()) if folder.path.exists() else []
        if result is None and not (lines and lines[-1]["steps"] > LIMIT):
            continue
        counted = [line for line in lines if "evaluation" in line and line["steps"] <= LIMIT]
        steps, returns = (np.array([line[key] for line in counted], float) for key in ("steps", "evaluation"))
        yield Learned(steps, returns, counted[-1].get("evaluation_greedy"))


def targets(runs_of: Mapping[str, Sequence[Learned]]) -> dict[str, float]:
    """Return the target of each task."""
    return {
        name: (randomly(name) + ends(runs_of[ALONE]).mean()) / 2 if goal.target is None else goal.target
        for name, goal in GOALS.items()
        if runs_of[name]
    }


def randomly(name: str) -> float:
    """Return the mean return of random play."""
    env = GOALS[name].env
    return task_references()[env if env == SPREAD else env.partition(":")[0]]["random"]


def ends(runs: Sequence[Learned]) -> np.ndarray:
    """The last evaluations, by seed."""
    return np.array([one.returns[-1] for one in runs])


def likeliest(runs: Sequence[Learned], digits: int = 0) -> str:
    """The mean over those runs that end within the limit."""
    values = [one.greedy for one in runs if one.greedy is not None]
    return f"{np.mean(values):,.{digits}f}" if values else "-"


def formatted(values: np.ndarray, digits: int = 0) -> str:
    return ", ".join(f"{value:,.{digits}f}" for value in values)


def page(runs_of: Mapping[str, Sequence[Learned]], args: argparse.Namespace) -> str:
    """The text, with its tables."""
    rows, wanted = [], targets(runs_of)
    for name, target in wanted.items():
        goal, values = GOALS[name], ends(runs_of[name])
        digits = 1 if goal.target is None else 0
        steps = np.mean([one.steps[-1] for one in runs_of[name]])
        reached = f"{(values >= target).sum()} of {len(values)}"
        rows.append(
            f"| {name} | {goal.trajectories:,} | {steps:,.0f} | {target:,.{digits}f} | {formatted(values, digits)} | "
            f"{values.mean():,.{digits}f} | {likeliest(runs_of[name], digits)} | {reached} |"
        )
    lacking = [name for name, less in WITHOUT.items() if less and runs_of[name]]
    missed = [name for name in lacking if ends(runs_of[name]).mean() < wanted["LunarLander"]]
    by_self = ends(runs_of[ALONE])
    rests = [
        f"| {name} | {formatted(ends(runs_of[name]))} | {likeliest(runs_of[name])} |"
        for name in WITHOUT
        if runs_of[name]
    ]
    return PAGE.format(
        command=f"python benchmarks/learned.py --seeds {args.seeds}" + (" --page" if args.page else ""),
        limit=LIMIT,
        runs="runs, some by earlier code, that are finished or past the limit," if args.page else "runs",
        commands="\n".join(goal.command for goal in (GOALS[name] for name in wanted)),
        table="\n".join(rows),
        random=randomly("simple_spread"),
        alone=formatted(by_self, 1),
        solo=by_self.mean(),
        lander=LANDER + (ABLATION.format(rows="\n".join(rests), needed=needed(missed, lacking)) if lacking else ""),
    )


def needed(missed: Sequence[str], lacking: Sequence[str]) -> str:
    """Return the sentence on the parts without which LunarLander misses its target."""
    if not missed:
        return "It lands without any of them: no single one is what does it."
    rest = [name for name in lacking if name not in missed]
    text = f"Below the target it ends with: {'; '.join(missed)}."
    if rest:
        text += f" Not needed, as far as one seed shows: {'; '.join(rest)}."
    return textwrap.fill(text, 120)


def draw(runs_of: Mapping[str, Sequence[Learned]], wanted: Mapping[str, float], path: Path) -> None:
    """A panel a task: evaluation return against the steps of all agents together."""
    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplots(2, 3).flat
    for name, axes in zip(wanted, panels, strict=False):
        curves = [(one.steps, one.returns) for one in runs_of[name]]
        for steps, values in curves:
            axes.plot(steps, values, color="#1f5fa8", lw=0.7, alpha=0.6)
        grid = np.linspace(max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves), 200)
        axes.plot(grid, np.mean([np.interp(grid, *one) for one in curves], 0), color="#1f5fa8", lw=2)
        axes.axhline(wanted[name], color="k", lw=1, ls=":")
        axes.axhline(randomly(name), color="0.6", lw=1, ls=":")
        axes.set(title=name, xlabel="steps of all agents", ylabel="evaluation return")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:
        axes.set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
