"""Neighbourhoods of agents on a graph: a receiver's own vector, its neighbours, and their mixing weights.

When gossip contracts. A rule makes x_i - x_i+ = eta (sum over honest j of w_ij (x_i - x_j) + E_i), where E_i is the
part that Byzantine vectors and the rule itself change. Suppose that |E_i|^2 <= rho b S_i, where b is the weight of
Byzantine agents in each neighbourhood and S_i = sum over honest j of w_ij |x_i - x_j|^2. Then |E|^2 <= 2 rho b x'Lx for
the Laplacian L of the honest graph, and while eta <= 1 / largest eigenvalue of L

    |x+|^2 - |x|^2 <= eta (-x'Lx + E'L^+ E) <= -eta (1 - 2 rho b / mu) x'Lx    (about the mean),

so that honest agents come closer if 2 rho b < mu, the least positive eigenvalue of L. On a complete graph of equal
weights mu = n - f and b = f, in units of a weight. Sparser graphs have a smaller mu and need a larger n. This is the
measure of Gaucher, Dieuleveut, Hendrikx 2025, arXiv 2410.10418. The constants rho of the rules here are derived in
their docstrings, for equal weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from byzbench.aggregators.monna import own_column
from byzbench.aggregators.rfa import TINY
from byzbench.geometry.pairwise_distances import PairwiseDistances

# Weights such as 1/7 do not add up exactly, so sums of weights are compared with this tolerance, relative to the total.
SLACK = 1e-12


def completed(shares: Tensor, column: Tensor) -> Tensor:
    """Return weights [..., n] that sum to one, by setting the weight of the own vector to the remainder.

    Args:
        shares: [..., n], the weights of the other vectors; zero in the own column.
        column: [...], the column of the own vector.

    Example:
        >>> completed(torch.tensor([0.25, 0.0, 0.5]), torch.tensor(1))
        tensor([0.2500, 0.2500, 0.5000])
    """
    return shares.scatter(-1, column.unsqueeze(-1), 1 - shares.sum(-1, keepdim=True))


def blend(accepted: Tensor, column: Tensor, alpha: float) -> Tensor:
    """Return the weights of alpha times the own vector plus (1 - alpha) times the mean of the accepted others.

    Args:
        accepted: bool [..., n], the accepted vectors; False in the own column. Where none is accepted, the own vector
            gets all the weight.
        column: [...], the column of the own vector.
        alpha: the weight of the own vector.

    Returns:
        The weights, float64 [..., n].
    """
    count = accepted.sum(-1, keepdim=True).clamp_min(1)
    return completed((1 - alpha) * accepted.double() / count, column)


@dataclass(frozen=True)
class Neighbourhood:
    """The valid vectors from the point of view of one receiver.

    Attributes:
        column: int64 [...], the column of the receiver's own vector.
        others: bool [..., n], the neighbours: every valid vector except the own one.
        shares: float64 [..., n], the mixing weights of the neighbours; zero elsewhere.
    """

    column: Tensor
    others: Tensor
    shares: Tensor

    @classmethod
    def of(cls, mask: Tensor, own: Tensor | None, weights: Tensor | None) -> Neighbourhood:
        """Make a neighbourhood from the fields of a `RuleContext`.

        Args:
            mask: bool [..., n], the valid vectors.
            own: [...], the column of the own vector, or None; see `own_column`.
            weights: [..., n] mixing weights. If None, each of the n valid vectors weighs 1/n.

        Returns:
            The neighbourhood. The own vector gets the weights of vectors that are not valid.
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
        """Return the mixing weights including that of the own vector, float64 [..., n]. They sum to one."""
        return completed(self.shares, self.column)

    def heaviest(self, f: Tensor) -> Tensor:
        """Return the largest total weight of any f [...] neighbours, the sum of the f largest weights: [...]."""
        ordered = self.shares.sort(-1, descending=True).values
        is_among_heaviest = torch.arange(ordered.shape[-1], device=f.device) < f.unsqueeze(-1)
        return ordered.where(is_among_heaviest, 0).sum(-1)

    def gaps(self, pairs: PairwiseDistances) -> Tensor:
        """Return the distances of the neighbours to the own vector, float64 [..., n]; infinity in other columns."""
        squares = pairs.squared_distances.take_along_dim(self.column[..., None, None], -2).squeeze(-2)
        return squares.sqrt().masked_fill(~self.others, torch.inf)

    def near(self, pairs: PairwiseDistances) -> Sorted:
        """Sort the neighbours by their distance to the own vector; ties by column."""
        gaps, order = self.gaps(pairs).sort(dim=-1, stable=True)
        return Sorted(gaps, self.shares.gather(-1, order), order)

    def clipped(self, pairs: PairwiseDistances, radius: Tensor) -> Tensor:
        """Return the mixing weights, each scaled by min(1, radius / distance), for a `radius` [...].

        So no neighbour moves the value by more than its weight times the radius.
        """
        gaps = self.gaps(pairs).where(self.others, 1).clamp_min(TINY)
        return self.shares * (radius.unsqueeze(-1) / gaps).clamp_max(1)


@dataclass(frozen=True)
class Sorted:
    """Neighbours sorted by distance; other columns come last, at distance infinity and with weight zero.

    Attributes:
        gaps: float64 [..., n], their distances to the own vector.
        shares: float64 [..., n], their mixing weights.
        order: int64 [..., n], their columns.
    """

    gaps: Tensor
    shares: Tensor
    order: Tensor

    @cached_property
    def mass(self) -> Tensor:
        """Return the cumulative weights, float64 [..., n]: of each neighbour and of all nearer ones."""
        return self.shares.cumsum(-1)

    def target(self, dropped: Tensor) -> Tensor:
        """Return the total weight less the `dropped` weight [...]: [..., 1]."""
        return self.mass[..., -1:] - dropped.unsqueeze(-1)

    def within(self, dropped: Tensor) -> Tensor:
        """Return which of the nearest neighbours have a cumulative weight of at most `target`: bool [..., n]."""
        return (self.mass <= self.target(dropped) + SLACK * self.mass[..., -1:]) & self.gaps.isfinite()

    def back(self, values: Tensor) -> Tensor:
        """Return values [..., n] of the sorted neighbours in the order of their columns."""
        return torch.zeros_like(values).scatter(-1, self.order, values)
