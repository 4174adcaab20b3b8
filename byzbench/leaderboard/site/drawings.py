"""Drawings as inline SVG: intervals, learning curves, graphs. Colours come from the style sheet, by class.

Coordinates are whole numbers, so that the same data has the same bytes on every machine.
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
MOST_AGENTS = 200
"""Number of agents above which a graph is not drawn."""

_MOST_LABELS = 40


def interval(found: Interval) -> Markup:
    """Return a drawing of a score with its interval, from 0 to 1; larger scores stand at 1.

    The numbers stand beside it, so it is hidden from screen readers.
    """

    def at(value: float) -> int:
        return 4 + round(92 * min(max(value, 0.0), 1.0))

    low, high = (found.low, found.high) if found.low is not None and found.high is not None else (found.value,) * 2
    return el(
        "svg",
        el("path", d="M4 8H96", class_="axis"),
        el("path", d=f"M{at(low)} 8H{at(high)}", class_="spread"),
        el("circle", cx=at(found.value), cy=8, r=4, class_="dot"),
        viewBox="0 0 100 16",
        class_="interval",
        aria_hidden="true",
    )


def curves(
    seeds: np.ndarray, dates: np.ndarray, levels: Iterable[float], span: tuple[float, float], label: str
) -> Markup:
    """Return the learning curves of one cell: a thin line for each seed, a thick one for their mean, dashed levels.

    The mean is drawn where every seed has a value, at the mean of their dates.

    Args:
        seeds: evaluation returns [n, points], NaN where there is none.
        dates: the share of the budget after which each was measured, [n, points].
        levels: returns that are marked: of a random policy, and of the reference.
        span: the lowest and the highest return that the frame shows.
        label: the drawing in words.
    """
    bottom, top = span
    whole = np.isfinite(seeds).all(0)
    mean = np.where(whole, np.where(whole, seeds, 0.0).mean(0), np.nan)

    def heights(values: ArrayLike) -> np.ndarray:
        share = (np.asarray(values, float) - bottom) / ((top - bottom) or 1.0)
        return HEIGHT - np.rint(HEIGHT * share.clip(0, 1))

    def lines(values: np.ndarray, at: np.ndarray, class_: str) -> Markup | None:
        """Return the lines of values [n, points]; each starts anew where a value is missing."""
        known = np.isfinite(values)
        pens = np.where(np.diff(known, prepend=False, axis=1)[known], "M", "L").tolist()
        across = np.rint(WIDTH * at[known].clip(0, 1)).astype(int).tolist()
        down = heights(values[known]).astype(int).tolist()
        path = "".join([f"{pen}{x} {y}" for pen, x, y in zip(pens, across, down, strict=True)])
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
    """Return a graph on a circle, its server in the middle; Byzantine agents are square. None if it is too large."""
    server = drawn.graph.get("server")
    agents = sorted(node for node in drawn if node != server)
    if len(agents) > MOST_AGENTS:
        return None
    place = {node: _on_circle(index, len(agents)) for index, node in enumerate(agents)} | {server: (200, 200)}
    edges = sorted((min(a, b), max(a, b)) for a, b in drawn.edges if a != b)
    size = 16 if len(agents) <= _MOST_LABELS else 5
    lines = "".join("M{} {}L{} {}".format(*place[a], *place[b]) for a, b in dict.fromkeys(edges))
    return el(
        "svg",
        el("path", d=lines, class_="edge"),
        (_node(node, place[node], size, node in byzantine, node == server) for node in sorted(drawn)),
        viewBox="0 0 400 400",
        class_="graph",
        role="img",
        aria_label=label,
    )


def _on_circle(index: int, count: int) -> tuple[int, int]:
    angle = 2 * math.pi * index / count
    return 200 + round(175 * math.sin(angle)), 200 - round(175 * math.cos(angle))


def _node(node: int, at: tuple[int, int], size: int, byzantine: bool, server: bool) -> Iterable[Markup]:
    x, y = at
    if byzantine or server:
        class_ = "byzantine" if byzantine else "server"
        yield el("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_=class_)
    else:
        yield el("circle", cx=x, cy=y, r=size, class_="honest")
    if size > 10:
        yield el("text", "S" if server else node, x=x, y=y + 6, class_="on" if byzantine or server else None)
