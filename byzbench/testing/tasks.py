"""Conformance tests of tasks: one function for each property.

    for check in CHECKS:
        check(task, TaskCase(seed=0))

A check raises `AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from byzbench.core import PolicyFamily, Setting, Task
from byzbench.errors import InvalidParameter, Undefined
from byzbench.registry import make
from byzbench.rl.gradients import gpomdp
from byzbench.rl.policies import Policy
from byzbench.rl.rollouts import EnvironmentBatch, Trajectories, rollout

FAMILIES = ("tabular", "linear", "mlp(hidden=[8])")
"""The policy families for which exact returns are checked, as far as the task supports them."""
MAX_Z = 5.0
"""The largest deviation of a mean from its expectation, in standard errors."""

LONGEST = 1000
"""The horizon for which noise is drawn, so that episodes of tasks with shorter horizons start in the same way."""


@dataclass(frozen=True)
class TaskCase:
    """Input of a check: the seed of episodes.

    Attributes:
        seed: The seed.
    """

    seed: int = 0


Check: TypeAlias = Callable[[Task, TaskCase], None]
CASES = (TaskCase(0),)


def num_agents(task: Task) -> int:
    """Return a number of agents for which the task is defined: 3, or that of a shared environment.

    Args:
        task: The task.

    Raises:
        Undefined: It is undefined for 1 to 12 agents.
    """
    reason: Undefined | None = None
    for agents in (3, *range(1, 13)):
        try:
            task.check(Setting(agents))
            return agents
        except Undefined as error:
            reason = error
    raise reason or Undefined("the task is undefined for 1 to 12 agents")


def agent_generators(agents: Sequence[int], seed: int) -> list[np.random.Generator]:
    """Return one generator for each agent, from a seed and its number."""
    return [np.random.default_rng([seed, agent]) for agent in agents]


def default_policy(task: Task, squash_logits: bool = False) -> Policy:
    """Return the policy of a task for which no family is named.

    Args:
        task: The task.
        squash_logits: Whether the logits of discrete actions pass through tanh.
    """
    family = make("policy", task.default_policy)
    assert isinstance(family, PolicyFamily)
    return family.build(task, squash_logits)


def sample_episodes(
    task: Task,
    agents: Sequence[int] = (0, 1, 2),
    rows: int = 4,
    seed: int = 0,
    environments: EnvironmentBatch | None = None,
) -> Trajectories:
    """Sample episodes of some agents with different policies, each from the seed and the number of the agent.

    Args:
        task: The task.
        agents: The agents.
        rows: The number of episodes of each agent.
        seed: The seed.
        environments: The environments; by default new ones.
    """
    policy = default_policy(task)
    theta = torch.stack([policy.initial(rng) for rng in agent_generators(agents, 2)])
    environments = environments or task.make(len(agents), rows)
    return sample_with(policy, theta, task, environments, agents, rows, seed)


def sample_with(
    policy: Policy,
    theta: Tensor,
    task: Task,
    environments: EnvironmentBatch,
    agents: Sequence[int],
    rows: int,
    seed: int,
) -> Trajectories:
    """Sample episodes of given policies, each from the seed and the number of the agent.

    Args:
        policy: The policy.
        theta: The parameters of the agents, [K, d].
        task: The task.
        environments: The environments of the agents.
        agents: The K agents.
        rows: The number of episodes of each agent.
        seed: The seed.
    """
    noise = np.empty((len(agents), rows, max(LONGEST, task.horizon), *policy.action_shape), np.float32)
    for rng, agent_noise in zip(agent_generators(agents, seed + 1), noise, strict=True):
        policy.sample_noise(rng, agent_noise)
    action_noise = torch.from_numpy(noise).transpose(1, 2)[:, : task.horizon]
    counts = torch.full((len(agents),), rows)
    return rollout(policy, theta, environments, agent_generators(agents, seed), action_noise, counts)


def unpadded(batch: Trajectories) -> tuple[Tensor, ...]:
    """Return observations, actions, rewards, mask and terminations of episodes, with zeros after the end of each."""
    mask = batch.mask
    actions = batch.actions * mask.view(*mask.shape, *[1] * (batch.actions.dim() - 3))
    return batch.observations * mask.unsqueeze(-1), actions, batch.rewards, mask, batch.terminated


def same_episodes(left: Trajectories, right: Trajectories) -> bool:
    """Return whether two batches contain the same episodes, whatever their padding."""
    steps = min(left.mask.shape[1], right.mask.shape[1])
    (*first, a), (*second, b) = unpadded(left), unpadded(right)
    short = all(torch.equal(x[:, :steps], y[:, :steps]) for x, y in zip(first, second, strict=True))
    return short and torch.equal(a, b) and not left.mask[:, steps:].any() and not right.mask[:, steps:].any()


def select_episodes(batch: Trajectories, agents: slice = slice(None), rows: slice = slice(None)) -> Trajectories:
    """Return some episodes of some agents.

    Args:
        batch: The episodes.
        agents: The agents.
        rows: The episodes of each agent.
    """
    values = {k: v[agents] if k in ("count", "terminated") else v[agents][:, :, rows] for k, v in vars(batch).items()}
    return type(batch)(**{**values, "terminated": batch.terminated[agents][:, rows]})


def random_actions(task: Task, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw one action for each row of a batch of environments: uniform, or normal where there are no bounds.

    Args:
        task: The task.
        rows: The number of rows.
        rng: The generator.
    """
    shape = (rows, task.players) if task.players > 1 else (rows,)
    space: Any = task.action_space
    if isinstance(space, Discrete):
        return rng.integers(int(space.n), size=shape)
    assert isinstance(space, Box), f"action_space is a {type(space).__name__}, not Discrete or Box"
    if not space.is_bounded():
        return rng.standard_normal((*shape, *space.shape)).clip(space.low, space.high).astype(np.float32)
    return rng.uniform(space.low, space.high, (*shape, *space.shape)).astype(np.float32)


