"""Defaults of an experiment, and the checks of its numbers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import torch

from byzbench import registry
from byzbench.canonical import SCENARIO_PARAMETERS, to_current
from byzbench.core import Algorithm, Communication, Component, PolicyFamily, Recommendation, Task
from byzbench.errors import InvalidParameter, RenamedParameter, Undefined

Written = str | registry.Spec | Component

RECOMMENDED = "recommended"
"""The default preset: an algorithm's `recommended` parameters for the task, and else its preset `paper`."""


def defaults(algo: Written, preset: str, task: Task) -> dict[str, Any]:
    """Return the components that the algorithm and its preset name, and under `algorithm` the preset's parameters.

    A preset may name a `policy`, which precedes that of the task.

    Args:
        algo: The algorithm.
        preset: `recommended`, or one of `Algorithm.presets`.
        task: The task that the parameters are for.

    Raises:
        InvalidParameter: The algorithm has no such preset.

    Example:
        >>> defaults("decbyzpg", "recommended", registry.make("task", "cartpole"))["aggregator"]
        'rfa'
    """
    cls = _class_of(algo)
    graph = "star" if cls.communication == Communication.SERVER else "complete"
    usual = {"topology": graph, "aggregator": "mean", "agreement": "none"}
    values: dict[str, Any] = {"algorithm": {}, **usual, **cls.defaults}
    if preset == RECOMMENDED:
        recommended = recommendation(cls, task)
        values |= preset_of(cls, "paper", task)
        return values | {"algorithm": {**values["algorithm"], **(recommended.parameters if recommended else {})}}
    if preset not in cls.presets:
        names = ", ".join((RECOMMENDED, *cls.presets))
        raise InvalidParameter(f"{registry.name_of(cls)} has no preset {preset!r}; its presets: {names}")
    return values | preset_of(cls, preset, task)


def preset_of(algo: type[Algorithm], preset: str, task: Task) -> dict[str, Any]:
    """Return what a preset of an algorithm sets on a task; nothing if the algorithm has no such preset.

    Args:
        algo: The class of the algorithm.
        preset: The name of the preset.
        task: The task.

    Example:
        >>> preset_of(registry.find("algorithm", "svrpg"), "official", registry.make("task", "cartpole"))["policy"]
        'mlp(hidden=[16, 16], activation=relu)'
    """
    values = dict(algo.presets.get(preset, {}))
    return values | values.pop("tasks", {}).get(registry.name_of(task), {})


def recommendation(algo: type[Algorithm], task: Task) -> Recommendation | None:
    """Return the parameters that an algorithm recommends for a task, with their origin; None if it has none.

    Args:
        algo: The class of the algorithm.
        task: The task.

    Example:
        >>> recommendation(registry.find("algorithm", "gpomdp"), registry.make("task", "cartpole"))
    """
    return algo.recommended.get(registry.name_of(task))


def _class_of(algo: Written) -> type[Algorithm]:
    if isinstance(algo, Component):
        cls: type[Component] = type(algo)
    else:
        cls = registry.find("algorithm", registry.with_parameters("algorithm", algo, {}).name)
    assert issubclass(cls, Algorithm)
    return cls


