"""The body that agreements share: exchange, look how wide the inbox is, aggregate, and again."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Aggregator, Agreement, Report, State

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.federation.inbox import Inbox


@dataclass(frozen=True)
class Iterated(Agreement):
    """Every agent replaces its vector by a rule's output until its own inbox is narrow.

    Narrow means that the narrowest n - f of its messages lie within `tolerance` of each other. An agent sees no other
    inbox, so it stops by itself; having stopped, it goes on saying what it holds. The cap ends what liars keep wide.
    """

    tolerance: Annotated[float, Field(ge=0, description="diameter at which an agent is content")] = 1e-5
    cap: Annotated[int, Field(ge=1, description="the most exchanges of one agreement")] = 20
    reliable: Annotated[
        bool, Field(description="by reliable broadcast: a liar can tell its neighbours no different things")
    ] = False

    @property
    @abstractmethod
    def rule(self) -> Aggregator:
        """The aggregator that is iterated."""

    def defined(self, n: int, f: int) -> bool:
        """Whether the rule is."""
        return self.rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Whether an exchange contracts; by reliable broadcast (n > 3f) all hear the same, and agree at once."""
        return (n > 3 * f) & self.defined(n, f) if self.reliable else self.contracts(n, f)

    def contraction(self, n: int, f: int) -> float | None:
        """The rule's bound; by reliable broadcast nothing is left."""
        if self.reliable:
            return 0.0 if n > 3 * f else None
        return self.share(n, f) if self.contracts(n, f) else None

    @abstractmethod
    def contracts(self, n: int, f: int) -> bool:
        """`guarantee` where liars may equivocate. Elementwise."""

    def share(self, n: int, f: int) -> float | None:
        """`contraction` where liars may equivocate, if `contracts`."""
        return None

    def width(self, fed: Federation, inbox: Inbox) -> Tensor:
        """How wide each agent takes the round to be, float64 [K]."""
        return fed.width(inbox)

    async def __call__(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, Report, State]:
        """See `Agreement.__call__`."""
        exchanges = torch.zeros(len(theta)).long()
        content = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        before = after = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        for turn in range(self.cap):
            inbox = await fed.exchange("parameters", theta, reliable=self.reliable)
            width = self.width(fed, inbox)
            before = width if turn == 0 else before
            after = torch.where(content, after, width)
            exchanges += (~content).cpu()
            theta = torch.where(content.unsqueeze(1), theta, fed.combine(self.rule, inbox)[0])
            content = content | (width < self.tolerance)
            if content.all():
                break
        return theta, Report(exchanges, before, after), state
