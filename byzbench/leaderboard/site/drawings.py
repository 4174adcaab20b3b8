"""Inline SVG of scores, learning curves and graphs. The style sheet sets colours by class.

Coordinates are integers, so that the same data has the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from byzbench.reports.markup import Markup, el
from byzbench.reports.estimators import Interval

WIDTH, HEIGHT = 320, 160
"""Size of the frame of learning curves."""

_CHART_WIDTH, _LABELS, _TOP, _ROW = 430, 152, 24, 20
"""Width of the chart of scores, that of its labels, where its rows begin, and the height of a row."""

_LETTERS = 22
"""Most letters of a name in the chart of scores."""

_MOST_TICKS = 5
"""Most intervals between the ticks of the axis of scores."""

MOST_AGENTS = 200
"""Largest number of agents with which a graph is drawn."""

_MOST_LABELS = 40
"""Largest number of agents with which nodes are labelled."""


@dataclass(frozen=True)
class ScoreMark:
    """A row of the chart of scores.

    Attributes:
        name: The name of the entry.
        score: Its score with the interval.
        clean: Its score without an attack.
    """

    name: str
    score: Interval
    clean: float


def score_chart(marks: Sequence[ScoreMark], tied: Sequence[range], alone: float | None, label: str) -> Markup:
    """Return a chart of scores, a row for each entry: a dot with its interval, and an open circle without an attack.

    Dashed lines are at 1, the reference, and at learning alone. A vertical bar at the right joins rows of which no pair
    is separated. Each row has its numbers as a title; values below 0 are drawn at 0.

    Args:
        marks: The rows.
        tied: The groups of rows of which no pair is separated, as ranges of positions.
        alone: The clean score of the method alone; None if it is not drawn.
        label: The description for screen readers.
    """
    ends = [x for mark in marks for x in (mark.score.value, mark.score.high, mark.clean) if x is not None]
    largest = max(1.0, alone or 0.0, *ends)
    step = 0.5
    while largest > _MOST_TICKS * step:
        step *= 2
    ticks = [step * i for i in range(1 + math.ceil(largest / step))]
    lanes = _lanes(tied)
    plot = _CHART_WIDTH - _LABELS - 16 - 8 * (1 + max(lanes, default=-1))
    bottom = _TOP + _ROW * len(marks)

    def across(value: float) -> int:
        return _LABELS + round(plot * min(max(value, 0.0) / ticks[-1], 1.0))

    def line(value: float, class_: str) -> Markup:
        return el("path", d=f"M{across(value)} {_TOP}V{bottom}", class_=class_)

    return el(
        "svg",
        el("title", label),
        ((line(x, "axis"), el("text", f"{x:g}", x=across(x), y=_TOP - 6, class_="tick")) for x in ticks),
        line(1.0, "level"),
        None if alone is None else line(alone, "alone"),
        (_chart_row(mark, _TOP + _ROW * i + _ROW // 2, across) for i, mark in enumerate(marks)),
        (
            el(
                "path",
                d=f"M{_CHART_WIDTH - 6 - 8 * lane} {_TOP + _ROW * g.start + 5}v{_ROW * len(g) - 10}",
                class_="tie",
            )
            for g, lane in zip(tied, lanes, strict=True)
        ),
        viewBox=f"0 0 {_CHART_WIDTH} {bottom + 4}",
        class_="scores",
        role="img",
        aria_label=label,
    )


def _lanes(groups: Sequence[range]) -> list[int]:
    """Return for each group the first lane in which no earlier group reaches it; groups are ordered by their start."""
    ends: list[int] = []
    lanes = []
    for group in groups:
        lane = next((i for i, end in enumerate(ends) if end <= group.start), len(ends))
        ends[lane : lane + 1] = [group.stop]
        lanes.append(lane)
    return lanes


def _chart_row(mark: ScoreMark, y: int, across: Callable[[float], int]) -> Markup:
    score = mark.score
    low, high = (score.value if end is None else end for end in (score.low, score.high))
    name = mark.name if len(mark.name) <= _LETTERS else f"{mark.name[: _LETTERS - 1].rstrip()}\N{HORIZONTAL ELLIPSIS}"
    numbers = f"score {score.value:.2f}, {low:.2f} to {high:.2f}; without an attack {mark.clean:.2f}"
    return el(
        "g",
        el("title", f"{mark.name}: {numbers}"),
        el("text", name, x=_LABELS - 10, y=y + 4, class_="name"),
        el("path", d=f"M{across(low)} {y}H{across(high)}", class_="spread"),
        el("circle", cx=across(mark.clean), cy=y, r=4, class_="clean"),
        el("circle", cx=across(score.value), cy=y, r=4, class_="dot"),
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
