"""Ensembles: several policies that act as one by vote or geometric median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from byzbench.rl.policies import Actor, Policy
from byzbench.rl.samplers import Sampler

_NUM_WEISZFELD_STEPS = 30


@dataclass(frozen=True)
class Ensemble(Actor):
    """An ensemble of G policies.

    Discrete actions are chosen by majority vote, where among ties the smallest action wins; continuous actions by the
    geometric median. The parameters of the ensemble are those of its members, concatenated. All members act with the
    same noise, so an ensemble of equal members acts like one of them. The ensemble cannot be trained as a whole.

    It has two diagnostics, as means over states, where all members take their likeliest actions:

    - certificate, of a vote: the number of members that can change arbitrarily without changing the action. With v_a
      votes for a and x the winner, it is min over y of floor((v_x - v_y - [y < x]) / 2).
    - certified_distance, of a median: the largest change of the action by the largest minority, n' = ceil(G / 2) - 1
      members: 2 w (G - n') / (G - 2 n'), with w the largest distance of a member's action from the median.

    Attributes:
        member: The policy of a member; all members differ in their parameters only.
        size: The number G of members.

    Source: Fang, Wang, Gong 2025, "Provably robust federated reinforcement learning", WWW.
    """

    member: Policy
    size: int

    @property
    def dimension(self) -> int:
        """Return the number of parameters of all members."""
        return self.size * self.member.dimension

    @property
    def observation_size(self) -> int:
        """Return the observation size of a member."""
        return self.member.observation_size

    @property
    def action_shape(self) -> tuple[int, ...]:
        """Return the shape of a member's action."""
        return self.member.action_shape

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of a member's actions."""
        return self.member.dtype

    def sample_noise(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """Fill `out` with the noise of one member, which all members share."""
        self.member.sample_noise(rng, out)

    def to_env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Convert actions [K, N, *a] to the actions of the K*N environments, as a member does."""
        return self.member.to_env_actions(actions)

    def _members(self, theta: Tensor, noise: Tensor | None) -> list[Sampler]:
        return [self.member.sampler(parameters.contiguous(), noise) for parameters in theta.chunk(self.size, 1)]

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Return a sampler that combines the actions of all members by vote or median."""
        members = self._members(theta, noise)

        def sample(t: int, observations: np.ndarray) -> np.ndarray:
            actions = torch.from_numpy(np.stack([member(t, observations) for member in members]))
            result = geometric_median(actions) if self.dtype.is_floating_point else one_hot(actions).sum(0).argmax(-1)
            return result.numpy()

        return sample

    def diagnostics(self, theta: Tensor, observations: Tensor) -> dict[str, float]:
        """Return the certificate, or the certified distance, of the class's docstring.

        Args:
            theta: The parameters of the ensemble, [1, d].
            observations: The observations of one agent's episodes, [1, M, o].
        """
        members = self._members(theta, None)
        member_actions = torch.from_numpy(np.stack([member(0, observations.numpy()) for member in members]))
        if self.dtype.is_floating_point:
            minority = (self.size - 1) // 2
            distance = (member_actions - geometric_median(member_actions)).norm(dim=-1).amax(0)
            factor = 2 * (self.size - minority) / (self.size - 2 * minority)
            return {"certified_distance": float(factor * distance.double().mean())}
        # One action more than the largest that was taken: its zero votes bound the margin of unanimous votes.
        votes = one_hot(member_actions, int(member_actions.max()) + 2).sum(0)
        winner = votes.argmax(-1, keepdim=True)
        actions = torch.arange(votes.shape[-1])
        margin = votes.gather(-1, winner) - votes - (actions < winner).long()
        tolerated = (margin.masked_fill(actions == winner, self.size).amin(-1) // 2).reshape(
            *observations.shape[:2], -1
        )
        return {"certificate": float(tolerated.amin(-1).double().mean())}


def geometric_median(points: Tensor) -> Tensor:
    """Return the point with the least sum of distances to the points [G, ..., a], by Weiszfeld's steps: [..., a].

    The steps start at the coordinate-wise median, which for a = 1 is the result.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]]))
        tensor([1.])
    """
    x = points.double()
    median = x.median(0).values
    for _ in range(_NUM_WEISZFELD_STEPS if x.shape[-1] > 1 else 0):
        weights = 1 / (x - median).norm(dim=-1, keepdim=True).clamp(min=1e-9)
        median = (weights * x).sum(0) / weights.sum(0)
    return median.to(points)
