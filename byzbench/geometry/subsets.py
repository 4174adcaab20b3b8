"""The subset of least diameter of a set of vectors, found exactly.

If there are few of the C(n, f) subsets, all are computed, for all receivers at once. If there are many, join i and j in
a *conflict graph* when D_ij > t. Subsets of diameter at most t are its independent sets. One of size n - f exists if
and only if f vertices cover all its edges, which a bounded search tree decides in time exponential in f alone. The
least such t is found by bisection over the distances.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.errors import InexactSearch

# Maximum number of entries of a table of subsets, and of its values for one block of receivers.
TABLE = 1 << 15
BLOCK = 1 << 22
# Default maximum number of vertices that a search visits: about a second of computation.
EFFORT = 4_000_000


def min_diameter_subsets(distances: Tensor, mask: Tensor, f: Tensor, effort: int = EFFORT) -> tuple[Tensor, Tensor]:
    """Return, for each receiver, the n_r - f_r of its n_r valid vectors that have the least diameter.

    Args:
        distances: float64 [..., n, n], symmetric with a zero diagonal.
        mask: [..., n] bool; each receiver has a valid vector.
        f: [...] int, how many vectors to leave out; at least one vector remains.
        effort: see `min_diameter_subset`.

    Returns:
        The selected vectors, bool [..., n], and their diameter, float64 [...]. Of several subsets of least diameter,
        the one whose sorted columns come first.

    Warns:
        InexactSearch: the effort did not suffice.
    """
    return each_set("mda", distances, mask, f, _diameter_table, partial(min_diameter_subset, effort=effort))


def each_set(
    name: str,
    matrices: Tensor,
    mask: Tensor,
    f: Tensor,
    look: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    search: Callable[[np.ndarray, int], tuple[tuple[int, ...], float, bool]],
) -> tuple[Tensor, Tensor]:
    """Return the best subset of each receiver: from a table of all subsets if there are few, else by search.

    Args:
        name: the name of the rule, for a warning.
        matrices: float64 [..., n, n], from which subsets are evaluated.
        mask: [..., n] bool, each receiver's valid vectors.
        f: [...] int, how many of them to leave out.
        look: (matrices [R, n, n], size) -> indices [R, size], values [R], by a table of all subsets.
        search: (matrix, size) -> indices, value, and whether they are exact.

    Returns:
        The selected vectors, bool [..., n], and the subsets' values, float64 [...].

    Warns:
        InexactSearch: the search did not complete for some receiver.
    """
    n = mask.shape[-1]
    flat, valid = matrices.reshape(-1, n, n), mask.reshape(-1, n).numpy(force=True)
    counts = np.add.reduce(valid, -1)
    sizes = np.maximum(counts - f.reshape(-1).numpy(force=True), 1)
    chosen, values = np.zeros(valid.shape, np.bool_), np.zeros(len(valid))
    forms = list(zip(counts.tolist(), sizes.tolist(), strict=True))
    for count, size in sorted(set(forms)):
        rows = np.array([row for row, form in enumerate(forms) if form == (count, size)])
        submatrices, columns = flat if len(rows) == len(flat) else flat[rows], None
        if count < n:
            # Valid columns first, in their order, so that receivers of the same counts share one table.
            columns = np.argsort(~valid[rows], axis=-1, kind="stable")[:, :count]
            submatrices = flat[rows[:, None, None], columns[:, :, None], columns[:, None, :]]
        if comb(count, size) * size * size <= 2 * TABLE:
            indices, best_values = (part.numpy(force=True) for part in look(submatrices, size))
        else:
            results = [search(matrix, size) for matrix in submatrices.numpy(force=True)]
            indices, best_values = np.array([r[0] for r in results]), np.array([r[1] for r in results])
            if not all(exact for _, _, exact in results):
                text = f"{name}: the effort does not settle n={count}, f={count - size}; the best subset seen is used"
                warnings.warn(text, InexactSearch, stacklevel=2)
        values[rows] = best_values
        chosen[rows[:, None], indices if columns is None else np.take_along_axis(columns, indices, -1)] = True
    return (
        torch.from_numpy(chosen).view(mask.shape).to(mask.device),
        torch.from_numpy(values).view(mask.shape[:-1]).to(matrices.device),
    )


@lru_cache(maxsize=64)
def subset_table(n: int, size: int) -> Tensor:
    """Return all subsets of `size` of n indices, in lexicographic order: [S, size].

    Example:
        >>> subset_table(3, 2)
        tensor([[0, 1],
                [0, 2],
                [1, 2]])
    """
    return torch.from_numpy(np.array(list(combinations(range(n), size))))


@lru_cache(maxsize=64)
def _pairs(n: int, size: int) -> npt.NDArray[np.intp]:
    """Return the positions of the pairs of all subsets in a flat n x n matrix: [P, S].

    A single vector is its own pair.
    """
    subsets = subset_table(n, size).numpy()
    first, second = np.triu_indices(size, k=size > 1)
    return np.ascontiguousarray((subsets[:, first] * n + subsets[:, second]).T)


def subset_blocks(matrices: Tensor, numbers: int) -> Sequence[Tensor]:
    """Split the matrices into blocks of receivers that fit into memory.

    Args:
        matrices: [R, ...], one for each receiver.
        numbers: how many numbers the table computes for one receiver.

    Returns:
        The blocks; each has one receiver, or computes at most `BLOCK` numbers.
    """
    return matrices.split(max(1, BLOCK // numbers))


def _diameter_table(distances: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the indices [R, size] and diameters [R] of the subsets of least diameter.

    Args:
        distances: [R, n, n].
        size: the number of vectors of a subset.
    """
    n = distances.shape[-1]
    subsets, pairs = subset_table(n, size), _pairs(n, size)
    best, diameters = [], []
    for block in subset_blocks(distances, pairs.size):
        # Receivers last: gathering whole rows takes an eighth of the time.
        rows = np.ascontiguousarray(block.numpy(force=True).reshape(len(block), -1).T)
        subset_diameters = rows.take(pairs.ravel(), 0).reshape(*pairs.shape, -1).max(0)
        best.append(subset_diameters.argmin(0))
        diameters.append(subset_diameters.min(0))
    indices, values = subsets[torch.from_numpy(np.concatenate(best))], torch.from_numpy(np.concatenate(diameters))
    return indices.to(distances.device), values.to(distances.device)


