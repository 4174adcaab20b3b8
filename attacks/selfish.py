"""Selfish: vectors that hold neighbours near their own vectors and away from the honest aggregate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import AttackContext, Categorical, FloatRange
from byzbench.core.gossip_attack import GossipAttack

_HALVINGS = 40


@dataclass(frozen=True)
class Selfish(GossipAttack):
    """Gossip attack that draws the aggregate of agent i towards its own vector and away from the honest aggregate.

        target[i] = (x[i] - lam w[i]) / (1 - lam),    w[i] = F(x of i and of its honest neighbours)
        m[i] with F(x of i and of its honest neighbours, m[i], ..., m[i]) as near to target[i] as possible

    All is computed in each coordinate separately. x [h, d] are the honest vectors, F the coordinate-wise rule that the
    attack assumes: the mean, the median or the mean without the f least and f largest. The target minimises the cost
    (y - x[i])^2 - lam (y - w[i])^2. For lam >= 1 the cost has no minimum, and m[i] leads to the better end of the range
    of F (for a mean, as far from x[i] as honest values are apart). An agent that itself aggregates honestly gains an
    advantage over its neighbours.

    Source: SelfishAttack, NeurIPS 2025, as this project's notes have it: with lam 0, 0.5 and 1 for mean, median and
    trimmed mean, the defaults.

    Differs from the source in: it is active from the start, not from the time at which the loss no longer falls (wrap
    it in `sleeper` for that); all Byzantine agents send the same vector to one neighbour.
    """

    source: ClassVar[str] = "SelfishAttack, NeurIPS 2025"
    rule: Annotated[
        Literal["mean", "median", "trimmed_mean"],
        Field(description="rule that the neighbours are assumed to use"),
        Categorical("mean", "median", "trimmed_mean"),
    ] = "trimmed_mean"
    lam: Annotated[
        float | None,
        Field(ge=0, description="weight of the distance from the honest aggregate; None: by the rule"),
        FloatRange(0.0, 1.0),
    ] = None

    def craft_vectors(self, context: AttackContext) -> Tensor:
        """Craft the vector for each honest agent; see `GossipAttack.craft_vectors`."""
        x = context.honest.double()
        crafted = x.clone()
        # Neighbours that receive the same messages differ only in their own vectors.
        inboxes, group = (context.mixing[context.honest_ids] > 0).unique(dim=0, return_inverse=True)
        for number, row in enumerate(inboxes):
            num_byzantine, members = int(row[context.byzantine_ids].sum()), group == number
            if num_byzantine:
                crafted[members] = self._word(
                    x[members], x[row[context.honest_ids]], num_byzantine, context.num_byzantine
                )
        return crafted

    def _word(self, own: Tensor, honest: Tensor, num_byzantine: int, f: int) -> Tensor:
        """Craft the vectors for a group of neighbours that receive the same messages: [m, d].

        Args:
            own: [m, d], the vectors of the neighbours.
            honest: [h, d], the honest vectors that they receive, their own included.
            num_byzantine: the number of Byzantine messages that they receive.
            f: the number of values that the trimmed mean drops on each side.
        """
        lam = self.lam if self.lam is not None else {"mean": 0.0, "median": 0.5, "trimmed_mean": 1.0}[self.rule]
        honest_aggregate = self._aggregate(honest, f)
        low, high = (end.expand_as(own) for end in honest.aminmax(dim=0))
        if self.rule == "mean":
            # Every value can be reached. For lam >= 1 the cost has no minimum.
            farthest = own + torch.where(own < honest_aggregate, low - high, high - low)
            target = (own - lam * honest_aggregate) / (1 - lam) if lam < 1 else farthest
            return ((len(honest) + num_byzantine) * target - honest.sum(0)) / num_byzantine

        def aggregates_of(candidates: Tensor) -> Tensor:
            copies = candidates.unsqueeze(1).expand(-1, num_byzantine, -1)
            return self._aggregate(torch.cat([honest.expand(len(candidates), -1, -1), copies], 1), f)

        least, most = aggregates_of(torch.stack([low[0], high[0]]))
        if lam >= 1:
            costs = [(end - own).square() - lam * (end - honest_aggregate).square() for end in (least, most)]
            return torch.where(costs[0] <= costs[1], low, high)
        target = ((own - lam * honest_aggregate) / (1 - lam)).clamp(least, most)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = aggregates_of(middle) < target
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return high

    def _aggregate(self, x: Tensor, f: int) -> Tensor:
        """Return the rule of x [..., n, d]: the mean without some values on each side."""
        n = x.shape[-2]
        cut = {"mean": 0, "median": (n - 1) // 2, "trimmed_mean": min(f, (n - 1) // 2)}[self.rule]
        return x.sort(-2).values[..., cut : n - cut, :].mean(-2)
