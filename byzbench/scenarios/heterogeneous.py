"""Heterogeneous agents: environments that differ between agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import RewardBatch, Scenario, State, Task
from byzbench.errors import Undefined

if TYPE_CHECKING:
    from byzbench.core import Setting


@dataclass(frozen=True)
class Heterogeneous(Scenario):
    """Physical constants, rewards or start states that differ between agents.

    Each physical constant of agent k, or all its rewards, are multiplied by 2^(spread u), with u uniform in (-1, 1)
    from a stream of the agent. At spread 1 the factor is between 1/2 and 2. Returns in reports are those of the agent's
    own physics and of the true rewards.

    With `of=starts` each episode of agent k starts with probability `spread` in the agent's own start state s_k, which
    the task draws once from a seed of the agent. The start law is (1 - spread) D + spread delta(s_k), with D the law of
    the task; if D is continuous, its total variation distance from D is `spread`. Evaluations of the agent have the
    same law. Where the steps of an environment are random, as in FrozenLake, the seed of an episode fixes them too: an
    episode from s_k then has the same noise each time, which differs between agents even if the start states do not.

    Attributes:
        spread: the spread of the factors, or the share of episodes that start in the agent's own state.
        of: what differs: each physical constant of the task (`physics`), the scale of `rewards`, or the `starts`.

    Example:
        >>> from byzbench.registry import make
        >>> make("scenario", "heterogeneous(spread=0.3, of=rewards)").spread
        0.3
    """

    spread: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="spread of the factors, 2^(spread u) with u in (-1, 1); of starts, the share of own ones",
        ),
    ] = 0.5
    of: Annotated[
        Literal["physics", "rewards", "starts"],
        Field(description="what differs: physical constants, the scale of rewards, or start states"),
    ] = "physics"

    @property
    def stream(self) -> str:
        """Return the name of the random streams."""
        return "heterogeneity" if self.of == "physics" else f"heterogeneity/{self.of}"

    def check(self, setting: Setting) -> None:
        """Check that the task has physical constants that can differ; see `Component.check`."""
        super().check(setting)
        if self.of == "physics" and self.spread and setting.dynamics is not None and not setting.dynamics:
            raise Undefined(
                f"heterogeneous: task {setting.name('task')!r} has no physical constants that can change; give "
                "of=rewards or of=starts"
            )

    @property
    def has_own_starts(self) -> bool:
        """Return whether episodes can start in states of their agent."""
        return self.of == "starts" and self.spread > 0

    def start(self, task: Task, num_agents: int, generator: Callable[[int], np.random.Generator]) -> State:
        """Draw the factors, float64 [K + 1, c], of c physical constants or of the rewards; a server has 1.

        Of starts the state is the share of own ones, float64 [K + 1]; a server has 0.
        """
        if self.of == "starts":
            return {"shares": torch.tensor([self.spread] * num_agents + [0.0], dtype=torch.float64)}
        exponents = np.zeros((num_agents + 1, len(task.dynamics) if self.of == "physics" else 1))
        for k in range(num_agents if self.spread else 0):
            exponents[k] = generator(k).uniform(-1, 1, exponents.shape[1])
        return {"factors": torch.from_numpy(2.0 ** (self.spread * exponents))}

    def physics_factors(
        self, state: State, task: Task, agents: Sequence[int], progress: float
    ) -> Mapping[str, np.ndarray]:
        """Return the factors of the agents' physical constants: see `Scenario.physics_factors`."""
        if self.of != "physics" or not self.spread:
            return {}
        factors = state["factors"][list(agents)].numpy()
        return {name: factors[:, column] for column, name in enumerate(task.dynamics)}

    def reward_factors(self, state: State, agents: Sequence[int], progress: float) -> np.ndarray:
        """Return the factor of each agent's rewards: see `Scenario.reward_factors`."""
        return state["factors"][list(agents), 0].numpy() if self.of == "rewards" else np.ones(len(agents))

    def transform_rewards(self, state: State, batch: RewardBatch) -> Tensor:
        """Multiply the rewards of each agent by its factor: see `Scenario.transform_rewards`."""
        if self.of != "rewards":
            return batch.rewards
        factors = torch.from_numpy(self.reward_factors(state, batch.agents, batch.progress))
        return batch.rewards * factors.float().view(-1, 1, 1)

    def own_starts(
        self, state: State, agents: Sequence[int], count: int, generator: Callable[[int], np.random.Generator]
    ) -> np.ndarray:
        """Return which episodes start in the agent's own state: see `Scenario.own_starts`."""
        draws = np.stack([generator(agent).random(count) for agent in agents])
        return np.where(draws < state["shares"][list(agents), None].numpy(), 0, -1)
