"""Contexts: the knowledge of an attack, limited to what its threat model declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from byzbench.core.learning import Task
from byzbench.core.threat_model import ThreatModel
from byzbench.errors import UndeclaredKnowledge

if TYPE_CHECKING:
    import networkx as nx
    from torch import Tensor

    from byzbench.rl.policies import Policy
    from byzbench.rl.rollouts import Trajectories


class RuleOracle(Protocol):
    """A clone of the aggregation rule at one honest receiver, on which an attack evaluates candidate messages.

    Attributes:
        receiver: the receiving agent; a server has the number K.
        calls: the number of candidates that may be evaluated in this exchange.
    """

    receiver: int
    calls: int

    def __call__(self, messages: Tensor) -> Tensor:
        """Return the values [..., d] of the rule for candidate messages [..., f, d] of the Byzantine agents.

        Raises:
            UndeclaredKnowledge: more candidates were evaluated than the threat model declares.
        """


class AttackContext:
    """Read-only context of an attack in one exchange or one rollout. Its tensors and its graph are copies.

    Other attributes than those that are always available must be declared in `ThreatModel.knowledge`. Reading an
    undeclared one raises `UndeclaredKnowledge`.

    Attributes:
        round: the round, from 0. Always available.
        num_agents: K, the number of agents. Always available.
        num_byzantine: f, the number of Byzantine agents. Always available.
        task: the task. Always available.
        num_parameters: d, the number of parameters of a policy. Always available.
        topic: the topic of the exchange. Always available in an exchange.
        updated: bool [f], the Byzantine agents whose vectors are new since the last call for this topic; [1] in a call
            for one agent. None: those of all, as in lock step. Always available in an exchange.
        num_episodes: N, the number of episodes. Always available in a rollout.
        own: [f, d], the honest vectors of the Byzantine agents; [1, d] in a call for one agent. In an exchange.
        byzantine: [f, d], the same for all Byzantine agents at once. In an exchange.
        honest: [h, d], the vectors of the honest agents. In an exchange.
        history: [f, d], the output of the rule at each Byzantine agent in the last exchange of this topic; around a
            server, the server's value. None before the first exchange. In an exchange.
        rollouts: the last episodes of each Byzantine agent in this round (K = 1 each), None for an agent that has
            sampled none. In an exchange.
        policy: the policy that all agents train, with parameters of their own.
        theta: [f, d], the parameters with which the Byzantine agents sample or last sampled in this round; None before
            the first rollout. Declared by `policy`.
        rule: a clone of the aggregation rule, see `RuleOracle`. In an exchange.
        graph: the communication graph.
        byzantine_ids: int64 [f], the Byzantine agents of the rows of `own`. Declared by `graph`.
        honest_ids: int64 [h], the honest agents of the rows of `honest`. Declared by `graph`.
        mixing: float64 [K, K], the weights of gossip. Declared by `graph`.
        coin: float64 [f], the last common draw of this round as these agents see it; None before the first draw.
        edges: int64 [E, 2], the edges on which Byzantine agents send: (row of `own`, receiver), where a server has the
            number K. Available if the threat equivocates.
    """

    round: int
    num_agents: int
    num_byzantine: int
    task: Task
    num_parameters: int
    topic: str
    updated: Tensor | None = None
    num_episodes: int
    own: Tensor
    byzantine: Tensor
    honest: Tensor
    history: Tensor | None
    rollouts: Sequence[Trajectories | None]
    policy: Policy
    theta: Tensor | None
    rule: RuleOracle
    graph: nx.Graph
    byzantine_ids: Tensor
    honest_ids: Tensor
    mixing: Tensor
    coin: Tensor | None
    edges: np.ndarray

    def __init__(
        self,
        threat: ThreatModel,
        public: dict[str, Any],
        secrets: dict[str, Any],
        deferred: Mapping[str, Callable[[], Any]] | None = None,
    ) -> None:
        """Make a context of all public values and of those secrets that the threat declares.

        Args:
            threat: the threat model of the attack.
            public: by attribute, the values that every attack may read.
            secrets: by attribute, the values that need a declaration.
            deferred: by attribute, functions that make such values when they are first read.
        """
        visible = visible_fields(threat)
        self.__dict__.update(public, **{name: value for name, value in secrets.items() if name in visible})
        self.__dict__["_sees"] = threat.knowledge
        self.__dict__["_deferred"] = {name: make for name, make in (deferred or {}).items() if name in visible}

    def read_all(self) -> None:
        """Make all values that are made when they are first read."""
        for name in list(self.__dict__["_deferred"]):
            getattr(self, name)

    def __getattr__(self, name: str) -> Any:
        if name in (deferred := self.__dict__.get("_deferred", {})):
            value = self.__dict__[name] = deferred.pop(name)()
            return value
        declared = ", ".join(sorted(self.__dict__.get("_sees", ()))) or "nothing"
        raise UndeclaredKnowledge(f"an attack read context.{name}; its threat declares {declared}")


@cache
def visible_fields(threat: ThreatModel) -> frozenset[str]:
    """Return the attributes of a context that a threat model makes visible, without those that are always available.

    Example:
        >>> sorted(visible_fields(ThreatModel(knowledge=frozenset({"own", "graph"}))))
        ['byzantine_ids', 'graph', 'honest_ids', 'mixing', 'own']
    """
    implied = {"byzantine_ids", "honest_ids", "mixing"} if "graph" in threat.knowledge else set()
    implied |= {"theta"} if "policy" in threat.knowledge else set()
    return frozenset(threat.knowledge | implied | ({"edges"} if threat.equivocates else set()))