def min_diameter_subset(
    distances: np.ndarray | Tensor, size: int, effort: int = EFFORT
) -> tuple[tuple[int, ...], float, bool]:
    """Return the `size` of n points that have the least diameter; of ties the lexicographically first subset.

    Args:
        distances: [n, n], symmetric with a zero diagonal.
        size: 1 .. n.
        effort: the maximum number of vertices that the search visits, about a second of computation by default. It is a
            count and not a time, so that the result does not depend on the machine.

    Returns:
        The sorted indices, their diameter, and whether both are exact. They are not exact if the effort did not
        suffice, which happens only for distances constructed to be hard: then it is the best subset seen. In a metric
        space its diameter is at most twice the least one.

    Example:
        >>> x = np.array([0.0, 1.0, 2.0, 9.0])
        >>> min_diameter_subset(abs(x[:, None] - x), 3)
        ((0, 1, 2), 2.0, True)
    """
    # A local import, as loading Numba takes time, which small inboxes should not cost.
    from byzbench.geometry.vertex_covers import find_cover, first_independent_set

    matrix, exact, remaining = np.asarray(distances, dtype=np.float64), True, np.array([effort])
    # Each point of a subset has size - 1 others within the subset's diameter. So the smallest ball around a point that
    # contains `size` points has a radius of at most the least diameter, and a diameter of at most twice that. And the
    # balls around the points of the subset, `size` in number, all have such a radius.
    radii = np.partition(matrix, size - 1, axis=1)[:, size - 1]
    best = np.sort(np.argsort(matrix[radii.argmin()], kind="stable")[:size])
    diameter = float(matrix[np.ix_(best, best)].max())
    least = np.partition(radii, size - 1)[size - 1]
    values = np.unique(matrix[(matrix >= least) & (matrix <= diameter)])
    everything = _bits(np.ones((1, len(matrix)), dtype=bool))[0]
    # The least diameter is usually close to the lower bound, so the first thresholds are close to it too.
    low, high, step = 0, len(values) - 1, 0
    while low < high:
        middle = min(low + step, (low + high) // 2)
        conflicts = _bits(matrix > values[middle])
        is_covered, cover, certain = find_cover(conflicts, everything, len(matrix) - size, remaining)
        exact &= is_covered or certain
        if is_covered:
            best = np.flatnonzero(~np.unpackbits(cover.view(np.uint8), bitorder="little").astype(bool))[:size]
            diameter = float(matrix[np.ix_(best, best)].max())
            high = int(np.searchsorted(values, diameter))
        else:
            low, step = middle + 1, 2 * step + 1
    witness = _bits(np.isin(np.arange(len(matrix)), best)[None])[0]
    chosen, certain = first_independent_set(_bits(matrix > diameter), witness, size, remaining)
    return tuple(chosen.tolist()), diameter, exact and certain


def _bits(rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    """Return each row of flags as a set of bits, in 64-bit words."""
    words = np.zeros((len(rows), -(-rows.shape[1] // 64)), dtype="<u8")
    packed = np.packbits(rows, axis=1, bitorder="little")
    words.view(np.uint8)[:, : packed.shape[1]] = packed
    return words
