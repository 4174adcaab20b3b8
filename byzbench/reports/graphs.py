"""A graph with its liars as a picture."""

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

from byzbench.errors import StorageError, UserError
from byzbench.federation.membership import Membership
from byzbench.reports.canvas import COLOURS, STYLE
from byzbench.reports.figures import FORMATS

_HONEST, _LIAR = COLOURS[0], COLOURS[1]
_SPRINGS = 100
"""The most agents whose distances in the picture follow those in the graph, which takes n^3."""

_NAMED = 60


def draw_graph(members: Membership, title: str, path: Path) -> None:
    """Write the graph: honest agents, liars, the links between both and, dashed, those among liars.

    Args:
        members: the seats.
        title: what stands above.
        path: the file; its ending is the format.

    Raises:
        UserError: the file's ending means no format.
        StorageError: the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"pictures are written as {', '.join(FORMATS)}; got {str(path)!r}")
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 5.4), layout="constrained")
        axes = figure.subplots()
        axes.set_title(title)
        axes.set_axis_off()
        axes.set_aspect("equal")
        places = _places(members.graph)
        size = max(12.0, min(220.0, 5000 / len(members.graph)))
        _links(axes, members, places, size)
        _agents(axes, members, places, size)
        figure.legend(handles=_legend(members), loc="outside lower center", ncols=3)
        metadata = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(ending)
        try:
            figure.savefig(path, dpi=200, metadata=metadata)
        except OSError as error:
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def _places(graph: nx.Graph) -> npt.NDArray[np.float64]:
    """[n, 2], where nodes 0 .. n-1 stand: where the family put them, else by how far they are from each other."""
    known = nx.get_node_attributes(graph, "pos")
    if len(known) < len(graph):
        plain = nx.Graph(graph)
        if len(graph) <= _SPRINGS and nx.is_connected(plain):
            known = nx.kamada_kawai_layout(plain)
        else:
            known = nx.spring_layout(plain, seed=0)
    return np.array([known[node] for node in range(len(graph))], dtype=np.float64)


def _links(axes: Axes, members: Membership, places: npt.NDArray[np.float64], size: float) -> None:
    liars = set(members.liars)
    kinds: dict[int, list[tuple[int, int]]] = {0: [], 1: [], 2: []}
    for a, b in members.graph.edges:
        kinds[(a in liars) + (b in liars)].append((a, b))
    thin = 1.0 if len(members.graph) <= _NAMED else 0.4
    looks = {0: ("0.6", "-", 0.7), 1: (_LIAR, "-", 1.0), 2: (_LIAR, "--", 0.8)}
    for kind, links in kinds.items():
        colour, dashes, width = looks[kind]
        if members.graph.is_directed():
            arrow: dict[str, Any] = {"arrowstyle": "-|>", "color": colour, "ls": dashes, "lw": width * thin}
            arrow["shrinkB"] = size**0.5 / 2  # the tip is at the rim of the marker
            for a, b in links:
                axes.annotate("", places[b], places[a], arrowprops=arrow, zorder=1)
        else:
            lines = [places[[a, b]] for a, b in links]
            axes.add_collection(LineCollection(lines, colors=colour, ls=dashes, lw=width * thin, zorder=1))


def _agents(axes: Axes, members: Membership, places: npt.NDArray[np.float64], size: float) -> None:
    liars = members.byzantine.numpy()
    here = places[: members.agents]
    rest = places[members.agents :]  # the server, if there is one
    for those, colour, marker in ((here[~liars], _HONEST, "o"), (here[liars], _LIAR, "s"), (rest, "black", "D")):
        x, y = those.T
        axes.scatter(x, y, s=size, c=colour, marker=marker, zorder=2, edgecolors="white", linewidths=0.6)
    if members.agents <= _NAMED:
        text: dict[str, Any] = {"color": "white", "size": min(8, 0.45 * size**0.5), "ha": "center", "va": "center"}
        for agent, (x, y) in enumerate(here):
            axes.text(x, y, str(agent), zorder=3, **text)
    axes.margins(0.06)


def _legend(members: Membership) -> list[Line2D]:
    """Only of what there is."""
    liars = set(members.liars)
    kinds = {(a in liars) + (b in liars) for a, b in members.graph.edges}
    entries = [Line2D([], [], ls="", marker="o", c=_HONEST, label="honest")]
    if liars:
        entries.append(Line2D([], [], ls="", marker="s", c=_LIAR, label="Byzantine"))
    if members.server is not None:
        entries.append(Line2D([], [], ls="", marker="D", c="black", label="trusted server"))
    names = {0: ("honest link", "0.6", "-"), 1: ("cut link, honest to Byzantine", _LIAR, "-")}
    names[2] = ("link of two liars", _LIAR, "--")
    return entries + [Line2D([], [], c=names[k][1], ls=names[k][2], label=names[k][0]) for k in sorted(kinds)]
