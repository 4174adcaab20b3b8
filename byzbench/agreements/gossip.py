"""One step of gossip by any rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.self_centered_clipping import SelfCenteredClipping
from byzbench.contracts import Aggregator, Agreement, Report, State

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation


@dataclass(frozen=True)
class Gossip(Agreement):
    """Every agent tells its neighbours what it holds, and replaces it by a rule's output, a fixed number of times.

    Made for rules that start from the receiver's own vector and the graph's mixing weights, such as `ios` or
    `self_centered_clipping`, written `gossip+ios`; it takes every other one too. Nobody looks whether agents agree.

    Source: He, Karimireddy, Jaggi 2022, arXiv 2202.01545, equation 2, for the step; the rules name their own.

    Attributes:
        rule: what an agent makes of what it heard.
        exchanges: how many steps.
    """

    rule: Annotated[Aggregator, Field(description="what an agent makes of what it heard")] = field(
        default_factory=SelfCenteredClipping
    )
    exchanges: Annotated[int, Field(ge=1, description="how many steps")] = 1

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"

    @property
    def requires(self) -> str:  # type: ignore[override]
        """The rule's condition."""
        return self.rule.requires

    def defined(self, n: int, f: int) -> bool:
        """Whether the rule is."""
        return self.rule.defined(n, f)

    def guarantee(self, n: int, f: int) -> bool:
        """Whether the rule has one."""
        return self.rule.guarantee(n, f)

    async def __call__(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, Report, State]:
        """See `Agreement.__call__`."""
        widths = []
        for _ in range(self.exchanges):
            inbox = await fed.exchange("parameters", theta)
            widths.append(fed.width(inbox))
            theta, state = fed.combine(self.rule, inbox, state)
        taken = torch.full((len(theta),), self.exchanges)
        return theta, Report(taken, widths[0], widths[-1]), state
