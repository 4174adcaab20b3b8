"""Threat models: what an adversary knows, and what it acts on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from byzbench.errors import BrokenPlugin

Knowledge = Literal["own", "byzantine", "honest", "policy", "rollouts", "graph", "coin", "history", "rule"]
Surface = Literal["environment", "messages", "network"]
Topic = Literal["gradient", "parameters"]
On = Literal["gradient", "parameters", "both"]


@dataclass(frozen=True)
class ThreatModel:
    """A threat model: what an adversary knows and what it may do.

    Attributes:
        knowledge: the knowledge that an attack may read from its context. `own`: each Byzantine agent reads its own
            honest vector. `byzantine`: the honest vectors of all Byzantine agents are read together. `honest`: the
            honest agents' vectors of this exchange. `policy`: the policies with which the Byzantine agents act.
            `rollouts`: the episodes that they have collected in this round. `graph`: the graph, with the position and
            the mixing weights of every agent. `coin`: the common random draw of the round. `history`: the output of the
            rule in the last exchange. `rule`: a rule oracle, which is a clone of the rule on which candidate messages
            can be evaluated. The oracle takes the messages of all Byzantine agents at once, so `rule` requires
            `byzantine`.
        surface: what the attack acts on. `environment`: its agents' environments. `messages`: the content of their
            messages, and whether they are sent. `network`: the times at which messages arrive, those of honest agents
            included, see `byzbench.core.timing`; it can neither read nor change honest messages.
        equivocates: whether a Byzantine agent may send different messages to different neighbours.
        query_budget: the number of candidates that may be evaluated on the rule oracle in one exchange.

    Raises:
        BrokenPlugin: `knowledge` holds `rule` but not `byzantine`.

    Example:
        >>> sorted(ThreatModel(knowledge=frozenset({"byzantine", "honest"})).surface)
        ['messages']
        >>> ThreatModel(knowledge=frozenset({"rule"}), query_budget=100)
        Traceback (most recent call last):
            ...
        byzbench.errors.BrokenPlugin: a threat that sees `rule` must see `byzantine`: the oracle takes all messages
    """

    knowledge: frozenset[Knowledge] = frozenset()
    surface: frozenset[Surface] = frozenset({"messages"})
    equivocates: bool = False
    query_budget: int = 0

    def __post_init__(self) -> None:
        if "rule" in self.knowledge and "byzantine" not in self.knowledge:
            raise BrokenPlugin("a threat that sees `rule` must see `byzantine`: the oracle takes all messages")
