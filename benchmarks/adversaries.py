"""Which attack breaks which rule: makes docs/adversaries.md.

    python benchmarks/adversaries.py [--jobs 2] [--seeds 5] [--trajectories 5000]

CartPole, decbyzpg, K=13, f=3, complete graph; a run that is already in `runs/` is not repeated. Hours on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from byzbench import registry, run
from byzbench.reports.estimators import Interval
from byzbench.reports.plots import trace
from byzbench.reports.statistics import mean_interval
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepGrid, plan_sweep
from byzbench.sweeps.sweep import run_sweep
from byzbench.tasks._references import task_reference

FIXED = ("large_noise", "sign_flip", "random_action", "avg_zero", "ipm", "alie(z=1.5)", "min_max", "mimic")
ADAPTIVE = ("rop", "optimal_ipm", "optimal_alie", "agr_tailored")
"""They use the output of the rule in the last round, or try candidates on a copy of it."""

RULES = ("mean", "rfa", "krum", "nnm+trimmed_mean", "centered_clipping")

PAGE = """# Which attack breaks which rule

CartPole, `decbyzpg`, K=13, f=3, complete graph, {trajectories:,} trajectories per agent, {seeds} seeds; the rule
aggregates gradients, and agreement is exact MDA. Attacks act on gradients, `random_action` on the environment. The
method has the paper's parameters (lr 5e-4, N/B/p = 50/4/0.2), attacks and rules have their defaults: none was tuned.
Made by `{command}`.

Each cell is the area under the evaluation curve: the honest agents' evaluation return averaged over the budget, its
mean over seeds and, in brackets, the 95 % interval.
500 is the most there is, and a policy that learns nothing stays near 22. Attacks above the line do not use the rule;
those below adapt to it: they use its last output, or try candidates on a copy of it.

{table}

## What breaks what

Listed are the attacks whose interval lies below that of the same rule without an attack, with the share of the clean
area that they take. Where intervals overlap, these seeds do not decide. It does not follow that an attack does no harm:
a loss can be large and its interval wide, as the next section shows. Pairs of runs of one seed were not used.

{broken}

Parameters are part of the result. In a separate small probe, not made by a committed command, `rop` broke `rfa` with
MDA inside the bound of the method: with small batches (N=8, B=4, p=0.3, lr 0.01; CartPole, K=13, f=3, complete graph,
300 trajectories, seeds 0, 1, 2) the evaluation returns were 495, 500, 496 without an attack and 116, 137, 57 under
`rop`.

## Do adaptive attacks hurt more?

For each rule the adaptive and the fixed attack that leave least are chosen on the seeds on which they are reported, so
both are somewhat too low.

{adaptive}
"""


def areas(args: argparse.Namespace) -> dict[tuple[str, str], list[float]]:
    """The area under each seed's evaluation curve, by (attack, rule)."""
    suite = SweepGrid.of(
        {
            "algo": "decbyzpg",
            "preset": "paper",
            "attack": ["none", *FIXED, *ADAPTIVE],
            "aggregator": list(RULES),
            "topology": "complete",
            "agents": 13,
            "byzantine": 3,
            "trajectories": args.trajectories,
            "seeds": args.seeds,
        }
    )
    todo, areas_of = plan_sweep(suite), defaultdict(list)
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        summary = run_sweep(
            todo, args.out, workers, callback=lambda label, _: print(label, file=sys.stderr, flush=True)
        )
    if summary.failed:
        raise SystemExit(f"failed: {summary.failed}")
    for cell in todo.cells.values():
        at, values = trace(Path(str(run(cell, out=args.out).run)), "evaluation")
        attack, rule = registry.name_of(cell.attack), registry.name_of(cell.aggregator)
        areas_of[attack, rule].append(float(np.sum(values * np.diff(at)) / at[-1]))
    return areas_of


def cell(interval: Interval) -> str:
    """A number and its interval."""
    return (
        f"{interval.value:.0f}"
        if interval.low is None
        else f"{interval.value:.0f} ({interval.low:.0f} to {interval.high:.0f})"
    )


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    areas_of = areas(args)
    known = task_reference("cartpole")
    means = {key: mean_interval(values, (known["random"], known["solved"])) for key, values in areas_of.items()}
    rules = {rule: registry.parse_spec(rule).name for rule in RULES}
    fixed, adaptive = ({a: registry.parse_spec(a).name for a in group} for group in (FIXED, ADAPTIVE))

    lines = [["attack", *RULES], ["---", *["--:"] * len(RULES)]]
    for attack, name in {"none": "none", **fixed, **adaptive}.items():
        lines.append([attack, *(cell(means[name, rule]) for rule in rules.values())])
    lines.insert(3 + len(fixed), ["---"] * (1 + len(RULES)))

    broken, compared = [], []
    for rule, name in rules.items():
        clean = means["none", name]
        hurt = {
            attack: 1 - means[key, name].value / clean.value
            for attack, key in {**fixed, **adaptive}.items()
            if below(means[key, name], clean)
        }
        shares = ", ".join(f"`{a}` ({share:.0%})" for a, share in sorted(hurt.items(), key=lambda pair: -pair[1]))
        broken.append(f"- `{rule}`: {shares or 'no interval lies below the clean one'}.")
        worst = [min(group, key=lambda a: means[group[a], name].value) for group in (fixed, adaptive)]
        one, other = (means[group[a], name] for group, a in zip((fixed, adaptive), worst, strict=True))
        x, y = (np.array(areas_of[group[a], name]) for group, a in zip((fixed, adaptive), worst, strict=True))
        odds = float(((x[:, None] > y) + 0.5 * (x[:, None] == y)).mean())
        same = "no difference is shown"
        more = "adaptive ones hurt more" if below(other, one) else "fixed ones hurt more" if below(one, other) else same
        compared.append(
            f"- `{rule}`: of {clean.value:.0f} without an attack, the worst adaptive attack, `{worst[1]}`, leaves "
            f"{other.value:.0f} ({1 - other.value / clean.value:.0%} less), the worst fixed one, `{worst[0]}`, "
            f"{one.value:.0f}; {more} (a run under the fixed one has the larger area with probability {odds:.2f})."
        )
    page = PAGE.format(
        seeds=args.seeds,
        trajectories=args.trajectories,
        command=f"python benchmarks/adversaries.py --seeds {args.seeds} --trajectories {args.trajectories}",
        table="\n".join("| " + " | ".join(line) + " |" for line in lines),
        broken="\n".join(broken),
        adaptive="\n".join(compared),
    )
    args.docs.mkdir(exist_ok=True)
    (args.docs / "adversaries.md").write_text(page)


def below(one: Interval, other: Interval) -> bool:
    """Return True if the interval of one lies below the other's."""
    return one.high is not None and other.low is not None and one.high < other.low


if __name__ == "__main__":
    main()
