"""What an attack sees: what its threat declares, and nothing else."""

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
    """The adversary's window on one exchange or one rollout. All that it holds are copies.

    Always there: `round`, `agents` (K), `byzantine` (f), `task`; in an exchange `topic`, in a rollout `episodes` (N).
    By declaration, in an exchange: `own` and `colluders` [f, d] the liars' honest vectors, `honest` [h, d] everybody
    else's; `history` [f, d], what the rule made of the last exchange of this topic at the same liars, who get the
    server's value if there is one, None before the first; `defence`, see `byzbench.federation.defence.Defence`; and
    `experience`, of each liar its last episodes of this round (K = 1), None where it has played none.

    In an exchange and in a rollout: `policy`, the family, and with it `theta` [f, d], by which liars play, or last
    played in this round, None before the first; `graph`, and with it int64 `liars` [f] and `peers` [h], the agents
    whose the rows of `own` and `honest` are, and `mixing` float64 [K, K], the weights of gossip (Metropolis'); `coin`
    float64 [f], the last common draw of this round as these liars see it, None before the first. `edges` int64 [E, 2],
    (row among the liars, receiver; a server is K), for those who equivocate. A look at anything else raises
    `UndeclaredKnowledge`.
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
        """Public facts are shown to all; of the secrets, those that the threat declares."""
        opened = shown(threat)
        self.__dict__.update(public, **{name: value for name, value in secrets.items() if name in opened})
        self.__dict__["_sees"] = threat.sees

    def __getattr__(self, name: str) -> Any:
        declared = ", ".join(sorted(self.__dict__.get("_sees", ()))) or "nothing"
        raise UndeclaredKnowledge(f"an attack looked at view.{name}; its threat declares {declared}")


@cache
def shown(threat: Threat) -> frozenset[str]:
    """The attributes of a view that a threat opens, besides those that are always there."""
    more = {"liars", "peers", "mixing"} if "graph" in threat.sees else set()
    more |= {"theta"} if "policy" in threat.sees else set()
    return frozenset(threat.sees | more | ({"edges"} if threat.equivocates else set()))
