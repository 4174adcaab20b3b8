"""ByzPG: Byzantine-tolerant policy gradients with a trusted server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from byzbench.algorithms._official import OFFICIAL_RFA
from byzbench.algorithms._recommended import PAGE
from byzbench.core import FloatRange, Recommendation, State
from byzbench.core.page import OFFICIAL, ServerPage
from byzbench.errors import InvalidParameter

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class ByzPG(ServerPage):
    """Federated policy gradients with a trusted server that aggregates robustly.

    Each round t:

        c_t     = 1 if t = 0, else Bernoulli(p)
        v~_t^k  = PAGE estimate of agent k at theta_t with reference v_{t-1}     (large batch N if c_t, else B)
        v_t     = Aggregate(v~_t^1, ..., v~_t^K), at the server, which broadcasts it
        theta_{t+1} = theta_t + eta v_t

    With `agg_on=differences` the message of a small batch is its difference to v_{t-1}, which the server knows:

        v_t     = v_{t-1} + Aggregate(clip(v~_t^1 - v_{t-1}), ..., clip(v~_t^K - v_{t-1})),
        clip(x) = x min(1, alpha ||theta_t - theta_{t-1}|| / ||x||)

    The clipping bounds a Byzantine message by the length of the last step. Without `clip` the result is the same for
    every translation-equivariant rule. Rules that use lengths from zero, as `cge` and `centered_clipping` do, see the
    lengths of the differences.

    Source: Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489; for differences, Gorbunov, Horvath, Richtarik,
    Gidel 2023, arXiv 2206.00529 (Byz-VR-MARINA), and for their clipping, Malinovsky, Richtarik, Horvath, Gorbunov 2024,
    arXiv 2311.14127 (Byz-VR-MARINA-PP).

    Differs from the source in: Adam on the aggregate by default, as in the authors' code (`optimizer=sgd` is the
    pseudo-code's step); the aggregator `rfa` by default, as in the authors' code, which does not meet the definition
    that the analysis requires (`--aggregator bucketing+rfa` and `trimmed_mean` do: see `decbyzpg`). The code's server
    is the last agent (Q10), which is equivalent.
    """

    agg_on: Annotated[
        Literal["vectors", "differences"], Field(description="what the server aggregates in rounds of small batches")
    ] = "vectors"
    clip: Annotated[
        float | None,
        Field(
            gt=0,
            description="alpha: differences are clipped to alpha times the length of the last step; None: not clipped",
        ),
        FloatRange(1, 1e4, log=True),
    ] = None

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (ByzPG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    recommended: ClassVar[Mapping[str, Recommendation]] = PAGE
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"algorithm": OFFICIAL, "aggregator": OFFICIAL_RFA},
    }

    def __post_init__(self) -> None:
        """Raise InvalidParameter where the server does not know the reference of the differences."""
        super().__post_init__()
        if self.agg_on == "differences" and self.reference == "local":
            raise InvalidParameter("ByzPG: agg_on=differences needs reference=aggregated: the server knows no other")

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Run the round of `ServerPage`, or the same with differences as the messages of small batches."""
        if self.agg_on == "vectors":
            return await super().round(fed, state)
        zero = torch.zeros_like(state["reference"])
        message, large = await self.estimate(fed, {**state, "reference": zero})
        inbox = await fed.gather("gradient", message)
        if self.clip and not large.all():
            max_norm = self.clip * (state["theta"] - state["previous"])[:1].norm(dim=1, keepdim=True)
            norms = inbox.base.norm(dim=1, keepdim=True)
            inbox = replace(inbox, base=inbox.base * (max_norm / norms).nan_to_num(1.0).clamp(max=1))
        aggregate, state = fed.aggregate(inbox, state)
        direction = await fed.broadcast("direction", aggregate)
        reference = torch.where(large.unsqueeze(1).to(direction.device), zero, state["reference"])
        return self.step(fed, direction + reference, message, state), {"large_batch": float(large[0])}
