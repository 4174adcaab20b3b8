"""DecByzPG: Byzantine-tolerant policy gradients without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from byzbench.algorithms._official import OFFICIAL_MDA, OFFICIAL_RFA
from byzbench.algorithms._recommended import PAGE
from byzbench.core import Recommendation, State
from byzbench.core.page import OFFICIAL, DecentralizedPage

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class DecByzPG(DecentralizedPage):
    """Decentralised federated policy gradients with robust aggregation, averaging agreement and a common coin.

    Each round t, every agent k:

        c_t        = 1 if t = 0, else the common coin Bernoulli(p)
        v~_t^k     = PAGE estimate at theta_t^k with reference v_{t-1}^k         (large batch N if c_t, else B)
        v_t^k      = Aggregate(v~_t^1, ..., v~_t^K as received by k)
        theta_{t+1}^k = Avg-Agree(theta_t^1 + eta v_t^1, ..., theta_t^K + eta v_t^K)

    The output after T rounds is theta_T^k (`output=last`), or theta_s^k with s from the common coin, uniform in
    0, .., T-1 (`output=uniform`). T need not be known: in round t the coin replaces the output by theta_t^k with
    probability 1/(t + 1).

    Source: Jordan, Groetschla, Fan, Wattenhofer, 2024, arXiv 2401.03489.

    Differs from the source in: Adam on the aggregate by default, as in the authors' code (`optimizer=sgd` is the
    pseudo-code's step); the last iterate as the output by default, as in the authors' code (`output=uniform` is the
    pseudo-code's); the aggregator `rfa` by default, as in the authors' code: it is not an (alpha_max, c_ra)-robust
    aggregator as the analysis requires, since the error of a geometric median does not fall to zero as K grows, even if
    no agent is Byzantine (`--aggregator bucketing+rfa` and `trimmed_mean` are such aggregators); the graph need not be
    complete, and an agent aggregates what it receives. The recommended parameters on CartPole have a falling step and a
    baseline of returns (`baseline=others`), which the source has not; without it fewer runs keep what they have learned
    (docs/recommended.md). The preset `official` is the authors' code, which differs from this
    pseudo-code: see the parameters.
    """

    output: Annotated[
        Literal["last", "uniform"],
        Field(
            description="policy that is evaluated and stored: the last iterate, or one that the common coin draws "
            "uniformly from all rounds so far"
        ),
    ] = "last"

    source: ClassVar[str] = "Jordan et al. 2024, arXiv 2401.03489 (DecByzPG)"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "rfa", "agreement": "mda"}
    recommended: ClassVar[Mapping[str, Recommendation]] = PAGE
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {},
        "official": {"algorithm": OFFICIAL, "aggregator": OFFICIAL_RFA, "agreement": OFFICIAL_MDA},
    }

    def start(self, fed: Federation) -> State:
        """Return the state of the family; `output=uniform` keeps the iterate beside the output, which is `theta`."""
        state = super().start(fed)
        return state if self.output == "last" else {**state, "iterate": state["theta"]}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Run the round of the family, and draw the output."""
        if self.output == "last":
            return await super().round(fed, state)
        # Drawn first, since attacks that see the coin see the last draw, which is that of the batch.
        draws = await fed.common("output", lambda rng: rng.random())
        replaced = (draws * (fed.round + 1) < 1).unsqueeze(1).to(state["theta"].device)
        output = torch.where(replaced, state["iterate"], state["theta"])
        new, metrics = await super().round(fed, {**state, "theta": state["iterate"]})
        return {**new, "theta": output, "iterate": new["theta"]}, metrics
