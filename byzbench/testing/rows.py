"""Drives an algorithm as K blocks of one row each, to hold it to the promise that its rows mind their own business.

    block, rows = run_as_block(experiment, 5), run_by_rows(experiment, 5)
    torch.testing.assert_close(rows.states, block.states)

Each agent runs the algorithm's code by itself, on a federation that shows it one row. What an agent does alone it does
at once; where agents meet it waits, and when all are there the real federation holds the meeting.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator, State
from byzbench.errors import BrokenPlugin
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.federation import Federation
from byzbench.federation.inbox import Inbox
from byzbench.federation.ledger import Ledger
from byzbench.learning.rollouts import Trajectories


@dataclass(frozen=True)
class Trace:
    """What some rounds of an experiment did.

    Attributes:
        ledger: what was used in all of them.
        states, metrics: after each round, all K rows together.
        returns: float64 [K] of each round's last batch.
    """

    ledger: Ledger
    states: list[State] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    returns: list[Tensor] = field(default_factory=list)


def run_as_block(experiment: Experiment, rounds: int) -> Trace:
    """The rounds as the runner runs them: all K rows at once."""
    federation, _ = federate(experiment)
    algorithm, trace = experiment.algorithm, Trace(federation.ledger)
    state = algorithm.start(federation)
    for round in range(rounds):
        federation.begin(round, _progress(experiment, federation))
        state, metrics = lockstep(algorithm.round(federation, state))
        _note(trace, state, metrics)
    return trace


def run_by_rows(experiment: Experiment, rounds: int) -> Trace:
    """The same rounds with every agent by itself.

    The adversary sees the same exchanges, but is asked for its `tap` once an agent; and where there is a server, each
    agent does the server's sums for itself.

    Raises:
        BrokenPlugin: agents do not meet at the same places, or their metrics differ.
    """
    federation, _ = federate(experiment)
    algorithm, trace = experiment.algorithm, Trace(federation.ledger)
    rows = [_Row(federation, agent) for agent in range(experiment.agents)]
    states = [algorithm.start(cast(Federation, row)) for row in rows]
    for round in range(rounds):
        progress = _progress(experiment, federation)
        federation.begin(round, progress)
        for row in rows:
            row.begin(round, progress)
        ends = _meet([algorithm.round(cast(Federation, r), s) for r, s in zip(rows, states, strict=True)], federation)
        states = [state for state, _ in ends]
        metrics = ends[0][1]
        if any(other != metrics for _, other in ends):
            raise BrokenPlugin(f"metrics must be the same at every agent, but they are {[m for _, m in ends]}")
        _note(trace, {name: torch.cat([s[name] for s in states]) for name in states[0]}, metrics)
    return trace


def _progress(experiment: Experiment, federation: Federation) -> float:
    return federation.ledger.spent(~experiment.members.byzantine) / experiment.trajectories


def _note(trace: Trace, state: State, metrics: Mapping[str, float]) -> None:
    trace.states.append(state)
    trace.metrics.append(metrics)
    if trace.ledger.returns is not None:
        trace.returns.append(trace.ledger.returns.clone())


@dataclass(frozen=True)
class _Meeting:
    """What one agent waits for: the place, what it brings, and how the federation holds such a meeting."""

    place: tuple[str, ...]
    brought: State
    hold: Callable[[State], Coroutine[Any, Any, Any]]


@coroutine
def _attend(meeting: _Meeting) -> Generator[_Meeting, Any, Any]:
    return (yield meeting)


def _meet(agents: Sequence[Coroutine[Any, Any, Any]], federation: Federation) -> list[Any]:
    """Run all agents to their ends, holding each meeting once all have come to it."""
    outcome: Any = None
    while True:
        waiting, ends = [], []
        for agent in agents:
            try:
                waiting.append(agent.send(outcome))
            except StopIteration as stop:
                ends.append(stop.value)
        if not waiting:
            return ends
        places = {meeting.place for meeting in waiting}
        if ends or len(places) > 1:
            raise BrokenPlugin(f"agents part ways: {len(ends)} are done with the round, others wait for {places}")
        first = waiting[0].brought
        outcome = lockstep(
            waiting[0].hold({name: torch.cat([meeting.brought[name] for meeting in waiting]) for name in first})
        )


class _Row:
    """The federation as one agent sees it; see `Federation` for the methods."""

    def __init__(self, federation: Federation, agent: int) -> None:
        self._all, self._agent = federation, agent
        # Shares everything with the federation except the numbers that it gives to this agent's draws.
        self._alone = copy(federation)
        self._mine = torch.tensor([agent])
        self.agents, self.declared = federation.agents[self._mine], federation.declared[self._mine]
        self.theta0 = federation.theta0[self._mine]
        self.policy, self.discount = federation.policy, federation.discount
        self.begin(0, 0.0)

    def begin(self, round: int, progress: float) -> None:
        self.round, self.progress = round, progress
        self._alone.begin(round, progress)

    def sample(self, theta: Tensor, count: Tensor | int) -> Trajectories:
        return self._alone.sample(theta, count, agents=[self._agent])

    def draw(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        return self._alone.draw(name, draw, [self._agent])

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        return self._alone.draw_at_server(name, draw)

    def note(self, name: str, values: Tensor) -> None:
        self._alone.note(name, values, [self._agent])

    def aggregate(self, inbox: Inbox, state: State) -> tuple[Tensor, State]:
        return self._alone.aggregate(inbox, state)

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        return self._alone.combine(rule, inbox, state)

    def width(self, inbox: Inbox) -> Tensor:
        return self._alone.width(inbox)

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        inbox = await self._attend(
            "exchange", topic, {"x": x}, lambda all: self._all.exchange(topic, all["x"], reliable=reliable)
        )
        return inbox.of(self._mine)

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        return await self._attend("gather", topic, {"x": x}, lambda all: self._all.gather(topic, all["x"], groups))

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        # Every agent has done the server's sums, with the same outcome; one of them stands for the server.
        told = await self._attend("broadcast", topic, {}, lambda all: self._all.broadcast(topic, y))
        return told[self._mine]

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        return await self._attend("sample_at_server", "", {}, lambda all: self._all.sample_at_server(theta, count))

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        values = await self._attend("common", name, {}, lambda all: self._all.common(name, draw))
        return values[self._mine]

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        mine = {name: part for name, part in state.items() if name.startswith("agreement.")}
        agreed, new = await self._attend("agree", "", {"theta": theta, **mine}, self._hold_agreement)
        return agreed[self._mine], {**state, **{name: part[self._mine] for name, part in new.items()}}

    async def _hold_agreement(self, brought: State) -> tuple[Tensor, State]:
        return await self._all.agree(brought.pop("theta"), brought)

    async def _attend(
        self, kind: str, name: str, brought: State, hold: Callable[[State], Coroutine[Any, Any, Any]]
    ) -> Any:
        return await _attend(_Meeting((kind, name), brought, hold))
