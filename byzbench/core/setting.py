"""Settings: the description of an experiment against which its components check themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from byzbench.core.learning import Communication


@dataclass(frozen=True)
class Setting:
    """The facts of an experiment that its components may depend on.

    Attributes:
        num_agents: K, the number of agents.
        num_byzantine: f, the number of Byzantine agents.
        communication: the agents with which an agent of the algorithm exchanges messages.
        has_server: whether the graph has a trusted server.
        graph_varies: whether the graph changes between rounds.
        has_absences: whether agents are inactive in a part of the budget.
        relay: whether messages are relayed over several hops.
        samples_single_agents: whether episodes of one agent alone are sampled: by a trusted server, or by an agent that
            evaluates received policies.
        inboxes: by kind of the rules that the algorithm uses (`aggregator`, `agreement`), the distinct (n, f) of their
            inboxes.
        uncloneable: by topic of messages, the reason why an attack can have no clone of the rule.
        names: by kind, the name of the component, for messages.

    Example:
        >>> from byzbench.registry import make
        >>> make("task", "cartpole:absent='5:0-0.5'").check(Setting(num_agents=5))
        Traceback (most recent call last):
            ...
        byzbench.errors.Undefined: absent: there is no agent 5; give 0 to 4
    """

    num_agents: int
    num_byzantine: int = 0
    communication: Communication = Communication.DECENTRALIZED
    has_server: bool = False
    graph_varies: bool = False
    has_absences: bool = False
    relay: bool = False
    samples_single_agents: bool = False
    inboxes: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    uncloneable: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, kind: str) -> str:
        """Return the name of the component of a kind, or the kind where `names` does not have it."""
        return self.names.get(kind, kind)
