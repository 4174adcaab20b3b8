"""Measure the cost of attacks: shares of the wall time of a run, paired with Byzantine agents that act honestly.

    python benchmarks/attacks_cost.py [ATTACK ...] [--every 15] [--repeats 3] [--write]

DecByzPG with its defaults on CartPole, K=13, f=3. A run of 3,000 trajectories without an attack is kept at every 15th
round; from each of these states both runs, with the attack and without, do one round in turn, and the fastest of
several times counts. The length of episodes depends on the attack and is no cost of it: hooks do all their work, and
then the unchanged values are returned, so that both runs take the same steps. Times are processor time of a single
thread, so that other programs hardly matter.

Prints a table; with --write, docs/attacks-cost.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from byzbench import registry
from byzbench.core import Attack, ByzantineMessages, EnvHooks, State, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread
from byzbench.rl.rollouts import Trajectories

AGENTS, ATTACKERS, TRAJECTORIES = 13, 3, 3000
AS = {"sleeper": "sleeper(alie(z=1.5), after=0)", "markov": "markov(alie(z=1.5), on=1, off=0)"}
"""Attacks that begin later are measured while they act."""

Step = Callable[[int, np.ndarray], np.ndarray]

PAGE = """# What attacks cost

Made by `{command}`.

The time of a run beyond that of the same run in which the same Byzantine agents follow the protocol, as a share of the
latter: DecByzPG with its defaults on CartPole, K={agents}, f={attackers}, complete graph, {trajectories:,}
trajectories.
*Rollouts*: what environment hooks add, at the same steps. *Messages*: what crafting the Byzantine messages and
aggregating them adds: where Byzantine agents equivocate, every agent has an aggregation of its own, and an iterative
rule may need longer. *Crafting*: the crafting alone, also in milliseconds a round. {rounds} rounds of the run,
{repeats} times each in turn, the fastest of each, in processor time; a percentage is good to about one.

The second column says why an attack may cost more: it tries messages on a clone of the rule, or evaluates its agents'
own policy. All others are fixed formulas. Those of them that spend more than 4% themselves (rollouts and crafting) are
{dearest}.

| attack | | all | rollouts | messages | crafting | ms |
|---|---|---|---|---|---|---|
{table}
"""


@dataclass(frozen=True)
class Muted(Attack):
    """The attack with hooks that do their work and then return their input unchanged."""

    attack: Attack

    @property
    def threat(self) -> ThreatModel:
        return self.attack.threat

    def start(self, context: AttackContext) -> State:
        return self.attack.start(context)

    def targets(self, topic: str) -> bool:
        return self.attack.targets(topic)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        return self.attack.craft_messages(context, memory, rng)

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        hooks, memory = self.attack.hook_environment(context, memory, rng)
        constants = {name: np.ones_like(factors) for name, factors in (hooks.dynamics or {}).items()}
        return replace(
            hooks, action=_muted(hooks.action), observation=_muted(hooks.observation), dynamics=constants
        ), memory


def _muted(hook: Step | None) -> Step | None:
    def unchanged(t: int, x: np.ndarray) -> np.ndarray:
        assert hook is not None
        hook(t, x.copy())
        return x

    return hook and unchanged


@dataclass
class Spent:
    """Processor seconds of one round, by what they were spent on."""

    rollouts: float = 0.0
    messages: float = 0.0
    crafting: float = 0.0
    all: float = 0.0


@dataclass
class Clocked:
    """A federation whose methods are timed.

    Attributes:
        todo: the experiment.
        replayed: by round, the batch that it samples, where nothing that is measured can change it.
    """

    todo: Experiment
    replayed: dict[int, Trajectories] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Wrap the methods that are timed."""
        self.federation, self.adversary = federate(self.todo)
        self._spent, self._inside = Spent(), False
        self._sample = self.federation.sample
        methods: dict[str, Any] = vars(self.federation)
        methods["sample"] = self._sampled
        methods["aggregate"] = self._timed(self.federation.aggregate)
        for name in ("exchange", "gather", "agree"):
            methods[name] = self._timed_exchange(getattr(self.federation, name))
        vars(self.adversary)["craft_messages"] = self._timed_crafting(self.adversary.craft_messages)

    def round(self, number: int, state: State) -> tuple[State, Spent]:
        """One round from this state."""
        self._spent = Spent()
        self.federation.begin(number, 0.0)
        start = time.thread_time()
        state, _ = lockstep(self.todo.algorithm.round(self.federation, state))
        self._spent.all = time.thread_time() - start
        return state, self._spent

    def _sampled(self, theta: Tensor, count: Tensor | int) -> Trajectories:
        start = time.thread_time()
        batch = self.replayed.get(self.federation.round)
        if batch is None:
            batch = self._sample(theta, count)
        else:
            self.adversary.make_hooks(range(AGENTS), batch.mask.shape[2], 1, theta)
            self.adversary.record_rollout(range(AGENTS), batch)
        self._spent.rollouts += time.thread_time() - start
        self.batch = batch
        return batch

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return method(*args, **options)
            finally:
                self._spent.messages += time.thread_time() - start

        return timed

    def _timed_exchange(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any, **options: Any) -> Any:
            if self._inside:  # an exchange of an agreement, which is timed as a whole
                return await method(*args, **options)
            self._inside, start = True, time.thread_time()
            try:
                return await method(*args, **options)
            finally:
                self._inside = False
                self._spent.messages += time.thread_time() - start

        return timed

    def _timed_crafting(self, craft_messages: Callable[..., Any]) -> Callable[..., Any]:
        async def timed(*args: Any) -> Any:
            start = time.thread_time()
            try:
                return await craft_messages(*args)
            finally:
                self._spent.crafting += time.thread_time() - start

        return timed