def declares_its_sizes(task: Task, case: TaskCase) -> None:
    """Check the class attributes: observation size, action space, horizon, discount, and names of constants."""
    for name in ("observation_size", "horizon", "players", "budget"):
        value = getattr(task, name, None)
        valid = isinstance(value, int | np.integer) and value >= 1
        assert valid, f"{name} is {value!r}, not an integer of at least 1"
    discount = getattr(task, "discount", None)
    assert isinstance(discount, float | int), f"discount is {discount!r}, not a number in (0, 1]"
    assert 0 < discount <= 1, f"discount is {discount!r}, not a number in (0, 1]"
    space: Any = getattr(task, "action_space", None)
    assert isinstance(space, Discrete | Box), f"action_space is a {type(space).__name__}, not Discrete or Box"
    start = int(space.start) if isinstance(space, Discrete) else 0
    assert start == 0, f"action_space starts at {start}, not at 0"
    shape = space.shape or ()
    assert len(shape) <= 1, f"action_space has shape {list(shape)}, not one dimension"
    policy = default_policy(task)
    size = policy.observation_size
    assert size == task.observation_size, f"the policy takes {size} numbers, and an observation has another size"


def steps_have_the_declared_form(task: Task, case: TaskCase) -> None:
    """Check shapes and dtypes of `reset` and `step` up to the horizon, and that observations and rewards are finite."""
    agents = num_agents(task)
    rows, rng = 2 * agents, np.random.default_rng(case.seed)
    environments = task.make(agents, 2)
    observations = environments.reset(agent_generators(range(agents), case.seed))
    expected, method = f"float32 [{rows}, {task.observation_size}] (K N, o)", "reset"
    for _ in range(task.horizon):
        form = _form(observations)
        assert form == expected.partition(" (")[0], f"{method} returned observations {form}, expected {expected}"
        assert np.isfinite(observations).all(), f"{method} returned an observation that is not finite"
        output, method = environments.step(random_actions(task, rows, rng)), "step"
        assert isinstance(output, tuple) and len(output) == 4, (  # noqa: PT018
            "step must return (observations, rewards, terminated, truncated)"
        )
        observations, rewards, *ends = output
        shape = list(np.shape(rewards))
        assert shape == [rows], f"step returned rewards of shape {shape}, expected [{rows}] (a row for each episode)"
        assert np.isfinite(rewards).all(), "step returned a reward that is not finite"
        for name, end in zip(("terminated", "truncated"), ends, strict=True):
            assert _form(end) == f"bool [{rows}]", f"step returned {name} as {_form(end)}, expected bool [{rows}]"


def _form(x: Any) -> str:
    return f"{getattr(x, 'dtype', type(x).__name__)} {list(np.shape(x))}"


def every_row_is_one_whole_episode(task: Task, case: TaskCase) -> None:
    """Check that each row is one episode: it ends by termination or at the horizon, and actions are legal."""
    agents = num_agents(task)
    batch = sample_episodes(task, range(agents), rows=5, seed=case.seed)
    lengths = batch.mask.sum(1)
    assert batch.mask.shape[::2] == (agents, 5)
    assert batch.mask[:, 0].all(), "an episode has no step"
    assert (batch.mask[:, 1:] <= batch.mask[:, :-1]).all(), "the steps of an episode have a gap"
    whole = batch.terminated | (lengths == task.horizon)
    assert whole.all(), f"an episode ends without termination before the horizon {task.horizon}"
    assert (batch.rewards[~batch.mask] == 0).all(), "there is a reward after the end of an episode"
    assert batch.observations.isfinite().all(), "an observation is not finite"
    for action in default_policy(task).to_env_actions(batch.actions[:, 0].numpy()):
        for player_action in action if task.players > 1 else [action]:
            assert task.action_space.contains(player_action), f"the action {player_action!r} is not legal"


