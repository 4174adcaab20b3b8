"""Subsets of least variance, in all directions together or in the worst direction, found exactly.

The scatter of a set is the sum of (x_i - mean)(x_i - mean)' over it. It grows with every vector that joins, so that the
trace and the largest eigenvalue of a part of a subset are lower bounds of those of the whole. If there are few subsets,
all are computed, for all receivers at once. If there are many, branch and bound is used.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from byzbench.geometry.branching import EFFORT, EQUAL, Measure, Nodes, State, centred, minimize_measure
from byzbench.geometry.subsets import each_set, subset_blocks, subset_table

# Smallest limit: divisions by smaller limits would overflow.
TINY = 1e-200


def least_variance(squares: Tensor, mask: Tensor, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """Return, for each receiver, the n_r - f_r of its n_r valid vectors that have the least variance.

    Args:
        squares: float64 [..., n, n], squared distances.
        mask: [..., n] bool; each receiver has a valid vector.
        f: [...] int, how many vectors to leave out; at least one vector remains.
        effort: see `min_variance_subset`.

    Returns:
        The selected vectors, bool [..., n], and their mean squared distance to their mean, float64 [...].

    Warns:
        InexactSearch: the effort did not suffice.
    """
    return each_set("mva", squares, mask, f, _variance_table, partial(min_variance_subset, effort=effort))


def least_eigenvalue(squares: Tensor, mask: Tensor, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """Return, for each receiver, the n_r - f_r vectors whose covariance has the least largest eigenvalue.

    The largest eigenvalue is the variance in the worst direction.

    Args:
        squares: float64 [..., n, n], squared distances.
        mask: [..., n] bool; each receiver has a valid vector.
        f: [...] int, how many vectors to leave out; at least one vector remains.
        effort: see `min_eigenvalue_subset`.

    Returns:
        The selected vectors, bool [..., n], and the largest eigenvalue of their covariance, float64 [...].
    """
    return each_set("smea", squares, mask, f, _eigenvalue_table, partial(min_eigenvalue_subset, effort=effort))


def min_variance_subset(
    squares: np.ndarray | Tensor, size: int, effort: int = EFFORT
) -> tuple[tuple[int, ...], float, bool]:
    """Return the `size` of n vectors of the least mean squared distance to their mean.

    Args:
        squares: [n, n], squared Euclidean distances.
        size: 1 .. n.
        effort: the maximum count of numbers that the search computes, about a second of computation by default. It is a
            count and not a time, so that the result does not depend on the machine.

    Returns:
        The sorted indices, their value, and whether both are exact. They are not exact if the effort did not suffice:
        then it is the best subset seen, of at most twice the least variance. The search starts at the best set of a
        vector and its nearest ones, which satisfies that bound, and continues by swaps.

    Example:
        >>> x = np.array([0.0, 1.0, 2.0, 9.0])
        >>> min_variance_subset((x[:, None] - x) ** 2, 3)
        ((0, 1, 2), 0.6666666666666666, True)
    """
    indices, value, exact = minimize_measure(_Variance(np.asarray(squares, dtype=np.float64), size), effort)
    return indices, value / size, exact


def min_eigenvalue_subset(
    squares: np.ndarray | Tensor, size: int, effort: int = EFFORT
) -> tuple[tuple[int, ...], float, bool]:
    """Return the `size` of n vectors whose covariance has the least largest eigenvalue.

    Arguments and results are those of `min_variance_subset`. Where the effort does not suffice, the subset is one that
    has at most twice the least variance, or one of a smaller eigenvalue.

    Example:
        >>> x = np.array([0.0, 1.0, 2.0, 9.0])
        >>> indices, value, exact = min_eigenvalue_subset((x[:, None] - x) ** 2, 3)
        >>> indices, round(value, 6), exact
        ((0, 1, 2), 0.666667, True)
    """
    indices, value, exact = minimize_measure(_Eigenvalue(np.asarray(squares, dtype=np.float64), size), effort)
    return indices, value / size, exact


def _variance_table(squares: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the indices [R, size] and variances [R] of the best subsets of each of R matrices [R, n, n]."""
    subsets = subset_table(squares.shape[-1], size).to(squares.device)
    members = torch.zeros(len(subsets), squares.shape[-1], dtype=torch.float64, device=squares.device)
    members.scatter_(1, subsets, 1.0)
    parts = [((members @ block) * members).sum(-1) for block in subset_blocks(squares, members.numel())]
    values, best = _first(torch.cat(parts) / (2 * size**2))
    return subsets[best], values


