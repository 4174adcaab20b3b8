"""The adversary: runs an attack for the Byzantine agents with the knowledge that its threat model declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, Attack, EnvHooks, State, Task, Timing
from byzbench.core.context import AttackContext, visible_fields
from byzbench.core.messages import ValidatedMessages, plain_state, validate_messages
from byzbench.errors import BrokenPlugin
from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.federation.rule_oracle import ClonedRule
from byzbench.federation.statistics import AggregationResult
from byzbench.randomness import Streams
from byzbench.registry import name_of
from byzbench.rl.policies import Policy
from byzbench.rl.rollouts import Trajectories

_OBSERVED = "seen."
"""The prefix of observed values in a checkpoint, and of the attack's memory under keys that start with it."""

_ESCAPED = _OBSERVED + _OBSERVED
"""The prefix in a checkpoint of such a key; no observed value has it."""

Step: TypeAlias = Callable[[int, np.ndarray], np.ndarray]
"""A hook: (step, values [f, ...]) -> values [f, ...]."""


class Adversary:
    """Adversary that controls all Byzantine agents of one experiment.

    Args:
        attack: the attack that it runs.
        members: the communication graph and the Byzantine agents.
        task: the task of all agents.
        streams: the random streams of the experiment.
        rules: by topic, the rule that aggregates messages of this topic; it is cloned for attacks that query it.

    Attributes:
        round: the current round, which the federation sets.
    """

    def __init__(
        self,
        attack: Attack,
        members: CommunicationGraph,
        task: Task,
        policy: Policy,
        streams: Streams,
        rules: Mapping[str, Aggregator] | None = None,
    ) -> None:
        self.round = 0
        self._attack, self._members, self._task, self._policy = attack, members, task, policy
        self._streams = streams
        self._rules = rules or {}
        self._byzantine = list(members.byzantine_ids)
        self._honest = [a for a in range(members.num_agents) if a not in members.byzantine_ids]
        self._own_rows, self._honest_rows = torch.tensor(self._byzantine, dtype=torch.int64), torch.tensor(self._honest)
        self._threat = attack.threat
        self._visible = visible_fields(self._threat)
        self._num_exchanges = 0
        self._coin: Tensor | None = None
        self._theta: Tensor | None = None
        self._rollouts: dict[int, dict[str, Tensor]] = {}
        self._batch_size: int | None = None
        self._memory: State = {}
        self._observed: State = {}
        if self._byzantine:
            self._memory = self._checked(attack.start(self._context({}, self._static_secrets(self._byzantine))))

    def state_dict(self) -> State:
        """Return the state for a checkpoint: the attack's memory, and values for `history` and `rule`."""
        memory = {_OBSERVED * name.startswith(_OBSERVED) + name: part for name, part in self._memory.items()}
        return {**memory, **{_OBSERVED + name: part for name, part in self._observed.items()}}

    def load_state_dict(self, saved: State) -> None:
        """Load what `state_dict` returned."""
        self._memory, self._observed = {}, {}
        for name, part in saved.items():
            own = name.startswith(_ESCAPED) or not name.startswith(_OBSERVED)
            (self._memory if own else self._observed)[name.removeprefix(_OBSERVED)] = part

    def _checked(self, memory: object) -> State:
        """Return the memory that the attack returned, as plain tensors.

        Raises:
            BrokenPlugin: it is no dict of tensors by name that a checkpoint can hold.
        """
        try:
            return plain_state(memory)
        except TypeError as error:
            raise BrokenPlugin(f"attack {name_of(self._attack)}: its memory {error}") from None

    def begin(self, round: int) -> None:
        """Start a round: its number is the key of all its streams."""
        self.round, self._num_exchanges, self._coin = round, 0, None
        self._theta, self._rollouts, self._batch_size = None, {}, None

    def resume_exchange(self, round: int, exchange: int) -> None:
        """Continue in a round of an asynchronous agent.

        Args:
            round: the round of the agent, the key of its streams.
            exchange: the number of exchanges in which it has sent messages in this round.
        """
        self.round, self._num_exchanges = round, exchange

    def end_round_of(self, agent: int) -> None:
        """End the round of an asynchronous Byzantine agent: discard its rollouts, parameters and common draws."""
        index = self._byzantine.index(agent)
        self._rollouts.pop(index, None)
        for values, empty in ((self._theta, 0.0), (self._coin, torch.nan)):
            if values is not None:
                values[index] = empty

    def set_graph(self, members: CommunicationGraph) -> None:
        """Set the communication graph of the round; the Byzantine agents stay the same."""
        self._members = members
        for name in ("_mixing", "_victim"):
            self.__dict__.pop(name, None)

    def record_coin(self, values: Tensor, agent: int | None = None) -> None:
        """Record a common draw for attacks that see it.

        Args:
            values: [K], the draw as each agent sees it.
            agent: the Byzantine agent that has taken part; None: all of them.
        """
        if agent is None:
            self._coin = values[self._byzantine]
            return
        if self._coin is None:
            self._coin = torch.full((len(self._byzantine),), torch.nan, dtype=torch.float64)
        self._coin[self._byzantine.index(agent)] = values[agent]

    def record_aggregation(self, topic: str, aggregation: AggregationResult) -> None:
        """Record the aggregation of an exchange for attacks that see `history` or `rule`.

        Args:
            topic: the topic of the exchange.
            aggregation: the values and the new state of the rule at all receivers.
        """
        if not self._byzantine or not {"history", "rule"} & self._visible:
            return
        receivers = aggregation.inbox.receivers
        if "history" in self._visible:
            value = aggregation.value.detach().cpu()
            if receivers is None:
                indices, rows = torch.arange(len(self._byzantine)), torch.tensor(self._byzantine) % len(value)
            else:
                indices, rows = (torch.tensor(self._byzantine).unsqueeze(1) == receivers).nonzero(as_tuple=True)
            finite = value[rows].isfinite().all(1)
            past = self._observed.get(f"history.{topic}", value.new_zeros(len(self._byzantine), value.shape[1]))
            if finite.any():
                self._observed[f"history.{topic}"] = past.index_copy(0, indices[finite], value[rows[finite]])
        if "rule" in self._visible and self._rules.get(topic) is not None and self._rules[topic].traits.stateful:
            worst_group = torch.tensor([self._worst_group(len(aggregation.value))])
            at = worst_group if receivers is None else (receivers == self._victim).nonzero().squeeze(1)
            if len(at):
                state = {f"state.{topic}.{name}": part[at[0]].cpu().clone() for name, part in aggregation.state.items()}
                self._observed |= state

    def _context(self, public: dict[str, Any], secrets: dict[str, Callable[[], Any]]) -> AttackContext:
        """Make the context of a call.

        Args:
            public: the values that are always available, beside the round, K, f and the task.
            secrets: by attribute, a function that makes its value; it is called when a visible attribute is read.
        """
        facts = {
            "round": self.round,
            "num_agents": self._members.num_agents,
            "num_byzantine": len(self._byzantine),
            "task": self._task,
            "num_parameters": self._policy.dimension,
        }
        return AttackContext(self._threat, {**facts, **public}, {}, secrets)

    def _static_secrets(self, agents: Sequence[int]) -> dict[str, Callable[[], Any]]:
        """Return the secrets that do not depend on an exchange, for some Byzantine agents."""
        indices = [self._byzantine.index(a) for a in agents]
        return {
            "graph": self._members.graph.copy,
            "byzantine_ids": lambda: torch.tensor(agents),
            "honest_ids": lambda: torch.tensor(self._honest),
            "mixing": lambda: self._mixing.clone(),
            "coin": lambda: None if self._coin is None else self._coin[indices],
            "policy": lambda: self._policy,
            "theta": lambda: None if self._theta is None else self._theta[indices],
        }

    def _rollout_of(self, index: int) -> Trajectories | None:
        """Return a copy of the last episodes of one Byzantine agent, by its index in `members.byzantine_ids`."""
        rollout = self._rollouts.get(index)
        return Trajectories(**{name: part.clone() for name, part in rollout.items()}) if rollout else None

    @cached_property
    def _mixing(self) -> Tensor:
        """Return the mixing weights as a matrix: float64 [K, K]."""
        agents = self._members.num_agents
        square = torch.zeros(agents, agents, dtype=torch.float64)
        return square.scatter_add_(1, self._members.senders, self._members.mixing)

    @cached_property
    def _victim(self) -> int:
        """Return the honest agent with the most Byzantine neighbours, the first of equals.

        Without a server, a clone of the rule is the rule of this agent.
        """
        return max(self._honest, key=lambda a: sum(b in self._byzantine for b in self._members.inboxes[a]))

    def _worst_group(self, groups: int) -> int:
        """Return the group of a server with the most Byzantine agents, the first of equals."""
        return max(range(groups), key=lambda group: sum(agent % groups == group for agent in self._byzantine))

    async def craft_messages(
        self, topic: str, x: Tensor, edges: Tensor, groups: int = 1, updated: Tensor | None = None
    ) -> ValidatedMessages | None:
        """Craft the messages of the Byzantine agents for one exchange.

        Args:
            topic: the topic of the exchange.
            x: [K, d], the vectors that all agents computed.
            edges: int64 [E, 2], the edges on which Byzantine agents send, sorted by sender: (index of the sender,
                receiver).
            groups: the number of groups of a server.
            updated: bool [f], the Byzantine agents whose vectors are new since the last call; None: all of them.

        Returns:
            The validated messages: one for each edge if the attack equivocates, else one for each Byzantine agent. None
            if they send the vectors that they computed.
        """
        self._num_exchanges += 1
        if not self.targets(topic):
            return None
        vectors, pairs, count = x.detach().cpu(), edges.numpy(), len(self._byzantine)
        if "byzantine" in self._threat.knowledge:
            return await self._craft(topic, vectors, range(count), pairs, groups, updated)
        starts = np.searchsorted(pairs[:, 0], np.arange(count + 1)).tolist()
        parts = [
            await self._craft(
                topic, vectors, range(row, row + 1), pairs[starts[row] : starts[row + 1]], groups, updated
            )
            for row in range(count)
        ]
        return ValidatedMessages(
            *(torch.cat([getattr(p, f) for p in parts]) for f in ("vectors", "malformed", "silent"))
        )

    async def _craft(
        self, topic: str, vectors: Tensor, rows: range, edges: np.ndarray, groups: int, updated: Tensor | None
    ) -> ValidatedMessages:
        """Craft the messages of some Byzantine agents, given by a range of indices, on `edges` if they equivocate."""
        senders, own_rows = self._byzantine[rows.start : rows.stop], self._own_rows[rows.start : rows.stop]
        past = self._observed.get(f"history.{topic}")
        secrets: dict[str, Callable[[], Any]] = {
            **self._static_secrets(senders),
            "own": lambda: vectors.index_select(0, own_rows),
            "byzantine": lambda: vectors.index_select(0, own_rows),
            "honest": lambda: vectors.index_select(0, self._honest_rows),
            "edges": lambda: edges - [rows.start, 0],
            "history": lambda: None if past is None else past[rows.start : rows.stop].clone(),
            "rollouts": lambda: [self._rollout_of(row) for row in rows],
            "rule": lambda: self._rule_clone(topic, vectors, edges, groups),
        }
        rng = self._streams.generator(f"attack/{self._num_exchanges}", self.round, rows.start)
        facts = {"topic": topic, "updated": None if updated is None else updated[rows.start : rows.stop]}
        messages, memory = await self._attack.craft_messages_async(self._context(facts, secrets), self._memory, rng)
        self._memory = self._checked(memory)
        return validate_messages(messages, len(edges) if self._threat.equivocates else len(rows), vectors.shape[1])

    def _rule_clone(self, topic: str, vectors: Tensor, edges: np.ndarray, groups: int) -> ClonedRule | None:
        """Return a clone of the topic's rule, at the server's worst group if edges end there, else at the victim."""
        rule, members, name = self._rules.get(topic), self._members, f"defence/{self._num_exchanges}"
        if rule is None:
            return None
        server = bool((edges[:, 1] == members.num_agents).any())
        worst_group = self._worst_group(groups)
        inbox = list(range(worst_group, members.num_agents, groups)) if server else members.inboxes[self._victim]
        prefix = f"state.{topic}."
        round = self.round
        return ClonedRule(
            rule=rule,
            receiver=members.num_agents if server else self._victim,
            calls=self._threat.query_budget,
            inbox=vectors[inbox],
            candidate_rows=torch.tensor([self._byzantine.index(a) if a in self._byzantine else -1 for a in inbox]),
            bound=members.bound(len(inbox)),
            own=-1 if server else inbox.index(self._victim),
            weights=None if server else self._mixing[self._victim, inbox],
            state={k.removeprefix(prefix): v for k, v in self._observed.items() if k.startswith(prefix)},
            rng=lambda: self._streams.generator(name, round),
            batch_size=self._batch_size if topic == "gradient" else None,
        )

    @property
    def timing(self) -> Timing:
        """Return when messages arrive under the attack; as the schedule has it if there are no Byzantine agents.

        Raises:
            BrokenPlugin: the attack changes times, but its surface does not contain the network.
        """
        timing = self._attack.timing if self._byzantine else Timing()
        if timing != Timing() and "network" not in self._threat.surface:
            raise BrokenPlugin(f"attack {name_of(self._attack)} changes times, but its surface has no network")
        return timing

    def targets(self, topic: str) -> bool:
        """Return whether there are Byzantine agents whose messages of a topic the attack crafts."""
        return bool(self._byzantine) and self._attack.targets(topic)

    @property
    def equivocates(self) -> bool:
        """Return whether the attack crafts one message for each edge."""
        return self._threat.equivocates

    @property
    def has_hooks(self) -> bool:
        """Return whether the attack changes environments."""
        return "environment" in self._threat.surface

    def make_hooks(self, agents: Sequence[int], episodes: int, sample: int, theta: Tensor) -> ByzantineEnvHooks | None:
        """Return the environment hooks of the Byzantine agents for a rollout, or None if there are none.

        Args:
            agents: the agents of the rollout.
            episodes: the largest number of episodes of an agent.
            sample: the number of the rollout in this round, from 1.
            theta: [len(agents), d], the parameters of the policies of these agents.

        Raises:
            BrokenPlugin: the attack changes a physical constant that the task does not have.
        """
        self._batch_size = episodes
        if self._byzantine and "policy" in self._visible:
            theta = theta.detach().cpu()
            if self._theta is None:
                self._theta = theta.new_zeros(len(self._byzantine), theta.shape[1])
            rows, indices = _match(agents, self._byzantine)
            self._theta[indices] = theta[rows]
        if not self._byzantine or "environment" not in self._threat.surface:
            return None
        rng = self._streams.generator(f"attack/environment/{sample}", self.round)
        context = self._context({"num_episodes": episodes}, self._static_secrets(self._byzantine))
        hooks, memory = self._attack.hook_environment(context, self._memory, rng)
        self._memory = self._checked(memory)
        if unknown := sorted(set(hooks.dynamics or ()) - set(self._task.dynamics)):
            raise BrokenPlugin(f"{type(self._attack).__name__} changes {unknown[0]!r}, which this task does not offer")
        return ByzantineEnvHooks(hooks, agents, self._byzantine)

    def record_rollout(self, agents: Sequence[int], episodes: Trajectories) -> None:
        """Record the rollouts of agents as they observed them, after the hooks, for attacks that see `rollouts`.

        Args:
            agents: the agents of the rollout.
            episodes: their episodes, with one row for each agent.
        """
        if self._byzantine and "rollouts" in self._visible:
            for row, index in zip(*_match(agents, self._byzantine), strict=True):
                self._rollouts[index] = {name: part[row : row + 1] for name, part in vars(episodes).items()}


