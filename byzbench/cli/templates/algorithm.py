"""A federated policy-gradient method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from byzbench.core import Algorithm, FloatRange, State
from byzbench.rl.gradients import gpomdp

if TYPE_CHECKING:
    from byzbench.core import Federation


@dataclass(frozen=True)
class NewComponent(Algorithm):
    """Decentralised policy gradient whose agents aggregate gradients, step, and agree on the parameters.

        g_k = GPOMDP gradient of N episodes of agent k at theta_k
        theta_k <- agreement(theta_k + lr aggregator(g_1 .. g_K))

    Attributes:
        N: the number of episodes of an agent in a round.
        lr: the step size.

    Example:
        >>> NewComponent(lr=0.1).N
        10
    """

    # Change: the source, and the components that are used where the user names none.
    source: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, str]] = {"topology": "complete", "aggregator": "median", "agreement": "mda"}

    N: Annotated[int, Field(ge=1, description="episodes of an agent in a round")] = 10
    lr: Annotated[float, Field(gt=0, description="step size"), FloatRange(1e-3, 1.0, log=True)] = 0.05

    def start(self, fed: Federation) -> State:
        """Return the initial parameters of every agent, [K, d]."""
        return {"theta": fed.theta0}  # further entries are checkpointed, with a row for each agent

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, exchange gradients, step along their aggregate, and agree on the parameters."""
        # Change: the round. All K agents are computed at once, row by row; messages are sent by `fed` only.
        batch = fed.sample(state["theta"], self.N)
        gradient = gpomdp(fed.policy, state["theta"], batch, fed.discount)
        direction, state = fed.aggregate(await fed.exchange("gradient", gradient), state)
        theta, state = await fed.agree(state["theta"] + self.lr * direction, state)
        return {**state, "theta": theta}, {}  # the second value: metrics to log
