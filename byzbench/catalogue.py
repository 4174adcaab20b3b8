"""Descriptions of components, which `byzbench show` and `byzbench list` print.

A description is computed from the class of a component, whose module imports torch, which takes seconds. Therefore
catalogue.json holds the descriptions of the components of byzbench, each with the sha256 of the component's file. While
the file has that digest, its description is read from there. The description of a plug-in, or of a file that was
edited, is computed. To parse the source instead would not suffice: facts such as the bound of a rule, or a parameter of
a base class, are values of the running program.

`python -m tests.golden` writes the catalogue, and a test compares it with the classes.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from byzbench import registry
from byzbench.errors import ByzbenchError

if TYPE_CHECKING:
    from byzbench.core import Aggregator, Component, Recommendation, Task

CATALOGUE = "catalogue.json"

Catalogue = dict[str, dict[str, dict[str, Any]]]
"""By kind and name, the fields of a description and the `sha256` of the component's file."""


@dataclass(frozen=True)
class ComponentDescription:
    """Description of a component with its default parameters.

    Attributes:
        text: The docstring of its class.
        facts: What it declares: source, requirements, presets, threat model.
        parameters: Name, default, type, bounds, description and tuning range of each parameter.
    """

    text: str
    facts: dict[str, str]
    parameters: list[dict[str, str]]


def describe_component(origin: registry.Origin) -> ComponentDescription:
    """Return the description of a component; that of a shipped one without importing it.

    Raises:
        BrokenPlugin: The component is not in the catalogue and cannot be imported.

    Example:
        >>> describe_component(registry.find_origin("aggregator", "krum")).facts["requires"]
        'n >= 2f + 3'
    """
    return _stored(origin) or describe_class(registry.find(origin.kind, origin.name))


def stored_facts(origin: registry.Origin) -> dict[str, str] | None:
    """Return the facts of a component without importing it; None if the catalogue has none of the file that is here.

    Example:
        >>> stored_facts(registry.find_origin("algorithm", "byzpg"))["communication"]
        'server'
    """
    description = _stored(origin)
    return description.facts if description else None


def describe_class(cls: type[Component]) -> ComponentDescription:
    """Return the description of a component's class."""
    return ComponentDescription(inspect.cleandoc(cls.__doc__ or ""), _facts(cls), _parameters(cls))


def summary(origin: registry.Origin) -> str:
    """Return the first line of a component's docstring without importing the component.

    Example:
        >>> summary(registry.find_origin("aggregator", "mean"))
        'The average of the valid vectors.'
    """
    if description := _stored(origin):
        return description.text.split("\n")[0]
    path = registry.source_file(origin.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return "(its source cannot be read)"
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    candidates = [c for c in classes if c.name == origin.attribute] or classes[-1:]
    nodes: list[ast.ClassDef | ast.Module] = [*candidates, tree]
    text = next((d for node in nodes if (d := ast.get_docstring(node))), "")
    return text.split("\n")[0]


def build_catalogue() -> Catalogue:
    """Return the catalogue of all shipped components, computed from their classes."""
    return {
        kind: {
            name: asdict(describe_class(registry.find(kind, name))) | {"sha256": _digest(origin)}
            for name, origin in registry.origins(kind).items()
            if origin.module == f"byzbench.{package}.{name}"
        }
        for kind, package in registry.KINDS.items()
    }


@cache
def read_catalogue() -> Catalogue:
    """Return the catalogue of the package; an empty one where there is no file."""
    file = files("byzbench") / CATALOGUE
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _stored(origin: registry.Origin) -> ComponentDescription | None:
    """Return the description in the catalogue; None if there is none of the file that is here."""
    entry = dict(read_catalogue().get(origin.kind, {}).get(origin.name, {}))
    if not entry or entry.pop("sha256") != _digest(origin):
        return None
    return ComponentDescription(**entry)


def _digest(origin: registry.Origin) -> str:
    """Return the sha256 of a component's file; an empty text if it has none."""
    path = registry.source_file(origin.module)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""


def _facts(cls: type[Component]) -> dict[str, str]:
    """Return the facts that a component declares, with its default parameters: requirements, presets, threat model."""
    facts = {"source": cls.source} if cls.source else {}
    try:
        default: Any = cls()
    except (ByzbenchError, TypeError):  # a parameter without a default
        default = cls
    for key in ("requires", "communication"):
        if isinstance(value := getattr(default, key, None), str):
            facts[key] = value
    if cls.kind == "aggregator" and default is not cls:
        facts |= _rule(default)
    if cls.kind == "algorithm" and default is not cls:
        facts["first gradient"] = "unbiased" if default.unbiased else "not unbiased"
    if defaults := getattr(cls, "defaults", None):
        facts["defaults"] = ", ".join(f"{k} {v}" for k, v in defaults.items())
    for env, recommendation in getattr(cls, "recommended", {}).items():
        facts[f"recommended for {env}"] = _recommended(recommendation)
    for name, changes in getattr(cls, "presets", {}).items():
        if changes:
            facts[f"preset {name}"] = _preset({k: v for k, v in changes.items() if k != "tasks"})
            facts |= {f"preset {name} on {task}": _preset(more) for task, more in changes.get("tasks", {}).items()}
    if cls.kind == "task" and default is not cls:
        facts |= _task(default)
    if cls.kind == "attack":
        if default is cls:
            return facts
        threat = default.threat
        facts["knows"] = ", ".join(sorted(threat.knowledge)) or "its own task only"
        facts["acts on"] = ", ".join(sorted(threat.surface))
        facts["equivocates"] = "yes" if threat.equivocates else "no"
    return facts


def _preset(changes: Mapping[str, Any]) -> str:
    """Return what a preset sets as one line."""
    parameters = ", ".join(f"{k}={v}" for k, v in changes.get("algorithm", {}).items())
    components = ", ".join(f"{k} {v}" for k, v in changes.items() if k != "algorithm")
    return "; ".join(part for part in (parameters, components) if part)


def _recommended(recommendation: Recommendation) -> str:
    """Return recommended parameters and their origin as one line."""
    values = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in recommendation.parameters.items()
    )
    reduced = "" if recommendation.parameters.get("p") != 1 else " (p=1: no variance reduction)"
    return f"{values}{reduced}; origin: {recommendation.origin}"


