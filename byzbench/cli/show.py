"""`byzbench show`: one component, with its parameters, source, and what it needs and knows; a graph with its liars."""

from __future__ import annotations

import json
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin, get_type_hints

import typer

from byzbench.cli import options
from byzbench.errors import ByzbenchError, Undefined, UserError

if TYPE_CHECKING:
    from byzbench.contracts import Aggregator, Component, Recommendation, Task
    from byzbench.federation.membership import Membership


def show(
    kind: Annotated[str, typer.Argument(help="attack, aggregator, topology, ...")],
    name: Annotated[str, typer.Argument(help="Its name, as `byzbench list` prints it.")],
    agents: Annotated[
        int | None, typer.Option(min=1, help="Of a topology: K; shows its graph and diagnostics.")
    ] = None,
    byzantine: Annotated[int | None, typer.Option(min=0, help="f; default: the largest with K > 4f.")] = None,
    placement: Annotated[str | None, typer.Option(help="Where liars sit; default: random.")] = None,
    mixing: Annotated[str, typer.Option(help="Weights of gossip.")] = "metropolis",
    round: Annotated[int, typer.Option(min=0, help="Of a graph that changes.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A picture of the graph: .png, .svg or .pdf.")] = None,
    dear: Annotated[bool, typer.Option("--dear", help="All diagnostics, however many agents there are.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show a component: what it does, its parameters with bounds, its source, what it needs and knows.

    With --agents, the graph of a topology: where the liars sit, and what the graph leaves of guarantees.
    """
    import inspect

    from byzbench import registry

    if agents is not None and registry.kind_of(kind) == "topology":
        f = (agents - 1) // 4 if byzantine is None else byzantine
        members = _seated(name, placement or "random", agents, f, mixing, round, seed)
        _show_graph(members, name, placement or "random", out, dear, as_json)
        return
    if (byzantine, placement, out) != (None, None, None):
        raise UserError("--byzantine, --placement and --out are for the graph of a topology: add --agents")
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
    for env, found in getattr(cls, "recommended", {}).items():
        facts[f"recommended for {env}"] = _recommended(found)
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


def _recommended(found: Recommendation) -> str:
    """Return recommended parameters and their origin on one line."""
    values = ", ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in found.parameters.items()
    )
    reduced = "" if found.parameters.get("p") != 1 else " (p=1: no variance reduction)"
    return f"{values}{reduced}; origin: {found.origin}"


def _task(task: Task) -> dict[str, str]:
    """What a task is, with its defaults."""
    return {
        "observation": f"{task.observation_size} numbers",
        "action": str(task.action_space),
        "horizon": str(task.horizon),
        "discount": str(task.discount),
        "reference": ", ".join(f"{name} {score:g}" for name, score in task.reference.items()),
        "budget": f"{task.budget} trajectories",
        "suggested": ", ".join(f"{name} {value}" for name, value in task.suggested.items()),
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


def _seated(
    topology: str, placement: str, agents: int, byzantine: int, mixing: str, round: int, seed: int
) -> Membership:
    """The seats as a run with these options has them in this round."""
    from byzbench.contracts import Placement, Topology
    from byzbench.federation.membership import Membership
    from byzbench.randomness import Streams
    from byzbench.registry import build

    family, seats, streams = build("topology", topology), build("placement", placement), Streams(seed)
    assert isinstance(family, Topology)
    assert isinstance(seats, Placement)
    if byzantine >= agents:
        raise Undefined(f"byzantine must be a whole number from 0 to agents - 1 = {agents - 1}, got {byzantine}")
    members = Membership.seat(family, seats, agents, byzantine, byzantine, streams, weights=mixing)
    return members.at(family, seats, round, streams) if round else members


def _show_graph(
    members: Membership, topology: str, placement: str, out: Path | None, dear: bool, as_json: bool
) -> None:
    from byzbench.federation import exposure

    found = exposure.cheap(members)
    if dear or members.agents <= exposure.DEAR:
        found |= exposure.dear(members)
    rules = {} if members.server is not None else exposure.guaranteed(members, _guarantees(members))
    if out is not None:
        from byzbench.reports.graphs import draw_graph

        draw_graph(members, f"{topology} · {placement}   K={members.agents}, f={len(members.liars)}", out)
    if as_json:
        data = {
            "topology": topology,
            "placement": placement,
            "agents": members.agents,
            "liars": list(members.liars),
            "server": members.server,
            "mixing": members.weights,
            "directed": members.graph.is_directed(),
            "links": [list(link) for link in members.graph.edges],
            "diagnostics": found,
            "guarantees": rules,
            "picture": None if out is None else str(out),
        }
        typer.echo(json.dumps(data))
        return
    _print_graph(members, found, rules)
    if out is not None:
        typer.echo(f"picture: {out}")


def _guarantees(members: Membership) -> dict[str, Any]:
    """What aggregators, and on a complete graph agreements, guarantee for an inbox, with their defaults."""
    from byzbench import registry

    complete = all(len(box) == members.agents for box in members.inboxes)
    kinds = ("aggregator", "agreement") if complete else ("aggregator",)
    rules: dict[str, Any] = {}
    for kind in kinds:
        for name in registry.origins(kind):
            rule: Any = registry.build(kind, name)
            rules[name if kind == "aggregator" else f"agreement {name}"] = rule.guarantee
    return rules


def _print_graph(members: Membership, found: dict[str, Any], rules: dict[str, dict[str, int]]) -> None:
    liars, honest = set(members.liars), members.agents - len(members.liars)
    cut = sum((a in liars) != (b in liars) for a, b in members.graph.edges)
    sizes = [len(box) for box in members.inboxes]
    low, high = found.get("robustness_low"), found.get("robustness_high")
    robust = None if low is None else f"{low}" if low == high else f"{low} to {high}"
    share = found["connected_share"]
    rows = {
        "liars": ", ".join(map(str, members.liars)) or "none",
        "links": f"{members.graph.number_of_edges()}, {cut} of them cut: with a liar at one end",
        "inboxes": f"{min(sizes)} to {max(sizes)} vectors, the own one included",
        "largest local share of liars": found["local_weight"],
        "largest local weight of liars": found["gossip_weight"],
        "influence of liars": found["influence"],
        "honest agents beyond their bound": f"{found['beyond_bound']} of {honest}",
        "parts of the honest graph": found["honest_components"],
        "placements that leave it whole": None if share is None else f"{share:.1%}",
        "spectral gap of the honest graph": found.get("spectral_gap"),
        "algebraic connectivity of it": found.get("algebraic_connectivity"),
        "vertex connectivity": found.get("vertex_connectivity"),
        "r-robust for r up to": robust,
        "redundant against": None
        if found.get("redundancy") is None
        else f"{found['redundancy']} corrupted transmissions",
    }
    for key, value in rows.items():
        if value is not None:
            typer.echo(f"{key:<34}{f'{value:.3f}' if isinstance(value, float) else value}")
    if "robustness_low" not in found:
        typer.echo("connectivity, robustness and spectra: add --dear")
    groups: dict[tuple[int, int], list[str]] = {}
    for name, counts in rules.items():
        groups.setdefault((counts["declared"], counts["local"]), []).append(name)
    if groups:
        typer.echo(
            f"\nguarantees hold at how many of {honest} honest agents that are told f={members.declared}, or the truth"
        )
    for (told, local), names in sorted(groups.items(), reverse=True):
        for number, line in enumerate(textwrap.wrap(", ".join(names), 96)):
            typer.echo(f"{told:>6}{local:>6}  {line}" if not number else f"{'':14}{line}")
