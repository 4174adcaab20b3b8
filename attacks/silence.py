"""Silence: liars who say nothing."""

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
class Silence(MessageAttack):
    """Each liar leaves out a message with some probability, and is honest otherwise.

        m[k] = own[k], or nothing with probability q

    own [f, d]. With `equivocate`, it is silent to each receiver by a draw of its own: some hear it, some do not. With
    q = 1 it is a crash. Silence proves nothing, so a receiver has fewer messages and as many liars among them.

    Source: general omission faults, Perry, Toueg 1986, "Distributed agreement in the presence of processor and
    communication faults".
    """

    source: ClassVar[str] = "Perry, Toueg 1986"
    q: Annotated[float, Field(gt=0, le=1, description="probability of silence"), Range(0.05, 1)] = 1.0
    equivocate: Annotated[bool, Field(description="silent to each receiver by a draw of its own")] = False

    @property
    def threat(self) -> Threat:
        """Local."""
        return Threat(sees=frozenset({"own"}), equivocates=self.equivocate)

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The honest vectors, and who keeps them to itself."""
        words = view.own[view.edges[:, 0]] if self.equivocate else view.own
        return Speech(words, silent=torch.from_numpy(rng.random(len(words)) < self.q)), memory
