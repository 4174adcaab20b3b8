"""Fang attack: directed deviation against trimmed means and medians, or against Krum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import (
    AttackContext,
    ByzantineMessages,
    Categorical,
    FloatRange,
    MessageAttack,
    Setting,
    State,
    ThreatModel,
)
from byzbench.errors import Undefined
from byzbench.geometry.pairwise_distances import PairwiseDistances

HALVINGS = 50


@dataclass(frozen=True)
class Fang(MessageAttack):
    """Message attack that pushes every coordinate against the sign of the honest mean (directed deviation).

    x [h, d] the honest vectors, s = sign(mean(x)) [d]. With against=trim, for trimmed means and medians, each Byzantine
    agent draws every coordinate independently:

        where s >= 0:  m ~ U(min / b, min) if min > 0, else U(b min, min)      min, max over the honest values
        where s < 0:   m ~ U(max, b max)   if max > 0, else U(max, max / b)

    With against=krum, all send m = -l s with the first l of l0, l0/2, l0/4, ... at which Krum selects it:

        l0 = (sqrt(S / (K - 2f - 1)) + max_i ||x[i]||) / ||s||,    S = min_i of Krum's scores among the honest

    No larger l can be selected. If none of 50 is selected, the last is sent, which is close to zero.

    Source: Fang, Cao, Jia, Gong 2020, arXiv 1911.11815, full knowledge.

    Differs from the source in: the origin is zero, since the messages are gradients; in the source it is the last
    global model. s is taken from the honest agents alone. The search ends after a number of halvings, not at an
    absolute l.

    Example:
        The least honest value is 2, so the messages are uniform between 2 / b and 2:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = Fang(b=2.0)
        >>> known = {"honest": torch.tensor([[2.0], [4.0]]), "own": torch.zeros(3, 1)}
        >>> context = AttackContext(attack.threat, {}, known)
        >>> crafted = attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        >>> bool((crafted >= 1).all() and (crafted <= 2).all())
        True
    """

    source: ClassVar[str] = "Fang et al. 2020, arXiv 1911.11815"
    against: Annotated[
        Literal["trim", "krum"],
        Field(description="family of rules that the attack targets"),
        Categorical("trim", "krum"),
    ] = "trim"
    b: Annotated[
        float,
        Field(gt=1, description="trim: largest ratio between the message and the extreme honest value"),
        FloatRange(1.1, 20),
    ] = 2.0

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient; colluding against Krum."""
        return ThreatModel(knowledge=frozenset({"honest", "own" if self.against == "trim" else "byzantine"}))

    def check(self, setting: Setting) -> None:
        """Reject numbers of agents that Krum rejects."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if self.against == "krum" and agents <= 2 * byzantine + 2:
            raise Undefined(f"fang: against=krum needs K > 2f + 2, as Krum does; got K={agents}, f={byzantine}")
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: deviating vectors."""
        x = context.honest.double()
        if self.against == "krum":
            return ByzantineMessages(
                _selected(x, context.num_byzantine).to(context.honest.dtype).expand_as(context.byzantine)
            ), memory
        up = x.mean(0) >= 0
        edge = torch.where(up, x.amin(0), x.amax(0))
        # A value moves towards zero by division, and away from zero by multiplication.
        limit = torch.where((edge > 0) == up, edge / self.b, edge * self.b)
        position = torch.from_numpy(rng.random(context.own.shape))
        return ByzantineMessages((edge + position * (limit - edge)).to(context.own.dtype)), memory


def _selected(x: Tensor, f: int) -> Tensor:
    """Return -l s [d], with the first l at which Krum selects it when f of h + f vectors equal it."""
    sign, squares, squared_distances = x.mean(0).sign(), x.square().sum(1), PairwiseDistances.of(x).squared_distances
    length, num_neighbours = float(sign.norm()), len(x) - 2
    if length == 0:
        return sign
    squared_distances = squared_distances + torch.diag(torch.full((len(x),), torch.inf, dtype=squared_distances.dtype))
    least_score = squared_distances.sort(1).values[:, :num_neighbours].sum(1).amin()
    step = float((least_score / (len(x) - f - 1)).sqrt() + squares.amax().sqrt()) / length
    for _ in range(HALVINGS):
        to_crafted = (squares + 2 * step * (x @ sign) + (step * length) ** 2).clamp_min(0)
        honest_scores = (
            torch.cat([squared_distances, to_crafted.unsqueeze(1).expand(-1, f)], 1)
            .sort(1)
            .values[:, :num_neighbours]
            .sum(1)
        )
        # The other f - 1 Byzantine vectors are equal to this one.
        if to_crafted.sort().values[: num_neighbours - (f - 1)].sum() < honest_scores.amin():
            break
        step /= 2
    return -step * sign
