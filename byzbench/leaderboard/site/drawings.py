"""Drawings as inline SVG: intervals, learning curves, graphs. Colours are the style sheet's, by class, for both modes.

Coordinates are whole numbers, so that the same data has the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from byzbench.leaderboard.scoring import Bracket
from byzbench.leaderboard.site.html import Markup, el

WIDTH, HEIGHT = 320, 160
MOST_AGENTS = 200
"""Of more, a drawing shows nothing."""

_MOST_LABELS = 40


def interval(found: Bracket) -> Markup:
    """A score between 0 and 1 with its interval. The numbers stand beside it, so it is silent to a screen reader."""

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
    seeds: np.ndarray, middle: np.ndarray, levels: tuple[float, float], span: tuple[float, float], said: str
) -> Markup:
    """Learning curves of one cell: a thin line a seed, a thick one for their middle, dashed ones for two levels.

    Args:
        seeds: evaluation returns [n, points] at equal distances, NaN where there is none.
        middle: of them all, [points].
        levels: the return at random, and that of the reference.
        span: what the frame shows, from below to above.
        said: the drawing in words.
    """
    bottom, top = span
    x = np.rint(np.linspace(0, WIDTH, len(middle))).astype(int)

    def heights(values: ArrayLike) -> np.ndarray:
        share = (np.asarray(values, float) - bottom) / ((top - bottom) or 1.0)
        return HEIGHT - np.rint(HEIGHT * share.clip(0, 1))

    def lines(values: np.ndarray, class_: str) -> Markup | None:
        """Those of values [n, points]; the pen is lifted at the start of each, and where something is missing."""
        known = np.isfinite(values)
        pens = np.where(np.diff(known, prepend=False, axis=1)[known], "M", "L").tolist()
        places = np.broadcast_to(x, values.shape)[known].tolist(), heights(values[known]).astype(int).tolist()
        path = "".join([f"{pen}{across} {down}" for pen, across, down in zip(pens, *places, strict=True)])
        return el("path", d=path, class_=class_) if path else None

    return el(
        "svg",
        (el("path", d=f"M0 {height:.0f}H{WIDTH}", class_="level") for height in heights(levels)),
        lines(seeds, "seed"),
        lines(middle[None], "middle"),
        viewBox=f"-6 -6 {WIDTH + 12} {HEIGHT + 12}",
        class_="curves",
        role="img",
        aria_label=said,
    )


def graph(drawn: nx.Graph, liars: Collection[int], said: str) -> Markup | None:
    """A graph on a circle, its server in the middle; honest agents are round, liars square. None if it is too large."""
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
        (_node(node, place[node], size, node in liars, node == server) for node in sorted(drawn)),
        viewBox="0 0 400 400",
        class_="graph",
        role="img",
        aria_label=said,
    )


def _on_circle(index: int, count: int) -> tuple[int, int]:
    angle = 2 * math.pi * index / count
    return 200 + round(175 * math.sin(angle)), 200 - round(175 * math.cos(angle))


def _node(node: int, at: tuple[int, int], size: int, liar: bool, server: bool) -> Iterable[Markup]:
    x, y = at
    if liar or server:
        class_ = "liar" if liar else "server"
        yield el("rect", x=x - size, y=y - size, width=2 * size, height=2 * size, class_=class_)
    else:
        yield el("circle", cx=x, cy=y, r=size, class_="honest")
    if size > 10:
        yield el("text", "S" if server else node, x=x, y=y + 6, class_="on" if liar or server else None)