def _match(agents: Sequence[int], byzantine: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the rows of the Byzantine agents in `agents`, and their indices in `byzantine`, in the order of these."""
    row_of = {agent: row for row, agent in enumerate(agents)}
    indices = [index for index, agent in enumerate(byzantine) if agent in row_of]
    return [row_of[byzantine[index]] for index in indices], indices


class ByzantineEnvHooks:
    """Environment hooks of an attack, applied to the rows of a rollout that belong to Byzantine agents.

    Hooks of an attack take and return arrays for all f Byzantine agents. Agents that are not in the rollout have zeros.

    Args:
        hooks: the hooks of the attack.
        agents: the agents of the rollout.
        byzantine: all Byzantine agents.

    Attributes:
        observe: changes observations in place, or None; see `byzbench.rl.rollouts.StepHooks`.
        act: changes actions in place, or None.
    """

    def __init__(self, hooks: EnvHooks, agents: Sequence[int], byzantine: Sequence[int]) -> None:
        rows, indices = _match(agents, byzantine)
        self._hooks, self._num_agents, self._num_byzantine = hooks, len(agents), len(byzantine)
        self._rows, self._indices = np.array(rows, np.intp), np.array(indices, np.intp)
        self._complete = len(indices) == len(byzantine)
        self.observe = self._row_hook(hooks.observation) if rows and hooks.observation else None
        self.act = self._row_hook(hooks.action) if rows and hooks.action else None

    def _row_hook(self, hook: Step) -> Callable[[int, np.ndarray], None]:
        """Return a function that applies a hook at step t to the Byzantine rows of x [K, ...] in place."""
        complete, rows, cells = self._complete, self._rows, np.empty(0, np.intp)

        def change(t: int, x: np.ndarray) -> None:
            # Called at every step of a rollout: `take` and `put` take a fifth of the time of indexing with rows.
            nonlocal cells
            changed = hook(t, x.take(rows, 0) if complete else self._expand(x))
            if not cells.size:
                if changed.shape[1:] != x.shape[1:]:
                    raise BrokenPlugin(
                        f"a hook returned the shape {list(changed.shape)} in place of "
                        f"{[self._num_byzantine, *x.shape[1:]]}"
                    )
                cells = np.arange(x.size).reshape(len(x), -1)[rows]
            x.put(cells, changed if complete else changed[self._indices])

        return change

    def _expand(self, x: np.ndarray) -> np.ndarray:
        """Return the rows of all f Byzantine agents, with zeros for those that are not in the rollout."""
        present = x[self._rows]
        if self._complete:
            return present
        expanded = np.zeros((self._num_byzantine, *x.shape[1:]), x.dtype)
        expanded[self._indices] = present
        return expanded

    def rewards(self, rewards: Tensor) -> Tensor:
        """Return the rewards [K, T, N] with those of Byzantine agents changed by the hook."""
        if self._hooks.reward is None or not len(self._rows):
            return rewards
        changed = rewards.clone()
        changed[self._rows] = self._hooks.reward(torch.from_numpy(self._expand(rewards.numpy())))[self._indices]
        return changed

    def dynamics(self) -> dict[str, np.ndarray]:
        """Return the factors of physical constants, [K] for each constant that the attack changes."""
        factors = {}
        for name, byzantine_factors in (self._hooks.dynamics or {}).items():
            factors[name] = np.ones(self._num_agents)
            factors[name][self._rows] = byzantine_factors[self._indices]
        return factors
