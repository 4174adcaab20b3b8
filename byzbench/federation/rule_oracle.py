"""A clone of the aggregation rule, on which an attack evaluates candidate messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator, Inbox, RuleContext, State
from byzbench.errors import UndeclaredKnowledge

_BLOCK = 1 << 23
"""The largest number of coordinates in the inboxes that are aggregated at once."""


class ClonedRule:
    """Clone of the rule of one honest receiver, evaluated on candidate messages of the Byzantine agents.

        value = context.rule(messages)         messages [..., f, d] -> value [..., d]

    Its inbox holds the real messages of the honest agents. The rule has a copy of its state after the last exchange and
    a generator of its own. The real draws of a random rule are not revealed, but every call uses the same draws, so the
    value depends only on the candidate messages. Malformed candidates are removed as in the federation. If the rule is
    undefined for the remaining messages, the value is the receiver's own vector, and NaN for a server.

    Attributes:
        receiver: the receiving agent; a server has the number K.
        calls: the number of candidates that may be evaluated in this exchange; each row of a batch counts as one.

    Example:
        A median over three vectors, of which the last is Byzantine:

        >>> from byzbench import registry
        >>> clone = ClonedRule(
        ...     rule=registry.make("aggregator", "median"),
        ...     inbox=torch.tensor([[0.0], [1.0], [2.0]]),
        ...     candidate_rows=torch.tensor([-1, -1, 0]),
        ...     bound=1,
        ...     receiver=0,
        ...     calls=2,
        ...     rng=lambda: np.random.default_rng(0),
        ...     own=0,
        ... )
        >>> clone(torch.tensor([[[100.0]], [[-100.0]]])).tolist()
        [[1.0], [0.0]]
    """

    def __init__(
        self,
        rule: Aggregator,
        inbox: Tensor,
        candidate_rows: Tensor,
        bound: int,
        *,
        receiver: int,
        calls: int,
        rng: Callable[[], np.random.Generator],
        own: int = -1,
        weights: Tensor | None = None,
        state: State | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Make the clone of a rule at one receiver.

        Args:
            rule: the aggregation rule.
            inbox: [n, d], the receiver's inbox, with the honest vectors of the Byzantine agents.
            candidate_rows: int64 [n], the row of the candidate messages for each column; -1 for an honest agent.
            bound: the bound on the number of Byzantine messages among the n.
            receiver: the receiving agent, or K for a server.
            calls: the number of candidates that may be evaluated.
            rng: returns the generator of the rule in its initial state.
            own: the column of the receiver's own vector; -1 for a server.
            weights: float64 [n], the mixing weights of the receiver; None for a server.
            state: the state of the rule at this receiver, without the receiver dimension.
            batch_size: the number of episodes of each vector; None if it is not known.
        """
        self.receiver, self.calls = receiver, calls
        self._rule, self._inbox, self._bound, self._own = rule, inbox, bound, own
        self._weights, self._state, self._rng, self._left = weights, state or {}, rng, calls
        self._batch_size = batch_size
        self._honest = candidate_rows < 0
        self._columns = (candidate_rows >= 0).nonzero().squeeze(1)
        self._rows = candidate_rows[self._columns]

    def __call__(self, messages: Tensor) -> Tensor:
        """Aggregate the inbox with candidate messages in place of those of the Byzantine agents.

        Args:
            messages: [..., f, d], one candidate in each leading index.

        Returns:
            The values [..., d] in the dtype of the vectors of the exchange.

        Raises:
            UndeclaredKnowledge: more candidates were evaluated than the threat model declares.
        """
        candidates = messages.reshape(-1, *messages.shape[-2:])
        if len(candidates) > self._left:
            raise UndeclaredKnowledge(
                f"an attack evaluated more candidates on context.rule than declared: calls={self.calls} an exchange"
            )
        self._left -= len(candidates)
        blocks = candidates.split(max(1, _BLOCK // self._inbox.numel()))
        return torch.cat([self._evaluate(block) for block in blocks]).view(*messages.shape[:-2], -1)

    def _evaluate(self, messages: Tensor) -> Tensor:
        """Return the values [m, d] for m candidates [m, f, d]."""
        inbox = self._inbox_of(messages)
        counts = zip(inbox.n.tolist(), inbox.f.tolist(), strict=True)
        usable = torch.tensor([n > 0 and bool(self._rule.defined(n, bound)) for n, bound in counts])
        if usable.all():
            return self._apply(inbox)
        fallback = self._inbox[self._own] if self._own >= 0 else torch.full_like(self._inbox[0], torch.nan)
        value = fallback.expand(len(messages), -1).clone()
        if usable.any():
            value[usable] = self._apply(inbox.select(usable))
        return value

    def _inbox_of(self, messages: Tensor) -> Inbox:
        """Return m inboxes that have the honest vectors in common, one for each candidate [m, f, d]."""
        (count, f, d), n = messages.shape, len(self._inbox)
        base = torch.cat([self._inbox, messages.reshape(-1, d).to(self._inbox)])
        finite = base.isfinite().all(-1)
        senders = torch.arange(n).repeat(count, 1)
        senders[:, self._columns] = n + torch.arange(count).unsqueeze(1) * f + self._rows
        mask = finite[senders]
        return Inbox(
            base if finite.all() else base.masked_fill(~finite.unsqueeze(-1), 0.0),
            senders,
            senders,
            mask,
            own=torch.full((count,), self._own),
            f=(self._bound - (~mask).sum(-1)).clamp(min=0),
            sent=None,
            weights=None if self._weights is None else self._weights.expand(count, -1),
        )

    def _apply(self, inbox: Inbox) -> Tensor:
        """Apply the rule to m inboxes at which it is defined: [m, d]."""
        values = []
        for receivers, pairs in inbox.blocks:
            count = len(receivers)
            context = RuleContext(
                mask=inbox.mask[receivers],
                own=inbox.own[receivers],
                weights=None if inbox.weights is None else inbox.weights[receivers],
                state={name: part.expand(count, *part.shape).clone() for name, part in self._state.items()},
                rng=self._rng(),
                honest=self._honest.expand(count, -1) if "honest" in self._rule.required_inputs else None,
                batch_size=None if self._batch_size is None else torch.full((count,), self._batch_size),
                distances=pairs,
            )
            values.append(self._rule.aggregate(inbox.base[inbox.senders[receivers]], inbox.f[receivers], context).value)
        return torch.cat(values)


def cloneable(rules: Mapping[str, Aggregator]) -> str | None:
    """Return why one of the rules cannot be cloned, or None if all can.

    Args:
        rules: the rule of each topic.
    """
    for topic, rule in rules.items():
        if "evaluator" in rule.required_inputs:
            return f"{type(rule).__name__}, the rule for the topic {topic}, evaluates policies in the environment"
    return None
