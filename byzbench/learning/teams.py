"""Policies of several players who act for one agent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from byzbench.learning.policies import Policy
from byzbench.learning.samplers import Layers, Sampler


@dataclass(frozen=True)
class Team(Policy):
    """Several players of one agent, with the same parameters: each acts on its own part of a joint observation.

    A joint action's probability is the product of the players'.

    Attributes:
        player: the policy of each.
        players: P, how many.
    """

    player: Policy
    players: int

    @property
    def dimension(self) -> int:
        """One player's."""
        return self.player.dimension

    @property
    def observation_size(self) -> int:
        """All players' in a row."""
        return self.players * self.player.observation_size

    @property
    def hidden(self) -> tuple[int, ...]:
        """A player's."""
        return self.player.hidden

    @property
    def action_shape(self) -> tuple[int, ...]:
        """[P, *a]."""
        return (self.players, *self.player.action_shape)

    @property
    def dtype(self) -> torch.dtype:
        """A player's."""
        return self.player.dtype

    def initial(self, rng: np.random.Generator) -> Tensor:
        """A player's."""
        return self.player.initial(rng)

    def layers(self, theta: Tensor) -> Layers:
        """A player's."""
        return self.player.layers(theta)

    def log_probabilities(self, layers: Layers, observations: Tensor, actions: Tensor) -> Tensor:
        """The sum over players."""
        seen, done = self._apart(observations), actions.flatten(1, 2)
        return self.player.log_probabilities(layers, seen, done).unflatten(1, (-1, self.players)).sum(-1)

    def entropy(self, layers: Layers, observations: Tensor) -> Tensor:
        """The sum over players."""
        return self.player.entropy(layers, self._apart(observations)).unflatten(1, (-1, self.players)).sum(-1)

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """A player's."""
        self.player.draw(rng, out)

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Every player's."""
        sample = self.player.sampler(theta, None if noise is None else noise.flatten(2, 3))

        def every(t: int, observations: np.ndarray) -> np.ndarray:
            agents, rows, _ = observations.shape
            done = sample(t, observations.reshape(agents, rows * self.players, -1))
            return done.reshape(agents, rows, *self.action_shape)

        return every

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """Every player's: [K*N, P, *a]."""
        done = self.player.executed(actions.reshape(len(actions), -1, *self.player.action_shape))
        return done.reshape(-1, self.players, *done.shape[1:])

    def _apart(self, observations: Tensor) -> Tensor:
        """Joint observations [K, M, P*o] as [K, M*P, o]."""
        return observations.unflatten(-1, (self.players, -1)).flatten(1, 2)
