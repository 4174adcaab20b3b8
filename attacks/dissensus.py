"""Dissensus: liars who cancel what honest neighbours would learn from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from byzbench.attacks._graph import Gossiping, shares
from byzbench.contracts import Range

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Dissensus(Gossiping):
    """All liars tell agent i the vector that undoes its step towards its honest neighbours.

        m[i] = x[i] - eps * sum_{j in H_i} W_ij (x[j] - x[i]) / sum_{j in A_i} W_ij

    x [h, d] the honest vectors, H_i and A_i the honest agents and the liars among i's neighbours, W the gossip weights
    (Metropolis). With eps = 1 the step x[i] + sum_j W_ij (m_j - x[i]) returns x[i] itself; more drives agents apart.

    Source: He, Karimireddy, Jaggi 2022, arXiv 2202.01545.
    """

    source: ClassVar[str] = "He et al. 2022, arXiv 2202.01545"
    epsilon: Annotated[
        float, Field(gt=0, description="share of the honest pull that is undone"), Range(0.1, 10, log=True)
    ] = 1.0

    def words(self, view: View) -> Tensor:
        """See `Gossiping.words`."""
        x = view.honest.double()
        between, ours = shares(view)
        pull = between @ x - between.sum(1, keepdim=True) * x
        return x - self.epsilon * pull / ours.unsqueeze(1)
