"""Settings: the description of an experiment against which its components check themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from byzbench.core.communication import Communication
from byzbench.errors import Undefined


@dataclass(frozen=True)
class Setting:
    """The facts of an experiment that its components may depend on.

    Attributes:
        num_agents: K, the number of agents.
        num_byzantine: f, the number of Byzantine agents.
        communication: the agents with which an agent of the algorithm exchanges messages.
        has_server: whether the graph has a trusted server.
        graph_varies: whether the graph changes between rounds.
        has_absences: whether agents are inactive in a part of the budget, or crash.
        has_own_starts: whether episodes start in states of their agent.
        relay: whether messages are relayed over several hops.
        shared_environment: whether all agents act in one environment.
        max_delay: the largest delay of a message by the channel, in rounds.
        is_asynchronous: whether every agent runs on its own, so that messages have times of their own.
        num_spare: the largest number of messages in an inbox for which an agent does not wait.
        handles_messages: whether a server handles the message of every agent by itself.
        normalizes: whether agents fit a normalisation of observations before the first round.
        samples_single_agents: whether episodes of one agent alone are sampled: by a trusted server, or by an agent that
            evaluates received policies.
        inboxes: by kind of the rules that the algorithm uses (`aggregator`, `agreement`), the distinct (n, f) of their
            inboxes.
        uncloneable: by topic of messages, the reason why an attack can have no clone of the rule.
        names: by kind, the name of the component, for messages.
        dynamics: the names of the physical constants of the task that can change; None where the task is not known.

    Example:
        >>> from byzbench.registry import make
        >>> make("scenario", "churn(absent='5:0-0.5')").check(Setting(num_agents=5))
        Traceback (most recent call last):
            ...
        byzbench.errors.Undefined: churn: absent: there is no agent 5; give 0 to 4
    """

    num_agents: int
    num_byzantine: int = 0
    communication: Communication = Communication.DECENTRALIZED
    has_server: bool = False
    graph_varies: bool = False
    has_absences: bool = False
    has_own_starts: bool = False
    relay: bool = False
    shared_environment: bool = False
    max_delay: int = 0
    is_asynchronous: bool = False
    num_spare: int = 0
    handles_messages: bool = False
    normalizes: bool = False
    samples_single_agents: bool = False
    inboxes: Mapping[str, Sequence[tuple[int, int]]] = field(default_factory=dict)
    uncloneable: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    dynamics: Sequence[str] | None = None

    def name(self, kind: str) -> str:
        """Return the name of the component of a kind, or the kind where `names` does not have it."""
        return self.names.get(kind, kind)

    def check_honest_spread(self, attack: str, consequence: str) -> None:
        """Check that there are two honest vectors, without which they have no spread.

        Args:
            attack: the name of the attack.
            consequence: the end of the message, after "there is no spread".

        Raises:
            Undefined: there are fewer.
        """
        if self.num_agents - self.num_byzantine < 2:
            raise Undefined(
                f"{attack} is degenerate for K={self.num_agents}, f={self.num_byzantine}: with fewer than two honest "
                f"vectors there is no spread{consequence}"
            )

    def check_inboxes(self, kind: str, defined: Callable[[int, int], bool], requires: str) -> None:
        """Check that a rule is defined for its inboxes.

        Args:
            kind: the kind of the rule.
            defined: a function of (n, f) that returns whether the rule is defined.
            requires: the condition as text.

        Raises:
            Undefined: it is not.
        """
        for n, f in self.inboxes.get(kind, ()):
            if not defined(n, f):
                raise Undefined(
                    f"{kind} {self.name(kind)!r} is not defined for an inbox of n={n} vectors of which f={f} may be "
                    f"faulty; it needs {requires}"
                )

    def guarantee_notes(self, kind: str, guarantee: Callable[[int, int], bool], requires: str) -> list[str]:
        """Return a remark on the first inbox for which a rule has no guarantee, if there is one.

        Args:
            kind: the kind of the rule.
            guarantee: a function of (n, f) that returns whether the rule has a guarantee.
            requires: the condition as text.
        """
        for n, f in self.inboxes.get(kind, ()):
            if not guarantee(n, f):
                return [f"{kind} {self.name(kind)!r} has no guarantee for n={n}, f={f}: it needs {requires}"]
        return []
