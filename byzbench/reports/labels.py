"""Labels of components in tables and titles. Imports nothing heavy but a component whose parameters differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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


def description_label(
    kind: str, description: Any, candidates: Sequence[Any], task: str | None = None, depth: int = 4
) -> str:
    """Return the name of a component with the parameters in which others of that name differ.

    Parameters at their default are left out. Those of an algorithm that has a preset's values are named as the preset.

    Args:
        kind: The kind of the component.
        description: The component as `byzbench.registry.describe` returns it, or another value of an axis.
        candidates: The descriptions that may occur beside it, itself included.
        task: The name of the task, on which defaults of an algorithm depend; None if it is not known.
        depth: The largest number of components inside each other that are read.

    Example:
        >>> alie = [{"name": "alie", "parameters": {"z": z}} for z in (1.5, 2.0, None)]
        >>> [description_label("attack", attack, alie) for attack in alie]
        ['alie(z=1.5)', 'alie(z=2)', 'alie']
        >>> from byzbench import Experiment
        >>> presets = [Experiment.create(preset=preset).describe()["algorithm"] for preset in ("recommended", "paper")]
        >>> [description_label("algorithm", algorithm, presets, "cartpole") for algorithm in presets]
        ['decbyzpg', 'decbyzpg(preset=paper)']
    """
    if not _is_component(description) or depth == 0:
        return str(description)
    name, parameters = description["name"], description["parameters"]
    peers = [other["parameters"] for other in candidates if _is_component(other) and other["name"] == name]
    differing: dict[str, Any] = {}
    texts: dict[str, str] = {}
    inner = ""
    for key, value in parameters.items():
        others = [peer.get(key) for peer in peers]
        if _is_component(value):
            inner += "+" + description_label(_kind_of_parameter(kind, name, key), value, others, task, depth - 1)
        elif not _is_id(key, value) and not all(_is_equal(other, value) for other in others):
            differing[key], texts[key] = value, _value_text(value, others)
    everywhere = {key for key in differing if all(key in peer for peer in peers)}
    shown = _shown(kind, name, differing, texts, everywhere, task) if differing else []
    return _with_id(name, parameters) + (f"({', '.join(shown)})" if shown else "") + inner


def _is_component(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and isinstance(value.get("name"), str) and isinstance(value.get("parameters"), dict)
    )


def _is_id(key: str, value: Any) -> bool:
    return key == "id" and isinstance(value, str)


def _with_id(name: str, parameters: Mapping[str, Any]) -> str:
    return f"{name}:{parameters['id']}" if _is_id("id", parameters.get("id")) else name


def _is_equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _value_text(value: Any, others: Sequence[Any]) -> str:
    """Return a value as text: a float with four digits, or in full where another one has the same four.

    Example:
        >>> _value_text(1.50001, [1.5, 2.0]), _value_text(2.00001, [1.5, 1.50001])
        ('1.50001', '2')
    """
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4g}"
    is_unique = all(other == value or f"{other:.4g}" != text for other in others if isinstance(other, float))
    return text if is_unique else repr(value)


def _shown(
    kind: str,
    name: str,
    differing: Mapping[str, Any],
    shown: Mapping[str, str],
    everywhere: Collection[str],
    task: str | None,
) -> list[str]:
    """Return the parameters that a label shows: those that no preset explains, after the preset that explains most.

    Args:
        kind: The kind of the component.
        name: The name of the component.
        differing: Its parameters in which others of the name differ.
        shown: Their texts.
        everywhere: Those of them that all others have; one that only some have is shown also at its default.
        task: The name of the task, if it is known.
    """
    shortest: list[str] | None = None
    for preset, usual in _usual(kind, name, task):
        texts = [f"preset={preset}"] if preset else []
        texts += [
            f"{key}={shown[key]}"
            for key, value in differing.items()
            if not (key in everywhere and key in usual and _is_equal(usual[key], value))
        ]
        if shortest is None or len(texts) < len(shortest):
            shortest = texts
    return shortest or []


@cache
def _usual(kind: str, name: str, task: str | None) -> Sequence[tuple[str, Mapping[str, Any]]]:
    """Return the values of parameters, as in descriptions, by default and by each preset of an algorithm on a task.

    The defaults come first, with an empty name. There are none where the component is not installed.
    """
    from byzbench.registry import find, plain

    try:
        component: Any = find(kind, name)
        suggested: Any = find("task", task).suggested if task and kind == "algorithm" else {}  # type: ignore[attr-defined]
    except ByzbenchError:
        return [("", {})]
    known = {f.name: f.default for f in fields(component) if f.default is not MISSING}
    if kind != "algorithm":
        return [("", {key: plain(value) for key, value in known.items()})]
    known |= {**suggested, **component.suggested.get(task, {})}
    recommended = component.recommended.get(task)
    presets = {preset: _of_task(component.presets[preset], task) for preset in component.presets}
    by_name = {"": {**presets.get("paper", {}), **(recommended.parameters if recommended else {})}, **presets}
    return [
        (preset, {key: plain(value) for key, value in {**known, **values}.items()})
        for preset, values in by_name.items()
    ]


def _of_task(preset: Mapping[str, Any], task: str | None) -> Mapping[str, Any]:
    """Return the parameters of the algorithm that a preset sets on a task."""
    return dict({**preset, **preset.get("tasks", {}).get(task, {})}.get("algorithm", {}))


@cache
def _kind_of_parameter(kind: str, name: str, parameter: str) -> str:
    """Return the kind of the component that is a parameter of another one; that one's kind where it is not known."""
    from byzbench.registry import find, nested_kinds

    try:
        return nested_kinds(find(kind, name)).get(parameter, kind)
    except ByzbenchError:
        return kind
