"""Inboxes: the messages that receivers hold after one exchange."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


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

    Example:
        Agents 0 and 1 receive each other's vectors:

        >>> senders = torch.tensor([[0, 1], [0, 1]])
        >>> bounds = torch.tensor([0, 0])
        >>> inbox = Inbox(torch.eye(2), senders, senders, senders >= 0, torch.tensor([0, 1]), bounds, torch.eye(2))
        >>> inbox.n
        tensor([2, 2])
        >>> inbox.distinct()
        (tensor([0]), tensor([0, 0]))
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

    def select(self, rows: Tensor) -> Inbox:
        """Return the inboxes of some receivers, which are row indices or a mask."""
        by_receiver = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "base"}
        return replace(self, **{name: part[rows] for name, part in by_receiver.items() if part is not None})

    @property
    def n(self) -> Tensor:
        """Return the number of valid vectors of each receiver: int64 [R]."""
        return self.mask.sum(1)

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Group receivers with the same vectors and the same f, so that a rule can be computed once a group.

        Returns:
            first: int64 [G], the first receiver of each of the G groups.
            group: int64 [R], the group of each receiver.
        """
        valid_senders = torch.where(self.mask, self.senders, -1).cpu().numpy()
        groups: dict[tuple[bytes, int], int] = {}
        keys = zip((row.tobytes() for row in valid_senders), self.f.tolist(), strict=True)
        group = [groups.setdefault(key, len(groups)) for key in keys]
        return torch.from_numpy(np.unique(group, return_index=True)[1]), torch.tensor(group)