def first_episodes_do_not_depend_on_their_number(task: Task, case: TaskCase) -> None:
    """Check that the first episodes of an agent are the same however many follow.

    Where actions are continuous they are the same up to rounding, as a network rounds other numbers of rows otherwise.
    """
    if task.shared:
        return
    starts = agent_generators(range(2), case.seed), agent_generators(range(2), case.seed)
    few, many = (task.make(2, n).reset(rngs).reshape(2, n, -1) for n, rngs in zip((3, 7), starts, strict=True))
    assert np.array_equal(few, many[:, :3]), "the first states of an agent depend on how many it has"
    three = sample_episodes(task, rows=3, seed=case.seed)
    seven = select_episodes(sample_episodes(task, rows=7, seed=case.seed), rows=slice(3))
    if isinstance(task.action_space, Box):
        steps = min(3, three.mask.shape[1], seven.mask.shape[1])
        same = torch.allclose(three.observations[:, :steps], seven.observations[:, :steps], rtol=1.3e-6, atol=1e-5)
    else:
        same = same_episodes(three, seven)
    assert same, "the first episodes of an agent depend on how many it has"


def same_seed_gives_same_episodes(task: Task, case: TaskCase) -> None:
    """Check that equal generators give equal episodes, in new environments and in used ones."""
    agents = range(num_agents(task))
    used = task.make(len(agents), 4)
    first = sample_episodes(task, agents, seed=case.seed, environments=used)
    other = sample_episodes(task, agents, seed=case.seed + 5, environments=used)
    assert not same_episodes(first, other), "other seeds give the same episodes"
    again = sample_episodes(task, agents, seed=case.seed, environments=used)
    assert same_episodes(first, again), "used environments give other episodes for the same seed"
    assert same_episodes(first, sample_episodes(task, agents, seed=case.seed)), "new environments give other episodes"


def interrupted_episodes_leave_nothing(task: Task, case: TaskCase) -> None:
    """Check that episodes are the same after others that were interrupted."""
    agents, rng = range(num_agents(task)), np.random.default_rng(case.seed)
    used = task.make(len(agents), 4)
    used.reset(agent_generators(agents, case.seed + 5))
    for _ in range(3):
        used.step(random_actions(task, 4 * len(agents), rng))
    new, resumed = (sample_episodes(task, agents, seed=case.seed, environments=e) for e in (None, used))
    assert same_episodes(new, resumed), "a reset keeps something of an interrupted episode"


def agents_do_not_share_an_environment(task: Task, case: TaskCase) -> None:
    """Check that the episodes of agents in one batch are those of each alone, unless the task is `shared`."""
    if task.shared:
        return
    block = sample_episodes(task, seed=case.seed)
    for agent in range(3):
        alone = sample_episodes(task, agents=[agent], seed=case.seed)
        same = same_episodes(select_episodes(block, slice(agent, agent + 1)), alone)
        assert same, f"agent {agent} of three has other episodes than alone"


def constants_are_scaled_from_their_originals(task: Task, case: TaskCase) -> None:
    """Check for each of `dynamics` that factors apply to the original constants, and that 1 changes nothing."""
    agents = num_agents(task)
    environments, original = task.make(agents, 4), sample_episodes(task, range(agents), seed=case.seed)
    for name in task.dynamics:
        task.scale_dynamics(environments, {name: np.full(agents, 1.5)})
        sample_episodes(task, range(agents), seed=case.seed, environments=environments)
        for factors in ({name: np.ones(agents)}, {}):
            task.scale_dynamics(environments, factors)
            same = sample_episodes(task, range(agents), seed=case.seed, environments=environments)
            text = f"after a factor of 1.5, {name} is not restored by {'a factor of 1' if factors else 'no factor'}"
            assert same_episodes(original, same), text


def exact_policies(task: Task, agents: int, seed: int) -> Iterator[tuple[Policy, Tensor]]:
    """Yield the policies for which the task has exact returns, each with parameters near its initial ones.

    Args:
        task: The task.
        agents: The number K of agents.
        seed: The seed.

    Yields:
        The policy, and the parameters float32 [K, d], other ones for each agent.
    """
    for text in FAMILIES:
        family = make("policy", text)
        assert isinstance(family, PolicyFamily)
        try:
            policy = family.build(task)
            rows = [
                policy.initial(rng) + torch.from_numpy(0.1 * rng.standard_normal(policy.dimension, np.float32))
                for rng in agent_generators(range(agents), seed)
            ]
            task.exact(policy, rows[0].unsqueeze(0))
        except (InvalidParameter, Undefined):
            continue
        yield policy, torch.stack(rows)


