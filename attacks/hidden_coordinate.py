"""Hidden coordinate: the honest mean with a large change in a single coordinate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.core import AttackContext, ByzantineMessages, FloatRange, MessageAttack, Setting, State, ThreatModel
from byzbench.errors import Undefined


@dataclass(frozen=True)
class HiddenCoordinate(MessageAttack):
    """Message attack that sends the honest mean, moved in one coordinate.

        m = mean(x) + scale * u * e_j,    u = median_i ||x[i] - mean(x)||,    x [h, d] the honest vectors

    In d dimensions the distance of an honest vector from the mean is about sqrt(d) deviations of one coordinate. A rule
    that looks at distances cannot tell this from the same distance in coordinate j alone. Without `relative`, u = 1.

    Source: El Mhamdi, Guerraoui, Rouault 2018, arXiv 1802.07927.

    Differs from the source in: the strength is given, in place of a search for the largest that the rule accepts.

    Example:
        The honest mean is moved in coordinate 1 only:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = HiddenCoordinate(scale=5.0, coordinate=1, relative=False)
        >>> honest = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
        >>> context = AttackContext(attack.threat, {}, {"honest": honest, "byzantine": torch.zeros(1, 3)})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[2., 7., 2.]])
    """

    source: ClassVar[str] = "El Mhamdi, Guerraoui, Rouault 2018, arXiv 1802.07927"
    scale: Annotated[
        float,
        Field(gt=0, description="distance by which the coordinate is moved, in units u"),
        FloatRange(0.1, 100, log=True),
    ] = 1.0
    coordinate: Annotated[int, Field(ge=0, description="index j of the coordinate")] = 0
    relative: Annotated[
        bool, Field(description="u is the honest vectors' median distance from their mean; otherwise 1")
    ] = True

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def check(self, setting: Setting) -> None:
        """Reject a relative strength for a single honest vector, whose distance from the mean is zero."""
        if self.relative:
            setting.check_honest_spread("hidden_coordinate", "; give relative=False")
        super().check(setting)

    def start(self, context: AttackContext) -> State:
        """Reject a coordinate beyond the policy's dimension."""
        size = context.num_parameters
        if self.coordinate >= size:
            raise Undefined(
                f"hidden_coordinate: this task's policies have {size} parameters; give coordinate=0 to {size - 1}"
            )
        return {}

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the moved mean from every Byzantine agent."""
        x = context.honest.double()
        crafted = x.mean(0)
        unit = float((x - crafted).norm(dim=1).quantile(0.5)) if self.relative else 1.0
        crafted[self.coordinate % len(crafted)] += self.scale * unit
        return ByzantineMessages(crafted.to(context.honest.dtype).expand_as(context.byzantine)), memory
