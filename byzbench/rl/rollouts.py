"""Rollouts of whole episodes, for K agents at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from byzbench.randomness import Streams
from byzbench.rl.forms import form_of
from byzbench.rl.policies import Actor
from byzbench.rl.samplers import Sampler
from byzbench.rl.simulations import Simulated


class EnvironmentBatch(Protocol):
    """N environments for each of K agents, flattened to K*N rows, agent by agent."""

    def reset(self, generators: Sequence[np.random.Generator]) -> np.ndarray:
        """Start an episode in every row, and return the observations, float32 [K*N, o].

        Args:
            generators: One random generator for each agent. The first rows of an agent do not depend on N.
        """
        ...

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Advance every row by one step: actions [K*N, *a] -> observations [K*N, o], rewards, terminated, truncated.

        The last three are of shape [K*N]. Results of rows whose episode has ended are not used, but must be finite. The
        caller may change the returned arrays.
        """
        ...


class StepHooks(Protocol):
    """Hooks that change the observations and actions of some rows in place.

    Both hooks are called at every step, on NumPy arrays, which are faster than torch for small sizes.

    Attributes:
        observe: A function of (t, observations [K, N, o]) that changes them before the policy receives them.
        act: A function of (t, actions [K, N, *a]) that changes them before the environments receive them.
    """

    @property
    def observe(self) -> Callable[[int, np.ndarray], None] | None:
        """Return the hook of observations, or None for no change."""
        ...

    @property
    def act(self) -> Callable[[int, np.ndarray], None] | None:
        """Return the hook of actions, or None for no change."""
        ...


