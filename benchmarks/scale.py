"""What a round costs an agent as the federation grows: makes docs/scale.md and docs/scale.png.

    python benchmarks/scale.py [--repeats 3]

ClippedGossip on CartPole, random 8-regular graphs, f = 2 assumed, N=4 episodes; one thread, processor time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from byzbench import registry
from byzbench.core import Aggregator, RuleContext
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread

SIZES = (100, 300, 1_000, 3_000, 10_000)
RULES = ("self_centered_clipping", "monna", "ios", "bridge", "cs_plus", "gts", "balance", "w_msr")

PAGE = """# Cost of a round by the number of agents

Made by `python benchmarks/scale.py --repeats {repeats}`; one thread, processor time, the least of {repeats} times.

## A round

ClippedGossip on CartPole, random 8-regular graphs, d = 386, N = 4 episodes an agent, the second round of a run:
rollouts, gradients, the step, the exchange and the rule at every agent. *Gossip* is the exchange and the rule alone.

| agents | a round, s | an agent, ms | gossip, s | an agent, ms |
|--:|--:|--:|--:|--:|
{rounds}

![Cost per agent against agents](scale.png)

## One gossip step of K = 1,000

Each neighbourhood rule on the inboxes of 1,000 agents, beside the same rule called for one receiver after another.

| rule | all at once, ms | a loop, ms | times as fast |
|---|--:|--:|--:|
{rules}
"""


def least(call: Callable[[], object], repeats: int) -> float:
    """Seconds of processor time, the least of some."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def second_round(todo: Experiment) -> tuple[Callable[[], object], Callable[[], object]]:
    """Two functions: the second round of a run, and what its agents do together with their parameters."""
    federation, _ = federate(todo)
    state = todo.algorithm.start(federation)
    federation.begin(0, 0.0)
    state, _ = lockstep(todo.algorithm.round(federation, state))

    def whole() -> None:
        federation.begin(1, 0.0)
        lockstep(todo.algorithm.round(federation, state))

    def together() -> None:
        federation.begin(1, 0.0)
        lockstep(federation.agree(state["theta"], state))

    return whole, together


def rounds(repeats: int) -> list[tuple[int, float, float]]:
    """Agents, and the seconds of a round and of its gossip."""
    seconds = []
    for agents in SIZES:
        todo = Experiment.create(
            "clipped_gossip",
            topology="random_regular(degree=8)",
            agents=agents,
            byzantine=0,
            assumed_byzantine=2,
            parameters={"algorithm": {"N": 4}},
        )
        whole, together = second_round(todo)
        seconds.append((agents, least(whole, repeats), least(together, repeats)))
        print(*seconds[-1], flush=True)
    return seconds


def rules(repeats: int) -> list[str]:
    """A line for each rule."""
    todo = Experiment.create(
        "clipped_gossip", topology="random_regular(degree=8)", agents=1000, byzantine=0, assumed_byzantine=2
    )
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((1000, 386)).astype(np.float32))
    inbox = lockstep(federation.exchange("parameters", x))
    lines = []
    for name in RULES:
        rule = registry.make("aggregator", name)
        assert isinstance(rule, Aggregator)

        def one_by_one() -> None:
            for a in range(1000):
                part = inbox.select(torch.tensor([a]))
                assert part.weights is not None
                context = RuleContext(own=part.own[0], weights=part.weights[0])
                rule.aggregate(part.base[part.senders[0]], part.f[0], context)  # noqa: B023

        def together() -> None:
            federation.combine(rule, inbox)  # noqa: B023

        whole, loop = least(together, repeats), least(one_by_one, 1)
        lines.append(f"| `{name}` | {whole * 1e3:,.0f} | {loop * 1e3:,.0f} | {loop / whole:.1f} |")
        print(lines[-1], flush=True)
    return lines


def picture(seconds: list[tuple[int, float, float]], path: Path) -> None:
    """Milliseconds per agent, both axes logarithmic."""
    agents, whole, gossip = np.array(seconds).T
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog(agents, 1e3 * whole / agents, "o-", color="#1f5fa8", label="a round")
    axes.loglog(agents, 1e3 * gossip / agents, "s-", color="#c0504d", label="its gossip")
    axes.set(xlabel="agents", ylabel="ms per agent", ylim=(0.01, 10))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    args = parser.parse_args()
    with one_thread():
        seconds, lines = rounds(args.repeats), rules(args.repeats)
    picture(seconds, args.docs / "scale.png")
    table = "\n".join(f"| {k:,} | {a:.2f} | {1e3 * a / k:.2f} | {g:.3f} | {1e3 * g / k:.3f} |" for k, a, g in seconds)
    page = PAGE.format(repeats=args.repeats, rounds=table, rules="\n".join(lines))
    (args.docs / "scale.md").write_text(page)


if __name__ == "__main__":
    main()
