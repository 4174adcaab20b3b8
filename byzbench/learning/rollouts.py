"""Whole episodes, for K agents at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from byzbench.learning.policies import Actor, CategoricalMlp
from byzbench.learning.samplers import Sampler
from byzbench.learning.simulations import Simulated


class EnvironmentBatch(Protocol):
    """N environments for each of K agents, flattened to K*N rows, agent by agent."""

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row, from one generator an agent: observations [K*N, o], float32.

        The first rows of an agent do not depend on N.
        """
        ...

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Actions [K*N, *a] -> observations [K*N, o], rewards, terminated and truncated [K*N].

        Rows whose episode has ended go on in any way, as long as what they show is finite; nothing of it is used. The
        arrays are the caller's to change.
        """
        ...


class Tap(Protocol):
    """A hand in the environments of some rows: what they see and do. The default is no hand.

    Both are called at every step, on arrays of NumPy's: small ones are quicker there than in torch.

    Attributes:
        observe: (t, observations [K, N, o]) changes them in place before the policy sees them.
        act: (t, actions [K, N, *a]) changes them in place before the environments see them.
    """

    @property
    def observe(self) -> Callable[[int, np.ndarray], None] | None:
        """Or None where nothing is changed."""
        ...

    @property
    def act(self) -> Callable[[int, np.ndarray], None] | None:
        """Or None where nothing is changed."""
        ...


@dataclass(frozen=True)
class Trajectories:
    """Complete episodes, padded in time (mask) and, where agents sample unequally many, in number.

    Attributes:
        observations: float32 [K, T, N, o].
        actions: [K, T, N, *a], of the policy's type.
        rewards: float32 [K, T, N], zero where masked.
        mask: bool [K, T, N], True while the episode runs.
        terminated: bool [K, N], the episode ended by itself; False is a truncation at the horizon.
        count: int64 [K], each agent's number of episodes, at most N.
        beyond: float32 [K, N, o], what a truncated episode would have seen next; zero for the others.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    mask: Tensor
    terminated: Tensor
    count: Tensor
    beyond: Tensor

    @property
    def returns(self) -> Tensor:
        """[K] mean undiscounted return of each agent's episodes, float64."""
        # Running sums, unlike sums, do not depend on how much padding follows.
        return self.rewards.double().cumsum(1)[:, -1].cumsum(1)[:, -1] / self.count

    @property
    def steps(self) -> Tensor:
        """[K] environment steps that stand in a trajectory."""
        return self.mask.sum((1, 2))

    def part(self, rows: slice) -> Trajectories:
        """Some of every agent's episodes, by their numbers; all agents must have them."""
        by_step = ("observations", "actions", "rewards", "mask")
        parts = {name: getattr(self, name)[:, :, rows] for name in by_step}
        parts |= {name: getattr(self, name)[:, rows] for name in ("terminated", "beyond")}
        return Trajectories(**parts, count=self.count.clamp(max=parts["mask"].shape[2]))

    def of(self, agent: int) -> Trajectories:
        """One agent's, with all padding."""
        return Trajectories(**{name: value[agent : agent + 1] for name, value in vars(self).items()})

    def among(self, agents: Tensor) -> Trajectories:
        """Those of some agents, bool [K], with all padding."""
        return Trajectories(**{name: value[agents] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> Trajectories:
        """The same on another device."""
        return Trajectories(**{name: value.to(device) for name, value in vars(self).items()})


def rollout(
    policy: Actor,
    theta: Tensor,
    environments: EnvironmentBatch,
    starts: Sequence[np.random.Generator],
    noise: Tensor,
    count: Tensor,
    tap: Tap | None = None,
    *,
    greedy: bool = False,
) -> Trajectories:
    """Exactly count[k] complete episodes of each agent, one a row from its start to its end.

    Rows run until the longest has ended; short ones are never replaced by a new episode, which would favour short ones:
    the sample is unbiased by length. Rows of a `Simulation` run one after the other, as machine code, where nobody has
    a hand in what they see or do; others run side by side.

    Args:
        policy: who acts.
        theta: [K, d].
        environments: K*N of them.
        starts: one generator an agent, for the initial states.
        noise: float32 [K, T, N, *a] for the actions, as `policy.draw` makes it; T is the horizon.
        count: int64 [K], from 0 to N.
        tap: a hand in the environments.
        greedy: take the likeliest actions; the noise gives the shape only.
    """
    agents, horizon, rows = noise.shape[:3]
    by_step, kind = (agents, horizon, rows), torch.empty(0, dtype=policy.dtype).numpy().dtype
    # NumPy's zeros, unlike torch's, cost nothing for steps that are never reached.
    results = {
        "observations": np.zeros((*by_step, policy.observation_size), np.float32),
        "actions": np.zeros((*by_step, *policy.action_shape), kind),
        "rewards": np.zeros(by_step, np.float32),
        "mask": np.zeros(by_step, bool),
        "terminated": np.zeros((agents, rows), bool),
        "beyond": np.zeros((agents, rows, policy.observation_size), np.float32),
    }
    first = environments.reset(starts)
    untouched = tap is None or not (tap.observe or tap.act)
    # Of a family that is derived from this one, the machine code knows nothing.
    if untouched and isinstance(environments, Simulated) and type(policy) is CategoricalMlp:
        length = environments.play(policy, theta, noise, count, results, greedy)
    else:
        sample = policy.sampler(theta, None if greedy else noise)
        length = _side_by_side(policy, sample, environments, first, count, results, tap)
    found = {name: torch.from_numpy(array) for name, array in results.items()}
    for name in ("observations", "actions", "rewards", "mask"):
        found[name] = found[name][:, : max(length, 1)]
    return Trajectories(**found | {name: found[name].contiguous() for name in ("rewards", "mask")}, count=count)


def _side_by_side(
    policy: Actor,
    sample: Sampler,
    environments: EnvironmentBatch,
    current: np.ndarray,
    count: Tensor,
    results: Mapping[str, np.ndarray],
    tap: Tap | None,
) -> int:
    """Step all rows together from their first observations, and fill in the results: the length of the longest."""
    observations, actions, rewards, mask, terminated, beyond = results.values()
    agents, horizon, rows = mask.shape
    shape = (agents, rows)
    alive = (torch.arange(rows) < count.unsqueeze(1)).numpy()
    observe, act = (tap.observe, tap.act) if tap else (None, None)
    current = current.reshape(*shape, -1)
    t = 0
    # Parameters may be anything, and NumPy, unlike torch, would warn of infinities.
    with torch.inference_mode(), np.errstate(all="ignore"):
        while t < horizon and alive.any():
            if observe:
                observe(t, current)
            shown = observations[:, t]
            shown[:] = current
            chosen = sample(t, shown)
            if act:
                act(t, chosen)
            actions[:, t] = chosen
            current, paid, ended, cut = environments.step(policy.executed(chosen))
            current = current.reshape(*shape, -1)
            mask[:, t] = alive
            np.multiply(paid.reshape(shape), alive, out=rewards[:, t])
            over = (ended | cut).reshape(shape) & alive
            if over.any():
                by_itself = over & ended.reshape(shape)
                terminated |= by_itself
                stopped = over & ~by_itself
                beyond[stopped] = current[stopped]
                alive &= ~over
            t += 1
    return t
