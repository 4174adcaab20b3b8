"""Zero vectors in place of the honest vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from byzbench.contracts import MessageAttack, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Zero(MessageAttack):
    """Message attack that sends the zero vector: it slows gradient steps, and draws parameters to the uniform policy.

        m[k] = 0

    Source: Fan et al. 2021, arXiv 2110.14074, official code ("zero gradient").
    """

    source: ClassVar[str] = "Fan et al. 2021, arXiv 2110.14074"

    @property
    def threat(self) -> Threat:
        """Return the threat model: own vectors, of which only the shape is used."""
        return Threat(sees=frozenset({"own"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages: zero vectors."""
        return Speech(torch.zeros_like(view.own)), memory
