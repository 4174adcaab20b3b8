"""Command `byzbench show`: print one component, or a communication graph with its Byzantine agents."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from byzbench.cli import options
from byzbench.cli.completion import complete_kind, complete_name
from byzbench.cli.output import write_json
from byzbench.errors import Undefined, UserError

if TYPE_CHECKING:
    from byzbench.federation.communication_graph import CommunicationGraph


def show(
    kind: Annotated[
        str, typer.Argument(help="A kind: attack, aggregator, topology, ...", autocompletion=complete_kind)
    ],
    name: Annotated[str, typer.Argument(help="A name, as `byzbench list` prints it.", autocompletion=complete_name)],
    agents: Annotated[
        int | None, typer.Option(min=1, help="K, of a topology; shows its graph and diagnostics.")
    ] = None,
    byzantine: Annotated[
        int | None, typer.Option(min=0, help="f, the number of Byzantine agents; default: the largest with K > 4f.")
    ] = None,
    placement: Annotated[str | None, typer.Option(help="Placement of the Byzantine agents; default: random.")] = None,
    mixing: Annotated[str, typer.Option(help="Mixing weights of gossip.")] = "metropolis",
    round: Annotated[int, typer.Option(min=0, help="Round, of a graph that changes.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Figure of the graph to write: .png, .svg or .pdf.")] = None,
    expensive: Annotated[
        bool, typer.Option("--expensive", help="Compute expensive diagnostics for any number of agents.")
    ] = False,
    env: Annotated[str | None, typer.Option(help="Task, of an algorithm; shows what would run on it.")] = None,
    policy: Annotated[str | None, typer.Option(help="Policy family, with --env; default: the task's.")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of the algorithm, with --env.")] = None,
    as_json: options.Json = False,
) -> None:
    """Print a component: description, source, parameters with bounds and tuning ranges, requirements.

    With --agents, print the graph of a topology: Byzantine agents, diagnostics, and guarantees that hold on it.
    With --env, print what an algorithm would run with on a task, and where each value comes from.

    Examples:
        byzbench show attack alie
        byzbench show algo decbyzpg --env acrobot
        byzbench show topology ring --agents 13 --byzantine 2 --out ring.png
    """
    from byzbench import registry
    from byzbench.catalogue import describe_component
    from byzbench.reports.terminal import echo, terminal_width, wrap_description

    if agents is not None and registry.kind_of(kind) == "topology":
        num_byzantine = (agents - 1) // 4 if byzantine is None else byzantine
        graph = _build_graph(name, placement or "random", agents, num_byzantine, mixing, round, seed)
        _show_graph(graph, name, placement or "random", out, expensive, as_json)
        return
    if env is not None and registry.kind_of(kind) == "algorithm":
        _show_origins(name, env, policy, preset, as_json)
        return
    if (env, policy, preset) != (None, None, None):
        raise UserError("--env, --policy and --preset are for an algorithm: show algo NAME --env TASK")
    if (byzantine, placement, out) != (None, None, None):
        raise UserError("--byzantine, --placement and --out are for the graph of a topology: add --agents")
    origin = registry.find_origin(kind, name)
    description = describe_component(origin)
    if as_json:
        head = {"kind": origin.kind, "name": name, "distribution": origin.distribution}
        text, parameters = description.text, description.parameters
        write_json({**head, **description.facts, "description": text, "parameters": parameters}, indent=2)
        return
    text = wrap_description(description.text, terminal_width())
    typer.echo(f"{origin.kind} {name}  ({origin.distribution})\n\n{text}\n")
    for key, value in description.facts.items():
        echo(f"{key}: {value}", indent=2)
    typer.echo("parameters:" if description.parameters else "parameters: none")
    for parameter in description.parameters:
        bounds = f", {parameter['bounds']}" if parameter["bounds"] else ""
        echo(f"  {parameter['name']} = {parameter['default']}  ({parameter['type']}{bounds})", indent=6)
        for line in textwrap.wrap(parameter["description"], 74):
            typer.echo(f"      {line}")
        if parameter["search"]:
            typer.echo(f"      tuning range {parameter['search']}")


def _show_origins(algo: str, env: str, policy: str | None, preset: str | None, as_json: bool) -> None:
    """Print what an algorithm would run with on a task, one line a value."""
    from byzbench.experiments.defaults import RECOMMENDED
    from byzbench.experiments.origins import value_origins
    from byzbench.reports.terminal import echo

    entries = value_origins(algo, env, policy, preset or RECOMMENDED)
    if as_json:
        write_json([vars(entry) for entry in entries], indent=2)
        return
    widths = [max(len(getattr(entry, name)) for entry in entries) for name in ("name", "value")]
    for entry in entries:
        line = f"{entry.name:{widths[0]}}  {entry.value:{widths[1]}}  {entry.origin}"
        echo(line, indent=sum(widths) + 4)


def _build_graph(
    topology: str, placement: str, agents: int, byzantine: int, mixing: str, round: int, seed: int
) -> CommunicationGraph:
    """Build the communication graph that a run with these options has in a round.

    Args:
        topology: The topology.
        placement: The placement of the Byzantine agents.
        agents: K.
        byzantine: f.
        mixing: The mixing weights.
        round: The round.
        seed: The seed.

    Raises:
        Undefined: There are not more agents than Byzantine ones, or the graph is not defined for K agents.
    """
    from byzbench.core import Placement, Topology
    from byzbench.federation.communication_graph import CommunicationGraph
    from byzbench.randomness import Streams
    from byzbench.registry import make

    graphs, placements, streams = make("topology", topology), make("placement", placement), Streams(seed)
    assert isinstance(graphs, Topology)
    assert isinstance(placements, Placement)
    if byzantine >= agents:
        raise Undefined(f"byzantine must be a whole number from 0 to agents - 1 = {agents - 1}, got {byzantine}")
    members = CommunicationGraph.place(graphs, placements, agents, byzantine, byzantine, streams, weights=mixing)
    return members.at_round(graphs, placements, round, streams) if round else members


def _show_graph(
    members: CommunicationGraph, topology: str, placement: str, out: Path | None, expensive: bool, as_json: bool
) -> None:
    """Print the diagnostics of a graph, and write its figure."""
    from byzbench.federation import graph_diagnostics

    diagnostics = graph_diagnostics.fast_diagnostics(members)
    if expensive or members.num_agents <= graph_diagnostics.EXPENSIVE:
        diagnostics |= graph_diagnostics.expensive_diagnostics(members)
    if members.server is not None:
        diagnostics |= graph_diagnostics.server_diagnostics(members)
    guarantees = {} if members.server is not None else graph_diagnostics.guaranteed(members, _guarantees(members))
    if out is not None:
        from byzbench.reports.graphs import draw_graph

        draw_graph(members, f"{topology} · {placement}   K={members.num_agents}, f={len(members.byzantine_ids)}", out)
    if as_json:
        data = {
            "topology": topology,
            "placement": placement,
            "agents": members.num_agents,
            "byzantine": list(members.byzantine_ids),
            "server": members.server,
            "mixing": members.weights,
            "directed": members.graph.is_directed(),
            "links": [list(link) for link in members.graph.edges],
            "diagnostics": diagnostics,
            "guarantees": guarantees,
            "picture": None if out is None else str(out),
        }
        write_json(data)
        return
    _print_graph(members, diagnostics, guarantees)
    if out is not None:
        typer.echo(f"figure: {out}")


def _guarantees(members: CommunicationGraph) -> dict[str, Any]:
    """Return the guarantee of each aggregator, and on a complete graph of each agreement, with default parameters."""
    from byzbench import registry

    complete = all(len(box) == members.num_agents for box in members.inboxes)
    kinds = ("aggregator", "agreement") if complete else ("aggregator",)
    rules: dict[str, Any] = {}
    for kind in kinds:
        for name in registry.origins(kind):
            rule: Any = registry.make(kind, name)
            rules[name if kind == "aggregator" else f"agreement {name}"] = rule.guarantee
    return rules


def _print_graph(
    members: CommunicationGraph, diagnostics: dict[str, Any], guarantees: dict[str, dict[str, int]]
) -> None:
    byzantine, honest = set(members.byzantine_ids), members.num_agents - len(members.byzantine_ids)
    num_mixed = sum((a in byzantine) != (b in byzantine) for a, b in members.graph.edges)
    sizes = [len(box) for box in members.inboxes]
    low, high = diagnostics.get("robustness_low"), diagnostics.get("robustness_high")
    robust = None if low is None else f"{low}" if low == high else f"{low} to {high}"
    share = diagnostics["connected_share"]
    inboxes = f"{min(sizes)} to {max(sizes)} vectors, its own included"
    beyond = ("honest agents beyond tolerance", honest)
    if members.server is not None:
        inboxes, beyond = f"{members.num_agents} vectors at the server", ("server inboxes beyond tolerance", 1)
    rows = {
        "Byzantine agents": ", ".join(map(str, members.byzantine_ids)) or "none",
        "links": f"{members.graph.number_of_edges()}, {num_mixed} between an honest and a Byzantine agent",
        "inboxes": inboxes,
        "largest local Byzantine share": diagnostics["local_weight"],
        "largest local Byzantine weight": diagnostics["gossip_weight"],
        "influence of Byzantine agents": diagnostics["influence"],
        beyond[0]: f"{diagnostics['beyond_bound']} of {beyond[1]}",
        "honest components": diagnostics["honest_components"],
        "share of connected placements": None if share is None else f"{share:.1%}",
        "spectral gap of the honest graph": diagnostics.get("spectral_gap"),
        "its algebraic connectivity": diagnostics.get("algebraic_connectivity"),
        "vertex connectivity": diagnostics.get("vertex_connectivity"),
        "r-robust for r up to": robust,
        "redundancy": None
        if diagnostics.get("redundancy") is None
        else f"against {diagnostics['redundancy']} corrupted transmissions",
    }
    for key, value in rows.items():
        if value is not None:
            typer.echo(f"{key:<34}{f'{value:.3f}' if isinstance(value, float) else value}")
    if "robustness_low" not in diagnostics:
        typer.echo("for connectivity, robustness and spectra add --expensive")
    groups: dict[tuple[int, int], list[str]] = {}
    for name, counts in guarantees.items():
        groups.setdefault((counts["assumed"], counts["local"]), []).append(name)
    if groups:
        typer.echo(
            f"\nnumber of {honest} honest agents for which guarantees hold,\n"
            f"if f={members.assumed_byzantine} is assumed, and if the true f is assumed"
        )
    for (with_assumed, with_true), names in sorted(groups.items(), reverse=True):
        for position, line in enumerate(textwrap.wrap(", ".join(names), 64)):
            typer.echo(f"{with_assumed:>6}{with_true:>6}  {line}" if not position else f"{'':14}{line}")
