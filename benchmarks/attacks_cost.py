"""What attacks cost: each one's share of the wall time of a run, paired with attackers who do nothing.

    python benchmarks/attacks_cost.py [ATTACK ...] [--every 15] [--repeats 3] [--write]

DecByzPG with its defaults on CartPole, K=13, f=3. A run of 3,000 trajectories without an attack is kept at every 15th
round; from each of these states both runs, with the attack and without, do one round in turn, and the fastest of
several times counts. How long episodes are depends on what attackers do, and is no cost of theirs: taps do all that
they do, and then the truth is put back, so that both runs take the same steps. It is the processor's time of the one
thread that there is: other programs hardly count.

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
"""Attacks that bide their time are measured when it has come."""

Step = Callable[[int, np.ndarray], np.ndarray]

PAGE = """# What attacks cost

Made by `{command}`.

The time of a run beyond that of the same run in which the same attackers follow the protocol, as a share of the latter:
DecByzPG with its defaults on CartPole, K={agents}, f={attackers}, complete graph, {trajectories:,} trajectories.
*Rollouts*: what taps add, at the same steps. *Messages*: what attackers need to find their words, and what all others
need to hear them: where attackers equivocate, every agent has an aggregation of its own, and a rule that iterates may
need longer. *Words*: of this, the attackers' own part, also in milliseconds a round. {kept} rounds of the run,
{repeats} times each in turn, the fastest of each, in processor time; a percentage is good to about one.

The second column says why an attack may cost more: it tries lies on a clone of the rule, or follows its agents' own
policy. All others are fixed formulas. Those of them that spend more than 4% themselves (rollouts and words) are
{dearest}.

