"""Selfish: liars who keep neighbours from what the others could teach them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.attacks._graph import Gossiping
from byzbench.contracts import Choice, Range

if TYPE_CHECKING:
    from byzbench.federation.view import View

_HALVINGS = 40


@dataclass(frozen=True)
class Selfish(Gossiping):
    """All liars tell agent i what keeps its aggregate near its own vector, and carries it away from the honest one.

        target[i] = (x[i] - lam w[i]) / (1 - lam),    w[i] = F(x of i and of its honest neighbours)
        m[i] with F(x of i and of its honest neighbours, m[i], ..., m[i]) as near to target[i] as can be

    all in each coordinate by itself; x [h, d] the honest vectors, F the coordinate-wise rule that neighbours are
    thought to use: the mean, the median or the mean without the f least and f largest. The target is where the cost
    (y - x[i])^2 - lam (y - w[i])^2 is least. For lam >= 1 it has no least value, and m[i] leads to the better end of
    what F can be made to say (for a mean, as far from x[i] as honest values are apart). Whoever aggregates honestly
    itself gains on its neighbours.

    Source: SelfishAttack, NeurIPS 2025, as this project's notes have it: with lam 0, 0.5 and 1 for mean, median and
    trimmed mean, the defaults.

    Differs from the source in: it strikes at once, not when the loss no longer falls (wrap it in `sleeper` for that);
    all liars say the same to one neighbour.
    """

    source: ClassVar[str] = "SelfishAttack, NeurIPS 2025"
    rule: Annotated[
        Literal["mean", "median", "trimmed_mean"],
        Field(description="what the neighbours are thought to aggregate by"),
        Choice("mean", "median", "trimmed_mean"),
    ] = "trimmed_mean"
    lam: Annotated[
        float | None,
        Field(ge=0, description="weight of being far from the honest aggregate; by the rule if none"),
        Range(0.0, 1.0),
    ] = None

    def words(self, view: View) -> Tensor:
        """See `Gossiping.words`."""
        x = view.honest.double()
        told = x.clone()
        # Neighbours who hear the same agents have all in common but their own vectors.
        heard, group = (view.mixing[view.peers] > 0).unique(dim=0, return_inverse=True)
        for number, row in enumerate(heard):
            lies, them = int(row[view.liars].sum()), group == number
            if lies:
                told[them] = self._word(x[them], x[row[view.peers]], lies, view.byzantine)
        return told

    def _word(self, own: Tensor, honest: Tensor, lies: int, f: int) -> Tensor:
        """What neighbours are told, [m, d]: their own vectors, the honest ones [h, d] and the number of liars heard."""
        lam = self.lam if self.lam is not None else {"mean": 0.0, "median": 0.5, "trimmed_mean": 1.0}[self.rule]
        alone = self._aggregate(honest, f)
        low, high = (end.expand_as(own) for end in honest.aminmax(dim=0))
        if self.rule == "mean":
            # Every value can be reached; for lam >= 1 there is always a better one.
            away = own + torch.where(own < alone, low - high, high - low)
            target = (own - lam * alone) / (1 - lam) if lam < 1 else away
            return ((len(honest) + lies) * target - honest.sum(0)) / lies

        def reached(words: Tensor) -> Tensor:
            all_alike = words.unsqueeze(1).expand(-1, lies, -1)
            return self._aggregate(torch.cat([honest.expand(len(words), -1, -1), all_alike], 1), f)

        least, most = reached(torch.stack([low[0], high[0]]))
        if lam >= 1:
            costs = [(end - own).square() - lam * (end - alone).square() for end in (least, most)]
            return torch.where(costs[0] <= costs[1], low, high)
        target = ((own - lam * alone) / (1 - lam)).clamp(least, most)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            short = reached(middle) < target
            low, high = torch.where(short, middle, low), torch.where(short, high, middle)
        return high

    def _aggregate(self, x: Tensor, f: int) -> Tensor:
        """The rule on x [..., n, d]: the mean of what is left when some are cut from each side."""
        n = x.shape[-2]
        cut = {"mean": 0, "median": (n - 1) // 2, "trimmed_mean": min(f, (n - 1) // 2)}[self.rule]
        return x.sort(-2).values[..., cut : n - cut, :].mean(-2)
