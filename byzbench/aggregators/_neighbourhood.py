"""What rules for gossip on a graph have in common: the own vector, its neighbours, and what each of them weighs.

When gossip contracts. A rule makes x_i - x_i+ = eta (sum over honest j of w_ij (x_i - x_j) + E_i), where E_i is what
liars and the rule itself change. If |E_i|^2 <= rho b S_i, with b what the liars weigh in each neighbourhood and
S_i = sum over honest j of w_ij |x_i - x_j|^2, then |E|^2 <= 2 rho b x'Lx for the Laplacian L of the honest graph, and
while eta <= 1 / largest eigenvalue of L

    |x+|^2 - |x|^2 <= eta (-x'Lx + E'L^+ E) <= -eta (1 - 2 rho b / mu) x'Lx    (about the mean),

so honest agents come closer if 2 rho b < mu, the least positive eigenvalue of L. On a complete graph of equal weights
mu = n - f and b = f, in units of a weight. Sparser graphs have a smaller mu, and need more. This is how Gaucher,
Dieuleveut, Hendrikx 2025, arXiv 2410.10418, measure such rules; the constants rho that rules here state are derived in
their docstrings, for equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from byzbench.aggregators.monna import own_column
from byzbench.aggregators.rfa import TINY
from byzbench.geometry.cloud import Cloud

# Weights such as 1/7 do not add up exactly: sums of them are compared with this slack, as a share of the whole.
SLACK = 1e-12


def completed(shares: Tensor, column: Tensor) -> Tensor:
    """The weights of others [..., n], zero in the own `column` [...], which gets what they leave of one."""
    return shares.scatter(-1, column.unsqueeze(-1), 1 - shares.sum(-1, keepdim=True))


def blend(accepted: Tensor, column: Tensor, alpha: float) -> Tensor:
    """The weights of alpha own + (1 - alpha) mean of the `accepted` others, bool [..., n]; of the own if none is."""
    count = accepted.sum(-1, keepdim=True).clamp_min(1)
    return completed((1 - alpha) * accepted.double() / count, column)


@dataclass(frozen=True)
class Neighbourhood:
    """The valid vectors as one of their receivers sees them.

    Attributes:
        column: int64 [...], where the own vector stands.
        others: bool [..., n], the neighbours: every valid vector but the own one.
        shares: float64 [..., n], the mixing weights of the neighbours; zero elsewhere.
    """

    column: Tensor
    others: Tensor
    shares: Tensor

    @classmethod
    def of(cls, mask: Tensor, own: Tensor | None, weights: Tensor | None) -> Neighbourhood:
        """From the keywords of a rule; without weights, each of the n valid vectors weighs 1/n.

        What a vector that is not valid would weigh stays with the own one.
        """
        column = own_column(mask, own)
        others = mask.scatter(-1, column.unsqueeze(-1), False)
        if weights is None:
            shares = others.double() / mask.sum(-1, keepdim=True).clamp_min(1)
        else:
            shares = weights.to(mask.device).double().where(others, 0)
        return cls(column, others, shares)

    @property
    def row(self) -> Tensor:
        """float64 [..., n]: the mixing weights, the own one included. They sum to one."""
        return completed(self.shares, self.column)

    def heaviest(self, f: Tensor) -> Tensor:
        """The most that any f [...] neighbours weigh: the sum of the f largest weights, [...]."""
        ordered = self.shares.sort(-1, descending=True).values
        counted = torch.arange(ordered.shape[-1], device=f.device) < f.unsqueeze(-1)
        return ordered.where(counted, 0).sum(-1)

    def gaps(self, cloud: Cloud) -> Tensor:
        """Distances of the neighbours to the own vector, float64 [..., n]; elsewhere infinity."""
        squares = cloud.squared_distances.take_along_dim(self.column[..., None, None], -2).squeeze(-2)
        return squares.sqrt().masked_fill(~self.others, torch.inf)

    def near(self, cloud: Cloud) -> Sorted:
        """The neighbours in the order of their distance to the own vector, of equals the first column first."""
        gaps, order = self.gaps(cloud).sort(dim=-1, stable=True)
        return Sorted(gaps, self.shares.gather(-1, order), order)

    def clipped(self, cloud: Cloud, radius: Tensor) -> Tensor:
        """The mixing weights, each neighbour's cut so that it pulls no harder than from `radius` [...] away."""
        gaps = self.gaps(cloud).where(self.others, 1).clamp_min(TINY)
        return self.shares * (radius.unsqueeze(-1) / gaps).clamp_max(1)


@dataclass(frozen=True)
class Sorted:
    """Neighbours, nearest first; columns that are none come last, at infinity and with weight zero.

    Attributes:
        gaps: float64 [..., n], how far they are.
        shares: float64 [..., n], what they weigh.
        order: int64 [..., n], their columns.
    """

    gaps: Tensor
    shares: Tensor
    order: Tensor

    @cached_property
    def mass(self) -> Tensor:
        """float64 [..., n]: what each weighs together with all that are nearer."""
        return self.shares.cumsum(-1)

    def target(self, dropped: Tensor) -> Tensor:
        """What is left of their weight [..., 1] when so much [...] of it is dropped."""
        return self.mass[..., -1:] - dropped.unsqueeze(-1)

    def within(self, dropped: Tensor) -> Tensor:
        """Which of them, the nearest, weigh no more together than `target`: bool [..., n]."""
        return (self.mass <= self.target(dropped) + SLACK * self.mass[..., -1:]) & self.gaps.isfinite()

    def back(self, values: Tensor) -> Tensor:
        """Values [..., n] of the sorted, in the order of the columns."""
        return torch.zeros_like(values).scatter(-1, self.order, values)
