"""Gossip by any rule, a fixed number of steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.self_centered_clipping import SelfCenteredClipping
from byzbench.core import Aggregator, Agreement, AgreementReport, State

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class Gossip(Agreement):
    """An agreement in which agents exchange their vectors and aggregate them by a rule, a fixed number of times.

    It is made for rules that start from the receiver's own vector and the graph's mixing weights, such as `ios` or
    `self_centered_clipping`, written `gossip+ios`. All other rules work too. It does not test whether agents agree.

    Source: He, Karimireddy, Jaggi 2022, arXiv 2202.01545, equation 2, for the step; the rules name their own.

    Attributes:
        rule: the rule that aggregates an agent's inbox.
        exchanges: the number of steps.
    """

    rule: Annotated[Aggregator, Field(description="rule that aggregates an inbox")] = field(
        default_factory=SelfCenteredClipping
    )
    exchanges: Annotated[int, Field(ge=1, description="number of steps")] = 1

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """Return the rule's condition."""
        return self.rule.requires

    def defined(self, n: int, f: int) -> bool:
        """Return whether the rule is defined."""
        return self.rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether the rule has a guarantee."""
        return self.rule.guarantee(n, f)

    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Make the steps of gossip; see `Agreement.agree`."""
        widths = []
        for _ in range(self.exchanges):
            inbox = await fed.exchange("parameters", theta)
            widths.append(fed.width(inbox))
            theta, state = fed.combine(self.rule, inbox, state)
        num_exchanges = torch.full((len(theta),), self.exchanges)
        return theta, AgreementReport(num_exchanges, widths[0], widths[-1]), state
