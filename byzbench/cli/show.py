"""`byzbench show`: one component, with its parameters, source, and what it needs and knows."""

from __future__ import annotations

import json
import textwrap
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from byzbench.errors import ByzbenchError

if TYPE_CHECKING:
    from byzbench.contracts import Aggregator, Component, Task


def show(
    kind: Annotated[str, typer.Argument(help="attack, aggregator, topology, ...")],
    name: Annotated[str, typer.Argument(help="Its name, as `byzbench list` prints it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a component: what it does, its parameters with bounds, its source, what it needs and knows."""
    import inspect

    from byzbench import registry

    cls = registry.find(kind, name)
    origin = registry.origins(registry.kind_of(kind))[name]
    facts = _facts(cls)
    parameters = _parameters(cls)
    if as_json:
        data = {"kind": cls.kind, "name": name, "distribution": origin.distribution, **facts}
        text = inspect.cleandoc(cls.__doc__ or "")
        typer.echo(json.dumps({**data, "description": text, "parameters": parameters}, indent=2))
        return
    typer.echo(f"{cls.kind} {name}  ({origin.distribution})\n\n{inspect.cleandoc(cls.__doc__ or '')}\n")
    for key, value in facts.items():
        typer.echo(f"{key}: {value}")
    typer.echo("parameters:" if parameters else "parameters: none")
    for p in parameters:
        bounds = f", {p['bounds']}" if p["bounds"] else ""
        typer.echo(f"  {p['name']} = {p['default']}  ({p['type']}{bounds})")
        for line in textwrap.wrap(p["description"], 110):
            typer.echo(f"      {line}")
        if p["search"]:
            typer.echo(f"      a search looks at {p['search']}")


def _facts(cls: type[Component]) -> dict[str, str]:
    """What stands in class attributes, and the threat of an attack as its defaults have it."""
    facts = {"source": cls.source} if cls.source else {}
    try:
        default: Any = cls()
    except (ByzbenchError, TypeError):  # a parameter has no default
        default = cls
    for key in ("requires", "needs"):
        if isinstance(value := getattr(default, key, None), str):
            facts[key] = value
    if cls.kind == "aggregator" and default is not cls:
        facts |= _rule(default)
    if defaults := getattr(cls, "defaults", None):
        facts["defaults"] = ", ".join(f"{k} {v}" for k, v in defaults.items())
    for name, changes in getattr(cls, "presets", {}).items():
        if changes:
            parameters = ", ".join(f"{k}={v}" for k, v in changes.get("algorithm", {}).items())
            rules = ", ".join(f"{k} {v}" for k, v in changes.items() if k != "algorithm")
            facts[f"preset {name}"] = "; ".join(part for part in (parameters, rules) if part)
    if cls.kind == "task" and default is not cls:
        facts |= _task(default)
    if cls.kind == "attack":
        if default is cls:
            return facts
        threat = default.threat
        facts["knows"] = ", ".join(sorted(threat.sees)) or "nothing but its own task"
        facts["acts on"] = ", ".join(sorted(threat.surface))
        facts["equivocates"] = "yes" if threat.equivocates else "no"
    return facts


def _task(task: Task) -> dict[str, str]:
    """What a task is, with its defaults."""
    return {
        "observation": f"{task.observation_size} numbers",
        "action": str(task.action_space),
        "horizon": str(task.horizon),
        "discount": str(task.discount),
        "reference": ", ".join(f"{name} {score:g}" for name, score in task.reference.items()),
        "suggested": ", ".join(f"{name} {value:g}" for name, value in task.suggested.items()),
        "constants": ", ".join(task.dynamics) or "none that can change",
    }


def _rule(rule: Aggregator) -> dict[str, str]:
    """What an aggregator declares, with its defaults."""
    n, f = 13, 3
    kappa = rule.kappa(n, f)
    facts = {
        "kappa": "none known" if kappa is None else f"{kappa:.3g} for n={n}, f={f}",
        "cost": rule.cost,
        "linear": "returns weights" if rule.linear else "no",
        "random": "draws" if rule.random else "no",
        "stateful": "keeps a state" if rule.stateful else "no",
        "self-centred": "reads the receiver's own vector" if rule.self_centred else "no",
        "scale": "follows that of the inputs"
        if rule.scale_equivariant
        else "has parameters in the units of the inputs",
    }
    return facts | ({"asks for": ", ".join(sorted(rule.asks))} if rule.asks else {})


def _parameters(cls: type[Component]) -> list[dict[str, Any]]:
    from byzbench.registry import describe

    hints, searched = get_type_hints(cls, include_extras=True), cls.searched()
    rows = []
    for f in fields(cls):
        default = f.default if f.default_factory is MISSING else f.default_factory()
        hint, notes = hints[f.name], []
        if get_args(hint) and hasattr(hint, "__metadata__"):
            notes, hint = [n for n in hint.__metadata__ if hasattr(n, "metadata")], get_args(hint)[0]
        rows.append(
            {
                "name": f.name,
                "default": "required" if default is MISSING else _written(default, describe),
                "type": _type(hint),
                "bounds": ", ".join(_bound(b) for n in notes for b in n.metadata),
                "description": next((n.description for n in notes if n.description), ""),
                "search": _searched(searched.get(f.name)),
            }
        )
    return rows


def _written(value: Any, describe: Any) -> str:
    return describe(value)["name"] if hasattr(value, "kind") else str(value)


def _type(hint: Any) -> str:
    if str(get_origin(hint)) == "typing.Literal":
        return " | ".join(map(str, get_args(hint)))
    if hasattr(hint, "__metadata__"):
        return _type(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return f"[{_type(get_args(hint)[0])}, ...]"
    if args := get_args(hint):
        return " | ".join(_type(a) for a in args)
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _searched(where: Any) -> str:
    if where is None or isinstance(where, tuple):
        return ", ".join(map(str, where or ()))
    return f"{where.low:g} to {where.high:g}{' by its logarithm' if where.log else ''}"


def _bound(constraint: Any) -> str:
    for key, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
        if hasattr(constraint, key):
            return f"{sign} {getattr(constraint, key)}"
    return str(constraint)
