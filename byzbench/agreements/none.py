"""No agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from byzbench.core import Agreement, AgreementReport, State

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class NoAgreement(Agreement):
    """An agreement without any exchange: every agent keeps its vector, and no message is sent."""

    async def agree(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, AgreementReport, State]:
        """Return theta, unchanged."""
        zeros = torch.zeros(len(theta))
        return theta, AgreementReport(zeros.long(), zeros.double(), zeros.double()), state