@dataclass(frozen=True)
class Cost:
    """Seconds beyond those of the run without the attack, and the seconds of that run, over the measured rounds."""

    rollouts: float
    messages: float
    crafting: float
    plain: float

    @property
    def share(self) -> float:
        """The share of the wall time of the run without the attack."""
        return (self.rollouts + self.messages) / self.plain


def plain(every: int) -> tuple[Experiment, dict[int, State], dict[int, Trajectories]]:
    """The run without an attack, its state before every so-manieth round, and the batch that it sampled there."""
    todo = Experiment.create(agents=AGENTS, byzantine=ATTACKERS, trajectories=TRAJECTORIES, preset="paper")
    clocked = Clocked(todo)
    state, states, batches, number = todo.algorithm.start(clocked.federation), {}, {}, 0
    while int(clocked.federation.counters.trajectories.max()) < TRAJECTORIES:
        if number % every == 0:
            states[number] = state
        state, _ = clocked.round(number, state)
        if number in states:
            batches[number] = clocked.batch
        number += 1
    return todo, states, batches


def cost(attack: Attack, todo: Experiment, states: dict[int, State], batches: dict[int, Trajectories], n: int) -> Cost:
    """Return the cost of an attack, by the fastest of n rounds from each state."""
    replayed = {} if "environment" in attack.threat.surface else batches
    pair = [Clocked(replace(todo, attack=one), replayed) for one in (todo.attack, Muted(attack))]
    rollouts = messages = crafting = total = 0.0
    for number, state in states.items():
        best = [Spent(*[float("inf")] * 4) for _ in pair]
        for _ in range(n):
            for who, clocked in enumerate(pair):
                _, spent = clocked.round(number, state)
                for name in ("rollouts", "messages", "crafting", "all"):
                    setattr(best[who], name, min(getattr(best[who], name), getattr(spent, name)))
        clean, attacked = best
        rollouts += attacked.rollouts - clean.rollouts
        messages += attacked.messages - clean.messages
        crafting += attacked.crafting - clean.crafting
        total += clean.all
    return Cost(rollouts, messages, crafting, total)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--every", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    rows: list[tuple[str, str, Cost]] = []
    with one_thread():
        todo, states, batches = plain(args.every)
        # A run that replays what was sampled lacks the seconds of its rollouts.
        whole = cost(todo.attack, todo, states, {}, args.repeats).plain
        for name in args.attacks or registry.origins("attack"):
            written = AS.get(name, name)
            attack = registry.make("attack", written)
            assert isinstance(attack, Attack)
            measured = replace(cost(attack, todo, states, batches, args.repeats), plain=whole)
            calls, knowledge = attack.threat.query_budget, attack.threat.knowledge
            reason = f"tries {calls} messages" if calls else "its policy" if "policy" in knowledge else ""
            rows.append((written, reason, measured))
            print(written, f"{measured.share:.1%}", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: -row[2].share)
    text = PAGE.format(
        command=f"python benchmarks/attacks_cost.py --every {args.every} --repeats {args.repeats} --write",
        agents=AGENTS,
        attackers=ATTACKERS,
        trajectories=TRAJECTORIES,
        rounds=len(states),
        repeats=args.repeats,
        dearest=", ".join(
            f"`{n}` {own(measured):.1%}" for n, kind, measured in rows if not kind and own(measured) > 0.04
        )
        or "none",
        table="\n".join(line(*row, len(states)) for row in rows),
    )
    print(text)
    if args.write:
        Path("docs/attacks-cost.md").write_text(text, encoding="utf-8")


def own(measured: Cost) -> float:
    """Return the share that the Byzantine agents spend themselves."""
    return (measured.rollouts + measured.crafting) / measured.plain


def line(name: str, kind: str, measured: Cost, rounds: int) -> str:
    """A row of the table."""
    parts = (
        measured.share,
        *(part / measured.plain for part in (measured.rollouts, measured.messages, measured.crafting)),
    )
    cells = [
        f"`{name}`",
        kind,
        *(f"{max(part, 0):.1%}" for part in parts),
        f"{1000 * max(measured.crafting, 0) / rounds:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
