"""Base class of agreements that repeat an exchange and an aggregation a fixed number of times."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Aggregator, Agreement, AgreementReport, State

if TYPE_CHECKING:
    from byzbench.core import Federation, Inbox


@dataclass(frozen=True)
class IteratedAgreement(Agreement):
    """An agreement in which every agent replaces its vector by a rule's output in each of kappa exchanges.

    After kappa exchanges (`cap`) the honest agents are within the kappa-th power of the contraction of one exchange. An
    agent sees its own inbox only, so it stops earlier only where no message to another agent can matter (`can_stop`):

    - All agents have sent it the same vector v. Honest agents send one vector to all, so all of them hold v, and any
      inbox of theirs holds v from all but its f Byzantine senders. Of such an inbox the rule returns v. So all of them
      hold v in every later exchange, whatever Byzantine agents send to them.
    - By reliable broadcast, on a complete graph, it has received the messages of all agents. All honest agents then
      have received the same ones, and the rule has given them the same vector.

    Both need a channel that does not alter vectors. Nothing weaker is safe. If n - f messages are equal, f of them may
    be Byzantine, and as many honest agents may hold other vectors: an agent that stops is left behind by those that
    move on (the attack `freeze`). If all n messages are merely close to each other, the others may be led away from an
    agent that stops, as minimum-diameter averaging does not stay between the honest vectors. On a graph that is not
    complete, agents who are not neighbours may differ.

    An agent that has stopped still sends its vector.

    A subclass defines `rule` and `contracts`, and `contraction_factor` where a bound is known. Where `contracts` holds,
    the rule must return v for an inbox of v from all but f senders.

    Attributes:
        tolerance: the diameter of all messages below which an observer stops all agents, see `mda`.
        cap: kappa, the number of exchanges.
        reliable: whether messages are sent by reliable broadcast.

    Example:
        >>> from byzbench.registry import make
        >>> @dataclass(frozen=True)
        ... class MedianAgreement(IteratedAgreement):
        ...     requires = "n > 2f"
        ...
        ...     @property
        ...     def rule(self):
        ...         return make("aggregator", "median")
        ...
        ...     def contracts(self, n, f):
        ...         return n > 2 * f
        >>> MedianAgreement(cap=5).guarantee(n=5, f=2)
        True
    """

    tolerance: Annotated[
        float, Field(ge=0, description="diameter below which an observer ends the agreement; agents do not use it")
    ] = 1e-5
    cap: Annotated[
        int, Field(ge=1, description="kappa, the exchanges of one agreement; fewer where an agent sees that all agree")
    ] = 20
    reliable: Annotated[
        bool, Field(description="reliable broadcast: a Byzantine agent sends the same message to all its neighbours")
    ] = False

    @property
    @abstractmethod
    def rule(self) -> Aggregator:
        """Return the aggregator that is iterated."""

    def defined(self, n: int, f: int) -> bool:
        """Return whether the rule is defined."""
        return self.rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether an exchange contracts.

        By reliable broadcast (n > 3f) all agents receive the same messages, and agree after one exchange.
        """
        return (n > 3 * f) & self.defined(n, f) if self.reliable else self.contracts(n, f)

    def contraction(self, n: int, f: int) -> float | None:
        """Return the rule's contraction factor; zero by reliable broadcast."""
        if self.reliable:
            return 0.0 if n > 3 * f else None
        return self.contraction_factor(n, f) if self.contracts(n, f) else None

    @abstractmethod
    def contracts(self, n: int, f: int) -> bool:
        """Return `guarantee` for Byzantine agents that may equivocate. Elementwise."""

    def contraction_factor(self, n: int, f: int) -> float | None:
        """Return `contraction` for Byzantine agents that may equivocate, where `contracts` holds."""
        return None

    def width(self, fed: Federation, inbox: Inbox) -> Tensor:
        """Return the diameter that each agent computes from its inbox, float64 [K]."""
        return fed.width(inbox)

    def can_stop(self, fed: Federation, inbox: Inbox) -> Tensor:
        """Return which agents may stop after they have aggregated an inbox, bool [K]; see the class.

        An agent has the messages of all others if none is missing or of an earlier round. A malformed message lowers
        both n and f: it counts as received, since its sender is proved faulty.
        """
        current = inbox.mask if inbox.age is None else inbox.mask & (inbox.age == 0)
        complete = current.sum(1) - inbox.f >= fed.num_agents - fed.assumed_byzantine
        return complete if self.reliable or not complete.any() else complete & inbox.unanimous

    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Exchange and aggregate until every agent has stopped; see `Agreement.agree`."""
        exchanges = torch.zeros(len(theta)).long()
        running = torch.ones(len(theta), dtype=torch.bool, device=theta.device)
        before = after = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        for exchange in range(self.cap):
            inbox = await fed.exchange("parameters", theta, reliable=self.reliable)
            stopping = running & self.can_stop(fed, inbox).to(running.device)
            last = exchange + 1 == self.cap
            if exchange == 0 or last or stopping.any():
                width = self.width(fed, inbox)
                before = width if exchange == 0 else before
                after = torch.where(running if last else stopping, width, after)
            exchanges += running.cpu()
            theta = torch.where(running.unsqueeze(1), fed.combine(self.rule, inbox)[0], theta)
            running = running & ~stopping
            if not running.any():
                break
        return theta, AgreementReport(exchanges, before, after), state
