"""LEARN: aggregate gradients, agree on them where tasks differ, step, and average parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from byzbench.core import State
from byzbench.core.policy_gradient import SINGLE_BATCH_SUGGESTIONS, BatchSize, PolicyGradient

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class Learn(PolicyGradient):
    """Collaborative learning by agreement on gradients, in O(log t) iterations of a rule, and on parameters.

    Each round t = 0, 1, .., every agent i:

        v_i     = Aggregate(g_1, ..., g_n as received by i)              g_i the gradient of N episodes at theta_i
        v_i     = Aggregate(v_1, ..., v_n as received by i)              ceil(log2(t + 1)) times, if `heterogeneous`
        theta_i = Agree(theta_1 + eta v_1, ..., theta_n + eta v_n as received by i)

    Agree is one iteration of a rule (`gossip+mda`). Aggregate is the experiment's aggregator in both lines: the rule
    for gradients, and the rule of the averaging agreement on them.

    Source: El-Mhamdi, Farhadkhani, Guerraoui, Guirguis, Hoang, Rouault 2021, "Collaborative learning in the jungle",
    NeurIPS, arXiv 2008.00742, by its code, in Garfield; iterated MDA tolerates n >= 6f + 1 without a common clock.

    Differs from the source in: rounds are synchronous, so agents receive all messages and not only the first n - f;
    Adam by default.
    """

    N: BatchSize = 10
    heterogeneous: Annotated[
        bool, Field(description="agree on gradients, for agents with different tasks; code: non_iid")
    ] = False

    source: ClassVar[str] = "El-Mhamdi et al. 2021, arXiv 2008.00742 (LEARN)"
    unbiased: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "mda", "agreement": "gossip+mda"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = SINGLE_BATCH_SUGGESTIONS

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, exchange and aggregate gradients, agree on them, step, and agree on parameters."""
        batch = fed.sample(state["theta"], self.N)
        direction = self.gradient(fed, state["theta"], batch)
        # bit_length of t is ceil(log2(t + 1)), without rounding errors.
        for _ in range(1 + (fed.round.bit_length() if self.heterogeneous else 0)):
            direction, state = fed.aggregate(await fed.exchange("gradient", direction), state)
        state = self.ascend(fed, direction, state)
        theta, state = await fed.agree(state["theta"], state)
        return {**state, "theta": theta}, {}
