"""The subset of least spread: which vectors of a set vary least, in all directions or in the worst one, exactly.

The scatter of a set, the sum of (x_i - mean)(x_i - mean)' over it, grows with every vector that joins: its trace and
its largest eigenvalue for a part of a subset bound those of the whole. Few subsets: all are looked at, for all
receivers at once. Many: branch and bound.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from byzbench.geometry.branching import EFFORT, EQUAL, Measure, Nodes, State, centred, least
from byzbench.geometry.subsets import blocks, each, table

# Limits below it are as good as zero, and would overflow what is divided by them.
TINY = 1e-200


def least_variance(squares: Tensor, mask: Tensor, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """For each receiver the n_r - f_r of its n_r valid vectors that have the least variance.

    Args:
        squares: float64 [..., n, n], squared distances.
        mask: [..., n] bool; each receiver has a valid vector.
        f: [...] int, how many vectors to leave out; at least one vector is kept.
        effort: see `min_variance_subset`.

    Returns:
        Which are chosen, bool [..., n], and their mean squared distance to their mean, float64 [...].

    Warns:
        InexactSearch: the effort did not suffice.
    """
    return each("mva", squares, mask, f, _variance_table, partial(min_variance_subset, effort=effort))


def least_eigenvalue(squares: Tensor, mask: Tensor, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """The same for the largest eigenvalue of the covariance, which is the variance in the worst direction."""
    return each("smea", squares, mask, f, _eigenvalue_table, partial(min_eigenvalue_subset, effort=effort))


def min_variance_subset(
    squares: np.ndarray | Tensor, size: int, effort: int = EFFORT
) -> tuple[tuple[int, ...], float, bool]:
    """The `size` of n vectors of the least mean squared distance to their mean.

    Args:
        squares: [n, n], squared Euclidean distances.
        size: 1 .. n.
        effort: the most numbers the search may compute, about a second's worth. A count and not a clock, so that the
            answer does not depend on the machine.

    Returns:
        The sorted indices, their value, and whether both are exact. They are not when the effort did not suffice: then
        it is the best subset seen, of at most twice the least variance. Its search starts at the best set of a vector
        and its nearest, which is no worse than that, and continues by swaps.
    """
    places, value, exact = least(_Variance(np.asarray(squares, dtype=np.float64), size), effort)
    return places, value / size, exact


def min_eigenvalue_subset(
    squares: np.ndarray | Tensor, size: int, effort: int = EFFORT
) -> tuple[tuple[int, ...], float, bool]:
    """The `size` of n vectors whose covariance has the least largest eigenvalue.

    Arguments and results are those of `min_variance_subset`. Where the effort does not suffice, the subset is one that
    has no more than twice the least variance, or one of a lesser eigenvalue.
    """
    places, value, exact = least(_Eigenvalue(np.asarray(squares, dtype=np.float64), size), effort)
    return places, value / size, exact


def _variance_table(squares: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places [R, size] and variances [R] of the best subsets of each of R matrices [R, n, n]."""
    subsets = table(squares.shape[-1], size).to(squares.device)
    members = torch.zeros(len(subsets), squares.shape[-1], dtype=torch.float64, device=squares.device)
    members.scatter_(1, subsets, 1.0)
    parts = [((members @ block) * members).sum(-1) for block in blocks(squares, members.numel())]
    values, best = _first(torch.cat(parts) / (2 * size**2))
    return subsets[best], values


def _eigenvalue_table(squares: Tensor, size: int) -> tuple[Tensor, Tensor]:
    subsets = table(squares.shape[-1], size).to(squares.device)
    pairs = (subsets.unsqueeze(-1) * squares.shape[-1] + subsets.unsqueeze(-2)).flatten()
    parts = []
    for block in blocks(squares, pairs.numel()):
        within = block.flatten(1).index_select(1, pairs).view(-1, len(subsets), size, size)
        means = within.mean(-1)
        gram = (means.unsqueeze(-1) + means.unsqueeze(-2) - within - means.mean(-1)[..., None, None]) / 2
        # Eigenvalues take ten times as long as a Cholesky factor, which exists where they are all below a limit.
        likely = means.sum(-1).topk(min(8, len(subsets)), largest=False, sorted=False).indices
        likely = gram.take_along_dim(likely[..., None, None], 1)
        limit = torch.linalg.eigvalsh(likely)[..., -1].amin(-1).clamp_min(TINY) * (1 + 2 * EQUAL)
        bounded = torch.eye(size, dtype=gram.dtype, device=gram.device) * limit[:, None, None, None] - gram
        below = torch.linalg.cholesky_ex(bounded).info == 0
        values = torch.full_like(means[..., 0], torch.inf)
        values[below] = torch.linalg.eigvalsh(gram[below])[..., -1].clamp_min(0)
        parts.append(values)
    values, best = _first(torch.cat(parts) / size)
    return subsets[best], values


