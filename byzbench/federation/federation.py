"""The federation: the operations of algorithms, which never learn which agents are Byzantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator, Agreement, Channel, Coin, State, Task
from byzbench.federation.adversary import Adversary, LiarsTap
from byzbench.federation.inbox import Inbox
from byzbench.federation.ledger import Aggregation, Agreed, Ledger
from byzbench.federation.membership import Membership
from byzbench.federation.post import Post
from byzbench.federation.worlds import Worlds
from byzbench.geometry.cloud import Cloud
from byzbench.geometry.subsets import narrowest
from byzbench.learning.policies import Policy
from byzbench.learning.rollouts import EnvironmentBatch, Trajectories, rollout
from byzbench.randomness import Streams

_BLOCK = 1 << 23
"""The largest number of coordinates that are aggregated at once for many receivers: 64 MiB in float64."""


class Federation:
    """Federation of K agents, which run in lockstep: every method takes and returns the rows of all agents at once.

    Args:
        members: the communication graph of the first round.
        streams: the random streams of the experiment.
        task: the task of all agents.
        aggregator: the aggregation rule of the experiment.
        agreement: the agreement protocol of the experiment.
        coin: the source of common randomness.
        channel: the channel that messages pass through.
        adversary: the adversary that controls the Byzantine agents.
        policy: the policy family.
        device: the device of parameters and messages.
        seats: the communication graph of each round; by default that of the first round.

    Attributes:
        agents: int64 [K], the agent of each row.
        round: the current round, from 0.
        progress: the share of the trajectory budget that is spent, from 0 to 1.
        theta0: float32 [K, d], the common initial parameters.
        declared: int64 [K], the assumed number of Byzantine agents that each agent knows.
        policy: the policy family.
        discount: the discount factor gamma.
        ledger: the counters of episodes and messages, and the results of the round.
        worlds: the scenario: dynamics, observations and rewards of each agent.
    """

    def __init__(
        self,
        *,
        members: Membership,
        streams: Streams,
        task: Task,
        aggregator: Aggregator,
        agreement: Agreement,
        coin: Coin,
        channel: Channel,
        adversary: Adversary,
        policy: Policy,
        device: torch.device,
        seats: Callable[[int], Membership] | None = None,
    ) -> None:
        self.agents = torch.arange(members.agents)
        self.round, self.progress = 0, 0.0
        self.policy = policy
        theta0 = self.policy.initial(streams.generator("init")).to(device)
        self.theta0 = theta0.repeat(members.agents, 1)
        self.declared = torch.full((members.agents,), members.declared)
        self.discount = task.discount
        self.ledger = Ledger(torch.zeros(members.agents).long(), torch.zeros(members.agents).long())
        self._members, self._streams, self._task, self._device = members, streams, task, device
        self._seats = seats
        self._aggregator, self._agreement, self._coin, self._adversary = aggregator, agreement, coin, adversary
        self._network = Post(members, adversary, channel, streams, self.ledger)
        self.worlds = Worlds(task, streams, members.agents)
        self._environments: dict[tuple[int, int], EnvironmentBatch] = {}
        self._num_samples, self._num_server_samples, self._num_uses = 0, 0, Counter[str]()

    def begin(self, round: int, progress: float) -> None:
        """Start a round: its number is the key of all its streams.

        Args:
            round: the round, from 0.
            progress: the share of the trajectory budget that is spent.
        """
        self.round, self.progress = round, progress
        self._num_samples, self._num_server_samples, self._num_uses = 0, 0, Counter[str]()
        self.ledger.turn()
        members = self._members if self._seats is None else self._seats(round)
        if members.away != (away := self.worlds.away(progress)):
            members = replace(members, away=away)
        if members is not self._members:
            self._members = members
            self._adversary.meet(members)
        self._adversary.begin(round)
        self._network.begin(round, self._members)

    @property
    def mail(self) -> State:
        """Return the state of the network for a checkpoint: see `byzbench.federation.post.Post.memory`."""
        return self._network.memory

    @mail.setter
    def mail(self, saved: State) -> None:
        self._network.memory = saved

    # Local operations.

    def sample(self, theta: Tensor, count: Tensor | int, agents: Sequence[int] | None = None) -> Trajectories:
        """Sample complete episodes of each agent with its own policy, and charge them to the agent.

        Args:
            theta: [P, d], the policy parameters of each agent.
            count: int64 [P] or one number, the exact number of episodes of each agent.
            agents: the P agents; by default all K.

        Returns:
            The episodes, with rewards as the agents receive them.
        """
        agent_ids = list(range(len(theta))) if agents is None else list(agents)
        counts = torch.as_tensor(count).expand(len(agent_ids)).long().cpu()
        suffix = f"/{self._num_samples}" if self._num_samples else ""
        self._num_samples += 1
        tap = self._adversary.taps(agent_ids, int(counts.max()), self._num_samples, self.policy, theta)
        episodes = self._rollout(theta, counts, agent_ids, suffix, tap)
        self._charge_episodes(agent_ids, episodes)
        if self.ledger.returns is None or len(agent_ids) == len(self.agents):
            self.ledger.returns = torch.zeros(len(self.agents), dtype=torch.float64)
        self.ledger.returns[agent_ids] = episodes.returns
        rewards = self.worlds.pay(episodes.rewards, episodes.mask, agent_ids, suffix, self.round)
        episodes = replace(episodes, rewards=rewards)
        if tap:
            episodes = replace(episodes, rewards=tap.rewards(episodes.rewards))
        self._adversary.lived(agent_ids, episodes)
        return episodes.to(self._device)

    def draw(
        self, name: str, draw: Callable[[np.random.Generator], float], agents: Sequence[int] | None = None
    ) -> Tensor:
        """Draw a value for each agent from a stream of its own.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.
            agents: the P agents; by default all K.

        Returns:
            float64 [P], the value of each agent.
        """
        agent_ids = list(range(len(self.agents))) if agents is None else agents
        values = [draw(self._streams.generator(f"alone/{name}", self.round, a)) for a in agent_ids]
        return torch.tensor(values, dtype=torch.float64)

    def note(self, name: str, values: Tensor, agents: Sequence[int] | None = None) -> None:
        """Record a metric of this round. It is not sent to any agent.

        Args:
            name: the name of the metric.
            values: [P], the value of each agent.
            agents: the P agents; by default all K.
        """
        recorded = self.ledger.noted.setdefault(name, torch.full((len(self.agents),), torch.nan, dtype=torch.float64))
        recorded[slice(None) if agents is None else list(agents)] = values.detach().to(recorded)

    def draw_at_server(self, name: str, draw: Callable[[np.random.Generator], float]) -> float:
        """Draw a value at the trusted server, which neither the coin nor a Byzantine agent can influence.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.
        """
        return draw(self._streams.generator(name, self.round))

    async def sample_at_server(self, theta: Tensor, count: int) -> Trajectories:
        """Sample episodes in an environment of the trusted server, and charge them to the server.

        Args:
            theta: [1, d], the policy parameters.
            count: the exact number of episodes.
        """
        self._num_server_samples += 1
        episodes = self._rollout(
            theta, torch.tensor([count]), [len(self.agents)], f"/server/{self._num_server_samples}", None
        )
        self.ledger.served += torch.stack([episodes.count.sum(), episodes.steps.sum()])
        return episodes.to(self._device)

    def _rollout(
        self, theta: Tensor, counts: Tensor, agent_ids: Sequence[int], suffix: str, tap: LiarsTap | None
    ) -> Trajectories:
        """Sample episodes of policies theta [P, d] with the streams of P agents; the server has number K.

        Args:
            theta: [P, d], the policy parameters.
            counts: int64 [P], the number of episodes of each policy; inactive agents sample none.
            agent_ids: the P agents.
            suffix: the suffix of the names of streams.
            tap: the environment hooks of the Byzantine agents, or None.
        """
        rows = int(counts.max())
        reset_rngs = [self._streams.generator(f"environment{suffix}", self.round, a) for a in agent_ids]
        noise = np.empty((len(agent_ids), rows, self._task.horizon, *self.policy.action_shape), np.float32)
        for a, agent_noise in zip(agent_ids, noise, strict=True):
            self.policy.draw(self._streams.generator(f"action{suffix}", self.round, a), agent_noise)
        batch = self._environments.get((len(agent_ids), rows))
        if batch is None:
            batch = self._environments[len(agent_ids), rows] = self._task.make(len(agent_ids), rows)
        if self._task.dynamics:
            factors = self.worlds.physics(agent_ids, self.progress)
            for name, byzantine_factors in (tap.dynamics() if tap else {}).items():
                factors[name] = factors.get(name, 1.0) * byzantine_factors
            self._task.alter(batch, factors)
        action_noise = torch.from_numpy(noise).transpose(1, 2)
        counts = counts * torch.tensor([a not in self._members.away for a in agent_ids])
        return rollout(
            self.policy,
            theta.detach().cpu(),
            self.worlds.shown(batch, agent_ids),
            reset_rngs,
            action_noise,
            counts,
            tap,
        )

    def _charge_episodes(self, agent_ids: Sequence[int], episodes: Trajectories) -> None:
        """Add episodes to the counters of agents."""
        self.ledger.trajectories.index_add_(0, torch.tensor(agent_ids), episodes.count)
        self.ledger.steps.index_add_(0, torch.tensor(agent_ids), episodes.steps)

    # Communication.

    async def exchange(self, topic: str, x: Tensor, *, reliable: bool = False) -> Inbox:
        """Exchange vectors between neighbours.

        With `reliable`, messages are sent by reliable broadcast (Bracha 1987): every receiver echoes each message
        twice. So a Byzantine agent cannot send different messages to its neighbours. All of them receive the message
        for its first neighbour, in the order of agent numbers.

        Args:
            topic: the topic of the exchange.
            x: [K, d], the vector that each agent sends.
            reliable: use reliable broadcast.

        Returns:
            The inboxes of all K agents.
        """
        return await self._network.exchange(topic, x, reliable)

    async def gather(self, topic: str, x: Tensor, groups: int = 1) -> Inbox:
        """Send a vector of each agent to the server.

        Args:
            topic: the topic of the exchange.
            x: [K, d], the vector that each agent sends.
            groups: G, the number of groups; agent a is in group a mod G.

        Returns:
            The inboxes of the server, one for each group.
        """
        return await self._network.gather(topic, x, groups)

    async def broadcast(self, topic: str, y: Tensor) -> Tensor:
        """Send a vector of the trusted server to all agents. The channel does not change, delay or lose it.

        Args:
            topic: the topic of the exchange.
            y: [1, d], the vector of the server.

        Returns:
            [K, d], the vector that each agent receives.
        """
        self._network.broadcast(topic, y)
        return y.expand(len(self.agents), -1).clone()

    async def common(self, name: str, draw: Callable[[np.random.Generator], float]) -> Tensor:
        """Draw a value with common randomness, which is equal at all honest agents if the coin guarantees it.

        Args:
            name: the name of the stream.
            draw: returns a value, given a generator.

        Returns:
            float64 [K], the value as each agent sees it.
        """
        values = self._coin(draw, len(self.agents), self._streams.generator(name, self.round))
        self._adversary.toss(values)
        for num_messages, size in self._coin.cost(len(self.agents)):
            self.ledger.charge("coin", np.full(len(self.agents), num_messages), size)
        return values

    async def agree(self, theta: Tensor, state: State) -> tuple[Tensor, State]:
        """Run the agreement protocol of the experiment.

        Args:
            theta: [K, d], the parameters of each agent.
            state: the state of the algorithm; the entries `agreement.*` are those of the protocol.

        Returns:
            theta: [K, d], the parameters after the agreement.
            state: the state with new entries `agreement.*`.
        """
        prefix = "agreement."
        own_state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        agreed, report, new = await self._agreement(self, theta, own_state)
        self.ledger.agreed = Agreed(theta, agreed, report)
        return agreed, {**state, **{prefix + k: v for k, v in new.items()}}

    # Aggregation of received messages.

    def aggregate(self, inbox: Inbox, state: State) -> tuple[Tensor, State]:
        """Aggregate every inbox with the rule of the experiment.

        If the rule is undefined for the valid messages of an inbox, the value is the receiver's own vector. For a
        server it is NaN.

        Args:
            inbox: the messages of R receivers.
            state: the state of the algorithm; the entries `aggregator.*` are those of the rule.

        Returns:
            value: [R, d], the aggregated vectors.
            state: the state with new entries `aggregator.*`.
        """
        prefix = "aggregator."
        own_state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        result = self.ledger.aggregation = self._apply("aggregator", self._aggregator, inbox, own_state)
        self._adversary.learn("gradient", result)
        return result.value, {**state, **{prefix + k: v for k, v in result.state.items()}}

    def combine(self, rule: Aggregator, inbox: Inbox, state: State | None = None) -> tuple[Tensor, State]:
        """Aggregate every inbox with a given rule; receivers with the same messages share one computation.

        Args:
            rule: the aggregation rule.
            inbox: the messages of R receivers.
            state: the state of a stateful rule, with one row for each receiver. A row is zero until the rule is defined
                for an inbox of its receiver for the first time.

        Returns:
            value: [R, d], the aggregated vectors, as in `aggregate`.
            state: the new state of the rule.
        """
        result = self._apply("agreement", rule, inbox, state or {})
        self.ledger.mixing = self.ledger.mixing or result
        self._adversary.learn("parameters", result)
        return result.value, result.state

    def _apply(self, purpose: str, rule: Aggregator, inbox: Inbox, state: State) -> Aggregation:
        """Apply a rule to every inbox at which it is defined.

        Args:
            purpose: the prefix of the random streams: `aggregator` or `agreement`.
            rule: the aggregation rule.
            inbox: the messages of R receivers.
            state: the state of the rule, with one row for each receiver.
        """
        usable = torch.tensor([rule.defined(n, f) for n, f in zip(inbox.n.tolist(), inbox.f.tolist(), strict=True)])
        self.ledger.kept += int((~usable).sum())
        undefined = torch.full_like(inbox.base[:1], torch.nan).repeat(len(usable), 1)
        value = undefined if inbox.sent is None else inbox.sent.clone()
        rows = usable.nonzero().squeeze(1)
        new, weights = dict(state), None
        if len(rows):
            usable_inbox = inbox.of(rows)
            shareable = not (rule.self_centred or rule.stateful)
            first, group = usable_inbox.distinct() if shareable else (torch.arange(len(rows)), torch.arange(len(rows)))
            block_size = max(1, _BLOCK // (usable_inbox.senders.shape[1] * usable_inbox.base.shape[1]))
            self._num_uses[purpose] += 1
            stream = f"{purpose}/{self._num_uses[purpose] - 1}"
            values, block_weights, states = [], [], []
            for block in first.split(block_size):
                block_inbox = usable_inbox.of(block)
                block_value, combination, new_state = rule(
                    block_inbox.base[block_inbox.senders],
                    block_inbox.f,
                    mask=block_inbox.mask,
                    own=block_inbox.own,
                    weights=block_inbox.weights,
                    age=block_inbox.age,
                    state={name: part[rows[block]] for name, part in new.items()},
                    rng=self._streams.generator(stream, self.round),
                    **self._extra_inputs(rule, block_inbox, stream),
                )
                values.append(block_value)
                block_weights.append(combination)
                states.append(new_state)
            value[rows] = torch.cat(values)[group].to(value)
            if (combinations := [w for w in block_weights if w is not None]) and len(combinations) == len(
                block_weights
            ):
                weights = torch.zeros(inbox.mask.shape, dtype=torch.float64)
                weights[rows] = torch.cat(combinations)[group].cpu()
            for name in states[0]:
                part = torch.cat([new_state[name] for new_state in states])
                new[name] = new[name].clone() if name in new else part.new_zeros(len(usable), *part.shape[1:])
                new[name][rows] = part
        return Aggregation(inbox, value, weights, usable, new)

    def _extra_inputs(self, rule: Aggregator, inbox: Inbox, stream: str) -> dict[str, Any]:
        """Return the keywords that only some rules require: `honest` and `judge`."""
        extra_inputs: dict[str, Any] = {}
        if "honest" in rule.asks:
            extra_inputs["honest"] = ~self._members.byzantine[inbox.authors]
        if "judge" in rule.asks:
            extra_inputs["judge"] = partial(self._judge, inbox, stream)
        return extra_inputs

    def _judge(self, inbox: Inbox, stream: str, policies: Tensor, which: Tensor, episodes: int) -> Tensor:
        """Evaluate candidate policies of receivers; see `byzbench.contracts.Judge`.

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
        first, group = inbox.distinct()
        distinct = inbox.of(first)
        # In an empty inbox all columns count: invalid messages are zeros in the base, so its diameter is zero.
        mask = distinct.mask | (distinct.n == 0).unsqueeze(1)
        cloud = Cloud.of(distinct.base[distinct.senders], mask)
        return narrowest(cloud.distances, mask, distinct.f)[1].to(distinct.base.device)[group]
