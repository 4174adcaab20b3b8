"""Inboxes: the messages that receivers hold after one exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from byzbench.geometry.pairwise_distances import PairwiseDistances, to_array
from byzbench.geometry.row_sets import RowSets

_BLOCK = 1 << 23
"""The largest number of coordinates, or of pairs, of the receivers that are aggregated at once: 64 MiB in float64."""

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
        return self._groups

    @cached_property
    def _groups(self) -> tuple[Tensor, Tensor]:
        """Return `distinct`, which is computed once."""
        valid_senders = np.where(self.mask.numpy(), self.senders.numpy(), -1)
        groups: dict[tuple[bytes, int], int] = {}
        keys = zip((row.tobytes() for row in valid_senders), self.f.tolist(), strict=True)
        group = [groups.setdefault(key, len(groups)) for key in keys]
        return torch.from_numpy(np.unique(group, return_index=True)[1]), torch.tensor(group)

    @cached_property
    def widths(self) -> Tensor:
        """Return the diameter of the n - f messages of minimum diameter of each receiver: float64 [R]."""
        widths = []
        for receivers, pairs in self.distinct_blocks:
            widths.append(pairs.min_diameter_subsets(self.f[receivers])[1])
            if len(self.distinct_blocks) > 1:
                pairs.release()
        return torch.cat(widths).to(self.base.device)[self._groups[1]]

    @cached_property
    def distinct_blocks(self) -> Sequence[Block]:
        """Return the first receivers of all groups, in blocks of bounded memory.

        Whoever needs distances within these inboxes, the width or a rule, reads the same ones.
        """
        return self._blocks(self._groups[0])

    @property
    def blocks(self) -> Sequence[Block]:
        """Return all receivers, in blocks of bounded memory."""
        first, group = self._groups
        return self.distinct_blocks if len(first) == len(group) else self._blocks(torch.arange(len(group)))

    def _blocks(self, receivers: Tensor) -> Sequence[Block]:
        n, d = self.senders.shape[1], self.base.shape[1]
        whole, numbers = (self, torch.arange(len(self.f))) if self.whole is None else self.whole
        group = whole._groups[1][numbers]
        parts = receivers.split(max(1, _BLOCK // (n * max(n, d))))
        return [(part, whole._row_sets.select(group[part])) for part in parts]

    @cached_property
    def _row_sets(self) -> RowSets:
        """Return the vectors of each group of receivers.

        In an empty inbox all columns count: invalid messages are zeros in the base, so its width is zero. Own vectors
        are the candidates for the centre, as no other agent crafts them.
        """
        first = self._groups[0].numpy()
        senders, mask, own = self.senders.numpy(), self.mask.numpy(), self.own.numpy()
        receivers = np.flatnonzero((own >= 0) & mask[np.arange(len(own)), own])
        own_rows = senders[receivers, own[receivers]]
        mask = mask | ~mask.any(1, keepdims=True)
        return RowSets(self.base, senders[first], mask[first], own_rows)


def _numbers(rows: Tensor) -> npt.NDArray[np.int64]:
    """Return a number for each row [M, d], int64 [M]: 0, 1, .. in the order of first occurrence, the same if equal."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in to_array(rows)], np.int64)