def agent_factors(task: Task, agents: int) -> dict[str, np.ndarray]:
    """Return factors of the task's constants, float64 [K] each: between 0.8 and 1.25, other ones for each agent."""
    spread = np.linspace(0.8, 1.25, agents)
    return {name: np.roll(spread, i) for i, name in enumerate(task.dynamics)}


def exact_gradients_are_finite_differences(task: Task, case: TaskCase) -> None:
    """Check `Task.exact`: its gradients are central differences of its returns, to 1e-6 of their length or of 1."""
    width, agents = 1e-5, 4
    for policy, theta in exact_policies(task, agents, case.seed):
        # Each agent has a direction of its own in which its return is differentiated.
        directions = torch.stack(
            [torch.from_numpy(rng.standard_normal(policy.dimension)) for rng in agent_generators(range(agents), 7)]
        )
        directions /= directions.norm(dim=1, keepdim=True)
        for factors in ({}, agent_factors(task, agents)):
            gradients = task.exact(policy, theta, factors).gradients
            ahead, behind = (
                task.exact(policy, theta.double() + sign * width * directions, factors).returns for sign in (1, -1)
            )
            expected, derivative = (ahead - behind) / (2 * width), (gradients * directions).sum(1)
            error = (derivative - expected).abs() / gradients.norm(dim=1).clamp(min=1)
            assert error.max() <= 1e-6, f"exact gradients differ from finite differences by {error.max():.1e}"


def exact_rows_do_not_depend_on_other_rows(task: Task, case: TaskCase) -> None:
    """Check `Task.exact`: the values of an agent are the same bytes alone and among others."""
    for policy, theta in exact_policies(task, 3, case.seed):
        factors = agent_factors(task, 3)
        block = task.exact(policy, theta, factors)
        for k in range(3):
            own = {name: factor[k : k + 1] for name, factor in factors.items()}
            alone = task.exact(policy, theta[k : k + 1], own)
            same = all(torch.equal(one[0], many[k]) for one, many in zip(alone, block, strict=True))
            assert same, f"the exact values of agent {k} of three differ from those of it alone"


def exact_values_are_means_of_episodes(task: Task, case: TaskCase) -> None:
    """Check `Task.exact` against episodes: the means of their discounted returns and of their `gpomdp` gradients.

    Gradients are compared in three directions: along the exact one, and two others. Where hardly any episode has a
    reward, nothing is compared.
    """
    agents, rows = 40, 10
    environments: EnvironmentBatch | None = None
    for policy, theta in exact_policies(task, 1, case.seed):
        for factors in ({}, {name: factor[:1] for name, factor in agent_factors(task, 3).items()}):
            exact = task.exact(policy, theta, factors)
            environments = environments or task.make(agents, rows)
            same = theta.expand(agents, -1).contiguous()
            if task.dynamics:
                task.scale_dynamics(environments, {name: factor.repeat(agents) for name, factor in factors.items()})
            batch = sample_with(policy, same, task, environments, range(agents), rows, case.seed)
            discounts = task.discount ** torch.arange(batch.rewards.shape[1], dtype=torch.float64).view(1, -1, 1)
            returns = (batch.rewards.double() * discounts).sum(1).mean(1)
            rng = np.random.default_rng(case.seed)
            others = torch.from_numpy(rng.standard_normal((2, policy.dimension)))
            directions = torch.cat([exact.gradients, others])
            errors = (gpomdp(policy, same, batch, task.discount).double() - exact.gradients) @ directions.mT
            for name, values in (("return", returns - exact.returns), *(("gradient", e) for e in errors.mT)):
                if len(values.unique()) <= agents // 2:
                    continue  # too few episodes have a reward for a mean that is normal
                z = float(values.mean() / values.std() * agents**0.5)
                assert abs(z) <= MAX_Z, f"the exact {name} is {abs(z):.1f} standard errors from the mean of episodes"


CHECKS: tuple[Check, ...] = (
    declares_its_sizes,
    steps_have_the_declared_form,
    every_row_is_one_whole_episode,
    first_episodes_do_not_depend_on_their_number,
    same_seed_gives_same_episodes,
    interrupted_episodes_leave_nothing,
    agents_do_not_share_an_environment,
    constants_are_scaled_from_their_originals,
    exact_gradients_are_finite_differences,
    exact_rows_do_not_depend_on_other_rows,
    exact_values_are_means_of_episodes,
)
FORM: tuple[Check, ...] = (declares_its_sizes, steps_have_the_declared_form)
"""The checks of shapes and types, without which the others cannot run."""
