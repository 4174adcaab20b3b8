"""The mean of the honest vectors: what the best possible defence would return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from byzbench.contracts import LinearRule, State
from byzbench.errors import Undefined
from byzbench.geometry.cloud import Cloud, even


@dataclass(frozen=True)
class HonestMean(LinearRule):
    """The average of the valid vectors whose senders are honest, which the rule is told.

    Formula: value = (1/|H|) sum_{i in H} x_i, H the honest senders. A receiver with no vector of an honest sender, as a
    Byzantine agent among Byzantine agents, averages all valid vectors.

    No agent can know H: the rule stands for the best that a defence can do, and is the unit of the leaderboards. In an
    agreement it is `gossip+honest_mean`; on graphs that are not complete, several exchanges bring agents together:
    `gossip(honest_mean, exchanges=8)`.

    Source: the target of (f, kappa)-robustness, Allouah et al. 2023, arXiv 2302.01772, definition 2.

    Example:
        >>> import torch
        >>> x = torch.tensor([[1.0], [3.0], [100.0]])
        >>> HonestMean()(x, 1, honest=torch.tensor([True, True, False]))[0]
        tensor([2.])
    """

    source: ClassVar[str] = "Allouah et al. 2023, arXiv 2302.01772, definition 2"
    cost: ClassVar[str] = "n d"
    requires: ClassVar[str] = "n >= 1"
    asks: ClassVar[frozenset[str]] = frozenset({"honest"})

    def weigh(self, cloud: Cloud, f: Tensor, *, honest: Tensor | None = None, **unused: Any) -> tuple[Tensor, State]:
        """Give each valid vector of an honest sender the same weight.

        Raises:
            Undefined: the caller does not say who is honest.
        """
        if honest is None:
            raise Undefined("honest_mean needs to be told who is honest")
        of_honest = cloud.mask & honest
        return even(of_honest.where(of_honest.any(-1, keepdim=True), cloud.mask)), {}
