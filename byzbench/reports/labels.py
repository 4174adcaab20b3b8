"""Labels of components in tables and titles. Imports nothing heavy but a component whose parameters differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from byzbench.errors import ByzbenchError

if TYPE_CHECKING:
    from byzbench.core import Component
    from byzbench.experiments.experiment import Experiment


def component_label(component: Component) -> str:
    """Return the name of a component, with the id of an environment that another library registers.

    Example:
        >>> from byzbench.registry import make
        >>> component_label(make("task", "gymnasium", id="CartPole-v1")), component_label(make("attack", "alie", z=2.0))
        ('gymnasium:CartPole-v1', 'alie')
    """
    from byzbench.registry import name_of

    return _with_id(name_of(component), vars(component))


def experiment_label(experiment: Experiment) -> str:
    """Return the name of a run before its progress.

    Example:
        >>> from byzbench import Experiment
        >>> experiment_label(Experiment.create("byzpg", seed=3))
        'byzpg · none · star · seed 3'
    """
    components = (experiment.algorithm, experiment.attack, experiment.topology)
    return " · ".join([*map(component_label, components), f"seed {experiment.seed}"])


def description_label(kind: str, description: Any, candidates: Sequence[Any], depth: int = 4) -> str:
    """Return the name of a component with the parameters in which others of that name differ.

    Parameters at their default are left out.

    Args:
        kind: The kind of the component.
        description: The component as `byzbench.registry.describe` returns it, or another value of an axis.
        candidates: The descriptions that may occur beside it, itself included.
        depth: The largest number of components inside each other that are read.

    Example:
        >>> alie = [{"name": "alie", "parameters": {"z": z}} for z in (1.5, 2.0, None)]
        >>> [description_label("attack", attack, alie) for attack in alie]
        ['alie(z=1.5)', 'alie(z=2.0)', 'alie']
    """
    if not _is_component(description) or depth == 0:
        return str(description)
    name, parameters = description["name"], description["parameters"]
    peers = [other["parameters"] for other in candidates if _is_component(other) and other["name"] == name]
    shown, inner = [], ""
    for key, value in parameters.items():
        others = [peer.get(key) for peer in peers]
        if _is_component(value):
            inner += "+" + description_label(_kind_of_parameter(kind, name, key), value, others, depth - 1)
        elif _is_id(key, value) or not any(other != value or type(other) is not type(value) for other in others):
            continue
        elif not (all(key in peer for peer in peers) and _is_default(kind, name, key, value)):
            shown.append(f"{key}={value}")
    return _with_id(name, parameters) + (f"({', '.join(shown)})" if shown else "") + inner


def _is_component(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and isinstance(value.get("name"), str) and isinstance(value.get("parameters"), dict)
    )


def _is_id(key: str, value: Any) -> bool:
    return key == "id" and isinstance(value, str)


def _with_id(name: str, parameters: Mapping[str, Any]) -> str:
    return f"{name}:{parameters['id']}" if _is_id("id", parameters.get("id")) else name


def _is_default(kind: str, name: str, key: str, value: Any) -> bool:
    """Return whether a value is the default of a parameter; False where the component is not installed."""
    defaults = _defaults(kind, name)
    return key in defaults and type(defaults[key]) is type(value) and bool(defaults[key] == value)


@cache
def _defaults(kind: str, name: str) -> Mapping[str, Any]:
    """Return the defaults of the parameters of an installed component, as in descriptions; else nothing."""
    from byzbench.registry import find, plain

    try:
        known = {f.name: f.default for f in fields(find(kind, name)) if f.default is not MISSING}
    except ByzbenchError:
        return {}
    return {key: plain(default) for key, default in known.items()}


@cache
def _kind_of_parameter(kind: str, name: str, parameter: str) -> str:
    """Return the kind of the component that is a parameter of another one; that one's kind where it is not known."""
    from byzbench.registry import find, nested_kinds

    try:
        return nested_kinds(find(kind, name)).get(parameter, kind)
    except ByzbenchError:
        return kind
