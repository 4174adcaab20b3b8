"""A little is enough (ALIE): a shift within the spread of the honest vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, Setting, State, ThreatModel
from byzbench.errors import Undefined
from byzbench.geometry.deviations import standard_deviations


@dataclass(frozen=True)
class Alie(MessageAttack):
    """Message attack that sends one vector, z standard deviations from the mean in every coordinate.

        m = mean(x) - z * std(x),    s = floor(K/2 + 1) - f
        rule A: z = Phi^-1((K - f - s) / (K - f)),    rule B: z = Phi^-1((K - s) / K)

    x [f, d] the honest vectors of the Byzantine agents, or [h, d] those of the honest agents (`whose`). s is the number
    of honest agents that must be farther out than m for the Byzantine agents to hold a majority.

    For few Byzantine agents the rules give z <= 0 (rule A for odd K and f = 1, for example). Such a message would help
    the honest agents, so the attack is then undefined.

    Source: Baruch, Baruch, Goldberg 2019, arXiv 1902.06156; sign, statistics and ddof are those of the authors' code.
    Rule A is what most implementations attribute to the published paper, rule B what some others compute.

    Differs from the source in: z follows the rule unless it is given; the authors' code has z = 1.5 as its default.

    Example:
        z by rule A, and by rule B:

        >>> Alie().notes(Setting(num_agents=13, num_byzantine=3))
        ['alie: z = 0.253 by rule A for K=13, f=3']
        >>> round(Alie(rule="B").deviations(agents=13, byzantine=3), 3)
        0.502
    """

    source: ClassVar[str] = "Baruch, Baruch, Goldberg 2019, arXiv 1902.06156"
    z: Annotated[
        float | None,
        Field(gt=0, description="standard deviations from the mean; None: by the rule"),
        FloatRange(0.1, 5),
    ] = None
    rule: Annotated[Literal["A", "B"], Field(description="how z follows from (K, f)")] = "A"
    whose: Annotated[Literal["colluders", "honest"], Field(description="agents whose mean and deviation are used")] = (
        "colluders"
    )
    sign: Annotated[Literal["minus", "plus"], Field(description="the side of the mean")] = "minus"
    ddof: Annotated[int, Field(ge=0, le=1, description="1 for the unbiased variance")] = 0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: colluding; omniscient only with whose=honest."""
        return ThreatModel(knowledge=frozenset({"byzantine", "byzantine" if self.whose == "colluders" else "honest"}))

    def deviations(self, agents: int, byzantine: int) -> float:
        """Return z for (K, f): the given value, else the value of the rule.

        It is infinite where the Byzantine agents hold a majority without honest agents.
        """
        if self.z is not None:
            return self.z
        needed_honest = agents // 2 + 1 - byzantine
        if needed_honest <= 0:
            return math.inf
        total = agents - byzantine if self.rule == "A" else agents
        return NormalDist().inv_cdf((total - needed_honest) / total) if needed_honest < total else -math.inf

    def check(self, setting: Setting) -> None:
        """Reject a z that is not positive and finite, and a deviation of too few vectors."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        z = self.deviations(agents, byzantine)
        where = f"for K={agents}, f={byzantine}"
        if not 0 < z < math.inf:
            raise Undefined(
                f"alie: rule {self.rule} gives z = {z:.3f} {where}, not positive and finite; "
                "give one, for example --attack alie:z=1.5"
            )
        if self._num_vectors(setting) <= self.ddof:
            raise Undefined(
                f"alie: ddof={self.ddof} needs more than {self.ddof} of the {self.whose} {where}; give ddof=0"
            )
        super().check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return a line that states z."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        origin = f"by rule {self.rule}" if self.z is None else "as given"
        line = f"alie: z = {self.deviations(agents, byzantine):.3f} {origin} for K={agents}, f={byzantine}"
        if self._num_vectors(setting) == 1:
            line += f"; but one vector ({self.whose}) has no spread, so the message equals it"
        return [line]

    def _num_vectors(self, setting: Setting) -> int:
        """Return the number of vectors whose mean and deviation are used."""
        if self.whose == "colluders":
            return setting.num_byzantine
        return setting.num_agents - setting.num_byzantine

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the shifted mean from every Byzantine agent."""
        vectors = context.byzantine if self.whose == "colluders" else context.honest
        z = self.deviations(context.num_agents, context.num_byzantine)
        shift = (z if self.sign == "plus" else -z) * standard_deviations(vectors, self.ddof)
        return ByzantineMessages((vectors.mean(0) + shift).expand_as(context.byzantine)), memory
