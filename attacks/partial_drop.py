"""Partial drop: liars whose messages have holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class PartialDrop(MessageAttack):
    """Each liar sends its own honest vector with some coordinates set to zero.

        m[k, j] = own[k, j] if b[k, j] else 0,    b[k, j] = 1 with probability 1 - share

    own [f, d], j < d. With `equivocate`, every receiver's message has holes of its own: b[e, j] over E edges.

    Source: official code of Jordan, Groetschla, Fan, Wattenhofer 2024, arXiv 2401.03489, consistent and inconsistent
    variants.
    """

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489, official code"
    share: Annotated[float, Field(gt=0, le=1, description="of coordinates that are lost"), Range(0.05, 1)] = 0.5
    equivocate: Annotated[bool, Field(description="different holes for each receiver")] = False

    @property
    def threat(self) -> Threat:
        """Local."""
        return Threat(sees=frozenset({"own"}), equivocates=self.equivocate)

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """What is left of the honest vectors."""
        whole = view.own[view.edges[:, 0]] if self.equivocate else view.own
        lost = torch.from_numpy(rng.random(whole.shape, dtype=np.float32) < self.share)
        return Speech(whole.masked_fill(lost, 0.0)), memory
