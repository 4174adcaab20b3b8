"""Conformance tests of policy families: one function for each property.

    for check in CHECKS:
        check(family, PolicyCase("cartpole"))

Each runs on a task with discrete and one with continuous actions, on a team, and on a task whose observations are
states. Tasks that the family refuses with `InvalidParameter` are left out. A check raises `AssertionError` with one
line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from byzbench.core import PolicyFamily, Task
from byzbench.errors import InvalidParameter
from byzbench.registry import make
from byzbench.rl.policies import Policy

ROWS = 6


@dataclass(frozen=True)
class PolicyCase:
    """Input of a check: a task, and the seed of parameters, observations and noise.

    Attributes:
        env: The written form of the task.
        seed: The seed.
    """

    env: str
    seed: int = 0

    @property
    def task(self) -> Task:
        """Return the task."""
        return make("task", self.env)


Check: TypeAlias = Callable[[PolicyFamily, PolicyCase], None]
CASES = (
    PolicyCase("cartpole"),
    PolicyCase("pendulum"),
    PolicyCase("gymnasium:FrozenLake-v1,steps=20,gamma=0.9,random=0.0,solved=0.7"),
    PolicyCase("pettingzoo:mpe2/simple_spread_v3,options='N=2'"),
)


@dataclass(frozen=True)
class Sampled:
    """A policy with parameters, observations, and actions that it drew there.

    Attributes:
        policy: The policy.
        theta: The parameters, float32 [K, d].
        observations: The observations, float32 [K, M, o].
        actions: The actions, [K, M, *a].
    """

    policy: Policy
    theta: Tensor
    observations: Tensor
    actions: Tensor

    def log_probabilities(self, theta: Tensor, agents: slice = slice(None)) -> Tensor:
        """Return log pi(a | s) of some agents at theta [P, d]: [P, M]."""
        observations = self.observations[agents].to(theta)
        return self.policy.log_probabilities(self.policy.layers(theta), observations, self.actions[agents])


def build(family: PolicyFamily, case: PolicyCase) -> Policy | None:
    """Return the policy for the task of a case; None if the family does not support the task."""
    try:
        return family.build(case.task)
    except InvalidParameter:
        return None


def sampled(family: PolicyFamily, case: PolicyCase, agents: int = 3) -> Sampled | None:
    """Return a policy with initial parameters of some agents, and actions for observations of the task.

    Args:
        family: The policy family.
        case: The case.
        agents: The number of agents.

    Returns:
        The policy and its inputs; None if the family does not support the task.
    """
    task = case.task
    if (policy := build(family, case)) is None:
        return None
    rngs = [np.random.default_rng([case.seed, k]) for k in range(agents)]
    theta = torch.stack([policy.initial(rng) for rng in rngs])
    noise_of_parameters = np.random.default_rng(case.seed)
    theta += 0.1 * torch.from_numpy(noise_of_parameters.standard_normal(theta.shape)).float()
    environments = task.make(agents, ROWS)
    observations = torch.from_numpy(environments.reset(rngs).reshape(agents, ROWS, -1))
    noise = np.empty((agents, ROWS, 1, *policy.action_shape), np.float32)
    for rng, agent_noise in zip(rngs, noise, strict=True):
        policy.sample_noise(rng, agent_noise)
    sample = policy.sampler(theta, torch.from_numpy(noise).transpose(1, 2))
    with torch.no_grad():
        actions = torch.from_numpy(np.array(sample(0, observations.numpy())))
    return Sampled(policy, theta, observations, actions)


def it_supports_a_task(family: PolicyFamily, case: PolicyCase) -> None:
    """Check that the family supports at least one of the tasks."""
    errors = []
    for other in CASES:
        try:
            family.build(other.task)
        except InvalidParameter as error:
            errors.append(str(error))
    assert len(errors) < len(CASES), f"it supports none of the tasks: {errors[-1]}"


def its_sizes_are_those_of_the_task(family: PolicyFamily, case: PolicyCase) -> None:
    """Check the size of observations, the shape of actions, and the shape and type of initial parameters."""
    task = case.task
    if (policy := build(family, case)) is None:
        return
    text = f"the policy takes observations of {policy.observation_size} numbers, and the task has others"
    assert policy.observation_size == task.observation_size, text
    text = f"an action has shape {list(policy.action_shape)}, expected {list(task.action_shape)}"
    assert policy.action_shape == task.action_shape, text
    theta = policy.initial(np.random.default_rng(case.seed))
    text = f"initial returned {theta.dtype} {list(theta.shape)}, expected float32 [{policy.dimension}]"
    assert theta.dtype == torch.float32, text
    assert theta.shape == (policy.dimension,), text
    assert theta.isfinite().all(), "an initial parameter is not finite"


def initial_parameters_are_drawn_from_the_generator(family: PolicyFamily, case: PolicyCase) -> None:
    """Check that equal generators give equal initial parameters, and that no other generator is used."""
    if (policy := build(family, case)) is None:
        return
    before = torch.get_rng_state()
    first, second = (policy.initial(np.random.default_rng(case.seed)) for _ in range(2))
    assert torch.equal(first, second), "initial differs for two equal generators: it draws from another generator"
    assert torch.equal(torch.get_rng_state(), before), "initial draws from torch's global generator"


def gradients_are_finite_differences(family: PolicyFamily, case: PolicyCase) -> None:
    """Check the gradient of the log-probabilities, in float64, along ten directions."""
    if (inputs := sampled(family, case, agents=1)) is None:
        return
    theta = inputs.theta.double().requires_grad_()
    (gradient,) = torch.autograd.grad(inputs.log_probabilities(theta).sum(), theta)
    rng = np.random.default_rng(case.seed)
    for _ in range(10):
        direction = torch.from_numpy(rng.standard_normal(theta.shape))
        direction *= 1e-6 / direction.norm()
        with torch.no_grad():
            ends = [float(inputs.log_probabilities(theta + sign * direction).sum()) for sign in (1, -1)]
        change = float((gradient * direction).sum())
        difference = (ends[0] - ends[1]) / 2
        close = abs(change - difference) <= 1e-3 * max(abs(change), abs(difference)) + 1e-11
        assert close, f"the gradient predicts a change of {change:.3g}, and log pi changes by {difference:.3g}"


def an_agent_is_the_same_alone_and_among_others(family: PolicyFamily, case: PolicyCase) -> None:
    """Check that log-probabilities of an agent are the same bytes for one row of theta and for several."""
    if (inputs := sampled(family, case)) is None:
        return
    together = inputs.log_probabilities(inputs.theta)
    for k in range(len(inputs.theta)):
        alone = inputs.log_probabilities(inputs.theta[k : k + 1], slice(k, k + 1))
        assert torch.equal(alone[0], together[k]), "log-probabilities of an agent depend on the others"


def probabilities_of_actions_sum_to_one(family: PolicyFamily, case: PolicyCase) -> None:
    """Check that the probabilities of discrete actions sum to one."""
    task = case.task
    if not isinstance(task.action_space, Discrete) or task.action_shape or (inputs := sampled(family, case)) is None:
        return
    total = torch.zeros(inputs.actions.shape, dtype=torch.float64)
    layers = inputs.policy.layers(inputs.theta)
    for action in range(int(task.action_space.n)):
        actions = torch.full_like(inputs.actions, action)
        total += inputs.policy.log_probabilities(layers, inputs.observations, actions).double().exp()
    assert torch.allclose(total, torch.ones_like(total), atol=1e-5), f"probabilities sum to {float(total.max()):.6g}"


def actions_are_in_the_space(family: PolicyFamily, case: PolicyCase) -> None:
    """Check that every action lies in the action space of the task, in the space's own type."""
    task = case.task
    if (inputs := sampled(family, case)) is None:
        return
    for action in inputs.policy.to_env_actions(inputs.actions.numpy()):
        for player_action in action if len(task.action_shape) > len(task.action_space.shape or ()) else [action]:
            assert task.action_space.contains(player_action), f"the action {player_action!r} is not in the space"


CHECKS: tuple[Check, ...] = (
    it_supports_a_task,
    its_sizes_are_those_of_the_task,
    initial_parameters_are_drawn_from_the_generator,
    gradients_are_finite_differences,
    an_agent_is_the_same_alone_and_among_others,
    probabilities_of_actions_sum_to_one,
    actions_are_in_the_space,
)
FORM: tuple[Check, ...] = (it_supports_a_task, its_sizes_are_those_of_the_task)
