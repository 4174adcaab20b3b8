"""Inboxes: the messages that receivers hold after one exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array
from byzbench.geometry.row_sets import RowLayout, RowSets

_BLOCK = 1 << 23
"""The largest number of coordinates, or of pairs, of the receivers that are aggregated at once: 64 MiB in float64."""

_FEW = 1 << 12
"""The largest number of messages of which the structure is remembered."""

Array: TypeAlias = npt.NDArray[Any]

Block: TypeAlias = tuple[Tensor, PairwiseDistances]
"""Some receivers int64 [R'], and the distances within each of their inboxes."""


@dataclass(frozen=True)
class Inbox:
    """Messages of one exchange, for R receivers of up to n vectors each.

    The vector in column j of receiver i is `base[senders[i, j]]`. A vector that several agents receive is stored once.
    Columns with a malformed, missing or absent message are masked.

    Attributes:
        base: float32 [M, d], the distinct vectors; all finite.
        senders: int64 [R, n], the row of `base` for each column.
        authors: int64 [R, n], the agent that sent each column.
        mask: bool [R, n], False where a column holds no vector.
        own: int64 [R], the column of each receiver's own vector; -1 for a server.
        f: int64 [R], the bound on the number of Byzantine vectors among the valid ones.
        sent: float32 [R, d], the vector that each receiver computed; None for a server.
        weights: float64 [R, n], the mixing weights of the graph; None for a server.
        receivers: int64 [R], the receiving agents; None for a server.
        age: int64 [R, n], rounds since each vector was sent; None if all are of this round.
        whole: The inboxes of all receivers of the exchange, and the rows of these ones in it; None if they are whole.
            Distances are those of the whole, so that they do not depend on who looks at them together.

    Example:
        Agents 0 and 1 receive each other's vectors:

        >>> senders = torch.tensor([[0, 1], [0, 1]])
        >>> bounds = torch.tensor([0, 0])
        >>> inbox = Inbox(torch.eye(2), senders, senders, senders >= 0, torch.tensor([0, 1]), bounds, torch.eye(2))
        >>> inbox.n
        tensor([2, 2])
        >>> inbox.distinct()
        (tensor([0]), tensor([0, 0]))
        >>> inbox.widths
        tensor([1.4142, 1.4142], dtype=torch.float64)
    """

    base: Tensor
    senders: Tensor
    authors: Tensor
    mask: Tensor
    own: Tensor
    f: Tensor
    sent: Tensor | None
    weights: Tensor | None = None
    receivers: Tensor | None = None
    age: Tensor | None = None
    whole: tuple[Inbox, Tensor] | None = None

    def select(self, rows: Tensor) -> Inbox:
        """Return the inboxes of some receivers, which are row indices or a mask."""
        by_receiver = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("base", "whole")}
        parts = {name: part[rows] for name, part in by_receiver.items() if part is not None}
        whole, numbers = (self, torch.arange(len(self.f))) if self.whole is None else self.whole
        return replace(self, **parts, whole=(whole, numbers[rows]))

    @cached_property
    def n(self) -> Tensor:
        """Return the number of valid vectors of each receiver: int64 [R]."""
        return self.mask.sum(1)

    @cached_property
    def unanimous(self) -> Tensor:
        """Return whether all valid vectors of each receiver are equal: bool [R]."""
        mask = self.mask.numpy()
        numbers = np.where(mask, _numbers(self.base)[self.senders.numpy()], -1)
        return torch.from_numpy(((numbers == numbers.max(1, keepdims=True)) | ~mask).all(1))

    def merge_equal(self, first: int) -> Inbox:
        """Return the same inboxes with equal vectors stored once, of the rows of the base from `first` on."""
        rows = _numbers(self.base[first:])
        if rows.max(initial=-1) == len(rows) - 1:
            return self
        position = np.concatenate([np.arange(first), first + rows])
        stored = torch.from_numpy(np.unique(position, return_index=True)[1])
        return replace(self, base=self.base[stored], senders=torch.from_numpy(position[self.senders.numpy()]))

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Group receivers with the same vectors and the same f, so that a rule can be computed once a group.

        Returns:
            first: int64 [G], the first receiver of each of the G groups.
            group: int64 [R], the group of each receiver.
        """
        return self._structure.groups

    @cached_property
    def widths(self) -> Tensor:
        """Return the diameter of the n - f messages of minimum diameter of each receiver: float64 [R]."""
        widths, n, d = [], self.senders.shape[1], self.base.shape[1]
        for receivers, pairs in self.distinct_blocks:
            widths.append(pairs.min_diameter_subsets(self.f[receivers])[1])
            if len(self.distinct_blocks) > 1:
                # Rules read distances again. Where they are no more than the vectors, all blocks can keep them.
                pairs.release(keep_distances=n * n <= d)
        return torch.cat(widths).to(self.base.device)[self._structure.groups[1]]

    @cached_property
    def distinct_blocks(self) -> Sequence[Block]:
        """Return the first receivers of all groups, in blocks of bounded memory.

        Whoever needs distances within these inboxes, the width or a rule, reads the same ones.
        """
        return self._blocks(self._structure.groups[0])

    @property
    def blocks(self) -> Sequence[Block]:
        """Return all receivers, in blocks of bounded memory."""
        first, group = self._structure.groups
        return self.distinct_blocks if len(first) == len(group) else self._blocks(torch.arange(len(group)))

    def _blocks(self, receivers: Tensor) -> Sequence[Block]:
        n, d = self.senders.shape[1], self.base.shape[1]
        whole, numbers = (self, torch.arange(len(self.f))) if self.whole is None else self.whole
        group = whole._structure.groups[1][numbers]
        parts = receivers.split(max(1, _BLOCK // (n * max(n, d))))
        return [(part, whole._row_sets.select(group[part])) for part in parts]

    @cached_property
    def _row_sets(self) -> RowSets:
        """Return the vectors of each group of receivers."""
        return RowSets(self.base, self._structure.rows)

    @cached_property
    def _structure(self) -> _Structure:
        """Return what does not depend on the vectors: with few messages, it is often that of the last exchange."""
        num_rows, shape = len(self.base), (len(self.mask), self.mask.shape[1])
        senders, mask, own, f = (part.numpy() for part in (self.senders, self.mask, self.own, self.f))
        if mask.size > _FEW:
            return _Structure(num_rows, senders, mask, own, f)
        return _recall_structure(num_rows, shape, senders.tobytes(), mask.tobytes(), own.tobytes(), f.tobytes())


class _Structure:
    """Groups of receivers with the same vectors, and the rows of each group.

    Args:
        num_rows: M, the number of distinct vectors.
        senders: int64 [R, n], as in `Inbox`, like the following.
        mask: bool [R, n].
        own: int64 [R].
        f: int64 [R].
    """

    def __init__(self, num_rows: int, senders: Array, mask: Array, own: Array, f: Array) -> None:
        self._num_rows, self._senders, self._mask, self._own, self._f = num_rows, senders, mask, own, f

    @cached_property
    def groups(self) -> tuple[Tensor, Tensor]:
        """Return `Inbox.distinct`."""
        groups, first, group = dict[tuple[bytes, int], int](), list[int](), list[int]()
        valid_senders = np.where(self._mask, self._senders, -1)
        for receiver, (senders, f) in enumerate(zip(valid_senders, self._f.tolist(), strict=True)):
            number = groups.setdefault((senders.tobytes(), f), len(first))
            if number == len(first):
                first.append(receiver)
            group.append(number)
        return torch.tensor(first), torch.tensor(group)

    @cached_property
    def rows(self) -> RowLayout:
        """Return the rows of each group.

        In an empty inbox all columns count: invalid messages are zeros in the base, so its width is zero. Own vectors
        are the candidates for the centre, as no other agent crafts them.
        """
        first, own = self.groups[0].numpy(), self._own
        receivers = np.flatnonzero((own >= 0) & self._mask[np.arange(len(own)), own])
        own_rows = self._senders[receivers, own[receivers]]
        mask = self._mask | ~self._mask.any(1, keepdims=True)
        return RowLayout(self._num_rows, self._senders[first], mask[first], own_rows)


@lru_cache(maxsize=8)
def _recall_structure(
    num_rows: int, shape: tuple[int, int], senders: bytes, mask: bytes, own: bytes, f: bytes
) -> _Structure:
    """Return the structure of messages whose arrays have these bytes."""
    return _Structure(
        num_rows,
        np.frombuffer(senders, np.int64).reshape(shape),
        np.frombuffer(mask, np.bool_).reshape(shape),
        np.frombuffer(own, np.int64),
        np.frombuffer(f, np.int64),
    )


def _numbers(rows: Tensor) -> npt.NDArray[np.int64]:
    """Return a number for each row [M, d], int64 [M]: 0, 1, .. in the order of first occurrence, the same if equal."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in to_array(rows)], np.int64)
