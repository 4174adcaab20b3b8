"""Test harness that checks whether the rows of an algorithm are independent: it runs every agent separately.

    block, rows = run_as_block(experiment, 5), run_by_rows(experiment, 5)
    torch.testing.assert_close(rows.states, block.states)

Each agent runs the code of the algorithm with a federation of one row. Local operations are executed immediately. At a
collective operation, such as an exchange, an agent waits until all agents have called it. Then the real federation
executes it once for all.
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

from byzbench.core import Aggregator, Federation, Inbox, MessageServer, State
from byzbench.errors import BrokenPlugin
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.federation import SERVER, SimulatedFederation
from byzbench.federation.statistics import Counters, RoundStatistics
from byzbench.rl.rollouts import Trajectories


@dataclass(frozen=True)
class Trace:
    """Results of some rounds of an experiment.

    Attributes:
        counters: the counters of all rounds.
        states: the state of the algorithm after each round, with the rows of all K agents.
        metrics: the metrics of the algorithm of each round.
        returns: float64 [K], the returns of the last batch of each round.
    """

    counters: Counters
    states: list[State] = field(default_factory=list)
    metrics: list[Mapping[str, float]] = field(default_factory=list)
    returns: list[Tensor] = field(default_factory=list)


def run_as_block(experiment: Experiment, rounds: int) -> Trace:
    """Run rounds as in an experiment: with the rows of all K agents at once.

    Args:
        experiment: the experiment.
        rounds: the number of rounds.
    """
    federation, _ = federate(experiment)
    algorithm, trace = experiment.algorithm, Trace(federation.counters)
    state = algorithm.start(federation)
    for round in range(rounds):
        federation.begin(round, _progress(experiment, federation))
        state, metrics = lockstep(algorithm.round(federation, state))
        _record(trace, state, metrics, federation.finish())
    return trace


def run_by_rows(experiment: Experiment, rounds: int) -> Trace:
    """Run the same rounds with every agent separately.

    The exchanges of the adversary are the same, but its `hook_environment` is called once for each agent. Computations
    of a server are repeated by each agent.

    Args:
        experiment: the experiment.
        rounds: the number of rounds.

    Raises:
        BrokenPlugin: agents call different collective operations, or their metrics differ.
    """
    federation, _ = federate(experiment)
    algorithm, trace = experiment.algorithm, Trace(federation.counters)
    rows = [_RowFederation(federation, agent) for agent in range(experiment.agents)]
    states = [algorithm.start(cast(Federation, row)) for row in rows]
    for round in range(rounds):
        progress = _progress(experiment, federation)
        federation.begin(round, progress)
        for row in rows:
            row.begin(round, progress)
        results = _run_agents(
            [algorithm.round(cast(Federation, r), s) for r, s in zip(rows, states, strict=True)], federation
        )
        states = [state for state, _ in results]
        metrics = results[0][1]
        if any(other != metrics for _, other in results):
            raise BrokenPlugin(f"metrics must be the same at every agent, but they are {[m for _, m in results]}")
        whole = {
            name: part if name.startswith(SERVER) else torch.cat([state[name] for state in states])
            for name, part in states[0].items()
        }
        _record(trace, whole, metrics, federation.finish())
    return trace


def _progress(experiment: Experiment, federation: SimulatedFederation) -> float:
    return federation.counters.trajectories_spent(~experiment.members.byzantine) / experiment.trajectories


def _record(trace: Trace, state: State, metrics: Mapping[str, float], measured: RoundStatistics) -> None:
    trace.states.append(state)
    trace.metrics.append(metrics)
    if measured.returns is not None:
        trace.returns.append(measured.returns.clone())


@dataclass(frozen=True)
class _CollectiveCall:
    """Call of a collective operation by one agent.

    Attributes:
        key: the operation and its topic or name, which must be the same at all agents.
        inputs: the rows of this agent.
        execute: executes the operation of the real federation on the rows of all agents.
    """

    key: tuple[str, ...]
    inputs: State
    execute: Callable[[State], Coroutine[Any, Any, Any]]


@coroutine
def _wait_for(call: _CollectiveCall) -> Generator[_CollectiveCall, Any, Any]:
    """Suspend the agent until the call of all agents is executed, and return its output."""
    return (yield call)


def _run_agents(agents: Sequence[Coroutine[Any, Any, Any]], federation: SimulatedFederation) -> list[Any]:
    """Run the coroutines of all agents to their ends, and execute each collective call once all agents have made it."""
    output: Any = None
    while True:
        calls, results = [], []
        for agent in agents:
            try:
                calls.append(agent.send(output))
            except StopIteration as stop:
                results.append(stop.value)
        if not calls:
            return results
        keys = {call.key for call in calls}
        if results or len(keys) > 1:
            raise BrokenPlugin(
                f"agents must make the same calls, but {len(results)} have ended the round and others wait for {keys}"
            )
        first = calls[0].inputs
        output = lockstep(calls[0].execute({name: torch.cat([call.inputs[name] for call in calls]) for name in first}))


class _RowFederation:
    """Federation of one row; see `Federation` for the methods."""

    def __init__(self, federation: SimulatedFederation, agent: int) -> None:
        self._federation, self._agent = federation, agent
        # Shares all state with the federation, except the counters in the names of this agent's random streams.
        self._local = copy(federation)
        self._row = torch.tensor([agent])
        self.agents, self.num_agents = federation.agents[self._row], federation.num_agents
        self.assumed_byzantine = federation.assumed_byzantine[self._row]
        self.theta0 = federation.theta0[self._row]
        self.policy, self.discount = federation.policy, federation.discount
        self.begin(0, 0.0)

    def begin(self, round: int, progress: float) -> None:
        self.round, self.progress = round, progress
        self._local.begin(round, progress)
        self._local.statistics = self._federation.statistics

    def sample(self, theta: Tensor, count: Tensor | int) -> Trajectories:
        return self._local.sample(theta, count, agents=[self._agent])

    def draw(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        return self._local.draw(name, draw, [self._agent])

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        return self._local.draw_at_server(name, draw)

    def log(self, name: str, values: Tensor) -> None:
        self._local.log(name, values, [self._agent])

    def log_direction(self, direction: Tensor, at: Tensor) -> None:
        """Record nothing: a row alone has no metrics of all agents."""

    def aggregate(self, inbox: Inbox, state: State, deviation: float | None = None) -> tuple[Tensor, State]:
        return self._local.aggregate(inbox, state, deviation)

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        return self._local.combine(rule, inbox, state)

    def width(self, inbox: Inbox) -> Tensor:
        return self._local.width(inbox)

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        inbox = await self._call(
            "exchange", topic, {"x": x}, lambda inputs: self._federation.exchange(topic, inputs["x"], reliable=reliable)
        )
        return inbox.select(self._row)

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        return await self._call(
            "gather", topic, {"x": x}, lambda inputs: self._federation.gather(topic, inputs["x"], groups)
        )

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        # Every agent has repeated the computations of the server with the same result, so any of them can be sent.
        received = await self._call("broadcast", topic, {}, lambda inputs: self._federation.broadcast(topic, y))
        return received[self._row]

    async def serve(self, topic: str, x: Tensor, server: MessageServer, state: State) -> tuple[Tensor, State]:
        # Every agent has the same state of the server, so that of any of them can be used.
        answers, new = await self._call(
            "serve", topic, {"x": x}, lambda inputs: self._federation.serve(topic, inputs["x"], server, state)
        )
        return answers[self._row], {**state, **{k: part for k, part in new.items() if k.startswith(SERVER)}}

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        return await self._call(
            "sample_at_server", "", {}, lambda inputs: self._federation.sample_at_server(theta, count)
        )

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        values = await self._call("common", name, {}, lambda inputs: self._federation.common(name, draw))
        return values[self._row]

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        own_state = {name: part for name, part in state.items() if name.startswith("agreement.")}
        agreed, new = await self._call("agree", "", {"theta": theta, **own_state}, self._execute_agreement)
        return agreed[self._row], {**state, **{name: part[self._row] for name, part in new.items()}}

    async def _execute_agreement(self, inputs: State) -> tuple[Tensor, State]:
        return await self._federation.agree(inputs.pop("theta"), inputs)

    async def _call(
        self, operation: str, name: str, inputs: State, execute: Callable[[State], Coroutine[Any, Any, Any]]
    ) -> Any:
        """Make a collective call and wait for its output."""
        return await _wait_for(_CollectiveCall((operation, name), inputs, execute))