| attack | | all | rollouts | messages | words | ms |
|---|---|---|---|---|---|---|
{table}
"""


@dataclass(frozen=True)
class Muted(Attack):
    """The attack, whose taps do their work and then hand back what they were handed."""

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
        taps, memory = self.attack.hook_environment(context, memory, rng)
        constants = {name: np.ones_like(factors) for name, factors in (taps.dynamics or {}).items()}
        return replace(
            taps, action=_muted(taps.action), observation=_muted(taps.observation), dynamics=constants
        ), memory


def _muted(tap: Step | None) -> Step | None:
    def tapped(t: int, x: np.ndarray) -> np.ndarray:
        assert tap is not None
        tap(t, x.copy())
        return x

    return tap and tapped


@dataclass
class Spent:
    """Processor seconds of one round, by what they were spent on."""

    rollouts: float = 0.0
    messages: float = 0.0
    words: float = 0.0
    all: float = 0.0


@dataclass
class Clocked:
    """A federation with a clock at its doors.

    Attributes:
        todo: the experiment.
        replayed: by round, the batch that it samples, where nothing that is measured can change it.
    """

    todo: Experiment
    replayed: dict[int, Trajectories] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the clock up."""
        self.federation, self.adversary = federate(self.todo)
        self._spent, self._inside = Spent(), False
        self._sample = self.federation.sample
        doors: dict[str, Any] = vars(self.federation)
        doors["sample"] = self._sampled
        doors["aggregate"] = self._meeting(self.federation.aggregate)
        for name in ("exchange", "gather", "agree"):
            doors[name] = self._waited(getattr(self.federation, name))
        vars(self.adversary)["craft_messages"] = self._worded(self.adversary.craft_messages)

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

    def _meeting(self, meet: Callable[..., Any]) -> Callable[..., Any]:
        def met(*given: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return meet(*given, **options)
            finally:
                self._spent.messages += time.thread_time() - start

        return met

    def _waited(self, meet: Callable[..., Any]) -> Callable[..., Any]:
        async def met(*given: Any, **options: Any) -> Any:
            if self._inside:  # an exchange of an agreement, which has a clock already
                return await meet(*given, **options)
            self._inside, start = True, time.thread_time()
            try:
                return await meet(*given, **options)
            finally:
                self._inside = False
                self._spent.messages += time.thread_time() - start

        return met

    def _worded(self, craft_messages: Callable[..., Any]) -> Callable[..., Any]:
        async def spoken(*given: Any) -> Any:
            start = time.thread_time()
            try:
                return await craft_messages(*given)
            finally:
                self._spent.words += time.thread_time() - start

        return spoken


@dataclass(frozen=True)
class Cost:
    """Seconds beyond those of the run without the attack, and the seconds of that run, over the rounds kept."""

    rollouts: float
    messages: float
    words: float
    plain: float

    @property
    def share(self) -> float:
        """Of the wall time of the run without the attack."""
        return (self.rollouts + self.messages) / self.plain


def plain(every: int) -> tuple[Experiment, dict[int, State], dict[int, Trajectories]]:
    """The run without an attack, its state before every so-manieth round, and the batch that it sampled there."""
    todo = Experiment.create(agents=AGENTS, byzantine=ATTACKERS, trajectories=TRAJECTORIES, preset="paper")
    clocked = Clocked(todo)
    state, states, batches, number = todo.algorithm.start(clocked.federation), {}, {}, 0
    while int(clocked.federation.statistics.trajectories.max()) < TRAJECTORIES:
        if number % every == 0:
            states[number] = state
        state, _ = clocked.round(number, state)
        if number in states:
            batches[number] = clocked.batch
        number += 1
    return todo, states, batches


def cost(attack: Attack, todo: Experiment, states: dict[int, State], batches: dict[int, Trajectories], n: int) -> Cost:
    """Of an attack, by the fastest of n rounds from each state."""
    replayed = {} if "environment" in attack.threat.surface else batches
    pair = [Clocked(replace(todo, attack=one), replayed) for one in (todo.attack, Muted(attack))]
    rollouts = messages = words = total = 0.0
    for number, state in states.items():
        best = [Spent(*[float("inf")] * 4) for _ in pair]
        for _ in range(n):
            for who, clocked in enumerate(pair):
                _, spent = clocked.round(number, state)
                for name in ("rollouts", "messages", "words", "all"):
                    setattr(best[who], name, min(getattr(best[who], name), getattr(spent, name)))
        quiet, loud = best
        rollouts += loud.rollouts - quiet.rollouts
        messages += loud.messages - quiet.messages
        words += loud.words - quiet.words
        total += quiet.all
    return Cost(rollouts, messages, words, total)


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("attacks", nargs="*")
    parser.add_argument("--every", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows: list[tuple[str, str, Cost]] = []
    with one_thread():
        todo, states, batches = plain(given.every)
        # A run that replays what was sampled lacks the seconds of its rollouts.
        whole = cost(todo.attack, todo, states, {}, given.repeats).plain
        for name in given.attacks or registry.origins("attack"):
            written = AS.get(name, name)
            attack = registry.make("attack", written)
            assert isinstance(attack, Attack)
            found = replace(cost(attack, todo, states, batches, given.repeats), plain=whole)
            calls, sees = attack.threat.query_budget, attack.threat.knowledge
            rows.append((written, f"tries {calls} lies" if calls else "its policy" if "policy" in sees else "", found))
            print(written, f"{found.share:.1%}", file=sys.stderr, flush=True)
    rows.sort(key=lambda row: -row[2].share)
    text = PAGE.format(
        command=f"python benchmarks/attacks_cost.py --every {given.every} --repeats {given.repeats} --write",
        agents=AGENTS,
        attackers=ATTACKERS,
        trajectories=TRAJECTORIES,
        kept=len(states),
        repeats=given.repeats,
        dearest=", ".join(f"`{n}` {own(found):.1%}" for n, kind, found in rows if not kind and own(found) > 0.04)
        or "none",
        table="\n".join(line(*row, len(states)) for row in rows),
    )
    print(text)
    if given.write:
        Path("docs/attacks-cost.md").write_text(text, encoding="utf-8")


def own(found: Cost) -> float:
    """The share that the attackers spend themselves."""
    return (found.rollouts + found.words) / found.plain


def line(name: str, kind: str, found: Cost, rounds: int) -> str:
    """A row of the table."""
    parts = (found.share, *(part / found.plain for part in (found.rollouts, found.messages, found.words)))
    cells = [
        f"`{name}`",
        kind,
        *(f"{max(part, 0):.1%}" for part in parts),
        f"{1000 * max(found.words, 0) / rounds:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
