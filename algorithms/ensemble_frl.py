"""EnsembleFRL: groups of agents that train policies of their own, which act by vote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import torch
from pydantic import Field

from byzbench.algorithms._steps import PolicyGradient
from byzbench.contracts import Range, State
from byzbench.learning.ensembles import Ensemble

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.policies import Policy


@dataclass(frozen=True)
class EnsembleFrl(PolicyGradient):
    """A liar reaches one policy of several, and the others outvote it.

    Agents are parted into G groups, agent k in group k mod G. Each round, in every group g by itself:

        g_t^k       = (1/N) sum_i g(tau_i | theta_t^g),    episodes i sampled at theta_t^g,    k in group g
        theta_{t+1}^g = theta_t^g + eta Aggregate(g_t^k: k in group g)

    What is used in the end is the ensemble: in state s its members' actions are put to the vote, of equals the smallest
    action wins; continuous actions are replaced by their geometric median. With v_x votes for the winner x and v_y for
    y, no n' liars can change the action in s if n' <= min_y floor((v_x - v_y - [y < x]) / 2), as each of them reaches
    one member; of continuous actions, none can be moved by more than 2 w (G - n') / (G - 2 n'), n' < G / 2, where w is
    the largest distance of a member's action from the median. Evaluations play the ensemble, and record the mean of the
    first over the states they visit (`evaluation_certificate`), or of the second for the largest n'
    (`evaluation_certified_distance`, in units of half an action's range). Both hold against the ensemble that the
    same groups would have trained without these liars.

    Source: Fang, Wang, Gong 2025, "Provably robust federated reinforcement learning", WWW.

    Differs from the source in: groups go by number, as liars sit at random; a group's server takes plain policy
    gradients, with Adam; everybody is told every group's direction, and so has the ensemble at any time.
    """

    source: ClassVar[str] = "Fang, Wang, Gong 2025 (EnsembleFRL)"
    needs: ClassVar[Literal["peers", "server", "solo", "nobody"]] = "server"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "median", "agreement": "none"}

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a batch"), Range(4, 128, log=True)] = 50
    groups: Annotated[int, Field(ge=1, le=1000, description="groups G; no more than agents"), Range(3, 9)] = 5  # type: ignore[misc]

    def deployed(self, policy: Policy) -> Ensemble:
        """The groups' policies, together."""
        return Ensemble(policy, self.groups)

    def start(self, fed: Federation) -> State:
        """theta_0 in every group; everybody has a row for the whole ensemble."""
        one = super().start(fed)
        return {name: part.repeat(1, self.groups) for name, part in one.items()}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample for the own group, gather, aggregate group by group, broadcast, step."""
        own = (fed.agents % self.groups).to(fed.theta0.device)
        theta = state["theta"].unflatten(1, (self.groups, -1))[torch.arange(len(own)), own]
        batch = fed.sample(theta, self.N)
        inbox = await fed.gather("gradient", self.gradient(fed, theta, batch), self.groups)
        value, state = fed.aggregate(inbox, state)
        told = await fed.broadcast("direction", value.reshape(1, -1))
        # A row for each policy: one whose rule was undefined stands still, and the others go on.
        split = {k: v.unflatten(1, (self.groups, -1)).flatten(0, 1) for k, v in state.items() if k in self._learned}
        new = self.ascend(fed, told.unflatten(1, (self.groups, -1)).flatten(0, 1), split)
        return {**state, **{k: v.unflatten(0, (-1, self.groups)).flatten(1) for k, v in new.items()}}, {}

    _learned: ClassVar[tuple[str, ...]] = ("theta", "adam.m", "adam.v", "adam.t")
