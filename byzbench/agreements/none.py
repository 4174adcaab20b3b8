"""No agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from byzbench.contracts import Agreement, Report, State

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation


@dataclass(frozen=True)
class NoAgreement(Agreement):
    """Every agent keeps what it has; nothing is sent."""

    async def __call__(self, fed: Federation, theta: Tensor, state: State) -> tuple[Tensor, Report, State]:
        """theta, unchanged."""
        nothing = torch.zeros(len(theta))
        return theta, Report(nothing.long(), nothing.double(), nothing.double()), state
