"""Tasks: their attributes, and observations and rewards for fixed actions, also with changed constants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from byzbench.canonical import canonical, to_current
from byzbench.core import PolicyFamily, Scenario, Setting, Task
from byzbench.errors import Undefined
from byzbench.registry import describe, from_description, make
from byzbench.rl.simulations import Simulated
from byzbench.scenarios.churn import Churn
from byzbench.scenarios.nonstationary import Nonstationary
from tests.golden.parts import Cases, Inputs, build, shipped
from tests.golden.summaries import summary

STEPS = 12

WRITTEN: Mapping[str, str] = {
    "gymnasium": "gymnasium:id=FrozenLake-v1,steps=9,gamma=0.8,random=0.1,solved=0.7",
    "pettingzoo": "pettingzoo:id=mpe2/simple_spread_v3,steps=8",
}
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "cartpole": ("cartpole",),
    "gymnasium": ("gymnasium:id=CartPole-v1",),
    "lunarlander": ("lunarlander:backend=envpool",),
    "pettingzoo": (
        "pettingzoo:id=mpe2/simple_spread_v3,steps=8,world=shared,options='N=2 continuous_actions=True'",
        "pettingzoo:id=mpe2/simple_spread_v3,options='N=2'",
    ),
}
SCENARIOS: Mapping[str, str] = {
    "cartpole 2": "nonstationary(physics='length=2 gravity=0.5')+churn(absent='1:0-0.5 0:0.5-1')",
}
"""The scenarios of cases that have one: their facts were those of the task."""


def generated() -> Cases:
    """Yield a case for every task and variant."""
    for name, key in shipped("task"):
        written = (WRITTEN.get(name, name), *VARIANTS.get(name, ()))
        for number, text in enumerate(written, 1):
            case = key if number == 1 else f"{key} {number}"
            yield f"task {case}", partial(_inputs, text, SCENARIOS.get(case, "none"))


def _inputs(text: str, scenario: str) -> Inputs:
    """Return the inputs of a case: the task as it was first written, with its scenario."""
    components = {"task": make("task", text), "scenario": make("scenario", scenario)}
    described = canonical({kind: describe(component) for kind, component in components.items()})
    return json.loads(json.dumps(described))


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the attributes of a task, and what its environments return for fixed actions."""
    task = build("task", inputs["task"])
    scenario = make_scenario(inputs)
    assert isinstance(task, Task)
    agents = getattr(task, "seats", 2) if task.shared else 2
    policy = make_policy(task).build(task, squash_logits=True)
    facts: dict[str, Any] = {
        "numbers": [task.observation_size, task.horizon, task.players, task.shared, task.discount, policy.dimension],
        "dynamics": " ".join(task.dynamics),
        "changes": [
            {k: v for part in scenario.parts if isinstance(part, Nonstationary) for k, v in part.factors.items()},
            [absence for part in scenario.parts if isinstance(part, Churn) for absence in part.listed],
        ],
        "reference": summary(dict(task.reference)),
        "check": [_accepted(task, scenario, count) for count in range(1, 5)],
    }
    results = {"facts": facts, "steps": _steps(task, agents), "altered": _steps(task, agents, alter=True)}
    return results if task.shared else {**results, "far states": _far_states(task)}


def make_policy(task: Task) -> PolicyFamily:
    """Return the policy family of a task."""
    family = make("policy", task.default_policy)
    assert isinstance(family, PolicyFamily)
    return family


def make_scenario(inputs: Inputs) -> Scenario:
    """Return the scenario of a case, which was a part of the task."""
    scenario = from_description("scenario", to_current(inputs, 1)["scenario"])
    assert isinstance(scenario, Scenario)
    return scenario


def _accepted(task: Task, scenario: Scenario, agents: int) -> bool:
    try:
        task.check(Setting(agents))
        scenario.check(Setting(agents))
    except Undefined:
        return False
    return True


def _steps(task: Task, agents: int, alter: bool = False) -> Any:
    """Return observations, rewards and ends of two environments of each agent, for the first and the last steps."""
    if alter and not task.dynamics:
        return []
    environments = task.make(agents, 2)
    if alter:
        # Half of the constants for one agent, and the others for the next.
        factors = {name: np.where(np.arange(agents) == k % 2, 1.3, 0.8) for k, name in enumerate(task.dynamics)}
        task.scale_dynamics(environments, factors)
    results = [summary(environments.reset([np.random.default_rng(k) for k in range(agents)]))]
    rng = np.random.default_rng(6)
    results.extend(summary(list(environments.step(_draw_actions(task, rng, agents, 2)))) for _ in range(STEPS))
    return results[:2] + results[-2:]


def _draw_actions(task: Task, rng: np.random.Generator, agents: int, rows: int) -> np.ndarray:
    """Draw the actions of the environments of all agents: normal ones where they are continuous."""
    policy = make_policy(task).build(task)
    shape = (agents, rows, *policy.action_shape)
    if policy.dtype.is_floating_point:
        return policy.to_env_actions(rng.standard_normal(shape).astype(np.float32))
    return policy.to_env_actions(rng.integers(task.action_count, size=shape))


def _far_states(task: Task) -> list[Any]:
    """Return a step from states that no short episode reaches: limits, ends, and angles beyond a turn."""
    environments, rng, results = task.make(2, 3), np.random.default_rng(7), []
    environments.reset([np.random.default_rng(k) for k in range(2)])
    for scale in (0.2, 3, 20):
        if isinstance(environments, Simulated):
            environments.states[:] = scale * rng.uniform(-1, 1, environments.states.shape)
            outputs = environments.step(_draw_actions(task, rng, 2, 3))
            results.append(summary([*outputs, environments.states]))
    return results
