"""Policies of agents that control several players."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from byzbench.rl.networks import FunctionApproximator, Parts
from byzbench.rl.policies import Policy
from byzbench.rl.samplers import Sampler


@dataclass(frozen=True)
class Team(Policy):
    """A policy of P players with shared parameters, each acting on its own part of a joint observation.

    The probability of a joint action is the product over players.

    Attributes:
        player: The policy of a single player.
        players: The number P of players.
    """

    player: Policy
    players: int

    @property
    def dimension(self) -> int:
        """Return the number of parameters, which all players share."""
        return self.player.dimension

    @property
    def observation_size(self) -> int:
        """Return the size of the joint observation, P times that of a player."""
        return self.players * self.player.observation_size

    def critic(self) -> FunctionApproximator:
        """Return a network for joint observations, of the architecture of the players' policy."""
        return self.player.critic().resized(self.observation_size, 1)

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return (P, *a), with a the shape of a player's action."""
        return (self.players, *self.player.action_shape)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of actions."""
        return self.player.dtype

    def initial(self, rng: np.random.Generator) -> Tensor:
        """Draw initial parameters of the players' policy: float32 [d]."""
        return self.player.initial(rng)

    def layers(self, theta: Tensor) -> Parts:
        """Split theta [K, d] into the parts of the players' policy."""
        return self.player.layers(theta)

    def log_probabilities(self, layers: Parts, observations: Tensor, actions: Tensor) -> Tensor:
        """Return the sum of log-probabilities over players: [K, M]."""
        separate, actions = self._by_player(observations), actions.flatten(1, 2)
        return self.player.log_probabilities(layers, separate, actions).unflatten(1, (-1, self.players)).sum(-1)

    def entropy(self, layers: Parts, observations: Tensor) -> Tensor:
        """Return the sum of entropies over players: [K, M]."""
        return self.player.entropy(layers, self._by_player(observations)).unflatten(1, (-1, self.players)).sum(-1)

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with the noise of the players' actions."""
        self.player.sample_noise(rng, out)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a function that samples the joint actions [K, N, P, *a]."""
        sample_player = self.player.sampler(theta, None if noise is None else noise.flatten(2, 3))

        def sample(t: int, observations: np.ndarray) -> np.ndarray:
            agents, rows, _ = observations.shape
            actions = sample_player(t, observations.reshape(agents, rows * self.players, -1))
            return actions.reshape(agents, rows, *self.action_shape)

        return sample

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert joint actions [K, N, P, *a] to those of the environments: [K*N, P, *a]."""
        converted = self.player.to_env_actions(actions.reshape(len(actions), -1, *self.player.action_shape))
        return converted.reshape(-1, self.players, *converted.shape[1:])

    def _by_player(self, observations: Tensor) -> Tensor:
        """Split joint observations [K, M, P*o] into [K, M*P, o]."""
        return observations.unflatten(-1, (self.players, -1)).flatten(1, 2)
