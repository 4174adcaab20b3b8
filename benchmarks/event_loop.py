"""Measure what an asynchronous agent costs as the federation grows: makes docs/event-loop.md.

    python benchmarks/event_loop.py [--sizes 100 1000 3000 10000] [--rounds 3]

ClippedGossip on CartPole, random 8-regular graphs, f = 1 assumed, N = 2 episodes; speeds are lognormal, latencies
exponential. One thread, processor time.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread

SCHEDULE = "asynchronous(speed=lognormal, latency=0.01, latency_law=exponential)"
PAGE = """# Cost of asynchronous agents by their number

Made by `python benchmarks/event_loop.py --sizes {sizes} --rounds {rounds}`; one thread, processor time.

ClippedGossip on CartPole, random 8-regular graphs, N = 2 episodes of each agent, `{schedule}`: every agent runs on its
own, and every message has a time of its own. After a first round of all agents the loop runs for {rounds} rounds of
each, with metrics.

| agents | an agent's round, ms | against the first size | events per second | memory, MB |
|--:|--:|--:|--:|--:|
{rows}
"""


def measure(agents: int, rounds: int) -> tuple[float, float, float]:
    """Return the milliseconds of a round of one agent, events per second, and the largest memory in MB.

    Args:
        agents: K, the number of agents.
        rounds: The rounds of each agent that are measured.
    """
    experiment = Experiment.create(
        "clipped_gossip",
        attack="none",
        topology="random_regular(degree=8)",
        schedule=SCHEDULE,
        agents=agents,
        byzantine=0,
        assumed_byzantine=1,
        trajectories=1_000_000,
        evaluations=1,
        evaluation_episodes=1,
        parameters={"algorithm": {"N": 2}},
    )
    training = Training(experiment)
    assert training.loop is not None
    with one_thread():
        lockstep(training.advance())
        events, start = training.loop.num_events, time.process_time()
        for _ in range(rounds):
            lockstep(training.advance())
        seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return 1000 * seconds / rounds / agents, (training.loop.num_events - events) / seconds, memory


def main() -> None:
    """Measure each number of agents in a process of its own, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 3000, 10000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help="measure this number of agents, and print it")
    options = parser.parse_args()
    if options.one:
        print(*measure(options.one, options.rounds))
        return
    rows, first = [], None
    for size in options.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--rounds", str(options.rounds)]
        cost, events, memory = map(float, subprocess.check_output(command, text=True).split())
        first = first or cost
        rows.append(f"| {size:,} | {cost:.2f} | {cost / first:.2f} | {events:,.0f} | {memory:,.0f} |")
        print(rows[-1], flush=True)
    sizes = " ".join(map(str, options.sizes))
    page = PAGE.format(sizes=sizes, rounds=options.rounds, schedule=SCHEDULE, rows="\n".join(rows))
    Path(__file__).parents[1].joinpath("docs", "event-loop.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
