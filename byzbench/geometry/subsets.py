"""The narrowest subset: which vectors of a set lie closest together, exactly.

Enumeration looks at C(n, f) subsets. Few of them: all are looked at, for all receivers at once. Many: join i and j in a
*conflict graph* when D_ij > t. Subsets of diameter at most t are its independent sets, and one of size n - f exists if
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

# Entries of the largest table of subsets, and of its image for one block of receivers.
TABLE = 1 << 15
BLOCK = 1 << 22


def narrowest(distances: Tensor, mask: Tensor, f: Tensor, effort: int = 4_000_000) -> tuple[Tensor, Tensor]:
    """For each receiver the n_r - f_r of its n_r valid vectors that have the least diameter.

    Args:
        distances: float64 [..., n, n], symmetric with a zero diagonal.
        mask: [..., n] bool; each receiver has a valid vector.
        f: [...] int, how many vectors to leave out; at least one vector is kept.
        effort: see `min_diameter_subset`.

    Returns:
        Which are chosen, bool [..., n], and their diameter, float64 [...]. Of several subsets of least diameter, the
        one whose sorted columns come first.

    Warns:
        InexactSearch: the effort did not suffice.
    """
    return each("mda", distances, mask, f, _diameter_table, partial(min_diameter_subset, effort=effort))


def each(
    name: str,
    matrices: Tensor,
    mask: Tensor,
    f: Tensor,
    look: Callable[[Tensor, int], tuple[Tensor, Tensor]],
    search: Callable[[np.ndarray, int], tuple[tuple[int, ...], float, bool]],
) -> tuple[Tensor, Tensor]:
    """The best subset of each receiver: of few, by a look at all of them for many receivers at once; else by search.

    Args:
        name: of what is done, for a warning.
        matrices: float64 [..., n, n], what the subsets are judged by.
        mask: [..., n] bool, each receiver's valid vectors.
        f: [...] int, how many of them to leave out.
        look: (matrices [R, n, n], size) -> places [R, size], values [R].
        search: (matrix, size) -> places, value, and whether they are exact.

    Returns:
        Which vectors are chosen, bool [..., n], and the subsets' values, float64 [...].
    """
    n = mask.shape[-1]
    flat, valid = matrices.reshape(-1, n, n), mask.reshape(-1, n)
    counts = valid.sum(-1)
    sizes = (counts - f.reshape(-1)).clamp_min(1)
    # Valid columns first, in their order: receivers of the same counts then share one table.
    columns = valid.sort(dim=-1, descending=True, stable=True).indices
    chosen, values = torch.zeros_like(valid), flat.new_zeros(len(flat))
    for count, size in torch.stack([counts, sizes], -1).unique(dim=0).tolist():
        alike = ((counts == count) & (sizes == size)).nonzero().squeeze(-1)
        kept = columns[alike, :count]
        within = flat[alike.view(-1, 1, 1), kept.unsqueeze(-1), kept.unsqueeze(-2)]
        if comb(count, size) * size * size <= 2 * TABLE:
            places, values[alike] = look(within, size)
        else:
            found = [search(one, size) for one in within.cpu().numpy()]
            places = torch.tensor([subset for subset, _, _ in found], device=flat.device)
            values[alike] = flat.new_tensor([value for _, value, _ in found])
            if not all(exact for _, _, exact in found):
                text = f"{name}: the effort does not settle n={count}, f={count - size}; the best subset seen is taken"
                warnings.warn(text, InexactSearch, stacklevel=2)
        chosen[alike.unsqueeze(-1), kept.gather(-1, places)] = True
    return chosen.view(mask.shape), values.view(mask.shape[:-1])


@lru_cache(maxsize=64)
def table(n: int, size: int) -> Tensor:
    """All subsets of n, in lexicographic order: [S, size]."""
    return torch.from_numpy(np.array(list(combinations(range(n), size))))


@lru_cache(maxsize=64)
def _pairs(n: int, size: int) -> npt.NDArray[np.intp]:
    """Where the pairs of all subsets stand in a flat n x n matrix: [P, S]. A lone vector is its own pair."""
    subsets = table(n, size).numpy()
    first, second = np.triu_indices(size, k=size > 1)
    return np.ascontiguousarray((subsets[:, first] * n + subsets[:, second]).T)


def blocks(matrices: Tensor, numbers: int) -> Sequence[Tensor]:
    """The matrices of so many receivers at a time as the image of a table of so many numbers allows."""
    return matrices.split(max(1, BLOCK // numbers))


def _diameter_table(distances: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Places [R, size] and diameters [R] of the narrowest subsets of each of R matrices [R, n, n]."""
    n = distances.shape[-1]
    subsets, pairs = table(n, size), _pairs(n, size)
    places, diameters = [], []
    for block in blocks(distances.flatten(1), pairs.size):
        # Receivers last: what is gathered then lies in rows, which takes an eighth of the time.
        rows = np.ascontiguousarray(block.T.cpu().numpy())
        widths = rows.take(pairs.ravel(), 0).reshape(*pairs.shape, -1).max(0)
        places.append(subsets[torch.from_numpy(widths.argmin(0))])
        diameters.append(torch.from_numpy(widths.min(0)))
    return torch.cat(places).to(distances.device), torch.cat(diameters).to(distances.device)