def _first(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least of values [R, S], and where the first that equals it stands."""
    lowest = values.amin(-1, keepdim=True)
    best = (values <= lowest * (1 + EQUAL)).int().argmax(-1, keepdim=True)
    return values.gather(-1, best).squeeze(-1), best.squeeze(-1)


class _Variance(Measure):
    """The trace of the scatter.

    With y about the mean of all n vectors and R those left out, it is

        sum ||y_i||^2 - sum_R ||y_i||^2 - (1/size) ||sum_R y_i||^2,

    nearly linear in R. What R can still take away is bounded by a sum over its members, each with its own share and
    with half of its largest products with the others.
    """

    def numbers(self, undecided: int) -> int:
        return 6 * undecided

    def value(self, chosen: np.ndarray) -> np.ndarray:
        members = chosen.astype(np.float64)
        return ((members @ self.squares) * members).sum(-1) / (2 * self.size)

    def seed(self) -> np.ndarray:
        nearest = np.argsort(self.squares, axis=1, kind="stable")[:, : self.size]
        around = np.take_along_axis(self.squares, nearest, 1).sum(1).argmin()
        return self.improve(np.isin(np.arange(len(nearest)), nearest[around]))

    def improve(self, chosen: np.ndarray) -> np.ndarray:
        chosen = chosen.copy()
        for _ in chosen:
            inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
            sums = self.squares[:, inside].sum(1)
            change = sums[outside] - self.squares[np.ix_(inside, outside)] - sums[inside, None]
            if change.min(initial=0) >= -EQUAL * sums[inside].sum():
                break
            leaves, comes = np.unravel_index(change.argmin(), change.shape)
            chosen[inside[leaves]], chosen[outside[comes]] = False, True
        return chosen

    def possible(self, limit: float) -> np.ndarray:
        # size times the trace is the sum of all squares between members, and so at least that of one to all others.
        return np.sort(self.squares, axis=1)[:, : self.size].sum(1) <= self.size * limit

    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        self.gram = centred(self.squares[np.ix_(order, order)])
        self.spare = len(order) - self.size
        self.shares: dict[int, np.ndarray] = {}
        own = self.gram.diagonal()
        # What is left of a difference has the rounding of what it was taken from.
        self.limit = limit + 1e-12 * own.sum()
        return [(0, np.zeros((1, len(order)), bool), (np.array([own.sum()]), own[None]))]

    def joins(self, state: State, sizes: np.ndarray) -> np.ndarray:
        return np.ones(len(sizes), bool)

    def keep(self, level: int, state: State, sizes: np.ndarray) -> State:
        value, loss = state
        return value, loss[:, 1:]

    def drop(self, level: int, state: State) -> State:
        value, loss = state
        value = value - loss[:, 0] - self.gram[level, level] / self.size
        return value, loss[:, 1:] + 2 / self.size * self.gram[level, level + 1 :]

    def hopeful(self, level: int, state: State, sizes: np.ndarray) -> np.ndarray:
        value, loss = state
        to_drop = self.spare - level + sizes
        most = -np.sort(-(loss + self._share(level)[to_drop]), axis=1)
        counted = np.arange(loss.shape[1]) < to_drop[:, None]
        return value - (most * counted).sum(1) <= self.limit

    def _share(self, level: int) -> np.ndarray:
        """What vectors from `level` on have at most by themselves, where [0 .. spare] of them are left out."""
        if level not in self.shares:
            products = self.gram[level:, level:].copy()
            own = products.diagonal().copy()
            np.fill_diagonal(products, -np.inf)
            largest = -np.sort(-products, axis=1)[:, : len(own) - 1]
            sums = np.vstack([own, own, own + largest.cumsum(1).T])
            # Nobody can leave out more than there are.
            rows = np.minimum(np.arange(self.spare + 1), len(sums) - 1)
            self.shares[level] = sums[rows] / self.size
        return self.shares[level]


class _Eigenvalue(Measure):
    """The largest eigenvalue of the scatter A.

    A limit t holds as long as A < t I, that is to say, while every vector that joined m others had

        m/(m+1) Q_ii < 1,    Q_ij = (x_i - mean)' (t I - A)^-1 (x_j - mean).

    Q of the undecided vectors is a node's state. A vector that joins changes it by a matrix of rank two: it is a
    Cholesky factorisation that branches, and as stable. Whoever could not join now never can.
    """

    def numbers(self, undecided: int) -> int:
        return undecided**2

    def value(self, chosen: np.ndarray) -> np.ndarray:
        members = np.nonzero(chosen)[1].reshape(-1, self.size)
        gram = centred(self.squares[members[:, :, None], members[:, None, :]])
        return np.linalg.eigvalsh(gram)[:, -1].clip(0)

    def seed(self) -> np.ndarray:
        return self.improve(_Variance(self.squares, self.size).seed())

    def improve(self, chosen: np.ndarray) -> np.ndarray:
        value = self.value(chosen[None])[0]
        for _ in chosen:
            swapped = self._swaps(chosen)
            values = self.value(swapped)
            if values.min(initial=value) >= value * (1 - EQUAL):
                break
            chosen, value = swapped[values.argmin()], values.min()
        return chosen

    def _swaps(self, chosen: np.ndarray, width: int = 4) -> np.ndarray:
        """Subsets without one of those farthest out in the worst direction, and with one of those least so."""
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        means = self.squares[:, inside].mean(1)
        gram = means[:, None] + means[inside] - self.squares[:, inside] - means[inside].mean()
        reach = np.abs(gram @ np.linalg.eigh(gram[inside])[1][:, -1])
        leaves = inside[np.argsort(-reach[inside], kind="stable")[:width]]
        comes = outside[np.argsort(reach[outside], kind="stable")[:width]]
        swapped = np.repeat(chosen[None], len(leaves) * len(comes), axis=0)
        rows = np.arange(len(swapped))
        swapped[rows, np.repeat(leaves, len(comes))] = False
        swapped[rows, np.tile(comes, len(leaves))] = True
        return swapped

    def possible(self, limit: float) -> np.ndarray:
        # Two vectors alone have an eigenvalue of half their squared distance.
        return (self.squares <= 2 * limit).sum(1) >= self.size

    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        # Vectors whose ratio is more than two exclude each other. Beyond sixteen no third one is between them, and the
        # number does not matter.
        ratios = np.minimum(self.squares[np.ix_(order, order)] / max(limit, TINY), 16)
        nodes: list[Nodes] = []
        for first in range(len(order) - self.size, -1, -1):
            near = ratios[first, first + 1 :]
            state = (near[:, None] + near - ratios[first + 1 :, first + 1 :]) / 2
            nodes.append((first + 1, np.arange(len(order))[None] == first, (state[None],)))
        return nodes

    def joins(self, state: State, sizes: np.ndarray) -> np.ndarray:
        return sizes / (sizes + 1) * state[0][:, 0, 0] < 1

    def keep(self, level: int, state: State, sizes: np.ndarray) -> State:
        (old,) = state
        m = sizes[:, None, None]
        towards = sizes[:, None] * old[:, 0, 1:] - 1
        scale = 1 / (1 - m / (m + 1) * old[:, :1, :1])
        return (old[:, 1:, 1:] + (scale * towards[:, :, None] * towards[:, None] - 1) / (m * (m + 1)),)

    def drop(self, level: int, state: State) -> State:
        return (state[0][:, 1:, 1:],)

    def hopeful(self, level: int, state: State, sizes: np.ndarray) -> np.ndarray:
        bound = (sizes / (sizes + 1))[:, None]
        own = state[0].diagonal(axis1=1, axis2=2)
        return (bound * own < 1).sum(1) >= self.size - sizes
