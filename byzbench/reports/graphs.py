"""Plots of a communication graph with its Byzantine agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import networkx as nx
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from byzbench.federation.communication_graph import CommunicationGraph
from byzbench.reports.plot_style import COLOURS, STYLE, require_format, save_figure

_HONEST, _BYZANTINE = COLOURS[0], COLOURS[1]
_SPRINGS = 100
"""The largest number of agents that are placed by their distances in the graph, which takes O(n^3)."""

_NAMED = 60
"""The largest number of agents whose ids are drawn."""


def draw_graph(members: CommunicationGraph, title: str, path: Path) -> None:
    """Plot a communication graph and write the figure to a file.

    Links with one Byzantine end have a colour of their own; links of two Byzantine agents are dashed.

    Args:
        members: The graph and its Byzantine agents.
        title: The title of the figure.
        path: The file to write; its suffix chooses the format.

    Raises:
        UserError: The suffix is not a supported format.
        StorageError: The file cannot be written.
    """
    require_format(path)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_axis_off()
        axes.set_aspect("equal")
        positions = _node_positions(members.graph)
        size = max(12.0, min(220.0, 5000 / len(members.graph)))
        _links(axes, members, positions, size)
        _agents(axes, members, positions, size)
        figure.legend(handles=_legend(members), loc="outside lower center", ncols=3)
        save_figure(figure, path, dpi=200)


def _node_positions(graph: nx.Graph) -> npt.NDArray[np.float64]:
    """Return the positions [n, 2] of nodes 0 .. n-1, from the topology if it has them, else from a spring layout."""
    positions = nx.get_node_attributes(graph, "pos")
    if len(positions) < len(graph):
        plain = nx.Graph(graph)
        if len(graph) <= _SPRINGS and nx.is_connected(plain):
            positions = nx.kamada_kawai_layout(plain)
        else:
            positions = nx.spring_layout(plain, seed=0)
    return np.array([positions[node] for node in range(len(graph))], dtype=np.float64)


def _links(axes: Axes, members: CommunicationGraph, positions: npt.NDArray[np.float64], size: float) -> None:
    byzantine = set(members.byzantine_ids)
    kinds: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}
    for a, b in members.graph.edges:
        kinds[(a in byzantine) + (b in byzantine)].append((a, b))
    thin = 1.0 if len(members.graph) <= _NAMED else 0.4
    styles = {0: ("0.6", "-", 0.7), 1: (_BYZANTINE, "-", 1.0), 2: (_BYZANTINE, "--", 0.8)}
    for kind, links in kinds.items():
        colour, dashes, width = styles[kind]
        if members.graph.is_directed():
            arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": colour, "ls": dashes, "lw": width * thin}
            arrow["shrinkB"] = size**0.5 / 2  # ends the arrow at the rim of the marker
            for a, b in links:
                axes.annotate("", positions[b], positions[a], arrowprops=arrow, zorder=1)
        else:
            lines = [positions[[a, b]] for a, b in links]
            axes.add_collection(LineCollection(lines, colors=colour, ls=dashes, lw=width * thin, zorder=1))


def _agents(axes: Axes, members: CommunicationGraph, positions: npt.NDArray[np.float64], size: float) -> None:
    byzantine = members.byzantine.numpy()
    agent_positions = positions[: members.num_agents]
    server_position = positions[members.num_agents :]  # empty without a server
    for points, colour, marker in (
        (agent_positions[~byzantine], _HONEST, "o"),
        (agent_positions[byzantine], _BYZANTINE, "s"),
        (server_position, "black", "D"),
    ):
        x, y = points.T
        axes.scatter(x, y, s=size, c=colour, marker=marker, zorder=2, edgecolors="white", linewidths=0.6)
    if members.num_agents <= _NAMED:
        text_style: dict[str, Any] = {
            "color": "white",
            "size": min(8, 0.45 * size**0.5),
            "ha": "center",
            "va": "center",
        }
        for agent, (x, y) in enumerate(agent_positions):
            axes.text(x, y, str(agent), zorder=3, **text_style)
    axes.margins(0.06)


def _legend(members: CommunicationGraph) -> list[Line2D]:
    """Return legend entries of the kinds of nodes and links that the graph has."""
    byzantine = set(members.byzantine_ids)
    kinds = {(a in byzantine) + (b in byzantine) for a, b in members.graph.edges}
    entries = [Line2D([], [], ls="", marker="o", c=_HONEST, label="honest")]
    if byzantine:
        entries.append(Line2D([], [], ls="", marker="s", c=_BYZANTINE, label="Byzantine"))
    if members.server is not None:
        entries.append(Line2D([], [], ls="", marker="D", c="black", label="trusted server"))
    names = {0: ("honest link", "0.6", "-"), 1: ("link of an honest and a Byzantine agent", _BYZANTINE, "-")}
    names[2] = ("link of two Byzantine agents", _BYZANTINE, "--")
    return entries + [Line2D([], [], c=names[k][1], ls=names[k][2], label=names[k][0]) for k in sorted(kinds)]
