"""Conformance tests of scenarios: one function for each property.

    for check in CHECKS:
        check(scenario, ScenarioCase("cartpole"))

Tasks that the scenario refuses with `Undefined` are left out. Every part of a composition is checked. A check raises
`AssertionError` with one line that describes the failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import RewardBatch, Scenario, State, Task
from byzbench.errors import Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep
from byzbench.threads import one_thread

STEPS, EPISODES = 5, 3


@dataclass(frozen=True)
class ScenarioCase:
    """Input of a check: a task, a number of agents, and the seed of all draws.

    Attributes:
        env: The written form of the task.
        agents: The number of agents.
        seed: The seed.
    """

    env: str
    agents: int = 7
    seed: int = 0

    def generator(self, agent: int) -> np.random.Generator:
        """Return a new generator of an agent."""
        return np.random.default_rng([self.seed, agent])

    def experiment(self, scenario: Scenario) -> Experiment | None:
        """Return an experiment with the scenario; None if it is not defined there."""
        small = {"algo": {"N": 2, "B": 1}}
        try:
            return Experiment.create(
                env=self.env,
                scenario=scenario,
                agents=self.agents,
                byzantine=1,
                seed=self.seed,
                trajectories=6,
                parameters=small,
            )
        except Undefined:
            return None

    def task(self, scenario: Scenario) -> Task | None:
        """Return the task; None if the scenario is not defined on it."""
        experiment = self.experiment(scenario)
        return None if experiment is None else experiment.task


Check: TypeAlias = Callable[[Scenario, ScenarioCase], None]
CASES = (ScenarioCase("cartpole"), ScenarioCase("pendulum", seed=1))


def _transformed(part: Scenario, state: State, case: ScenarioCase, agents: list[int]) -> Tensor:
    """Return the transformed rewards of some agents at half of the budget."""
    rewards, mask = batch_of(case)
    batch = RewardBatch(rewards[agents], mask[agents], agents, 0.5, 2 * STEPS, case.generator)
    return part.transform_rewards(state, batch)


def batch_of(case: ScenarioCase) -> tuple[Tensor, Tensor]:
    """Return rewards and the mask of episodes of unequal length, [K, T, N]."""
    rng = np.random.default_rng(case.seed)
    lengths = rng.integers(1, STEPS + 1, size=(case.agents, EPISODES))
    mask = torch.from_numpy(np.arange(STEPS)[None, :, None] < lengths[:, None])
    return torch.from_numpy(rng.standard_normal(mask.shape).astype(np.float32)) * mask, mask


def it_is_defined_on_a_task(scenario: Scenario, case: ScenarioCase) -> None:
    """Check that the scenario is defined on at least one of the tasks."""
    defined = any(other.task(scenario) is not None for other in CASES)
    assert defined, f"it is defined on none of the tasks {', '.join(other.env for other in CASES)}"


def draws_keep_their_form(scenario: Scenario, case: ScenarioCase) -> None:
    """Check the state, the factors of physical constants, the absences and crashes, and the starts."""
    if (task := case.task(scenario)) is None:
        return
    for part in scenario.parts:
        state = part.start(task, case.agents, case.generator)
        assert isinstance(state, dict), f"start returned a {type(state).__name__}, not a dict"
        for name, value in state.items():
            assert isinstance(value, Tensor), f"the state's {name!r} is a {type(value).__name__}, not a tensor"
            rows = value.shape[:1] == (case.agents + 1,)
            assert rows, f"the state's {name!r} has shape {list(value.shape)}: expected a row for each agent and a last"
        for progress in (0.0, 0.5, 1.0):
            factors = part.physics_factors(state, task, [1, case.agents], progress)
            assert isinstance(factors, Mapping), f"physics_factors returned a {type(factors).__name__}, not a dict"
            for name, factor in factors.items():
                assert name in task.dynamics, f"the task has no physical constant {name!r}"
                form = f"{getattr(factor, 'dtype', type(factor).__name__)} {list(np.shape(factor))}"
                assert form == "float64 [2]", f"the factors of {name!r} are {form}, expected float64 [2]"
                assert np.isfinite(factor).all(), f"a factor of {name!r} is not finite"
        for agent, start, end in part.absences(state):
            assert 0 <= agent < case.agents, f"agent {agent} is absent, and there is no such agent"
            assert 0 <= start < end <= 1, f"agent {agent} is absent from {start} to {end}, which is no part of a budget"
        for agent, at in part.crashes(state).items():
            assert 0 <= agent < case.agents, f"agent {agent} crashes, and there is no such agent"
            assert 0 <= at <= 1, f"agent {agent} crashes at {at}, which is no share of a budget"
        if part.has_own_starts:
            numbers = part.own_starts(state, [1, case.agents], EPISODES, case.generator)
            form = f"{getattr(numbers, 'dtype', type(numbers).__name__)} {list(np.shape(numbers))}"
            assert form == f"int64 [2, {EPISODES}]", f"own_starts returned {form}, expected int64 [2, {EPISODES}]"
            assert (numbers[1] == -1).all(), "own_starts gives a state to the server, which has the task's"


def rewards_keep_their_form(scenario: Scenario, case: ScenarioCase) -> None:
    """Check that transformed rewards are finite float32 of the same shape, and zero after an episode."""
    if (task := case.task(scenario)) is None:
        return
    rewards, mask = batch_of(case)
    for part in scenario.parts:
        before, agents = rewards.clone(), list(range(case.agents))
        state = part.start(task, case.agents, case.generator)
        batch = RewardBatch(rewards, mask, agents, 0.5, 2 * STEPS, case.generator)
        after = part.transform_rewards(state, batch)
        assert torch.equal(rewards, before), "transform_rewards modified the rewards that it received"
        assert isinstance(after, Tensor), f"transform_rewards returned a {type(after).__name__}, not a tensor"
        form = f"{after.dtype} of shape {list(after.shape)}"
        expected = f"torch.float32 of shape {list(rewards.shape)}"
        assert form == expected, f"transform_rewards returned {form}, expected {expected}"
        assert after.isfinite().all(), "a transformed reward is not finite"
        assert not after[~mask].any(), "a reward after the end of an episode is not zero"


def same_generators_give_same_draws(scenario: Scenario, case: ScenarioCase) -> None:
    """Check that equal generators give the same state and the same rewards."""
    if (task := case.task(scenario)) is None:
        return
    for part in scenario.parts:
        first, second = (part.start(task, case.agents, case.generator) for _ in range(2))
        same = first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
        assert same, "two equal calls of start differ: it draws from another generator, or has hidden state"
        agents = list(range(case.agents))
        rewards = [_transformed(part, first, case, agents) for _ in range(2)]
        assert torch.equal(*rewards), "two equal calls of transform_rewards differ"


def an_agent_does_not_depend_on_others(scenario: Scenario, case: ScenarioCase) -> None:
    """Check that the draws of an agent are the same among fewer agents, and its rewards and starts the same alone."""
    if (task := case.task(scenario)) is None:
        return
    for part in scenario.parts:
        state, fewer = (part.start(task, agents, case.generator) for agents in (case.agents, case.agents - 2))
        for name, value in fewer.items():
            same = torch.equal(value[:-1], state[name][: case.agents - 2])
            assert same, f"the state's {name!r} of an agent depends on the number of agents"
        whole = _transformed(part, state, case, list(range(case.agents)))
        for agent in range(case.agents):
            alone = _transformed(part, state, case, [agent])
            assert torch.equal(alone, whole[[agent]]), "the rewards of an agent depend on other agents"
        if part.has_own_starts:
            starts = part.own_starts(state, list(range(case.agents)), EPISODES, case.generator)
            for agent in range(case.agents):
                alone_and_more = part.own_starts(state, [agent], EPISODES + 1, case.generator)
                same = (alone_and_more[0, :-1] == starts[agent]).all()
                assert same, "the starts of an agent depend on other agents, or on the number of episodes"


def a_federation_trains_in_it(scenario: Scenario, case: ScenarioCase) -> None:
    """Check that a federation trains in it to the end of a small budget, with finite parameters."""
    if (experiment := case.experiment(scenario)) is None:
        return
    training = Training(experiment)
    with one_thread():
        while not training.is_finished:
            lockstep(training.advance())
    assert not training.federation.counters.num_malformed, "training led to messages that are not finite"
    assert training.state["theta"].isfinite().all(), "training led to parameters that are not finite"


CHECKS: tuple[Check, ...] = (
    it_is_defined_on_a_task,
    draws_keep_their_form,
    rewards_keep_their_form,
    same_generators_give_same_draws,
    an_agent_does_not_depend_on_others,
    a_federation_trains_in_it,
)
FORM: tuple[Check, ...] = (it_is_defined_on_a_task, draws_keep_their_form, rewards_keep_their_form)
"""The checks of shapes and types, without which the others cannot run."""
