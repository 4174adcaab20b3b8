"""Base class of agreements that repeat an exchange and an aggregation until the inbox has a small diameter."""

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
    """An agreement in which every agent replaces its vector by a rule's output until its own inbox is narrow.

    An inbox is narrow if some n - f of its messages are within `tolerance` of each other. An agent sees its own inbox
    only, so each agent stops by itself. An agent that has stopped still sends its vector. The cap ends the agreement
    where Byzantine messages keep inboxes wide.

    A subclass defines `rule` and `contracts`, and `contraction_factor` where a bound is known.

    Attributes:
        tolerance: the diameter below which an agent stops.
        cap: the maximum number of exchanges.
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

    tolerance: Annotated[float, Field(ge=0, description="diameter of an inbox below which its agent stops")] = 1e-5
    cap: Annotated[int, Field(ge=1, description="maximum number of exchanges of one agreement")] = 20
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

    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Exchange and aggregate until every agent has stopped; see `Agreement.agree`."""
        exchanges = torch.zeros(len(theta)).long()
        stopped = torch.zeros(len(theta), dtype=torch.bool, device=theta.device)
        before = after = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        for exchange in range(self.cap):
            inbox = await fed.exchange("parameters", theta, reliable=self.reliable)
            width = self.width(fed, inbox)
            before = width if exchange == 0 else before
            after = torch.where(stopped, after, width)
            exchanges += (~stopped).cpu()
            theta = torch.where(stopped.unsqueeze(1), theta, fed.combine(self.rule, inbox)[0])
            stopped = stopped | (width < self.tolerance)
            if stopped.all():
                break
        return theta, AgreementReport(exchanges, before, after), state
