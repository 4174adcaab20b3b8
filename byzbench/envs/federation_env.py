"""PettingZoo environment in which each Byzantine agent of a federation is a player."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.spaces import Box
from pettingzoo import ParallelEnv
from torch import Tensor

from byzbench.core import ByzantineMessages, MessageAttack, On, State, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.envs.session import FederationSession, MessageRequest, check_decisions, no_decision
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment

Vector = npt.NDArray[np.float32]
_SEEDS = 2**31


@dataclass(frozen=True)
class _ExternalMessages(MessageAttack):
    """Attack whose messages [f, d] and silent agents are episode_seed externally."""

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(knowledge=frozenset({"byzantine"}))

    async def craft_messages_async(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        vectors, silent = await MessageRequest(context.byzantine)
        return ByzantineMessages(vectors, silent), memory


class FederationEnv(ParallelEnv[str, Vector, Vector]):
    """PettingZoo environment whose players are the Byzantine agents, and whose actions are their messages.

        env = FederationEnv(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)

    A step is an exchange in which Byzantine agents send crafted messages: one in each round, or two with `on="both"`.
    An episode is one training, which is truncated at the end of the budget. `reset(seed=s)` starts the experiment with
    the seed s; without a seed, a seed is drawn.

        observation  float32 [d], the honest vector of the player in this exchange
        action       float32 [d], the message to all neighbours; None sends no message, and other values are malformed,
                     which exposes the player
        reward       the same for all players: minus the mean training return of the honest agents in the next batch,
                     and after the last step minus their evaluation return; normalised by the returns of a random and a
                     solved policy, and clipped to [-1, 1]

    For one agent that controls all Byzantine agents by a few numbers, see `AttackEnv`.

    Example:
        >>> env = FederationEnv(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)
        >>> len(env.possible_agents), env.observation_space(env.possible_agents[0]).shape
        (2, (386,))
    """

    metadata = {"name": "byzbench_federation_v0", "render_modes": [], "is_parallelizable": True}  # noqa: RUF012

    def __init__(self, on: str = "gradient", render_mode: None = None, **options: Any) -> None:
        """Make the environment of an experiment, and run its first round once as a check.

        Args:
            on: the attacked messages: `gradient`, `parameters` or `both`.
            render_mode: only None is supported.
            options: the arguments of `Experiment.create` without `attack`; the seed is not used.

        Raises:
            UserError: the experiment is invalid, has an attack, no agent receives Byzantine messages, or the first
                round spends the budget.
        """
        if "attack" in options:
            raise InvalidParameter("the players replace the attack: leave out attack")
        if on not in get_args(On):
            raise InvalidParameter(f"on={on!r} is no choice of messages: use {', '.join(map(repr, get_args(On)))}")
        self._todo = Experiment.create(**options, attack=_ExternalMessages(on=on))  # type: ignore[arg-type]
        if self._todo.scenario.normalizes:
            raise Undefined(
                "normalisation statistics have another length than the players' messages: leave out normalized"
            )
        check_decisions(self._todo, lambda vectors: (list(vectors), torch.zeros(len(vectors), dtype=torch.bool)))
        self.render_mode = render_mode
        self.possible_agents = [f"attacker_{k}" for k in range(self._todo.byzantine)]
        self.agents: list[str] = []
        self._session: FederationSession | None = None
        self._space = Box(-np.inf, np.inf, (self._todo.trained_policy.dimension,), np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, self._space)
        self.action_spaces = dict.fromkeys(self.possible_agents, self._space)
        self._rng = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Box:
        """Return the observation space, which is the same for all players."""
        return self._space

    def action_space(self, agent: str) -> Box:
        """Return the action space, which is the same for all players."""
        return self._space

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Vector], dict[str, dict[str, Any]]]:
        """Start a training and run it up to the first attacked exchange; `options` are ignored."""
        self.close()
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        episode_seed = int(self._rng.integers(_SEEDS)) if seed is None else seed
        self._session = FederationSession(replace(self._todo, seed=episode_seed))
        self.agents = list(self.possible_agents)
        vectors = self._session.advance()
        if vectors is None:
            raise no_decision()
        self._observations = self._by_player(vectors)
        return self._observations, {agent: {"seed": episode_seed} for agent in self.agents}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, Vector], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Send the messages of the players, and run the training up to the next attacked exchange.

        At the end of an episode the last observations are repeated.

        Raises:
            InvalidParameter: no episode is running.
        """
        if self._session is None:
            raise InvalidParameter("no episode is running: call reset()")
        messages = [actions.get(agent) for agent in self.possible_agents]
        silent = torch.tensor([message is None for message in messages])
        vectors = self._session.advance((messages, silent))
        info, players = dict(self._session.line), self.agents
        if vectors is None:
            info |= self._session.evaluate()
            reward = self._session.attacker_reward(info["evaluation"])
            self._session, self.agents = None, []
        else:
            self._observations = self._by_player(vectors)
            reward = self._session.attacker_reward(self._session.training.returned)
        truncated = dict.fromkeys(players, vectors is None)
        terminated = dict.fromkeys(players, False)
        return (
            self._observations,
            dict.fromkeys(players, reward),
            terminated,
            truncated,
            {agent: dict(info) for agent in players},
        )

    def _by_player(self, vectors: Tensor) -> dict[str, Vector]:
        """Return the rows of vectors [f, d] by player."""
        return {agent: row.copy() for agent, row in zip(self.possible_agents, vectors.float().numpy(), strict=True)}

    def render(self) -> None:
        """Do nothing: there is no render mode."""

    def close(self) -> None:
        """Stop the training."""
        if self._session is not None:
            self._session.close()
            self._session = None
