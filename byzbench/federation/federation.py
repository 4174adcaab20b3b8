"""The simulated federation: local operations, communication and aggregation of all agents in one process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.core import (
    Aggregator,
    Agreement,
    Channel,
    Coin,
    Federation,
    Inbox,
    MessageServer,
    RuleContext,
    RuleOutput,
    Scenario,
    State,
    Task,
)
from byzbench.federation.adversary import Adversary, ByzantineEnvHooks
from byzbench.federation.clock import LockstepClock
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.network import Network
from byzbench.federation.scenarios import Scenarios
from byzbench.federation.statistics import AggregationResult, AgreementResult, Counters, RoundStatistics
from byzbench.geometry.pairwise_distances import PairwiseDistances
from byzbench.randomness import Streams
from byzbench.registry import written_form
from byzbench.rl.checked_environments import with_checks
from byzbench.rl.policies import Policy
from byzbench.rl.rollouts import EnvironmentBatch, Trajectories, draw_noise, rollout

SERVER = "server."
"""The prefix of entries of a state that belong to a server."""


def server_state(state: State) -> State:
    """Return the entries of a state that belong to a server, without their prefix."""
    return {name.removeprefix(SERVER): part for name, part in state.items() if name.startswith(SERVER)}


class SimulatedFederation(Federation):
    """Federation of K agents in one process, which run in lockstep: every method takes the rows of all agents at once.

    Args:
        members: the communication graph of the first round.
        streams: the random streams of the experiment.
        task: the task of all agents.
        scenario: what differs from the task.
        aggregator: the aggregation rule of the experiment.
        agreement: the agreement protocol of the experiment.
        coin: the source of common randomness.
        channel: the channel that messages pass through.
        adversary: the adversary that controls the Byzantine agents.
        policy: the policy that all agents train, with parameters of their own.
        device: the device of parameters and messages.
        graph_of_round: the communication graph of each round; by default that of the first round.
        clock: the virtual clock of agents that run each round together; None: there is none.

    Attributes:
        statistics: the counters of episodes and messages, and the results of the round.
        scenarios: the dynamics, observations and rewards of each agent.
    """

    def __init__(
        self,
        *,
        members: CommunicationGraph,
        streams: Streams,
        task: Task,
        scenario: Scenario,
        aggregator: Aggregator,
        agreement: Agreement,
        coin: Coin,
        channel: Channel,
        adversary: Adversary,
        policy: Policy,
        device: torch.device,
        graph_of_round: Callable[[int], CommunicationGraph] | None = None,
        clock: LockstepClock | None = None,
    ) -> None:
        self.agents, self.num_agents = torch.arange(members.num_agents), members.num_agents
        self.round, self.progress = 0, 0.0
        self.policy = policy
        theta0 = self.policy.initial(streams.generator("init")).to(device)
        self.theta0 = theta0.repeat(members.num_agents, 1)
        self.assumed_byzantine = torch.full((members.num_agents,), members.assumed_byzantine)
        self.discount = task.discount
        self.counters = Counters(torch.zeros(members.num_agents).long(), torch.zeros(members.num_agents).long())
        self.statistics = RoundStatistics()
        self._members, self._streams, self._task, self._device = members, streams, task, device
        self._graph_of_round = graph_of_round
        self._aggregator, self._agreement, self._coin, self._adversary = aggregator, agreement, coin, adversary
        self.network = Network(members, adversary, channel, streams, self.counters, clock)
        self.clock = clock
        self.scenarios = Scenarios(scenario, task, streams, members.num_agents, members.byzantine_ids)
        self._environments: dict[tuple[int, int], EnvironmentBatch] = {}
        self._num_samples, self._num_server_samples, self._num_uses = 0, 0, Counter[str]()
        self._batch_size: int | None = None

    def begin(self, round: int, progress: float) -> None:
        """Start a round: its number is the key of all its streams.

        Args:
            round: the round, from 0.
            progress: the share of the trajectory budget that is spent.
        """
        self.round, self.progress = round, progress
        self._num_samples, self._num_server_samples, self._num_uses = 0, 0, Counter[str]()
        self._batch_size = None
        self.reset_statistics()
        members = self._members if self._graph_of_round is None else self._graph_of_round(round)
        inactive, crashed = self.scenarios.inactive_agents(progress), self.scenarios.crashed_agents(progress)
        if (members.inactive, members.crashed) != (inactive, crashed):
            members = replace(members, inactive=inactive, crashed=crashed)
        if members is not self._members:
            self._members = members
            self._adversary.set_graph(members)
        self._adversary.begin(round)
        self.network.begin(round, self._members)
        if self.clock is not None:
            self.clock.begin(round)

    def reset_statistics(self) -> None:
        """Discard the measurements of the round so far, except for the last returns."""
        self.statistics.reset()

    def finish(self) -> RoundStatistics:
        """Return the measurements of the round."""
        return self.statistics

    # Local operations.

    def sample(self, theta: Tensor, count: Tensor | int, agents: Sequence[int] | None = None) -> Trajectories:
        """Sample complete episodes of each agent with its own policy, and charge them to the agent."""
        agent_ids = self.agents.tolist() if agents is None else list(agents)
        counts = torch.as_tensor(count).expand(len(agent_ids)).long().cpu()
        suffix = f"/{self._num_samples}" if self._num_samples else ""
        self._num_samples += 1
        self._batch_size = int(counts.max())
        hooks = self._make_hooks(agent_ids, theta)
        episodes = self._rollout(theta, counts, agent_ids, suffix, hooks)
        self._charge_episodes(agent_ids, episodes)
        if self.statistics.returns is None or len(agent_ids) == self.num_agents:
            self.statistics.returns = torch.zeros(self.num_agents, dtype=torch.float64)
        self.statistics.returns[agent_ids] = episodes.returns
        rewards = self.scenarios.transform_rewards(
            episodes.rewards, episodes.mask, agent_ids, suffix, self.round, self.progress
        )
        episodes = replace(episodes, rewards=rewards)
        if hooks:
            episodes = replace(episodes, rewards=hooks.rewards(episodes.rewards))
        self._adversary.record_rollout(agent_ids, episodes)
        return episodes if self._device.type == "cpu" else episodes.to(self._device)

    def _make_hooks(self, agent_ids: Sequence[int], theta: Tensor) -> ByzantineEnvHooks | None:
        """Return the environment hooks of the adversary for a rollout, or None if there are none."""
        assert self._batch_size is not None
        return self._adversary.make_hooks(agent_ids, self._batch_size, self._num_samples, theta)

    def draw(
        self, name: str, draw: Callable[[np.random.Generator], float], agents: Sequence[int] | None = None
    ) -> Tensor:
        """Draw a value for each agent from a stream of its own."""
        agent_ids = self.agents.tolist() if agents is None else agents
        values = [draw(self._streams.generator(f"alone/{name}", self.round, a)) for a in agent_ids]
        return torch.tensor(values, dtype=torch.float64)

    def log(self, name: str, values: Tensor, agents: Sequence[int] | None = None) -> None:
        """Record a metric of this round. It is not sent to any agent."""
        logged = self.statistics.logged
        if name not in logged:
            logged[name] = torch.full((self.num_agents,), torch.nan, dtype=torch.float64)
        logged[name][self.agents if agents is None else list(agents)] = values.detach().to(logged[name])

    def log_direction(self, direction: Tensor, at: Tensor) -> None:
        """Record the gradient estimates along which agents step, for metrics. They are not sent to any agent."""
        self.statistics.direction = self.statistics.direction or (direction, at)

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        """Draw a value at the trusted server, which neither the coin nor a Byzantine agent can influence."""
        return draw(self._streams.generator(name, self.round))

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        """Sample episodes in an environment of the trusted server, and charge them to the server."""
        self._num_server_samples += 1
        episodes = self._rollout(
            theta, torch.tensor([count]), [self.num_agents], f"/server/{self._num_server_samples}", None
        )
        self.counters.server_samples += torch.stack([episodes.count.sum(), episodes.steps.sum()])
        if self.clock is not None:
            self.clock.compute_at_server(int(episodes.steps.sum()))
        return episodes.to(self._device)

    def _rollout(
        self, theta: Tensor, counts: Tensor, agent_ids: Sequence[int], suffix: str, hooks: ByzantineEnvHooks | None
    ) -> Trajectories:
        """Sample episodes of policies theta [P, d] with the streams of P agents; the server has number K.

        Args:
            theta: [P, d], the policy parameters.
            counts: int64 [P], the number of episodes of each policy; inactive and crashed agents sample none.
            agent_ids: the P agents.
            suffix: the suffix of the names of streams.
            hooks: the environment hooks of the Byzantine agents, or None.
        """
        rows = int(counts.max())
        reset_rngs = [self._streams.generator(f"environment{suffix}", self.round, a) for a in agent_ids]
        noise = np.empty((len(agent_ids), rows, self._task.horizon, *self.policy.action_shape), np.float32)
        draw_noise(self.policy, self._streams, f"action{suffix}", self.round, agent_ids, noise)
        starts = self.scenarios.start_generators(reset_rngs, agent_ids, rows, suffix, self.round)
        form = len(starts), rows * len(agent_ids) // len(starts)
        batch = self._environments.get(form)
        if batch is None:
            batch = self._environments[form] = self._task.make(*form)
        if self._task.dynamics:
            factors = self.scenarios.physics(agent_ids, self.progress)
            for name, byzantine_factors in (hooks.dynamics() if hooks else {}).items():
                factors[name] = factors.get(name, 1.0) * byzantine_factors
            repeated = len(starts) // len(agent_ids)
            self._task.scale_dynamics(batch, {name: np.repeat(f, repeated) for name, f in factors.items()})
        action_noise = torch.from_numpy(noise).transpose(1, 2)
        if stopped := self._members.inactive | self._members.crashed:
            counts = counts * torch.tensor([a not in stopped for a in agent_ids])
        return rollout(
            self.policy,
            theta.detach().cpu(),
            self.scenarios.wrap_observations(self._checked(batch, rows * len(agent_ids)), agent_ids),
            starts,
            action_noise,
            counts,
            hooks,
        )

    def _checked(self, environments: EnvironmentBatch, rows: int) -> EnvironmentBatch:
        return with_checks(environments, rows, self._task.observation_size, lambda: written_form(self._task))

    def _charge_episodes(self, agent_ids: Sequence[int], episodes: Trajectories) -> None:
        """Add episodes to the counters of agents, and the time for them to their clocks."""
        indices = torch.tensor(agent_ids)
        self.counters.trajectories.index_add_(0, indices, episodes.count)
        self.counters.steps.index_add_(0, indices, episodes.steps)
        if self.clock is not None:
            self.clock.compute(agent_ids, episodes.steps.tolist())

    # Communication.

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Exchange vectors between neighbours."""
        return await self.network.exchange(topic, x, reliable)

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        """Send a vector of each agent to the server."""
        return await self.network.gather(topic, x, groups)

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        """Send a vector of the trusted server to all agents. The channel does not change, delay or lose it."""
        self.network.broadcast(topic, y)
        return y.expand(self.num_agents, -1).clone()

    async def serve(self, topic: str, x: Tensor, server: MessageServer, state: State) -> tuple[Tensor, State]:
        """Let the server handle the messages of all agents in the order of agents, and answer all of them."""
        inbox = await self.network.gather(topic, x, 1)
        own_state = server_state(state)
        for column in inbox.mask[0].nonzero().squeeze(1).tolist():
            vector = inbox.base[inbox.senders[0, column]]
            own_state = await server.receive(self, own_state, int(inbox.authors[0, column]), vector)
        answer, own_state = server.reply(own_state, range(self.num_agents))
        answers = await self.broadcast("parameters", answer)
        return answers, {**state, **{f"{SERVER}{name}": part for name, part in own_state.items()}}

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """Draw a value with common randomness, which is equal at all honest agents if the coin guarantees it."""
        values = self._toss(name, draw)
        self._adversary.record_coin(values)
        for num_messages, size in self._coin.cost(self.num_agents):
            self.counters.charge("coin", np.full(self.num_agents, num_messages), size)
        return values

    def _toss(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """Draw a common value of the round: float64 [K], as each agent sees it."""
        return self._coin(draw, self.num_agents, self._streams.generator(name, self.round))

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the agreement protocol of the experiment."""
        prefix = "agreement."
        own_state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        agreed, report, new = await self._agreement.agree(self, theta, own_state)
        self.statistics.agreement = AgreementResult(theta, agreed, report)
        return agreed, {**state, **{prefix + k: v for k, v in new.items()}}

    # Aggregation of received messages.

    def aggregate(self, inbox: Inbox, state: State, deviation: float | None = None) -> tuple[Tensor, State]:
        """Aggregate every inbox with the rule of the experiment."""
        result, state = self._apply_aggregator(inbox, state, self._batch_size, deviation)
        self.statistics.aggregation = result
        self._adversary.record_aggregation("gradient", result)
        return result.value, state

    def aggregate_at_server(self, vectors: Tensor, state: State) -> tuple[Tensor, State]:
        """Aggregate vectors that a server has computed of messages, with the rule of the experiment."""
        finite = vectors.isfinite().all(1)
        columns = torch.arange(len(vectors)).unsqueeze(0)
        inbox = Inbox(
            base=torch.where(finite.unsqueeze(1), vectors, 0.0),
            senders=columns,
            authors=columns,
            mask=finite.cpu().unsqueeze(0),
            own=torch.tensor([-1]),
            f=(self.assumed_byzantine[:1] - (~finite).sum().cpu()).clamp(min=0),
            sent=None,
        )
        result, state = self._apply_aggregator(inbox, state)
        return result.value, state

    def _apply_aggregator(
        self, inbox: Inbox, state: State, batch_size: int | None = None, deviation: float | None = None
    ) -> tuple[AggregationResult, State]:
        """Apply the rule of the experiment; return its result, and the state with new entries `aggregator.*`."""
        prefix = "aggregator."
        own_state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        result = self._apply("aggregator", self._aggregator, inbox, own_state, batch_size, deviation)
        return result, {**state, **{prefix + k: v for k, v in result.state.items()}}

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        """Aggregate every inbox with a given rule; receivers with the same messages share one computation."""
        result = self._apply("agreement", rule, inbox, state or {})
        self.statistics.mixing = self.statistics.mixing or result
        self._adversary.record_aggregation("parameters", result)
        return result.value, result.state

    def _apply(
        self,
        purpose: str,
        rule: Aggregator,
        inbox: Inbox,
        state: State,
        batch_size: int | None = None,
        deviation: float | None = None,
    ) -> AggregationResult:
        """Apply a rule to every inbox at which it is defined.

        Args:
            purpose: the prefix of the random streams: `aggregator` or `agreement`.
            rule: the aggregation rule.
            inbox: the messages of R receivers.
            state: the state of the rule, with one row for each receiver.
            batch_size: the number of episodes of each message, if it is known.
            deviation: see `aggregate`.
        """
        facts = {"batch_size": batch_size, "deviation": deviation}
        counts = list(zip(inbox.n.tolist(), inbox.f.tolist(), strict=True))
        is_defined = {(n, f): n > 0 and bool(rule.defined(n, f)) for n, f in set(counts)}
        usable = torch.tensor([is_defined[pair] for pair in counts])
        if all(is_defined.values()):
            output = self._apply_defined(purpose, rule, inbox, state, facts)
            return AggregationResult(inbox, output.value, output.weights, usable, output.state)
        rows = usable.nonzero().squeeze(1)
        self.counters.num_undefined += len(usable) - len(rows)
        undefined = torch.full_like(inbox.base[:1], torch.nan).repeat(len(usable), 1)
        value = undefined if inbox.sent is None else inbox.sent.clone()
        new, weights = dict(state), None
        if len(rows):
            usable_state = {name: part[rows] for name, part in state.items()}
            output = self._apply_defined(purpose, rule, inbox.select(rows), usable_state, facts)
            value[rows] = output.value
            if output.weights is not None:
                weights = torch.zeros(inbox.mask.shape, dtype=torch.float64)
                weights[rows] = output.weights
            for name, part in output.state.items():
                new[name] = new[name].clone() if name in new else part.new_zeros(len(usable), *part.shape[1:])
                new[name][rows] = part
        return AggregationResult(inbox, value, weights, usable, new)

    def _apply_defined(
        self, purpose: str, rule: Aggregator, inbox: Inbox, state: State, facts: Mapping[str, float | None]
    ) -> RuleOutput:
        """Apply a rule that is defined at every inbox; see `_apply`.

        Returns:
            The values in the dtype of the messages, the weights on the CPU, and the state, a row for each receiver.
        """
        shareable = not (rule.traits.self_centered or rule.traits.stateful)
        blocks = inbox.distinct_blocks if shareable else inbox.blocks
        self._num_uses[purpose] += 1
        stream = f"{purpose}/{self._num_uses[purpose] - 1}"
        outputs = []
        for block, pairs in blocks:
            block_state = {name: part[block] for name, part in state.items()}
            block_inbox = inbox if len(block) == len(inbox.f) else inbox.select(block)
            context = self._rule_context(rule, block_inbox, pairs, block_state, stream)
            shape = block_inbox.f.shape
            known: dict[str, Any] = {
                name: torch.full(shape, value, dtype=torch.int64 if isinstance(value, int) else torch.float64)
                for name, value in facts.items()
                if value is not None
            }
            context = replace(context, **known)
            outputs.append(rule.aggregate(block_inbox.base[block_inbox.senders], block_inbox.f, context))
            if len(blocks) > 1:
                pairs.release()
        value = torch.cat([output.value for output in outputs]).to(inbox.base)
        combinations = [output.weights for output in outputs if output.weights is not None]
        weights = torch.cat(combinations).to("cpu", torch.float64) if len(combinations) == len(outputs) else None
        new = {name: torch.cat([output.state[name] for output in outputs]) for name in outputs[0].state}
        first, group = inbox.distinct()
        if shareable and len(first) < len(group):
            value, weights = value[group], None if weights is None else weights[group]
        return RuleOutput(value, weights, state | {name: part.to(state.get(name, part)) for name, part in new.items()})

    def _rule_context(
        self, rule: Aggregator, inbox: Inbox, pairs: PairwiseDistances, state: State, stream: str
    ) -> RuleContext:
        """Return what a rule may read: `honest` and `evaluator` only if it requires them."""
        required = rule.required_inputs
        return RuleContext(
            mask=inbox.mask,
            own=inbox.own,
            weights=inbox.weights,
            age=inbox.age,
            state=state,
            rng=self._streams.generator(stream, self.round),
            honest=~self._members.byzantine[inbox.authors] if "honest" in required else None,
            evaluator=partial(self._evaluate_policies, inbox, stream) if "evaluator" in required else None,
            log=self._log_rule,
            distances=pairs,
        )

    def _log_rule(self, name: str, values: Tensor) -> None:
        """Record the largest value of a rule's metric over its inboxes of this round."""
        largest = values.double().amax().expand(len(self.agents))
        before = self.statistics.logged.get(name)
        self.log(name, largest if before is None else largest.fmax(before[self.agents]))

    def _evaluate_policies(self, inbox: Inbox, stream: str, policies: Tensor, which: Tensor, episodes: int) -> Tensor:
        """Evaluate candidate policies of receivers; see `byzbench.core.PolicyEvaluator`.

        All candidates of a receiver are evaluated on the same episodes, from its own streams.

        Args:
            inbox: the messages whose candidates are evaluated.
            stream: the suffix of the names of streams.
            policies: [R, n, d], the candidate parameters.
            which: bool [R, n], the candidates to evaluate.
            episodes: the number of episodes of each candidate.

        Returns:
            float64 [R, n], the mean return of each candidate; NaN where it was not evaluated.
        """
        assert inbox.receivers is not None
        receivers, candidates = which.nonzero(as_tuple=True)
        returns = torch.full(which.shape, torch.nan, dtype=torch.float64)
        if len(receivers):
            agent_ids = inbox.receivers[receivers].tolist()
            counts = torch.full((len(agent_ids),), episodes)
            rollouts = self._rollout(policies[receivers, candidates], counts, agent_ids, f"/judge/{stream}", None)
            self._charge_episodes(agent_ids, rollouts)
            returns[receivers, candidates] = rollouts.returns
        return returns.to(policies.device)

    def width(self, inbox: Inbox) -> Tensor:
        """Return the diameter of the n - f messages of minimum diameter in each inbox: float64 [R]."""
        return inbox.widths
