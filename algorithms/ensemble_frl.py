"""EnsembleFRL: groups of agents that train separate policies, which act by majority vote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
from pydantic import Field

from byzbench.core import Communication, FloatRange, State
from byzbench.core.policy_gradient import PolicyGradient
from byzbench.rl.ensembles import Ensemble

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.rl.policies import Policy


@dataclass(frozen=True)
class EnsembleFrl(PolicyGradient):
    """Federated training of G policies by disjoint groups of agents, which act as an ensemble.

    A Byzantine agent can influence one of the G policies only. Agent k is in group k mod G. Each round, every group g
    separately computes:

        g_t^k       = (1/N) sum_i g(tau_i | theta_t^g),    episodes i sampled at theta_t^g,    k in group g
        theta_{t+1}^g = theta_t^g + eta Aggregate(g_t^k: k in group g)

    The ensemble is the result. In state s the action with the most votes of the members is taken; among ties the
    smallest action wins. Continuous actions are replaced by their geometric median. Let v_x be the votes for the winner
    x, and v_y those for y. No n' Byzantine agents can change the action in s if n' <= min_y floor((v_x - v_y - [y < x])
    / 2), as each of them influences one member. No continuous action can be moved by more than 2 w (G - n') / (G - 2
    n'), n' < G / 2, where w is the largest distance of a member's action from the median. Evaluations run the ensemble,
    and record the mean of the first bound over the visited states (`evaluation_certificate`), or of the second for the
    largest n' (`evaluation_certified_distance`, in units of half an action's range). Both bounds are relative to the
    ensemble that the same groups would have trained without these Byzantine agents.

    Source: Fang, Wang, Gong 2025, "Provably robust federated reinforcement learning", WWW.

    Differs from the source in: groups are assigned by agent number, as Byzantine agents are placed at random; a group's
    server takes plain policy gradients, with Adam; every group's direction is broadcast to all agents, so each has the
    whole ensemble at any time.
    """

    source: ClassVar[str] = "Fang, Wang, Gong 2025 (EnsembleFRL)"
    communication: ClassVar[Communication] = Communication.SERVER
    unbiased: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "median", "agreement": "none"}

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a batch"), FloatRange(4, 128, log=True)] = 50
    groups: Annotated[  # type: ignore[misc]
        int, Field(ge=1, le=1000, description="number of groups G; at most the number of agents"), FloatRange(3, 9)
    ] = 5

    def deployed_policy(self, policy: Policy) -> Ensemble:
        """Return the ensemble of the groups' policies."""
        return Ensemble(policy, self.groups)

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every group: the row of an agent holds the whole ensemble."""
        single = super().start(fed)
        return {name: rows.repeat(1, self.groups) for name, rows in single.items()}

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample at the policy of the agent's group, gather, aggregate by group, broadcast, and step."""
        group = (fed.agents % self.groups).to(fed.theta0.device)
        theta = state["theta"].unflatten(1, (self.groups, -1))[torch.arange(len(group)), group]
        batch = fed.sample(theta, self.N)
        inbox = await fed.gather("gradient", self.gradient(fed, theta, batch), self.groups)
        aggregates, state = fed.aggregate(inbox, state)
        direction = await fed.broadcast("direction", aggregates.reshape(1, -1))
        # One row for each policy, so that an undefined aggregate stops its own group only.
        split = {k: v.unflatten(1, (self.groups, -1)).flatten(0, 1) for k, v in state.items() if k in self._learned}
        new = self.ascend(fed, direction.unflatten(1, (self.groups, -1)).flatten(0, 1), split)
        return {**state, **{k: v.unflatten(0, (-1, self.groups)).flatten(1) for k, v in new.items()}}, {}

    _learned: ClassVar[tuple[str, ...]] = ("theta", "adam.m", "adam.v", "adam.t")
