"""Views: the knowledge of an attack, limited to what its threat model declares."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from byzbench.contracts import Task, Threat
from byzbench.errors import UndeclaredKnowledge

if TYPE_CHECKING:
    import networkx as nx
    from torch import Tensor

    from byzbench.federation.defence import Defence
    from byzbench.learning.policies import Policy
    from byzbench.learning.rollouts import Trajectories


class View:
    """Read-only context of an attack in one exchange or one rollout. Its tensors and its graph are copies.

    Other attributes than those that are always available must be declared in `Threat.sees`. Reading an undeclared one
    raises `UndeclaredKnowledge`.

    Attributes:
        round: the round, from 0. Always available.
        agents: K, the number of agents. Always available.
        byzantine: f, the number of Byzantine agents. Always available.
        task: the task. Always available.
        topic: the topic of the exchange. Always available in an exchange.
        episodes: N, the number of episodes. Always available in a rollout.
        own: [f, d], the honest vectors of the Byzantine agents; [1, d] in a call for one agent. In an exchange.
        colluders: [f, d], the same for all Byzantine agents at once. In an exchange.
        honest: [h, d], the vectors of the honest agents. In an exchange.
        history: [f, d], the output of the rule at each Byzantine agent in the last exchange of this topic; around a
            server, the server's value. None before the first exchange. In an exchange.
        experience: the last episodes of each Byzantine agent in this round (K = 1 each), None for an agent that has
            sampled none. In an exchange.
        policy: the policy family.
        theta: [f, d], the parameters with which the Byzantine agents sample or last sampled in this round; None before
            the first rollout. Declared by `policy`.
        defence: a clone of the aggregation rule, see `byzbench.federation.defence.Defence`. In an exchange.
        graph: the communication graph.
        liars: int64 [f], the Byzantine agents of the rows of `own`. Declared by `graph`.
        peers: int64 [h], the honest agents of the rows of `honest`. Declared by `graph`.
        mixing: float64 [K, K], the weights of gossip. Declared by `graph`.
        coin: float64 [f], the last common draw of this round as these agents see it; None before the first draw.
        edges: int64 [E, 2], the edges on which Byzantine agents send: (row of `own`, receiver), where a server has the
            number K. Available if the threat equivocates.
    """

    round: int
    agents: int
    byzantine: int
    task: Task
    topic: str
    episodes: int
    own: Tensor
    colluders: Tensor
    honest: Tensor
    history: Tensor | None
    experience: Sequence[Trajectories | None]
    policy: Policy
    theta: Tensor | None
    defence: Defence
    graph: nx.Graph
    liars: Tensor
    peers: Tensor
    mixing: Tensor
    coin: Tensor | None
    edges: np.ndarray

    def __init__(self, threat: Threat, public: dict[str, Any], secrets: dict[str, Any]) -> None:
        """Make a view of all public values and of those secrets that the threat declares.

        Args:
            threat: the threat model of the attack.
            public: by attribute, the values that every attack may read.
            secrets: by attribute, the values that need a declaration.
        """
        visible = shown(threat)
        self.__dict__.update(public, **{name: value for name, value in secrets.items() if name in visible})
        self.__dict__["_sees"] = threat.sees

    def __getattr__(self, name: str) -> Any:
        declared = ", ".join(sorted(self.__dict__.get("_sees", ()))) or "nothing"
        raise UndeclaredKnowledge(f"an attack read view.{name}; its threat declares {declared}")


@cache
def shown(threat: Threat) -> frozenset[str]:
    """Return the attributes of a view that a threat model makes visible, without those that are always available.

    Example:
        >>> sorted(shown(Threat(sees=frozenset({"own", "graph"}))))
        ['graph', 'liars', 'mixing', 'own', 'peers']
    """
    implied = {"liars", "peers", "mixing"} if "graph" in threat.sees else set()
    implied |= {"theta"} if "policy" in threat.sees else set()
    return frozenset(threat.sees | implied | ({"edges"} if threat.equivocates else set()))
