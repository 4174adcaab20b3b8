"""Inline SVG of intervals, learning curves and graphs. The style sheet sets colours by class.

Coordinates are integers, so that the same data has the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from byzbench.leaderboard.site.html import Markup, el
from byzbench.reports.estimators import Interval

WIDTH, HEIGHT = 320, 160
"""Size of the frame of learning curves."""

MOST_AGENTS = 200
"""Largest number of agents with which a graph is drawn."""

_MOST_LABELS = 40
"""Largest number of agents with which nodes are labelled."""


def interval(estimate: Interval) -> Markup:
    """Return a drawing of a score with its interval on an axis from 0 to 1; values are clipped to it.

    It is hidden from screen readers, since the numbers are in the cell beside it.
    """

    def at(value: float) -> int:
        return 4 + round(92 * min(max(value, 0.0), 1.0))

    low, high = (
        (estimate.low, estimate.high)
        if estimate.low is not None and estimate.high is not None
        else (estimate.value,) * 2
    )
    return el(
        "svg",
        el("path", d="M4 8H96", class_="axis"),
        el("path", d=f"M{at(low)} 8H{at(high)}", class_="spread"),
        el("circle", cx=at(estimate.value), cy=8, r=4, class_="dot"),
        viewBox="0 0 100 16",
        class_="interval",
        aria_hidden="true",
    )


def curve_drawing(
    seeds: np.ndarray, dates: np.ndarray, levels: Iterable[float], span: tuple[float, float], label: str
) -> Markup:
    """Return the learning curves of one cell: a thin line for each seed, a thick line for the mean, dashed levels.

    The mean is drawn where every seed has a value, at the mean of the dates.

    Args:
        seeds: Evaluation returns [n, points], NaN where a seed has none.
        dates: Shares of the budget after which they were measured, [n, points].
        levels: Returns with a dashed line: those of a random policy and of the reference.
        span: The smallest and the largest return in the frame.
        label: The description for screen readers.
    """
    bottom, top = span
    complete = np.isfinite(seeds).all(0)
    mean = np.where(complete, np.where(complete, seeds, 0.0).mean(0), np.nan)

    def heights(values: ArrayLike) -> np.ndarray:
        share = (np.asarray(values, float) - bottom) / ((top - bottom) or 1.0)
        return HEIGHT - np.rint(HEIGHT * share.clip(0, 1))

    def lines(values: np.ndarray, at: np.ndarray, class_: str) -> Markup | None:
        """Return the lines of values [n, points]; a line is interrupted where a value is missing."""
        finite = np.isfinite(values)
        commands = np.where(np.diff(finite, prepend=False, axis=1)[finite], "M", "L").tolist()
        across = np.rint(WIDTH * at[finite].clip(0, 1)).astype(int).tolist()
        down = heights(values[finite]).astype(int).tolist()
        path = "".join([f"{command}{x} {y}" for command, x, y in zip(commands, across, down, strict=True)])
        return el("path", d=path, class_=class_) if path else None

    return el(
        "svg",
        (el("path", d=f"M0 {height:.0f}H{WIDTH}", class_="level") for height in heights(list(levels))),
        lines(seeds, dates, "seed"),
        lines(mean[None], dates.mean(0)[None], "middle"),
        viewBox=f"-6 -6 {WIDTH + 12} {HEIGHT + 12}",
        class_="curves",
        role="img",
        aria_label=label,
    )


def graph(drawn: nx.Graph, byzantine: Collection[int], label: str) -> Markup | None:
    """Return a drawing of a graph on a circle, with its server in the middle and Byzantine agents as squares.

    Args:
        drawn: The graph; its attribute `server` is the node of the server.
        byzantine: The Byzantine agents.
        label: The description for screen readers.

    Returns:
        The drawing; None if the graph has more than `MOST_AGENTS` agents.
    """
    server = drawn.graph.get("server")
    agents = sorted(node for node in drawn if node != server)
    if len(agents) > MOST_AGENTS:
        return None
    positions = {node: _on_circle(index, len(agents)) for index, node in enumerate(agents)} | {server: (200, 200)}
    edges = sorted((min(a, b), max(a, b)) for a, b in drawn.edges if a != b)
    size = 16 if len(agents) <= _MOST_LABELS else 5
    lines = "".join("M{} {}L{} {}".format(*positions[a], *positions[b]) for a, b in dict.fromkeys(edges))
    return el(
        "svg",
        el("path", d=lines, class_="edge"),
        (_node(node, positions[node], size, node in byzantine, node == server) for node in sorted(drawn)),
        viewBox="0 0 400 400",
        class_="graph",
        role="img",
        aria_label=label,
    )


def _on_circle(index: int, count: int) -> tuple[int, int]:
    angle = 2 * math.pi * index / count
    return 200 + round(175 * math.sin(angle)), 200 - round(175 * math.cos(angle))


def _node(node: int, position: tuple[int, int], size: int, byzantine: bool, server: bool) -> Iterable[Markup]:
    """Yield the shape of a node, and its label if there is room for it."""
    x, y = position
    if byzantine or server:
        class_ = "byzantine" if byzantine else "server"
        yield el("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_=class_)
    else:
        yield el("circle", cx=x, cy=y, r=size, class_="honest")
    if size > 10:
        yield el("text", "S" if server else node, x=x, y=y + 6, class_="on" if byzantine or server else None)
