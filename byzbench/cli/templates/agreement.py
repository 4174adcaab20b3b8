"""An agreement protocol for parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Agreement, AgreementReport, State

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class NewComponent(Agreement):
    """Average the vectors of the inbox, a fixed number of times. It has no defence.

    Attributes:
        exchanges: the number of exchanges.

    Example:
        >>> NewComponent(exchanges=3).guarantee(13, 1)
        False
    """

    # Change: the source, and the condition of `guarantee` as text.
    source: ClassVar[str] = ""
    requires: ClassVar[str] = "f = 0"
    exchanges: Annotated[int, Field(ge=1, description="number of exchanges")] = 1

    def guarantee(self, n: int, f: int) -> bool:
        """Return whether all agents are honest."""
        return f == 0

    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Exchange and average; see `Agreement.agree`."""
        widths = []
        for _ in range(self.exchanges):
            inbox = await fed.exchange("parameters", theta)
            widths.append(fed.width(inbox))
            # Change: the step. Row k of the mask [K, n] marks the valid messages that agent k received.
            received = inbox.base[inbox.senders].masked_fill(~inbox.mask.unsqueeze(-1), 0.0)
            theta = (received.sum(1) / inbox.n.unsqueeze(1)).to(inbox.base)
        num_exchanges = torch.full((len(theta),), self.exchanges)
        return theta, AgreementReport(num_exchanges, widths[0], widths[-1]), state
