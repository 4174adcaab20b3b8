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

from byzbench import registry
from byzbench.experiments.bench import Trial, bench
from byzbench.experiments.executors import executor
from byzbench.experiments.metrics import mean_of
from byzbench.experiments.runner import Result, run
from byzbench.experiments.suite import Suite, plan
from byzbench.experiments.sweep import sweep
from byzbench.tasks._references import reference

AGENTS, BYZANTINE = 15, 3
LR = 5e-3
"""Ten times the paper's: the task is learnt within some hundred trajectories, or not at all."""

ATTACKS = ("alie(z=1.5)", "ipm", "sign_flip", "min_max")

PAGE = """# Rules in training

CartPole, `dec_page_pg`, K={agents}, f={byzantine} (as many as Bulyan needs), complete graph, step size
{lr:g} (ten times the paper's, so that {trajectories:,} trajectories per agent are enough to learn), {seeds} seeds. Made
by `{command}`. The rules' parameters are their defaults: none was tuned.

Each cell is the final training return, then the error of what the rule returned: its distance from the honest agents'
mean in units of their spread, the mean over rounds and honest receivers. Returns are means over seeds.
`ms` is one call on {agents} vectors of 386 coordinates. Rows are in order of their worst return. A return near 20 is
that of the untrained policy; 500 is the most there is.

Read it with care. These attacks, from {byzantine} of {agents} agents, hardly harm the plain mean on this task: its
error is the yardstick for what a rule gains, and a rule far below it in return loses more by its own doing,
or to an attack made for its kind, than the liars take from the mean.
Between neighbours in the table {seeds} seeds decide nothing.

## As the aggregator of gradients

The liars speak about gradients. There is no agreement: neighbourhood rules, marked with *, give every agent a gradient
of its own, and the agents' policies drift apart.

{gradients}

## As the gossip step on parameters

Neighbourhood rules again, now for gradients and, by `--agreement gossip+rule`, for parameters; the liars speak about
both. `ubar` tries its neighbours' policies out, which costs it trajectories of its budget; gradients go through `monna`
there. The error is that of the gradient step.

{gossip}
"""


def cells(rules: list[str], given: argparse.Namespace) -> dict[tuple[str, str], list[Result]]:
    """All runs of a table, by (rule, attack); neighbourhood rules as gossip, too, if that is what is asked."""
    steps = rules == neighbourly()
    found: dict[tuple[str, str], list[Result]] = defaultdict(list)
    with executor("process", given.out, jobs=given.jobs) as workers:
        for rule in rules:
            suite = Suite.of(
                {
                    "algo": "dec_page_pg",
                    "preset": "paper",
                    "attack": list(ATTACKS),
                    "topology": "complete",
                    "aggregator": "monna" if rule == "ubar" else rule,
                    "agreement": f"gossip+{rule}" if steps else "none",
                    "agents": AGENTS,
                    "byzantine": BYZANTINE,
                    "trajectories": given.trajectories,
                    "seeds": given.seeds,
                    "parameters": {"algorithm": {"lr": LR}, **({"attack": {"on": "both"}} if steps else {})},
                }
            )
            todo = plan(suite)
            if todo.undefined:
                raise SystemExit(f"{rule}: {todo.undefined}")
            summary = sweep(todo, given.out, workers)
            if summary.failed:
                raise SystemExit(f"{rule}: {summary.failed}")
            for cell in todo.cells.values():
                result = run(cell, out=given.out)
                found[rule, registry.name_of(cell.attack)].append(result)
            shown = [f"{mean_return(found[rule, registry.parse(a).name]):.0f}" for a in ATTACKS]
            print(f"{rule:28} {'  '.join(shown)}", file=sys.stderr)
    return found


def mean_return(results: list[Result]) -> float:
    """Return the mean over seeds of the final return; a run that diverged has that of a random policy."""
    random = reference("cartpole")["random"]
    return float(np.mean([random if r.final["mean"] is None else r.final["mean"] for r in results]))


def aggregators() -> list[str]:
    """All rules that can aggregate gradients."""
    rules = [n for n, o in registry.origins("aggregator").items() if o.module.startswith("byzbench.")]
    return [name for name in rules if "judge" not in registry.load("aggregator", name).asks]


def neighbourly() -> list[str]:
    """All rules that start from the receiver's own vector."""
    rules = [n for n, o in registry.origins("aggregator").items() if o.module.startswith("byzbench.")]
    return [name for name in rules if registry.load("aggregator", name).self_centred]


def table(found: dict[tuple[str, str], list[Result]], times: dict[str, float | None], stars: set[str]) -> str:
    """One row a rule."""
    heads = ["rule", *ATTACKS, "worst", "ms"]
    names = [registry.parse(a).name for a in ATTACKS]
    rows = []
    for rule in dict.fromkeys(rule for rule, _ in found):
        returns = [mean_return(found[rule, attack]) for attack in names]
        errors = [mean_of(r.aggregation.get("error") for r in found[rule, attack]) for attack in names]
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
    given = parser.parse_args()
    gradients, gossip = cells(aggregators(), given), cells(neighbourly(), given)
    trial = Trial(agents=AGENTS, byzantine=BYZANTINE, rounds=1)
    times = {outcome.rule: outcome.milliseconds for outcome in bench(aggregators(), ["none"], trial)}
    stars = set(neighbourly())
    page = PAGE.format(
        agents=AGENTS,
        byzantine=BYZANTINE,
        trajectories=given.trajectories,
        lr=LR,
        seeds=given.seeds,
        command=f"python benchmarks/defences.py --seeds {given.seeds} --trajectories {given.trajectories}",
        gradients=table(gradients, times, stars),
        gossip=table(gossip, times, set()),
    )
    given.docs.mkdir(exist_ok=True)
    (given.docs / "defences.md").write_text(page)


if __name__ == "__main__":
    main()
