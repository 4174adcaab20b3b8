"""Non-finite: liars whose messages are no numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.contracts import MessageAttack, Speech, State, Threat

if TYPE_CHECKING:
    from byzbench.federation.view import View

VALUES = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class NonFinite(MessageAttack):
    """Each liar sends NaN or an infinity: in every coordinate, or hidden in one of an otherwise honest vector.

        m[k, j] = value,    j < d, or one j drawn for each message; elsewhere own[k, j]

    A rule that it reaches is lost, whatever its breakdown point. Screening must catch it, and knows the liar by it.

    Source: byzfl 0.0.11 (infinity), ByzPy 0.1.4 and El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code (NaN).
    """

    source: ClassVar[str] = "byzfl 0.0.11; El Mhamdi, Guerraoui, Rouault 2021, ICLR, official code"
    value: Annotated[Literal["nan", "inf", "-inf"], Field(description="what is sent in place of numbers")] = "nan"
    where: Annotated[Literal["everywhere", "once"], Field(description="in all coordinates, or in a random one")] = (
        "everywhere"
    )

    @property
    def threat(self) -> Threat:
        """Local."""
        return Threat(sees=frozenset({"own"}))

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Honest vectors, spoilt."""
        lies = view.own.clone()
        if self.where == "everywhere":
            lies.fill_(VALUES[self.value])
        else:
            lies[np.arange(len(lies)), rng.integers(lies.shape[1], size=len(lies))] = VALUES[self.value]
        return Speech(lies), memory