def with_suggestions(
    task: Task, policy: PolicyFamily, algo: Written, usual: Mapping[str, Any], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the algorithm's parameters: those that the user sets, and suggested values of the others.

    Args:
        task: The task, whose suggestions have the lowest priority.
        policy: The policy family, whose suggestions have the next priority.
        algo: The algorithm as the user wrote it; a component has all its values, so none is suggested.
        usual: The result of `defaults`, whose parameters have priority over all suggestions.
        parameters: The user's further parameters.
    """
    if isinstance(algo, Component):
        return dict(parameters)
    spec, cls = registry.with_parameters("algorithm", algo, parameters), _class_of(algo)
    allowed = {f.name for f in fields(cls)}
    suggested = {name: value for _, layer in suggestions(task, policy, cls) for name, value in layer.items()}
    values = {**suggested, **usual["algorithm"]}
    return {k: v for k, v in values.items() if k in allowed} | spec.parameters


def suggestions(task: Task, policy: PolicyFamily, algo: type[Algorithm]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return suggested parameters of an algorithm, each set with its origin; later ones take precedence.

    Args:
        task: The task.
        policy: The policy family.
        algo: The class of the algorithm.

    Example:
        >>> task, policy = registry.make("task", "cartpole"), registry.make("policy", "mlp")
        >>> suggestions(task, policy, registry.find("algorithm", "gpomdp"))[0][1]["B"]
        4
    """
    name = registry.name_of(task)
    return [
        (f"suggested by task {name}", task.suggested),
        (f"suggested by policy {registry.name_of(policy)}", policy.suggested),
        (f"suggested by {registry.name_of(algo)} for {name}", algo.suggested.get(name, {})),
    ]


def with_moved_parameters(
    env: Written, policy: Written | None, scenario: Written, parameters: dict[str, dict[str, Any]]
) -> tuple[Written, Written | None, Written]:
    """Return the task, the policy and the scenario, where parameters that are written in the task are moved to these.

    Policies and scenarios were parameters of tasks. There they still work, with a warning.

    Args:
        env: The task as the user wrote it.
        policy: The policy family; None: the task's.
        scenario: The scenario.
        parameters: The user's further parameters by kind; those that are moved are removed from them.

    Raises:
        InvalidParameter: Such a parameter is given together with a policy or a scenario, or its value is invalid.
    """
    if isinstance(env, Component):
        return env, policy, scenario
    further = parameters.get("task", {})
    spec = registry.with_parameters("task", env, further)
    cls = registry.find("task", spec.name)
    assert issubclass(cls, Task)
    own = {f.name for f in fields(cls)}

    def moved_parameters(names: Iterable[str]) -> dict[str, Any]:
        values = {name: spec.parameters.pop(name) for name in names if name in spec.parameters and name not in own}
        return {name: value.name if isinstance(value, registry.Spec) else value for name, value in values.items()}

    of_policy, of_scenario = moved_parameters(("hidden", "squash")), moved_parameters(SCENARIO_PARAMETERS)
    if not of_policy and not of_scenario:
        return env, policy, scenario
    parameters["task"] = {n: value for n, value in further.items() if n not in of_policy and n not in of_scenario}
    if of_policy:
        first = next(iter(of_policy))
        if policy is not None:
            raise InvalidParameter(f"task {spec.name!r}: {first} is a parameter of the policy, which is given too")
        warnings.warn(RenamedParameter(f"task {spec.name!r}: {first} is now a parameter of --policy"), stacklevel=1)
        policy = registry.with_parameters("policy", cls.default_policy, of_policy)
    if of_scenario:
        first = next(iter(of_scenario))
        if scenario != "none":
            raise InvalidParameter(f"task {spec.name!r}: {first} is a parameter of the scenario, which is given too")
        described = {"task": {"name": spec.name, "parameters": of_scenario}}
        scenario = registry.from_description("scenario", to_current(described, 4, whole=False)["scenario"])
        text = f"--scenario {registry.written_form(scenario)!r}"
        warnings.warn(RenamedParameter(f"task {spec.name!r}: {first} is now written {text}"), stacklevel=1)
    return spec, policy, scenario


def usable(name: str | torch.device) -> str:
    """Return the name of a device after checking that torch can use it.

    Raises:
        InvalidParameter: The device cannot be used.
    """
    try:
        torch.ones(1, device=torch.device(str(name))).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InvalidParameter(f"device {name!r} cannot be used here: {reason}") from None
    return str(name)


def check_switch(name: str, value: object) -> None:
    """Check that the value of an option is True or False.

    Raises:
        InvalidParameter: It is something else.
    """
    if type(value) is not bool:
        raise InvalidParameter(f"{name} must be True or False, got {value!r}")


def check_counts(
    method: Algorithm,
    agents: int,
    byzantine: int | None,
    assumed_byzantine: int | None,
    trajectories: int,
    evaluations: int,
    evaluation_episodes: int,
    seed: int,
) -> None:
    """Check the numbers of an experiment.

    Args:
        method: The algorithm.
        agents: The number of agents.
        byzantine: The number of Byzantine agents; None: the default.
        assumed_byzantine: The number of Byzantine agents that agents assume; None: the true one.
        trajectories: The budget of episodes per agent.
        evaluations: The number of evaluations.
        evaluation_episodes: The number of episodes of each agent in an evaluation.
        seed: The seed.

    Raises:
        InvalidParameter: A number is out of its range.
        Undefined: The algorithm does not allow the number of agents, or there are too many Byzantine agents.
    """
    for name, number, low, high in (
        ("agents", agents, 1, 100_000),
        ("trajectories", trajectories, 1, 10**12),
        ("evaluations", evaluations, 1, 10_000),
        ("evaluation_episodes", evaluation_episodes, 1, 10_000),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if type(number) is not int or not low <= number <= high:
            raise InvalidParameter(f"{name} must be a whole number from {low} to {high}, got {number!r}")
    if method.communication == Communication.SINGLE_AGENT and agents != 1:
        raise Undefined(f"{registry.name_of(method)} is a method of one agent; got agents={agents}")
    for name, value in (("byzantine", byzantine), ("assumed_byzantine", assumed_byzantine)):
        if value is not None and (type(value) is not int or not 0 <= value < agents):
            raise Undefined(f"{name} must be a whole number from 0 to agents - 1 = {agents - 1}, got {value!r}")
