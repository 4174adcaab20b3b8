"""Several policies that act as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from byzbench.learning.policies import Actor, Policy
from byzbench.learning.samplers import Sampler

_STEPS = 30


@dataclass(frozen=True)
class Ensemble(Actor):
    """G policies act as one: by majority vote, of equals the smallest action; or by the geometric median of actions.

    Its parameters are its members', one after the other. All members act with the same noise, so where they are alike
    they agree, and an ensemble of copies is the policy itself. It cannot be trained as a whole.

    What it says of how it acts, as the mean over states, all members acting by their likeliest actions:

    - certificate, of a vote: how many members could be anything at all without changing the action. With v_a votes for
      a and x the winner it is min over y of floor((v_x - v_y - [y < x]) / 2);
    - certified_distance, of a median: how far the largest minority, n' = ceil(G / 2) - 1 members, could move the
      action: 2 w (G - n') / (G - 2 n') with w the largest distance of a member's action from the median.

    Attributes:
        member: the family of all members.
        size: G.

    Source: Fang, Wang, Gong 2025, "Provably robust federated reinforcement learning", WWW.
    """

    member: Policy
    size: int

    @property
    def dimension(self) -> int:
        """All members'."""
        return self.size * self.member.dimension

    @property
    def observation_size(self) -> int:
        """A member's."""
        return self.member.observation_size

    @property
    def action_shape(self) -> tuple[int, ...]:
        """A member's."""
        return self.member.action_shape

    @property
    def dtype(self) -> torch.dtype:
        """A member's."""
        return self.member.dtype

    def draw(self, rng: np.random.Generator, out: np.ndarray) -> None:
        """A member's, for all of them."""
        self.member.draw(rng, out)

    def executed(self, actions: np.ndarray) -> np.ndarray:
        """A member's."""
        return self.member.executed(actions)

    def _members(self, theta: Tensor, noise: Tensor | None) -> list[Sampler]:
        return [self.member.sampler(part.contiguous(), noise) for part in theta.chunk(self.size, 1)]

    def sampler(self, theta: Tensor, noise: Tensor | None) -> Sampler:
        """Every member's, and the vote or the median of what they chose."""
        members = self._members(theta, noise)

        def sample(t: int, observations: np.ndarray) -> np.ndarray:
            chosen = torch.from_numpy(np.stack([member(t, observations) for member in members]))
            winner = geometric_median(chosen) if self.dtype.is_floating_point else one_hot(chosen).sum(0).argmax(-1)
            return winner.numpy()

        return sample

    def remarks(self, theta: Tensor, observations: Tensor) -> dict[str, float]:
        """The certificate: see the class."""
        members = self._members(theta, None)
        chosen = torch.from_numpy(np.stack([member(0, observations.numpy()) for member in members]))
        if self.dtype.is_floating_point:
            minority = (self.size - 1) // 2
            away = (chosen - geometric_median(chosen)).norm(dim=-1).amax(0)
            reach = 2 * (self.size - minority) / (self.size - 2 * minority)
            return {"certified_distance": float(reach * away.double().mean())}
        votes = one_hot(chosen, int(chosen.max()) + 2).sum(0)  # and an action that nobody chose
        winner = votes.argmax(-1, keepdim=True)
        actions = torch.arange(votes.shape[-1])
        lead = votes.gather(-1, winner) - votes - (actions < winner).long()
        each = (lead.masked_fill(actions == winner, self.size).amin(-1) // 2).reshape(*observations.shape[:2], -1)
        return {"certificate": float(each.amin(-1).double().mean())}


def geometric_median(points: Tensor) -> Tensor:
    """The point whose distances to points [G, ..., a] have the least sum, by Weiszfeld's steps: [..., a].

    They start at the median of coordinates, which for a = 1 is what they look for.
    """
    x = points.double()
    found = x.median(0).values
    for _ in range(_STEPS if x.shape[-1] > 1 else 0):
        pull = 1 / (x - found).norm(dim=-1, keepdim=True).clamp(min=1e-9)
        found = (pull * x).sum(0) / pull.sum(0)
    return found.to(points)
