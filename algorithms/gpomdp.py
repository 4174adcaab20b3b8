"""Federated GPOMDP: averaged REINFORCE gradients with reward-to-go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byzbench.core import Communication, FloatRange, State
from byzbench.core.policy_gradient import PolicyGradient

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class Gpomdp(PolicyGradient):
    """Federated policy gradients from one batch an agent and a mean at the server, without variance reduction.

        g_t^k = (1/N) sum_i sum_h grad log pi(a_h|s_h) sum_{j>=h} gamma^j r_j,    episodes i sampled at theta_t
        theta_{t+1} = theta_t + eta mean_k g_t^k

    Source: Baxter and Bartlett, Infinite-horizon policy-gradient estimation, 2001; the federated baseline of Fan et
    al., 2021, arXiv 2110.14074.

    Differs from the source in: no whitening of returns; Adam on the aggregate, as in the code of the latter.
    """

    source: ClassVar[str] = "Baxter and Bartlett 2001; Fan et al. 2021, arXiv 2110.14074 (GPOMDP)"
    communication: ClassVar[Communication] = Communication.SERVER
    unbiased: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "mean", "agreement": "none"}

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a batch"), FloatRange(4, 128, log=True)] = 50

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, gather, aggregate at the server, broadcast, and step."""
        batch = fed.sample(state["theta"], self.N)
        estimate = self.gradient(fed, state["theta"], batch)
        aggregate, state = fed.aggregate(await fed.gather("gradient", estimate), state)
        return self.ascend(fed, await fed.broadcast("direction", aggregate), state), {}
