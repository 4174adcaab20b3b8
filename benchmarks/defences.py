"""Every rule in training, under the standing attacks: makes docs/defences.md.

    python benchmarks/defences.py [--jobs 2] [--seeds 3] [--trajectories 500]

CartPole, dec_page_pg, K=15, f=3, complete graph; a run that is already in `runs/` is not repeated. Half an hour on two
cores.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from byzbench import registry, run
from byzbench.experiments.bench import Trial, benchmark_rules
from byzbench.experiments.runner import Result
from byzbench.experiments.verdict import mean_of
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import run_sweep
from byzbench.tasks._references import task_reference

AGENTS, BYZANTINE = 15, 3
LR = 5e-3
"""Ten times the paper's. It does not solve the task within the default budget."""

ATTACKS = ("alie(z=1.5)", "ipm", "sign_flip", "min_max")

PAGE = """# Rules in training

CartPole, `dec_page_pg`, K={agents}, f={byzantine} (Bulyan needs K >= 4f + 3), complete graph, step size
{lr:g} (ten times the paper's), {trajectories:,} trajectories per agent, {seeds} seeds. Made
by `{command}`.
The rules' parameters are their defaults: none was tuned.

Each cell is the training return over the last quarter of the trajectories, then the error of what the rule returned:
its distance from the honest agents' mean in units of their spread, the mean over rounds and honest receivers.
Returns are means over seeds.
`ms` is one call on {agents} vectors of 386 coordinates. Rows are in order of their worst return, which is
the smallest of the four and not of attacks in general. A return near 20 is that of the untrained policy; 500 is the
most there is.

There is no column without an attack. So the tables do not show how much return an attack takes from a rule, nor how
much a rule costs where there is no attack: a low return can have either cause. They compare rules under the same
attacks only; the row of `mean` is that of averaging without a defence. All returns in the tables are below half of
500, so no rule solves the task within this budget: the tables show the beginning of learning. There are no
intervals, and {seeds} seeds do not separate rows that are close.

## As the aggregator of gradients

The attacks are on gradients. There is no agreement: neighbourhood rules, marked with *, give every agent a gradient
of its own, so the agents' policies can differ.

{gradients}

## As the gossip step on parameters

Neighbourhood rules again, now for gradients and, by `--agreement gossip+rule`, for parameters; the attacks are on
both. `ubar` evaluates its neighbours' policies, which costs trajectories of its budget; gradients go through `monna`
there. How much of its low return is this cost was not measured. The error is that of the gradient step.

{gossip}
"""


def cells(rules: list[str], args: argparse.Namespace) -> dict[tuple[str, str], list[Result]]:
    """All runs of a table, by (rule, attack); neighbourhood rules as gossip, too, if that is what is asked."""
    steps = rules == neighbourly()
    results_of: dict[tuple[str, str], list[Result]] = defaultdict(list)
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        for rule in rules:
            suite = SweepGrid.of(
                {
                    "algo": "dec_page_pg",
                    "preset": "paper",
                    "attack": list(ATTACKS),
                    "topology": "complete",
                    "aggregator": "monna" if rule == "ubar" else rule,
                    "agreement": f"gossip+{rule}" if steps else "none",
                    "agents": AGENTS,
                    "byzantine": BYZANTINE,
                    "trajectories": args.trajectories,
                    "seeds": args.seeds,
                    "parameters": {"algorithm": {"lr": LR}, **({"attack": {"on": "both"}} if steps else {})},
                }
            )
            todo = plan_sweep(suite)
            if todo.undefined:
                raise SystemExit(f"{rule}: {todo.undefined}")
            summary = run_sweep(todo, args.out, workers)
            if summary.failed:
                raise SystemExit(f"{rule}: {summary.failed}")
            for cell in todo.cells.values():
                result = run(cell, out=args.out)
                results_of[rule, registry.name_of(cell.attack)].append(result)
            shown = [f"{mean_return(results_of[rule, registry.parse_spec(a).name]):.0f}" for a in ATTACKS]
            print(f"{rule:28} {'  '.join(shown)}", file=sys.stderr)
    return results_of


def mean_return(results: list[Result]) -> float:
    """Return the mean over seeds of the final return; a run that diverged has that of a random policy."""
    random = task_reference("cartpole")["random"]
    return float(np.mean([random if r.final["mean"] is None else r.final["mean"] for r in results]))


def aggregators() -> list[str]:
    """All rules that can aggregate gradients."""
    rules = [n for n, o in registry.origins("aggregator").items() if o.module.startswith("byzbench.")]
    return [name for name in rules if "evaluator" not in registry.make("aggregator", name).required_inputs]


def neighbourly() -> list[str]:
    """All rules that start from the receiver's own vector."""
    rules = [n for n, o in registry.origins("aggregator").items() if o.module.startswith("byzbench.")]
    return [name for name in rules if registry.make("aggregator", name).traits.self_centered]


def table(results_of: dict[tuple[str, str], list[Result]], times: dict[str, float | None], stars: set[str]) -> str:
    """One row a rule."""
    heads = ["rule", *ATTACKS, "worst", "ms"]
    names = [registry.parse_spec(a).name for a in ATTACKS]
    rows = []
    for rule in dict.fromkeys(rule for rule, _ in results_of):
        returns = [mean_return(results_of[rule, attack]) for attack in names]
        errors = [mean_of(r.aggregation.get("error") for r in results_of[rule, attack]) for attack in names]
        shown = [f"{r:.0f} ({'' if e is None else f'{e:.2f}'})" for r, e in zip(returns, errors, strict=True)]
        spent = times.get(rule)
        name = f"{rule} *" if rule in stars else rule
        rows.append((min(returns), [name, *shown, f"{min(returns):.0f}", "" if spent is None else f"{spent:.2f}"]))
    rows.sort(key=lambda row: -row[0])
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *(cells for _, cells in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trajectories", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    gradients, gossip = cells(aggregators(), args), cells(neighbourly(), args)
    trial = Trial(agents=AGENTS, byzantine=BYZANTINE, rounds=1)
    times = {outcome.rule: outcome.milliseconds for outcome in benchmark_rules(aggregators(), ["none"], trial)}
    stars = set(neighbourly())
    page = PAGE.format(
        agents=AGENTS,
        byzantine=BYZANTINE,
        trajectories=args.trajectories,
        lr=LR,
        seeds=args.seeds,
        command=f"python benchmarks/defences.py --seeds {args.seeds} --trajectories {args.trajectories}",
        gradients=table(gradients, times, stars),
        gossip=table(gossip, times, set()),
    )
    args.docs.mkdir(exist_ok=True)
    (args.docs / "defences.md").write_text(page)


if __name__ == "__main__":
    main()
