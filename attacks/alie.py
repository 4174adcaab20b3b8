"""A little is enough: liars who stay within the spread of honest noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.contracts import MessageAttack, Range, Speech, State, Threat
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Alie(MessageAttack):
    """All liars send one vector, z standard deviations from the mean in every coordinate.

        m = mean(x) - z * std(x),    x [f, d] the liars' own clean vectors, or [h, d] the honest agents' (`whose`)
        s = floor(K/2 + 1) - f       honest agents that must lie beyond m for the liars to hold a majority
        rule A: z = Phi^-1((K - f - s) / (K - f)),    rule B: z = Phi^-1((K - s) / K)

    The rules give z <= 0 for few liars (rule A for odd K and f = 1, for one), where the lie would help: refused.

    Source: Baruch, Baruch, Goldberg 2019, arXiv 1902.06156; sign, statistics and ddof are those of the authors' code.
    Rule A is what most implementations attribute to the published paper, rule B what some others compute.

    Differs from the source in: z follows the rule unless given; the authors' code has z = 1.5 as its default.
    """

    source: ClassVar[str] = "Baruch, Baruch, Goldberg 2019, arXiv 1902.06156"
    z: Annotated[
        float | None, Field(gt=0, description="standard deviations from the mean; by the rule if none"), Range(0.1, 5)
    ] = None
    rule: Annotated[Literal["A", "B"], Field(description="how z follows from (K, f)")] = "A"
    whose: Annotated[Literal["colluders", "honest"], Field(description="whose mean and deviation")] = "colluders"
    sign: Annotated[Literal["minus", "plus"], Field(description="the side of the mean")] = "minus"
    ddof: Annotated[int, Field(ge=0, le=1, description="1 for the unbiased variance")] = 0

    @property
    def threat(self) -> Threat:
        """Colluding; omniscient only with whose=honest."""
        return Threat(sees=frozenset({"colluders", self.whose}))

    def deviations(self, agents: int, byzantine: int) -> float:
        """The z for (K, f): as given, else by the rule; infinite where the liars need no honest company."""
        if self.z is not None:
            return self.z
        company = agents // 2 + 1 - byzantine
        if company <= 0:
            return math.inf
        crowd = agents - byzantine if self.rule == "A" else agents
        return NormalDist().inv_cdf((crowd - company) / crowd) if company < crowd else -math.inf

    def check(self, agents: int, byzantine: int) -> str:
        """Refuse a z that is no attack; else print it."""
        z = self.deviations(agents, byzantine)
        where = f"for K={agents}, f={byzantine}"
        if not 0 < z < math.inf:
            raise Undefined(
                f"alie: rule {self.rule} gives z = {z:.3f} {where}, not positive and finite; "
                "give one, for example --attack alie:z=1.5"
            )
        vectors = byzantine if self.whose == "colluders" else agents - byzantine
        if vectors <= self.ddof:
            raise Undefined(
                f"alie: ddof={self.ddof} needs more than {self.ddof} of the {self.whose} {where}; give ddof=0"
            )
        line = f"alie: z = {z:.3f} {f'by rule {self.rule}' if self.z is None else 'as given'} {where}"
        if vectors == 1:
            line += f"; but one vector ({self.whose}) has no spread, so the lie equals it"
        return line

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The shifted mean, the same from every liar."""
        clean = view.colluders if self.whose == "colluders" else view.honest
        z = self.deviations(view.agents, view.byzantine)
        shift = (z if self.sign == "plus" else -z) * clean.std(0, correction=self.ddof)
        return Speech((clean.mean(0) + shift).expand_as(view.colluders)), memory
