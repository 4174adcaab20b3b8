"""Averaging agreement by minimum-diameter averaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.aggregators.mda import Mda
from byzbench.core import Aggregator
from byzbench.core.iterated_agreement import IteratedAgreement
from byzbench.geometry.subsets import min_diameter_subsets

if TYPE_CHECKING:
    from byzbench.core import Federation, Inbox


@dataclass(frozen=True)
class MdaAgreement(IteratedAgreement):
    """Iterated minimum-diameter averaging: the mean of the n - f messages of least diameter.

    On a complete graph in lock step, with equivocation, one exchange brings honest agents to within 3f / (n - f) of
    their previous diameter. It moves them by at most 2f / (n - f) of it away from their mean. So it contracts if n >
    4f. Where agents wait for n - f messages, it needs n > 6f.

    Source: El-Mhamdi et al., 2021, arXiv 2008.00742 (asynchronous, n >= 6f + 1); the synchronous bound is derived by
    the same counting of shared vectors.

    Differs from the source in: lock step instead of asynchrony; a fixed number of exchanges, which an agent ends early
    only when it sees that all agree, instead of one that depends on the desired contraction.
    """

    version: ClassVar[int] = 2
    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742"
    requires: ClassVar[str] = "n > 4f"
    quorum_multiple: ClassVar[int] = 6

    stop: Annotated[
        Literal["own", "observer"],
        Field(
            description="how an agreement ends: own: each agent stops by its own inbox, if all messages are equal; "
            "observer: as in the official code (Q9), once n - f messages are within `tolerance`, seen by all messages "
            "to all agents, Byzantine ones included, which no agent can know"
        ),
    ] = "own"

    @property
    def rule(self) -> Aggregator:
        """Return minimum-diameter averaging."""
        return Mda()

    def width(self, fed: Federation, inbox: Inbox) -> Tensor:
        """Return the diameter of each agent's inbox, or that of the observer.

        The observer takes all messages of a sender as one matrix [receivers, d], and the spectral norm of a difference
        of two matrices as their distance: sqrt(K) times the Euclidean distance where no agent equivocates.
        """
        if not self._observed(inbox):
            return super().width(fed, inbox)
        sent = inbox.base[inbox.senders].double().transpose(0, 1)
        first, second = torch.triu_indices(len(sent), len(sent), offset=1)
        distances = torch.zeros(len(sent), len(sent), dtype=torch.float64, device=sent.device)
        differences = sent[first] - sent[second]
        distances[first, second] = torch.linalg.eigvalsh(differences @ differences.mT)[:, -1].clamp_min(0).sqrt()
        distances += distances.T.clone()
        all_valid = torch.ones(len(sent), dtype=torch.bool, device=sent.device)
        return min_diameter_subsets(distances, all_valid, inbox.f[0])[1].expand(len(inbox.f))

    def can_stop(self, fed: Federation, inbox: Inbox) -> Tensor:
        """Return which agents may stop: by their own inboxes, or all of them by the observer's width."""
        return self.width(fed, inbox) < self.tolerance if self._observed(inbox) else super().can_stop(fed, inbox)

    def _observed(self, inbox: Inbox) -> bool:
        """Return whether an observer ends the agreement; where messages are missing, agents do."""
        return self.stop == "observer" and bool(inbox.mask.all())

    def contracts(self, n: int, f: int) -> bool:
        """Return whether n > 4f."""
        return n > 4 * f

    def contraction_factor(self, n: int, f: int) -> float | None:
        """Return 3f / (n - f) where n > 4f.

        Two subsets of n - f messages share all but the Byzantine ones: at most 3f pairs differ, each by at most the
        diameter.
        """
        return 3 * f / (n - f) if self.contracts(n, f) else None