def _eigenvalue_table(squares: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the indices [R, size] and largest eigenvalues [R] of the best subsets of each of R matrices [R, n, n]."""
    subsets = subset_table(squares.shape[-1], size).to(squares.device)
    pairs = (subsets.unsqueeze(-1) * squares.shape[-1] + subsets.unsqueeze(-2)).flatten()
    parts = []
    for block in subset_blocks(squares, pairs.numel()):
        subset_squares = block.flatten(1).index_select(1, pairs).view(-1, len(subsets), size, size)
        means = subset_squares.mean(-1)
        gram = (means.unsqueeze(-1) + means.unsqueeze(-2) - subset_squares - means.mean(-1)[..., None, None]) / 2
        # A Cholesky factorisation is ten times as fast as eigenvalues, and exists where they are all below a limit. The
        # limit is the least value of a few promising subsets.
        promising = means.sum(-1).topk(min(8, len(subsets)), largest=False, sorted=False).indices
        promising = gram.take_along_dim(promising[..., None, None], 1)
        limit = torch.linalg.eigvalsh(promising)[..., -1].amin(-1).clamp_min(TINY) * (1 + 2 * EQUAL)
        bounded = torch.eye(size, dtype=gram.dtype, device=gram.device) * limit[:, None, None, None] - gram
        is_below = torch.linalg.cholesky_ex(bounded).info == 0
        values = torch.full_like(means[..., 0], torch.inf)
        values[is_below] = torch.linalg.eigvalsh(gram[is_below])[..., -1].clamp_min(0)
        parts.append(values)
    values, best = _first(torch.cat(parts) / size)
    return subsets[best], values


def _first(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least of values [R, S], and the index of the first value that equals it."""
    lowest = values.amin(-1, keepdim=True)
    best = (values <= lowest * (1 + EQUAL)).int().argmax(-1, keepdim=True)
    return values.gather(-1, best).squeeze(-1), best.squeeze(-1)


class _Variance(Measure):
    """The trace of the scatter.

    With y about the mean of all n vectors and R those left out, it is

        sum ||y_i||^2 - sum_R ||y_i||^2 - (1/size) ||sum_R y_i||^2,

    nearly linear in R. An upper bound of the part that R can still subtract is a sum over its members, of each one's
    own square and half of its largest products with the others.
    """

    def numbers(self, undecided: int) -> int:
        return 6 * undecided

    def value(self, chosen: np.ndarray) -> np.ndarray:
        members = chosen.astype(np.float64)
        return ((members @ self.squares) * members).sum(-1) / (2 * self.size)

    def seed(self) -> np.ndarray:
        nearest = np.argsort(self.squares, axis=1, kind="stable")[:, : self.size]
        centre = np.take_along_axis(self.squares, nearest, 1).sum(1).argmin()
        return self.improve(np.isin(np.arange(len(nearest)), nearest[centre]))

    def improve(self, chosen: np.ndarray) -> np.ndarray:
        chosen = chosen.copy()
        for _ in chosen:
            inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
            sums = self.squares[:, inside].sum(1)
            change = sums[outside] - self.squares[np.ix_(inside, outside)] - sums[inside, None]
            if change.min(initial=0) >= -EQUAL * sums[inside].sum():
                break
            leaving, entering = np.unravel_index(change.argmin(), change.shape)
            chosen[inside[leaving]], chosen[outside[entering]] = False, True
        return chosen

    def possible(self, limit: float) -> np.ndarray:
        # size times the trace is the sum of the squares of all pairs, and so at least that of one member to all others.
        return np.sort(self.squares, axis=1)[:, : self.size].sum(1) <= self.size * limit

    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        self.gram = centred(self.squares[np.ix_(order, order)])
        self.num_dropped = len(order) - self.size
        self.loss_bounds: dict[int, np.ndarray] = {}
        square_lengths = self.gram.diagonal()
        # A difference has the rounding error of the numbers that it is computed from.
        self.limit = limit + 1e-12 * square_lengths.sum()
        return [(0, np.zeros((1, len(order)), bool), (np.array([square_lengths.sum()]), square_lengths[None]))]

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
        to_drop = self.num_dropped - level + sizes
        largest_losses = -np.sort(-(loss + self._loss_bound(level)[to_drop]), axis=1)
        is_counted = np.arange(loss.shape[1]) < to_drop[:, None]
        return value - (largest_losses * is_counted).sum(1) <= self.limit

    def _loss_bound(self, level: int) -> np.ndarray:
        """Return upper bounds of the loss by each vector from `level` on, by the number of vectors left out.

        The loss is the part that a vector subtracts. The rows are for [0 .. num_dropped] vectors left out.
        """
        if level not in self.loss_bounds:
            products = self.gram[level:, level:].copy()
            square_lengths = products.diagonal().copy()
            np.fill_diagonal(products, -np.inf)
            largest = -np.sort(-products, axis=1)[:, : len(square_lengths) - 1]
            sums = np.vstack([square_lengths, square_lengths, square_lengths + largest.cumsum(1).T])
            # No more vectors can be left out than there are.
            rows = np.minimum(np.arange(self.num_dropped + 1), len(sums) - 1)
            self.loss_bounds[level] = sums[rows] / self.size
        return self.loss_bounds[level]


class _Eigenvalue(Measure):
    """The largest eigenvalue of the scatter A.

    A limit t holds as long as A < t I, that is to say, while every vector that joined m others had

        m/(m+1) Q_ii < 1,    Q_ij = (x_i - mean)' (t I - A)^-1 (x_j - mean).

    Q of the undecided vectors is a node's state. A vector that joins changes it by a matrix of rank two: the search is
    a Cholesky factorisation with branches, and as stable. A vector that cannot join a node cannot join its descendants.
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
        """Return subsets in which a member far out in the worst direction is swapped for a vector that is not.

        Args:
            chosen: the subset, [n] bool.
            width: how many members and how many other vectors are considered.
        """
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        means = self.squares[:, inside].mean(1)
        gram = means[:, None] + means[inside] - self.squares[:, inside] - means[inside].mean()
        projections = np.abs(gram @ np.linalg.eigh(gram[inside])[1][:, -1])
        leaving = inside[np.argsort(-projections[inside], kind="stable")[:width]]
        entering = outside[np.argsort(projections[outside], kind="stable")[:width]]
        swapped = np.repeat(chosen[None], len(leaving) * len(entering), axis=0)
        rows = np.arange(len(swapped))
        swapped[rows, np.repeat(leaving, len(entering))] = False
        swapped[rows, np.tile(entering, len(leaving))] = True
        return swapped

    def possible(self, limit: float) -> np.ndarray:
        # The scatter of two vectors has an eigenvalue of half their squared distance.
        return (self.squares <= 2 * limit).sum(1) >= self.size

    def start(self, order: np.ndarray, limit: float) -> list[Nodes]:
        # Two vectors of a ratio above two exclude each other. Above sixteen no third vector is near both, and the exact
        # number does not matter.
        ratios = np.minimum(self.squares[np.ix_(order, order)] / max(limit, TINY), 16)
        nodes: list[Nodes] = []
        for first in range(len(order) - self.size, -1, -1):
            first_ratios = ratios[first, first + 1 :]
            state = (first_ratios[:, None] + first_ratios - ratios[first + 1 :, first + 1 :]) / 2
            nodes.append((first + 1, np.arange(len(order))[None] == first, (state[None],)))
        return nodes

    def joins(self, state: State, sizes: np.ndarray) -> np.ndarray:
        return sizes / (sizes + 1) * state[0][:, 0, 0] < 1

    def keep(self, level: int, state: State, sizes: np.ndarray) -> State:
        (q,) = state
        m = sizes[:, None, None]
        products = sizes[:, None] * q[:, 0, 1:] - 1
        scale = 1 / (1 - m / (m + 1) * q[:, :1, :1])
        return (q[:, 1:, 1:] + (scale * products[:, :, None] * products[:, None] - 1) / (m * (m + 1)),)

    def drop(self, level: int, state: State) -> State:
        return (state[0][:, 1:, 1:],)

    def hopeful(self, level: int, state: State, sizes: np.ndarray) -> np.ndarray:
        bound = (sizes / (sizes + 1))[:, None]
        diagonal = state[0].diagonal(axis1=1, axis2=2)
        return (bound * diagonal < 1).sum(1) >= self.size - sizes