def _task(task: Task) -> dict[str, str]:
    """Return the facts of a task with its default parameters."""
    return {
        "observation": f"{task.observation_size} numbers",
        "action": str(task.action_space),
        "horizon": str(task.horizon),
        "discount": str(task.discount),
        "reference": ", ".join(f"{name} {score:g}" for name, score in task.reference.items()),
        "budget": f"{task.budget} trajectories",
        "suggested": ", ".join(f"{name} {value}" for name, value in task.suggested.items()),
        "policy": task.default_policy,
        "constants": ", ".join(task.dynamics) or "none that can be varied",
    }


def _rule(rule: Aggregator) -> dict[str, str]:
    """Return the facts that an aggregator declares, with its default parameters."""
    n, f = 13, 3
    kappa, traits = rule.kappa(n, f), rule.traits
    facts = {
        "kappa": "none known" if kappa is None else f"{kappa:.3g} for n={n}, f={f}",
        "cost": rule.cost,
        "linear": "returns weights" if traits.linear else "no",
        "random": "yes" if traits.random else "no",
        "stateful": "yes" if traits.stateful else "no",
        "self-centred": "uses the receiver's own vector" if traits.self_centered else "no",
        "scale": "equivariant, F(s x) = s F(x)" if traits.scale_equivariant else "parameters in units of the inputs",
    }
    return facts | ({"required inputs": ", ".join(sorted(rule.required_inputs))} if rule.required_inputs else {})


def _parameters(cls: type[Component]) -> list[dict[str, str]]:
    """Return the name, default, type, bounds, description and tuning range of each parameter."""
    hints, searched = get_type_hints(cls, include_extras=True), cls.search_space()
    rows = []
    for f in fields(cls):
        default = f.default if f.default_factory is MISSING else f.default_factory()
        hint, notes = hints[f.name], []
        if get_args(hint) and hasattr(hint, "__metadata__"):
            notes, hint = [n for n in hint.__metadata__ if hasattr(n, "metadata")], get_args(hint)[0]
        rows.append(
            {
                "name": f.name,
                "default": "required" if default is MISSING else _default_text(default),
                "type": _type(hint),
                "bounds": ", ".join(_bound(b) for n in notes for b in n.metadata),
                "description": next((n.description for n in notes if n.description), ""),
                "search": _tuning_range(searched.get(f.name)),
            }
        )
    return rows


def _default_text(value: Any) -> str:
    return registry.name_of(value) if hasattr(value, "kind") else str(value)


def _type(hint: Any) -> str:
    if str(get_origin(hint)) == "typing.Literal":
        return " | ".join(map(str, get_args(hint)))
    if hasattr(hint, "__metadata__"):
        return _type(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return f"[{_type(get_args(hint)[0])}, ...]"
    if args := get_args(hint):
        return " | ".join(_type(a) for a in args)
    if isinstance(hint, type) and issubclass(hint, Mapping):
        return "mapping"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _tuning_range(space: Any) -> str:
    if space is None or isinstance(space, tuple):
        return ", ".join(map(str, space or ()))
    return f"{space.low:g} to {space.high:g}{', log-uniform' if space.log else ''}"


def _bound(constraint: Any) -> str:
    for key, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
        if hasattr(constraint, key):
            return f"{sign} {getattr(constraint, key)}"
    return str(constraint)
