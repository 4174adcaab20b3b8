"""What tuning is worth: DecByzPG on CartPole, tuned on two attacks and judged on four others; makes docs/tuning.md.

    python benchmarks/tuned.py [--trials 64] [--seeds 10] [--trajectories 2000]

K=13, f=3, complete graph. A study or a run that is already in `runs/` is not repeated.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from byzbench.experiments.executors import executor
from byzbench.experiments.question import Question, question
from byzbench.experiments.suite import Plan, Suite, plan
from byzbench.experiments.sweep import sweep
from byzbench.experiments.tuned import Tuned
from byzbench.experiments.tuning import best, finished, open_study, tune
from byzbench.reports.statistics import estimate, worst_case
from byzbench.reports.studies import pictures

TUNING = ("alie(z=1.5)", "ipm")
EVALUATION = ("none", "large_noise(relative=False)", "avg_zero", "sign_flip", "min_max")
HEAD = """Made by `{command}`.

CartPole, K=13, f=3, complete graph, {trajectories:,} trajectories per agent. {trials} trials of Optuna, {pairs} runs
each, on {tuned} and seeds that no evaluation has; the objective is the worse attack's mean return. Then the parameters
are frozen and run on attacks and seeds that the search has not seen, beside those that stand without a search.

Final training return (mean over the last 500 trajectories): interquartile mean over {seeds} seeds, 95 % interval."""

READING = """Most of it is the step size: at about thirteen times the published one, the method solves the task in a
quarter of the trajectories, under attacks that the search never saw, and with rules that it did not change. The
published parameters were not chosen for so short a budget. Large batches more often (p) do the rest."""


def evaluate(suite: Suite, out: Path, jobs: int) -> Mapping[str, np.ndarray]:
    """Final returns by attack, in the order of seeds."""
    todo: Plan = plan(suite)
    with executor("process", out, jobs=jobs) as workers:
        outcomes = sweep(todo, out, workers, watch=lambda label, o: print(label, o.status, file=sys.stderr)).outcomes
    found: dict[str, list[float]] = {attack: [] for attack in suite.attack}
    for attack in suite.attack:
        for seed in suite.seeds:
            outcome = outcomes[f"{suite.algo[0]} · {attack} · seed {seed}"]
            found[attack].append(outcome.result["return"]["mean"])
    return {attack: np.array(values) for attack, values in found.items()}


def main() -> None:
    """Tune, evaluate, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trajectories", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()

    point = {"algo": "decbyzpg", "env": "cartpole", "trajectories": given.trajectories}
    asked = question("algorithm", point, TUNING)
    study = open_study(asked, given.out / "studies" / f"{asked.hash}.journal")
    with executor("process", given.out, jobs=given.jobs) as workers:
        tune(asked, study, workers, given.trials, watch=lambda t: print(t.number, t.value, file=sys.stderr))
    found, path = best(asked, study), given.out / "studies" / f"tuned-{asked.name}.json"
    found.write(path)
    drawn = {p.name: p for p in pictures(study, given.out / "studies" / asked.hash)}
    for name in ("history", "importance"):
        shutil.copy(drawn[f"{name}.png"], given.docs / f"tuning-{name}.png")

    axes: dict[str, Any] = {**point, "attack": list(EVALUATION), "seeds": given.seeds}
    standing = evaluate(Suite.of(axes), given.out, given.jobs)
    tuned = evaluate(Suite.of({**axes, "tuned": [str(path)]}), given.out, given.jobs)
    states = [trial.state.name for trial in study.trials]
    counts = {"pruned": states.count("PRUNED"), "trials": finished(study)}
    command = f"python benchmarks/tuned.py --trials {given.trials} --seeds {given.seeds}"
    command += f" --trajectories {given.trajectories}"
    head = HEAD.format(
        command=command,
        trajectories=given.trajectories,
        pairs=len(asked.pairs),
        tuned=" and ".join(f"`{attack}`" for attack in TUNING),
        seeds=given.seeds,
        trials=counts["trials"],
    )
    (given.docs / "tuning.md").write_text(page(head, asked, found, counts, standing, tuned))


def page(
    head: str,
    asked: Question,
    found: Tuned,
    counts: Mapping[str, int],
    standing: Mapping[str, np.ndarray],
    tuned: Mapping[str, np.ndarray],
) -> str:
    """The text, with its tables."""
    lines = ["# What tuning is worth", "", head, "", "| attack | without a search | tuned |", "|---|---|---|"]
    lines += [f"| {attack} | {said(standing[attack])} | {said(tuned[attack])} |" for attack in standing]
    ends = [worst_case({k: v for k, v in cells.items() if k != "none"}) for cells in (standing, tuned)]
    lines.append("| **worst of the attacks** | " + " | ".join(f"{e.name}: {said_of(e.naive)}" for e in ends) + " |")
    lines.append("| the same, cross-fitted | " + " | ".join(f"{e.crossfit:.0f}" for e in ends) + " |")
    apart = ends[1].naive.low is not None and ends[0].naive.high is not None and ends[1].naive.low > ends[0].naive.high
    verdict = (
        "The intervals of the two worst cases do not meet." if apart else "The two worst cases are not told apart."
    )
    values = [f"| {kind}.{key} | {old(asked, kind, key)} | {shown(value)} |" for kind, key, value in flat(found)]
    lines += ["", f"{verdict} {READING}", "", "| parameter | without a search | tuned |", "|---|---|---|", *values, ""]
    lines += [f"{counts['pruned']} of {counts['trials']} trials were pruned by Wilcoxon's test.", ""]
    lines += ["![The study](tuning-history.png)", "", "![Which parameters mattered](tuning-importance.png)", ""]
    return "\n".join(lines)


def said(values: np.ndarray) -> str:
    return said_of(estimate(values))


def said_of(found: Any) -> str:
    return f"{found.value:.0f} ({found.low:.0f} to {found.high:.0f})"


def flat(found: Tuned) -> list[tuple[str, str, Any]]:
    return [(kind, key, value) for kind, values in found.parameters.items() for key, value in values.items()]


def old(asked: Question, kind: str, key: str) -> str:
    return shown(asked.standing()[f"{kind}.{key}"])


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
