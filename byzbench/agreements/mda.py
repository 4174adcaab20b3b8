"""Averaging agreement by minimum-diameter averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.mda import Mda
from byzbench.agreements._iterated import Iterated
from byzbench.contracts import Aggregator
from byzbench.geometry.subsets import narrowest

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.federation.inbox import Inbox


@dataclass(frozen=True)
class MdaAgreement(Iterated):
    """Iterates minimum-diameter averaging: the mean of the n - f messages that lie closest together.

    On a complete graph in lock step, equivocation allowed, one exchange brings honest agents to within 3f / (n - f) of
    their old diameter and moves them at most 2f / (n - f) of it away from their mean, so it contracts if n > 4f.

    Source: El-Mhamdi et al., 2021, arXiv 2008.00742 (asynchronous, n >= 6f + 1); the synchronous bound is derived
    by the same counting of shared vectors.

    Differs from the source in: lock step instead of asynchrony; an agent stops when its own inbox is narrow, or at a
    cap, instead of after a number of rounds that depends on the wanted contraction.
    """

    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    requires: ClassVar[str] = "n > 4f"

    stop: Annotated[
        Literal["own", "observer"],
        Field(
            description="who ends an agreement: own: each agent, by its own inbox; observer: the code's habit (Q9), by "
            "a look at everything that was sent to everybody, liars' messages included, which nobody can have"
        ),
    ] = "own"

    @property
    def rule(self) -> Aggregator:
        """Minimum-diameter averaging."""
        return Mda()

    def width(self, fed: Federation, inbox: Inbox) -> Tensor:
        """The agent's own view, or the observer's.

        The observer takes all that a sender sent as one matrix [receivers, d], and the spectral norm of a difference
        of two as their distance: sqrt(K) times the Euclidean one where nobody equivocates.
        """
        if self.stop == "own" or not inbox.mask.all():
            return super().width(fed, inbox)
        sent = inbox.base[inbox.senders].double().transpose(0, 1)
        first, second = torch.triu_indices(len(sent), len(sent), offset=1)
        distances = torch.zeros(len(sent), len(sent), dtype=torch.float64, device=sent.device)
        apart = sent[first] - sent[second]
        distances[first, second] = torch.linalg.eigvalsh(apart @ apart.mT)[:, -1].clamp_min(0).sqrt()
        distances += distances.T.clone()
        everyone = torch.ones(len(sent), dtype=torch.bool, device=sent.device)
        return narrowest(distances, everyone, inbox.f[0])[1].expand(len(inbox.f))

    def contracts(self, n: int, f: int) -> bool:
        """N > 4f."""
        return n > 4 * f

    def share(self, n: int, f: int) -> float | None:
        """3f / (n - f): two subsets of n - f share all but what liars put in, at most 3f pairs of Delta in all."""
        return 3 * f / (n - f)
