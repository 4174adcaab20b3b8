"""What receivers hear in one exchange."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Inbox:
    """The messages of one exchange, R receivers of up to n vectors each.

    A vector that several agents hear stands once, in `base`. What was screened out or never sent is masked.

    Attributes:
        base: float32 [M, d], finite.
        senders: int64 [R, n], rows of `base`.
        authors: int64 [R, n], who says it.
        mask: bool [R, n].
        own: int64 [R], each receiver's own column; -1 for a server.
        f: int64 [R], how many of the vectors that are left may be faulty.
        sent: float32 [R, d], what each receiver itself computed; None for a server.
        weights: float64 [R, n], mixing weights of the graph; None for a server.
        receivers: int64 [R], who they are; None for a server.
        age: int64 [R, n], rounds since it was sent; None where all is of this round.
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

    def of(self, rows: Tensor) -> Inbox:
        """The same exchange as these receivers hear it."""
        picked = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "base"}
        return replace(self, **{name: part[rows] for name, part in picked.items() if part is not None})

    @property
    def n(self) -> Tensor:
        """[R] how many vectors each receiver holds."""
        return self.mask.sum(1)

    def distinct(self) -> tuple[Tensor, Tensor]:
        """Receivers that hear different things: first [R'] of each kind, and kind [R] of every receiver."""
        heard = torch.where(self.mask, self.senders, -1).cpu().numpy()
        seen: dict[tuple[bytes, int], int] = {}
        keys = zip((row.tobytes() for row in heard), self.f.tolist(), strict=True)
        kind = [seen.setdefault(key, len(seen)) for key in keys]
        return torch.from_numpy(np.unique(kind, return_index=True)[1]), torch.tensor(kind)
