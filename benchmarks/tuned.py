"""Measure the effect of tuning: DecByzPG on CartPole, tuned on two attacks, evaluated on others; make docs/tuning.md.

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

from byzbench.records.tuned import TunedParameters
from byzbench.reports.estimators import Interval
from byzbench.reports.ordering import Difference, pair_test
from byzbench.reports.scoring import EntryRuns, StratumRuns, score_entry
from byzbench.reports.statistics import mean_interval
from byzbench.reports.studies import pictures
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep
from byzbench.sweeps.sweep import run_sweep
from byzbench.tasks._references import task_reference
from byzbench.tuning.problem import TuningProblem, tuning_problem
from byzbench.tuning.search import best, finished, open_study, run_study

TUNING = ("alie(z=1.5)", "ipm")
EVALUATION = ("none", "large_noise(relative=False)", "avg_zero", "sign_flip", "min_max")
HEAD = """Made by `{command}`.

CartPole, K=13, f=3, complete graph, {trajectories:,} trajectories per agent. {trials} trials of Optuna, {pairs} runs
each, on {tuned} and seeds that no evaluation has;
the objective is the worse attack's mean return. Then the parameters are frozen and
run on attacks and seeds that the search has not used, beside the parameters without a search.

Final training return (mean over the last 500 trajectories): mean over {seeds} seeds, 95 % interval. The worst case over
attacks is a score: 0 is the random policy, 1 the solved task."""

BOUNDS = task_reference("cartpole")["random"], task_reference("cartpole")["solved"]
"""Returns of a random policy and of the solved task."""

READING = """The search changed the step size, to about thirteen times the published one, and with it B, p and `nu` of
the rule. No run changes one of them alone, so the gain of each was not measured; the last picture is an
estimate from the trials of the search, some of them pruned. What is shown holds for this task, this
budget, these K and f, and the one aggregator of the search. The attacks of the table have fixed formulas:
adaptive attacks and other rules were not run. The untuned method has learned little within this budget,
with or without an attack, so its column does not show what attacks take from it; larger budgets were not
compared here."""


def evaluate(suite: SweepGrid, out: Path, jobs: int) -> Mapping[str, np.ndarray]:
    """Final returns by attack, in the order of seeds."""
    todo: SweepPlan = plan_sweep(suite)
    with make_executor("process", out, jobs=jobs) as workers:
        outcomes = run_sweep(
            todo, out, workers, callback=lambda label, o: print(label, o.status, file=sys.stderr)
        ).outcomes
    returns: dict[str, list[float]] = {attack: [] for attack in suite.attack}
    for attack in suite.attack:
        for seed in suite.seeds:
            outcome = outcomes[f"{suite.algo[0]} · {attack} · seed {seed}"]
            returns[attack].append(outcome.result["return"]["mean"])
    return {attack: np.array(values) for attack, values in returns.items()}


def main() -> None:
    """Tune, evaluate, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trajectories", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()

    point = {"algo": "decbyzpg", "preset": "paper", "env": "cartpole", "trajectories": args.trajectories}
    problem = tuning_problem("algorithm", point, TUNING)
    study = open_study(problem, args.out / "studies" / f"{problem.hash}.journal")
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        run_study(problem, study, workers, args.trials, callback=lambda t: print(t.number, t.value, file=sys.stderr))
    best_parameters, path = best(problem, study), args.out / "studies" / f"tuned-{problem.name}.json"
    best_parameters.write(path)
    drawn = {p.name: p for p in pictures(study, args.out / "studies" / problem.hash)}
    for name in ("history", "importance"):
        shutil.copy(drawn[f"{name}.png"], args.docs / f"tuning-{name}.png")

    axes: dict[str, Any] = {**point, "attack": list(EVALUATION), "seeds": args.seeds}
    standing = evaluate(SweepGrid.of(axes), args.out, args.jobs)
    tuned = evaluate(SweepGrid.of({**axes, "tuned": [str(path)]}), args.out, args.jobs)
    states = [trial.state.name for trial in study.trials]
    counts = {"pruned": states.count("PRUNED"), "trials": finished(study)}
    command = f"python benchmarks/tuned.py --trials {args.trials} --seeds {args.seeds}"
    command += f" --trajectories {args.trajectories}"
    head = HEAD.format(
        command=command,
        trajectories=args.trajectories,
        pairs=len(problem.pairs),
        tuned=" and ".join(f"`{attack}`" for attack in TUNING),
        seeds=args.seeds,
        trials=counts["trials"],
    )
    (args.docs / "tuning.md").write_text(page(head, problem, best_parameters, counts, standing, tuned))


def page(
    head: str,
    problem: TuningProblem,
    best_parameters: TunedParameters,
    counts: Mapping[str, int],
    standing: Mapping[str, np.ndarray],
    tuned: Mapping[str, np.ndarray],
) -> str:
    """The text, with its tables."""
    lines = ["# What tuning is worth", "", head, "", "| attack | without a search | tuned |", "|---|---|---|"]
    lines += [
        f"| {attack} | {formatted_mean(standing[attack])} | {formatted_mean(tuned[attack])} |" for attack in standing
    ]
    entries = [scored(cells) for cells in (standing, tuned)]
    ends = [score_entry(entry) for entry in entries]
    worst = [f"{e.strata[0].worst_attack}: {formatted(e.worst, 2)}" for e in ends]
    lines.append(f"| **worst of the attacks** | {' | '.join(worst)} |")
    fitted = ["–" if e.crossfit is None else f"{e.crossfit:.2f}" for e in ends]
    lines.append(f"| the same, cross-fitted | {' | '.join(fitted)} |")
    gain = pair_test(entries[1], entries[0])
    apart = gain.low is not None and gain.low > 0
    verdict = (
        f"The worst case of the tuned method is higher by {formatted(gain, 2)}, paired by seed."
        if apart
        else ("The two worst cases are not separated.")
    )
    values = [
        f"| {kind}.{key} | {old(problem, kind, key)} | {shown(value)} |" for kind, key, value in flat(best_parameters)
    ]
    lines += ["", verdict, "", READING, "", "| parameter | without a search | tuned |", "|---|---|---|", *values, ""]
    lines += [f"{counts['pruned']} of {counts['trials']} trials were pruned by Wilcoxon's test.", ""]
    lines += ["![The study](tuning-history.png)", "", "![Which parameters mattered](tuning-importance.png)", ""]
    return "\n".join(lines)


def scored(cells: Mapping[str, np.ndarray]) -> EntryRuns:
    """Return the runs of all attacks as an entry of one stratum."""
    attacked = {attack: values for attack, values in cells.items() if attack != "none"}
    return EntryRuns((StratumRuns("cartpole", *BOUNDS, cells["none"], attacked),))


def formatted_mean(values: np.ndarray) -> str:
    return formatted(mean_interval(values, BOUNDS), 0)


def formatted(interval: Interval | Difference, decimals: int) -> str:
    if interval.low is None or interval.high is None:
        return f"{interval.value:.{decimals}f}"
    return f"{interval.value:.{decimals}f} ({interval.low:.{decimals}f} to {interval.high:.{decimals}f})"


def flat(best_parameters: TunedParameters) -> list[tuple[str, str, Any]]:
    return [(kind, key, value) for kind, values in best_parameters.parameters.items() for key, value in values.items()]


def old(problem: TuningProblem, kind: str, key: str) -> str:
    return shown(problem.defaults()[f"{kind}.{key}"])


def shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
