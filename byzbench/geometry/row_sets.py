"""Sets of rows of one matrix: the inner products of rows that several sets hold are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.geometry.pairwise_distances import PairwiseDistances, coordinate_blocks

Array: TypeAlias = npt.NDArray[Any]


class RowSets:
    """R sets of up to n rows of a matrix.

    A *shared* row is in several sets, a *private* one in one set. The products of shared rows form one matrix. Those of
    a set's private rows are computed for this set alone. If sets have little in common, as on sparse graphs, each of
    them has a matrix of its own.

    Args:
        base: [M, d], the matrix; rows that are in a set are finite.
        index: int64 [R, n], the row of each column.
        mask: bool [R, n], False where a column holds no row.
        centres: int64 [m], the rows that may be the centre of the shared products: the shortest of them, in each block
            of coordinates. If there is none, all that are in a set. The centre of a set need not be among its rows.

    Example:
        >>> base = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> index = np.array([[0, 1], [0, 2]])
        >>> RowSets(base, index, index >= 0).select(torch.arange(2)).distances[:, 0, 1]
        tensor([5., 1.], dtype=torch.float64)
    """

    def __init__(self, base: Tensor, index: Array, mask: Array, centres: Array | None = None) -> None:
        self.base, self.index, self.mask = base, index, mask
        sets, n = index.shape
        counts = np.bincount(index[mask], minlength=len(base))
        used = np.flatnonzero(counts)
        self._centres = used if centres is None or not len(centres) else np.unique(centres)
        separate_cost = 2 * sets * n * n
        self._shared_numbers = used if len(used) ** 2 <= separate_cost else np.flatnonzero(counts > 1)
        self.shares_products = 0 < len(self._shared_numbers) * len(used) <= separate_cost
        self._is_shared = np.zeros(len(base), np.bool_)
        self._is_shared[self._shared_numbers] = True
        self._has_private = len(self._shared_numbers) < len(used)

    def select(self, sets: Tensor) -> PairwiseDistances:
        """Return the distances within some of the sets, given by their numbers [R']."""
        index, mask = self.index[sets.numpy()], self.mask[sets.numpy()]
        if not self.shares_products:
            return _Separate(self.base, torch.from_numpy(index), torch.from_numpy(mask))
        shared_columns = torch.from_numpy(mask & self._is_shared[index] if self._has_private else mask)
        position = torch.from_numpy(self.position[index])
        within_shared = self._shared.select(position, shared_columns)
        if not self._has_private:
            return within_shared
        return _WithPrivate(self, within_shared, position, torch.from_numpy(index), torch.from_numpy(mask))

    @cached_property
    def origin(self) -> Tensor:
        """Return the centre of the shared products: [1, d]."""
        parts = coordinate_blocks(self.base[self._centres])
        return torch.cat([part[torch.linalg.vector_norm(part.double(), dim=-1).argmin()] for part in parts])[None]

    @cached_property
    def shared_rows(self) -> Tensor:
        """Return the shared rows, [S, d]."""
        return self.base if len(self._shared_numbers) == len(self.base) else self.base[self._shared_numbers]

    @cached_property
    def position(self) -> Array:
        """Return the number of each row among the shared ones, int64 [M]; another number for private rows."""
        return np.maximum(self._is_shared.cumsum() - 1, 0)

    @cached_property
    def _shared(self) -> PairwiseDistances:
        """Return the distances within all shared rows."""
        return PairwiseDistances.of(self.shared_rows, centre=self.origin)


@dataclass(frozen=True, eq=False)
class _Separate(PairwiseDistances):
    """Distances within sets that share nothing."""

    base: Tensor
    index: Tensor
    mask: Tensor

    @cached_property
    def _cloud(self) -> PairwiseDistances:
        return PairwiseDistances.of(self.base[self.index], self.mask)

    @property
    def norms(self) -> Tensor:
        return self._cloud.norms

    @property
    def centre(self) -> Tensor:
        return self._cloud.centre

    @property
    def gram(self) -> Tensor:
        return self._cloud.gram


@dataclass(frozen=True, eq=False)
class _WithPrivate(PairwiseDistances):
    """Distances within sets of shared and private rows.

    Attributes:
        sets: all sets.
        shared: the distances within the shared rows of these sets.
        position: int64 [R, n], the number of each row among the shared ones.
        index: int64 [R, n], the rows of these sets.
        mask: bool [R, n], the valid columns.
    """

    sets: RowSets
    shared: PairwiseDistances
    position: Tensor
    index: Tensor
    mask: Tensor

    @cached_property
    def norms(self) -> Tensor:
        is_private, columns, rows = self._private
        lengths = torch.linalg.vector_norm(self.sets.base[rows].double(), dim=-1)
        return self.shared.norms.scatter_add(-1, columns, lengths.where(is_private, 0))

    @property
    def centre(self) -> Tensor:
        return self.shared.centre

    @cached_property
    def gram(self) -> Tensor:
        is_private, columns, rows = self._private
        count = rows.shape[-1]
        to_shared = torch.zeros(rows.numel(), len(self.sets.shared_rows), dtype=torch.float64, device=rows.device)
        among = torch.zeros(*rows.shape, count, dtype=torch.float64, device=rows.device)
        parts = (coordinate_blocks(x) for x in (self.sets.base, self.sets.shared_rows, self.sets.origin))
        for base, shared_rows, origin in zip(*parts, strict=True):
            vectors = base[rows].double() - origin
            to_shared += vectors.flatten(0, 1) @ (shared_rows.double() - origin).T
            among += vectors @ vectors.mT
        # Rows of the Gram matrix at private columns: first their products with shared rows, then among themselves.
        is_shared = self.shared.mask
        products = to_shared.view(*rows.shape, -1).take_along_dim(self.position.unsqueeze(-2), -1)
        products = products.where(is_shared.unsqueeze(-2) & is_private.unsqueeze(-1), 0)
        among = (among + among.mT) / 2
        among = among.where(is_private.unsqueeze(-1) & is_private.unsqueeze(-2), 0)
        products = products.scatter_add(-1, columns.unsqueeze(-2).expand_as(among), among)
        gram = self.shared.gram.scatter_add(-2, columns.unsqueeze(-1).expand_as(products), products)
        across = products.where(is_shared.unsqueeze(-2), 0).mT
        return gram.scatter_add(-1, columns.unsqueeze(-2).expand_as(across), across)

    @cached_property
    def _private(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return, for p private rows of each set, which of them are valid, their columns and their rows: [R, p] each.

        A set of fewer private rows has others in their places.
        """
        is_private = self.mask & ~self.shared.mask
        count = int(is_private.sum(-1).max())
        columns = is_private.sort(dim=-1, descending=True, stable=True).indices[:, :count]
        return is_private.gather(-1, columns), columns, self.index.gather(-1, columns)
