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


class RowLayout:
    """The rows of R sets of up to n rows of a matrix, and what several sets share.

    A *shared* row is in several sets, a *private* one in one set. The products of shared rows form one matrix. Those of
    a set's private rows are computed for this set alone. If sets have little in common, as on sparse graphs, each of
    them has a matrix of its own.

    Args:
        num_rows: M, the number of rows of the matrix.
        index: int64 [R, n], the row of each column.
        mask: bool [R, n], False where a column holds no row.
        centres: int64 [m], the rows that may be the centre of the shared products: the shortest of them, in each block
            of coordinates. If there is none, all that are in a set. The centre of a set need not be among its rows.

    Attributes:
        shares_products: whether there is a matrix of products of shared rows.
        has_private: whether some row is private.
        shared: int64 [S], the shared rows.
        centres: int64 [m], the rows that may be the centre.
    """

    def __init__(self, num_rows: int, index: Array, mask: Array, centres: Array | None = None) -> None:
        self.num_rows, self.index, self.mask = num_rows, index, mask
        sets, n = index.shape
        counts = np.bincount(index[mask], minlength=num_rows)
        used = np.flatnonzero(counts)
        centres = used if centres is None or not len(centres) else np.unique(centres)
        separate_cost = 2 * sets * n * n
        shared = used if len(used) ** 2 <= separate_cost else np.flatnonzero(counts > 1)
        self.shares_products = 0 < len(shared) * len(used) <= separate_cost
        self._is_shared = np.zeros(num_rows, np.bool_)
        self._is_shared[shared] = True
        self.has_private = len(shared) < len(used)
        self.shared, self.centres = torch.from_numpy(shared), torch.from_numpy(centres)
        self._everything = torch.arange(sets)

    @cached_property
    def position(self) -> Array:
        """Return the number of each row among the shared ones, int64 [M]; another number for private rows."""
        return np.maximum(self._is_shared.cumsum() - 1, 0)

    def columns(self, sets: Tensor) -> Columns:
        """Return the columns of some of the sets, given by their numbers [R']."""
        return self._all_columns if torch.equal(sets, self._everything) else self._columns(sets.numpy())

    @cached_property
    def _all_columns(self) -> Columns:
        return self._columns(slice(None))

    def _columns(self, sets: Array | slice) -> Columns:
        index, mask = self.index[sets], self.mask[sets]
        shared_mask = mask & self._is_shared[index] if self.has_private else mask
        return Columns(*(torch.from_numpy(part) for part in (index, mask, self.position[index], shared_mask)))


@dataclass(frozen=True)
class Columns:
    """The columns of R sets.

    Attributes:
        index: int64 [R, n], the row of each column.
        mask: bool [R, n], the valid columns.
        position: int64 [R, n], the number of each row among the shared ones; another number for private rows.
        shared_mask: bool [R, n], the valid columns whose row is shared.
    """

    index: Tensor
    mask: Tensor
    position: Tensor
    shared_mask: Tensor


class RowSets:
    """Sets of rows of a matrix, and the inner products of these rows.

    Args:
        base: [M, d], the matrix; rows that are in a set are finite.
        layout: the rows of each set.

    Example:
        >>> base = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]])
        >>> index = np.array([[0, 1], [0, 2]])
        >>> RowSets(base, RowLayout(3, index, index >= 0)).select(torch.arange(2)).distances[:, 0, 1]
        tensor([5., 1.], dtype=torch.float64)
    """

    def __init__(self, base: Tensor, layout: RowLayout) -> None:
        self.base, self.layout = base, layout

    def select(self, sets: Tensor) -> PairwiseDistances:
        """Return the distances within some of the sets, given by their numbers [R']."""
        columns = self.layout.columns(sets)
        if not self.layout.shares_products:
            return _Separate(self.base, columns.index, columns.mask)
        within_shared = self._shared.select(columns.position, columns.shared_mask)
        return _WithPrivate(self, within_shared, columns) if self.layout.has_private else within_shared

    @cached_property
    def origin(self) -> Tensor:
        """Return the centre of the shared products: [1, d]."""
        parts = coordinate_blocks(self.base[self.layout.centres])
        return torch.cat([part[torch.linalg.vector_norm(part.double(), dim=-1).argmin()] for part in parts])[None]

    @cached_property
    def shared_rows(self) -> Tensor:
        """Return the shared rows, [S, d]."""
        return self.base if len(self.layout.shared) == len(self.base) else self.base[self.layout.shared]

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
        columns: the columns of these sets.
    """

    sets: RowSets
    shared: PairwiseDistances
    columns: Columns

    @property
    def mask(self) -> Tensor:  # type: ignore[override]
        return self.columns.mask

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
        products = to_shared.view(*rows.shape, -1).take_along_dim(self.columns.position.unsqueeze(-2), -1)
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
        return is_private.gather(-1, columns), columns, self.columns.index.gather(-1, columns)
