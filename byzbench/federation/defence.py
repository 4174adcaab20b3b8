"""A clone of the rule that liars are up against, for them to try their lies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator, State
from byzbench.errors import UndeclaredKnowledge

_BLOCK = 1 << 23
"""Numbers in the inboxes that are tried at once."""


class Defence:
    """What one honest receiver would make of this exchange, for any words of the liars.

        value = view.defence(lies)         lies [..., f, d] -> value [..., d]

    It hears what honest agents really say. The rule has a copy of its state as it was after the last exchange, and
    draws of its own: a random rule's real ones are not foreseen, but each call meets the same ones, so that the value
    depends on the lies alone. Messages are screened as the federation does; where the rule is not defined for what is
    left, the receiver keeps its own vector, and a server's value is NaN.

    Attributes:
        receiver: the agent who hears; a server is K.
        calls: how many lies may be tried in this exchange; each row of a batch is one.
    """

    def __init__(
        self,
        rule: Aggregator,
        inbox: Tensor,
        seats: Tensor,
        bound: int,
        *,
        receiver: int,
        calls: int,
        rng: Callable[[], np.random.Generator],
        own: int = -1,
        weights: Tensor | None = None,
        state: State | None = None,
    ) -> None:
        """The receiver's inbox [n, d], with the liars' honest words, and the rest as a rule is given it.

        Args:
            rule: the rule.
            inbox: [n, d].
            seats: int64 [n], which row of `lies` stands in each column; -1 where an honest agent does.
            bound: how many of the n may be faulty.
            receiver: see the class.
            calls: see the class.
            rng: the rule's generator, from its beginning.
            own: the receiver's column; -1 for a server.
            weights: [n].
            state: of this receiver, without its dimension.
        """
        self.receiver, self.calls = receiver, calls
        self._rule, self._inbox, self._bound, self._own = rule, inbox, bound, own
        self._weights, self._state, self._rng, self._left = weights, state or {}, rng, calls
        self._honest = seats < 0
        self._columns = (seats >= 0).nonzero().squeeze(1)
        self._rows = seats[self._columns]

    def __call__(self, lies: Tensor) -> Tensor:
        """The values of lies [..., f, d]: [..., d] in the dtype of the vectors of the exchange."""
        tries = lies.reshape(-1, *lies.shape[-2:])
        if len(tries) > self._left:
            raise UndeclaredKnowledge(
                f"an attack tried more lies on view.defence than its threat declares: calls={self.calls} an exchange"
            )
        self._left -= len(tries)
        blocks = tries.split(max(1, _BLOCK // self._inbox.numel()))
        return torch.cat([self._hear(block) for block in blocks]).view(*lies.shape[:-2], -1)

    def _hear(self, lies: Tensor) -> Tensor:
        x = self._inbox.expand(len(lies), -1, -1)
        x = x.index_copy(1, self._columns, lies.index_select(1, self._rows).to(x))
        mask = x.isfinite().all(-1)
        if not mask.all():
            x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        f = (self._bound - (~mask).sum(-1)).clamp(min=0)
        counts = zip(mask.sum(-1).tolist(), f.tolist(), strict=True)
        usable = torch.tensor([bool(self._rule.defined(n, bound)) for n, bound in counts])
        if usable.all():
            return self._apply(x, mask, f)
        kept = self._inbox[self._own] if self._own >= 0 else torch.full_like(self._inbox[0], torch.nan)
        value = kept.expand(len(lies), -1).clone()
        if usable.any():
            value[usable] = self._apply(x[usable], mask[usable], f[usable])
        return value

    def _apply(self, x: Tensor, mask: Tensor, f: Tensor) -> Tensor:
        tries = len(x)
        asked: dict[str, Any] = {"honest": self._honest.expand(tries, -1)} if "honest" in self._rule.asks else {}
        return self._rule(
            x,
            f,
            mask=mask,
            own=torch.full((tries,), self._own),
            weights=None if self._weights is None else self._weights.expand(tries, -1),
            state={name: part.expand(tries, *part.shape).clone() for name, part in self._state.items()},
            rng=self._rng(),
            **asked,
        )[0]


def cloneable(rules: Mapping[str, Aggregator]) -> str | None:
    """Why one of the rules that liars meet cannot be cloned, or None."""
    for topic, rule in rules.items():
        if "judge" in rule.asks:
            return f"{type(rule).__name__}, the rule for the topic {topic}, tries policies out in the environment"
    return None
