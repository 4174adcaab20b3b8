"""ByzPG: Byzantine-tolerant policy gradients with a trusted server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from byzbench.algorithms._official import OFFICIAL, OFFICIAL_RFA
from byzbench.algorithms._page import ServerPage
from byzbench.algorithms._recommended import FEDERATED
from byzbench.contracts import Range, Recommendation, State
from byzbench.errors import InvalidParameter

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation


@dataclass(frozen=True)
class ByzPG(ServerPage):
    """Federated policy gradients with a trusted server that aggregates robustly.

    Each round t:

        c_t     = 1 if t = 0, else Bernoulli(p)
        v~_t^k  = PAGE estimate of agent k at theta_t with reference v_{t-1}     (large batch N if c_t, else B)
        v_t     = Aggregate(v~_t^1, ..., v~_t^K), at the server, which tells everybody
        theta_{t+1} = theta_t + eta v_t

    With `agg_on=differences` a small batch's message is what it adds to v_{t-1}, which the server knows:

        v_t     = v_{t-1} + Aggregate(clip(v~_t^1 - v_{t-1}), ..., clip(v~_t^K - v_{t-1})),
        clip(x) = x min(1, alpha ||theta_t - theta_{t-1}|| / ||x||)

    so that a liar can say little while the policy moves little. Without `clip` it is the same for every rule that moves
    with its inputs; rules that look at lengths from zero, as `cge` or `centered_clipping` do, see them without the part
    that all have in common.

    Source: Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489; for differences, Gorbunov, Horvath, Richtarik,
    Gidel 2023, arXiv 2206.00529 (Byz-VR-MARINA), and for their clipping, Malinovsky, Richtarik, Horvath, Gorbunov 2024,
    arXiv 2311.14127 (Byz-VR-MARINA-PP).

    Differs from the source in: Adam on the aggregate by default, as in the authors' code (`optimizer=sgd` is the
    pseudo-code's step). The code's server is the last agent (Q10), which comes to the same.
    """

    agg_on: Annotated[
        Literal["vectors", "differences"], Field(description="what the server aggregates in rounds of small batches")
    ] = "vectors"
    clip: Annotated[
        float | None,
        Field(gt=0, description="alpha: differences are cut to so many steps' length; None: they are not"),
        Range(1, 1e4, log=True),
    ] = None

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (ByzPG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = FEDERATED
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"algorithm": OFFICIAL, "aggregator": OFFICIAL_RFA},
    }

    def __post_init__(self) -> None:
        """Refuse differences to what the server does not know."""
        super().__post_init__()
        if self.agg_on == "differences" and self.reference == "local":
            raise InvalidParameter("ByzPG: agg_on=differences needs reference=aggregated: the server knows no other")

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """As all with a server; or with differences in the place of small batches' vectors."""
        if self.agg_on == "vectors":
            return await super().round(fed, state)
        nothing = torch.zeros_like(state["reference"])
        message, large = await self.estimate(fed, {**state, "reference": nothing})
        inbox = await fed.gather("gradient", message)
        if self.clip and not large.all():
            longest = self.clip * (state["theta"] - state["previous"])[:1].norm(dim=1, keepdim=True)
            lengths = inbox.base.norm(dim=1, keepdim=True)
            inbox = replace(inbox, base=inbox.base * (longest / lengths).nan_to_num(1.0).clamp(max=1))
        value, state = fed.aggregate(inbox, state)
        told = await fed.broadcast("direction", value)
        known = torch.where(large.unsqueeze(1).to(told.device), nothing, state["reference"])
        return self.step(fed, told + known, message, state), {"large": float(large[0])}