def min_diameter_subset(
    distances: np.ndarray | Tensor, size: int, effort: int = 4_000_000
) -> tuple[tuple[int, ...], float, bool]:
    """The `size` of n points that have the least diameter; of several such subsets the lexicographically first.

    Args:
        distances: [n, n], symmetric with a zero diagonal.
        size: 1 .. n.
        effort: the most vertices the search may visit, about a second's worth. A count and not a clock, so that the
            answer does not depend on the machine.

    Returns:
        The sorted indices, their diameter, and whether both are exact. They are not when the effort did not suffice
        (only distances arranged to be hard do that): then it is the best subset seen, in a metric space at most twice
        as wide as the best there is.
    """
    matrix = np.asarray(distances, dtype=np.float64)
    # Whoever is in a subset has size - 1 others within its diameter, so the smallest ball that holds `size` points has
    # a radius no greater than the least diameter, and a diameter no greater than twice that.
    reach = np.partition(matrix, size - 1, axis=1)[:, size - 1]
    best = sorted(np.argsort(matrix[reach.argmin()], kind="stable")[:size].tolist())
    diameter = float(matrix[np.ix_(best, best)].max())
    values = np.unique(matrix[(matrix >= reach.min()) & (matrix <= diameter)])
    search = _Search(effort)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        conflicts = _conflicts(matrix, values[middle])
        cover = search.cover(conflicts, (1 << len(matrix)) - 1, len(matrix) - size)
        if cover is None:
            low = middle + 1
        else:
            best = [i for i in range(len(matrix)) if not cover >> i & 1][:size]
            diameter = float(matrix[np.ix_(best, best)].max())
            high = int(np.searchsorted(values, diameter))
    best = search.first(_conflicts(matrix, diameter), best, size)
    return tuple(best), diameter, search.exact


def _conflicts(distances: np.ndarray, threshold: float) -> list[int]:
    """For each point the bit set of the points farther away than the threshold."""
    rows = np.packbits(distances > threshold, axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in rows]


class _Search:
    """Vertex covers of conflict graphs within a given effort. Sets of vertices are bit sets."""

    def __init__(self, effort: int) -> None:
        self.left = effort
        self.stop = 0
        self.exact = True

    def cover(self, conflicts: Sequence[int], alive: int, k: int) -> int | None:
        """At most k of the living vertices that meet every edge between living vertices, or None.

        One question may use half of the effort that is left. If that does not suffice, the answer is None too, and
        what follows from it is not exact.
        """
        self.stop = self.left // 2
        cover = self._branch(conflicts, [v for v in range(len(conflicts)) if alive >> v & 1], alive, k)
        self.exact &= cover is not None or self.left > self.stop
        return cover

    def _branch(self, conflicts: Sequence[int], vertices: Sequence[int], alive: int, k: int) -> int | None:
        taken = 0
        while True:
            degrees = [(conflicts[v] & alive).bit_count() for v in vertices]
            self.left -= len(vertices)
            top = max(degrees, default=0)
            if top == 0:
                return taken
            if sum(degrees) > 2 * k * top or self.left <= self.stop:
                return None
            if 1 in degrees:  # the other end of that edge covers no less
                pick = conflicts[vertices[degrees.index(1)]] & alive
            elif top > k or top == 2:  # too many to take all neighbours; or cycles, where any vertex will do
                pick = 1 << vertices[degrees.index(top)]
            else:
                break
            taken, alive, k = taken | pick, alive & ~pick, k - 1
            vertices = [v for v, degree in zip(vertices, degrees, strict=True) if degree and not pick >> v & 1]
        vertex = vertices[degrees.index(top)]
        vertices = [v for v, degree in zip(vertices, degrees, strict=True) if degree and v != vertex]
        for pick in (1 << vertex, conflicts[vertex] & alive):
            rest = [v for v in vertices if not pick >> v & 1]
            cover = self._branch(conflicts, rest, alive & ~pick, k - pick.bit_count())
            if cover is not None:
                return taken | pick | cover
        return None

    def first(self, conflicts: Sequence[int], known: list[int], size: int) -> list[int]:
        """The lexicographically first independent set of this size, given one."""
        witness = sum(1 << v for v in known)
        alive, spare = (1 << len(conflicts)) - 1, len(conflicts) - size
        chosen: list[int] = []
        for v in range(len(conflicts)):
            if len(chosen) == size:
                break
            if not alive >> v & 1:
                continue
            rivals = conflicts[v] & alive
            if rivals and not witness >> v & 1:
                rest = alive & ~rivals
                cover = self.cover(conflicts, rest, spare - rivals.bit_count()) if rivals.bit_count() <= spare else None
                if cover is None:
                    alive, spare = alive & ~(1 << v), spare - 1
                    continue
                witness = rest & ~cover
            chosen.append(v)
            alive, spare = alive & ~rivals, spare - rivals.bit_count()
        return chosen
