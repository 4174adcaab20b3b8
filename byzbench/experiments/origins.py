"""Origins of the values of an experiment: what a run without further options would use, and why."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from byzbench import registry
from byzbench.experiments.defaults import RECOMMENDED, Written, preset_of, recommendation, suggestions
from byzbench.experiments.experiment import Experiment


@dataclass(frozen=True)
class ValueOrigin:
    """A value of an experiment, and its origin.

    Attributes:
        name: The axis, or a parameter of the algorithm as `algo.NAME`.
        value: The value as text.
        origin: The component, preset or study that it is from.
    """

    name: str
    value: str
    origin: str


def value_origins(
    algo: str, env: Written, policy: Written | None = None, preset: str = RECOMMENDED
) -> list[ValueOrigin]:
    """Return what a run of an algorithm on a task would use: the axes that depend on both, and every parameter.

    Args:
        algo: The algorithm; parameters that are written are listed as given.
        env: The task.
        policy: The policy family; None: the task's.
        preset: The preset of the algorithm.

    Raises:
        UserError: The options are invalid, or the algorithm cannot run by its defaults.

    Example:
        >>> {entry.name: entry.origin for entry in value_origins("decbyzpg", "acrobot")}["algo.lr"]
        'suggested by task acrobot'
    """
    experiment = Experiment.create(algo, env=env, policy=policy, preset=preset)
    task, cls = experiment.task, type(experiment.algorithm)
    name, task_name = registry.name_of(cls), registry.name_of(task)
    of_preset = "paper" if preset == RECOMMENDED else preset
    of_task, origin_of_preset = preset_of(cls, of_preset, task), f"preset {of_preset} of {name}"
    policy_default = origin_of_preset if "policy" in of_task else f"default of task {task_name}"
    entries = [
        ValueOrigin("env", _text(task), "given"),
        ValueOrigin("policy", _text(experiment.policy), "given" if policy else policy_default),
    ]
    for axis in ("topology", "aggregator", "agreement"):
        origin = f"default of {name}" if axis in cls.defaults else "default"
        if axis in of_task:
            origin = origin_of_preset
        entries.append(ValueOrigin(axis, _text(getattr(experiment, axis)), origin))
    entries.append(ValueOrigin("trajectories", str(experiment.trajectories), f"budget of task {task_name}"))

    layers = suggestions(task, experiment.policy, cls)
    layers.append((origin_of_preset, of_task.get("algorithm", {})))
    if preset == RECOMMENDED and (recommended := recommendation(cls, task)):
        layers.append((recommended.origin, recommended.parameters))
    layers.append(("given", registry.with_parameters("algorithm", algo, {}).parameters))
    for field in fields(cls):
        origin = next((text for text, layer in reversed(layers) if field.name in layer), f"default of {name}")
        entries.append(ValueOrigin(f"algo.{field.name}", _text(getattr(experiment.algorithm, field.name)), origin))
    return entries


def _text(value: Any) -> str:
    """Return a value as a user writes it; a component without the parameters that have their default."""
    if not hasattr(value, "kind"):
        return str(list(value)) if isinstance(value, tuple) else str(value)
    changed = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
    parameters = ", ".join(f"{name}={_text(part)}" for name, part in changed.items())
    return registry.name_of(value) + (f"({parameters})" if parameters else "")