@dataclass(frozen=True)
class Trajectories:
    """A batch of complete episodes, padded in time and, where agents sample different numbers, in number.

    Attributes:
        observations: The observations, float32 [K, T, N, o].
        actions: The actions, [K, T, N, *a], of the policy's type.
        rewards: The rewards, float32 [K, T, N], zero where masked.
        mask: The valid steps, bool [K, T, N]: True while the episode runs.
        terminated: The episodes that terminated, bool [K, N]; the others were truncated at the horizon.
        count: The number of episodes of each agent, int64 [K], at most N.
        final_observations: The final observations of truncated episodes, float32 [K, N, o]; zero for the others.
    """

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    mask: Tensor
    terminated: Tensor
    count: Tensor
    final_observations: Tensor

    @property
    def returns(self) -> Tensor:
        """Return the mean undiscounted return of each agent's episodes, float64 [K]."""
        # NumPy adds up step by step here, and cumsum episode by episode, so padding changes nothing.
        returns = np.add.reduce(self.rewards.cpu().numpy(), 1, np.float64)
        return torch.from_numpy(returns.cumsum(1)[:, -1]) / self.count.cpu()

    @property
    def steps(self) -> Tensor:
        """Return the number of environment steps of each agent's episodes, [K]."""
        return self.mask.sum((1, 2))

    def part(self, rows: slice) -> Trajectories:
        """Return a slice of every agent's episodes; all agents must have these episodes."""
        step_fields = ("observations", "actions", "rewards", "mask")
        values = {name: getattr(self, name)[:, :, rows] for name in step_fields}
        values |= {name: getattr(self, name)[:, rows] for name in ("terminated", "final_observations")}
        return Trajectories(**values, count=self.count.clamp(max=values["mask"].shape[2]))

    def as_agents(self) -> Trajectories:
        """Return the N episodes of a single agent as those of N agents with one episode each."""
        step_fields = ("observations", "actions", "rewards", "mask")
        values = {name: getattr(self, name).transpose(0, 2).contiguous() for name in step_fields}
        values |= {
            name: getattr(self, name).transpose(0, 1).contiguous() for name in ("terminated", "final_observations")
        }
        return Trajectories(**values, count=torch.ones_like(self.mask[0, 0], dtype=torch.int64))

    def agent(self, agent: int) -> Trajectories:
        """Return the episodes of one agent, with all padding."""
        return Trajectories(**{name: value[agent : agent + 1] for name, value in vars(self).items()})

    def select(self, agents: Tensor) -> Trajectories:
        """Return the episodes of some agents, bool [K], with all padding."""
        return Trajectories(**{name: value[agents] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> Trajectories:
        """Return a copy on another device."""
        return Trajectories(**{name: value.to(device) for name, value in vars(self).items()})


def draw_noise(policy: Actor, streams: Streams, name: str, round: int, agents: Sequence[int], out: np.ndarray) -> None:
    """Fill the noise of each agent's actions from its stream, as `policy.sample_noise` does.

    Args:
        policy: The policy.
        streams: The streams of the experiment.
        name: The name of the streams.
        round: The round.
        agents: The K agents.
        out: The noise, float32 [K, N, T, *a].
    """
    form = form_of(policy)
    if form is None or form.gaussian:
        for agent, noise in zip(agents, out, strict=True):
            policy.sample_noise(streams.generator(name, round, agent), noise)
    else:
        from byzbench.rl.seeded_numbers import fill_stream_uniforms  # a local import, as loading Numba takes time

        numbers = out.reshape(len(agents), -1)
        fill_stream_uniforms(streams.key(name), np.uint64(round), np.array(agents, np.uint64), numbers)


def rollout(
    policy: Actor,
    theta: Tensor,
    environments: EnvironmentBatch,
    starts: Sequence[np.random.Generator],
    noise: Tensor,
    count: Tensor,
    hooks: StepHooks | None = None,
    *,
    greedy: bool = False,
) -> Trajectories:
    """Sample exactly count[k] complete episodes of each agent k, one in each row.

    All rows run until their episode has ended. A short episode is not followed by another one in its row, as that would
    bias the sample towards short episodes. Rows of a `Simulation` without hooks run as machine code, if the policy has
    a form (`byzbench.rl.forms`); other rows run in parallel, step by step.

    Args:
        policy: The policy that acts.
        theta: The parameters, [K, d].
        environments: The K*N environments.
        starts: The random generators of the initial states, one for each agent.
        noise: The noise of the actions, float32 [K, T, N, *a], as `policy.sample_noise` fills it; T is the horizon.
        count: The number of episodes of each agent, int64 [K], from 0 to N.
        hooks: The hooks that change observations and actions, if any.
        greedy: Whether the likeliest actions are taken; the noise then defines the shape only.

    Returns:
        The episodes, padded to the longest.
    """
    agents, horizon, rows = noise.shape[:3]
    shape, action_dtype = (agents, horizon, rows), torch.empty(0, dtype=policy.dtype).numpy().dtype
    form = form_of(policy) if hooks is None or not (hooks.observe or hooks.act) else None
    # Neither touches the memory of steps that are never reached.
    make = np.empty if form is not None and isinstance(environments, Simulated) else np.zeros
    results = {
        "observations": make((*shape, policy.observation_size), np.float32),
        "actions": make((*shape, *policy.action_shape), action_dtype),
        "rewards": make(shape, np.float32),
        "mask": make(shape, bool),
        "terminated": np.zeros((agents, rows), bool),
        "final_observations": np.zeros((agents, rows, policy.observation_size), np.float32),
    }
    first = environments.reset(starts)
    if form is not None and isinstance(environments, Simulated):
        length = environments.play(form, theta, noise, count, results, first, greedy)
    else:
        sample = policy.sampler(theta, None if greedy else noise)
        length = _rollout_in_parallel(policy, sample, environments, first, count, results, hooks)
    values = {name: torch.from_numpy(array) for name, array in results.items()}
    for name in ("observations", "actions", "rewards", "mask"):
        values[name] = values[name][:, : max(length, 1)]
    return Trajectories(**values | {name: values[name].contiguous() for name in ("rewards", "mask")}, count=count)


def _rollout_in_parallel(
    policy: Actor,
    sample: Sampler,
    environments: EnvironmentBatch,
    current: np.ndarray,
    count: Tensor,
    results: Mapping[str, np.ndarray],
    hooks: StepHooks | None,
) -> int:
    """Step all rows together, fill in the results, and return the length of the longest episode.

    Args:
        policy: The policy, which converts actions to those of the environments.
        sample: The sampler of actions.
        environments: The K*N environments, after their reset.
        current: The first observations, [K*N, o].
        count: The number of episodes of each agent, int64 [K].
        results: The fields of `Trajectories` in full length, by name: zeros, which are filled in.
        hooks: The hooks that change observations and actions, if any.
    """
    observations, actions, rewards, mask, terminated, final_observations = results.values()
    agents, horizon, rows = mask.shape
    shape = (agents, rows)
    active = (torch.arange(rows) < count.unsqueeze(1)).numpy()
    observe, act = (hooks.observe, hooks.act) if hooks else (None, None)
    current = current.reshape(*shape, -1)
    t = 0
    # Parameters may be infinite, of which NumPy, unlike torch, would warn.
    with torch.inference_mode(), np.errstate(all="ignore"):
        while t < horizon and active.any():
            if observe:
                observe(t, current)
            step_observations = observations[:, t]
            step_observations[:] = current
            step_actions = sample(t, step_observations)
            if act:
                act(t, step_actions)
            actions[:, t] = step_actions
            current, step_rewards, step_terminated, step_truncated = environments.step(
                policy.to_env_actions(step_actions)
            )
            current = current.reshape(*shape, -1)
            mask[:, t] = active
            np.multiply(step_rewards.reshape(shape), active, out=rewards[:, t])
            ended = (step_terminated | step_truncated).reshape(shape) & active
            if ended.any():
                newly_terminated = ended & step_terminated.reshape(shape)
                terminated |= newly_terminated
                newly_truncated = ended & ~newly_terminated
                final_observations[newly_truncated] = current[newly_truncated]
                active &= ~ended
            t += 1
    return t
