"""Runs in groups: what reports and pictures are made of. Imports nothing heavy.

A group holds runs that differ in their seeds and in nothing else, so that unlike things are never averaged.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from byzbench.errors import ByzbenchError, CorruptRecord, InvalidParameter, UserError, suggest
from byzbench.experiments.store import AXES, Entry
from byzbench.reports.statistics import Estimate, estimate

Label = str | int

METRICS = {
    "return": "training return",
    "evaluation": "evaluation return",
    "evaluation_greedy": "greedy evaluation return",
    "evaluation_worst": "evaluation return of the worst honest agent",
    "evaluation_cvar": "evaluation return of the worst fifth of honest agents",
    "auc": "training return averaged over the whole budget",
    "evaluation_auc": "evaluation return averaged over the whole budget",
}
DEFENCE = ("algo", "aggregator", "agreement")
"""What defends: the axes along which rows compete."""

_LONGEST = 80
"""Letters of a label; a hostile name may have any number."""


@dataclass(frozen=True)
class Row:
    """Runs that differ in their seeds only.

    Attributes:
        key: the label of each axis that tells rows apart.
        entries: the runs, by seed.
        seeds: of those runs that finished with a finite metric.
        values: [n] the metric of these.
        lost: how many failed, or finished with a metric that is not finite.
        unfinished: how many have neither finished nor failed.
    """

    key: Mapping[str, Label]
    entries: tuple[Entry, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    lost: int
    unfinished: int

    @cached_property
    def estimate(self) -> Estimate | None:
        """The metric over seeds; without an interval if runs were lost, since the rest are no fair sample."""
        return estimated(self.values, self.lost)

    @property
    def by_seed(self) -> dict[Hashable, float]:
        """The metric of each seed, so that rows can be compared seed by seed."""
        return dict(zip(self.seeds, self.values.tolist(), strict=True))

    def secondary(self, metric: str) -> Estimate | None:
        """Another metric of the same runs."""
        found = [measured(entry, metric) for entry in self.entries if entry.status == "finished"]
        values = np.array([value for value in found if value is not None])
        return estimated(values, len(found) - len(values))

    @property
    def verdicts(self) -> dict[str, int]:
        """How often each verdict was reached; the commonest first."""
        names = Counter(clean(entry.result["verdict"]["name"]) for entry in self.entries if entry.result)
        return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))

    @property
    def gaps(self) -> list[str]:
        """What is not in the value."""
        failed = sum(entry.status == "failed" for entry in self.entries)
        counts = {"failed": failed, "not finite": self.lost - failed, "unfinished": self.unfinished}
        return [f"{count} of {len(self.entries)} {word}" for word, count in counts.items() if count]

    @property
    def remarks(self) -> list[str]:
        """What must stand beside the value."""
        found = self.estimate
        said = [*self.gaps, found.flag if found else ""]
        return [*filter(None, said), *(["no interval"] if found and found.low is None else [])]


@dataclass(frozen=True)
class Groups:
    """All rows of a report.

    Attributes:
        metric: a key of `METRICS`.
        bytes: what agents may have sent when it is taken; None at the end of a run.
        axes: what tells rows apart: those asked for, then those by which rows had to be split further.
        fixed: the label of each other axis that has one value in all runs, but for the seed.
        rows: in the order of their keys.
        notes: one line each, for the reader.
        problems: one line for each run that was left out, with its path.
    """

    metric: str
    axes: tuple[str, ...]
    fixed: Mapping[str, Label]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    bytes: int | None = None

    @property
    def title(self) -> str:
        """What the numbers are."""
        return METRICS[self.metric] + ("" if self.bytes is None else f" by the time that {self.bytes:,} bytes are sent")

    def varied(self, among: Sequence[str]) -> tuple[str, ...]:
        """The axes among these that have more than one value."""
        return tuple(a for a in self.axes if a in among and len({row.key[a] for row in self.rows}) > 1)

    def blocks(self, axes: Sequence[str]) -> dict[tuple[Label, ...], list[Row]]:
        """Rows that agree in all axes but these, by the labels of the others."""
        found: dict[tuple[Label, ...], list[Row]] = defaultdict(list)
        for row in self.rows:
            found[tuple(row.key[a] for a in self.axes if a not in axes)].append(row)
        return dict(found)


def group(entries: Sequence[Entry], by: Sequence[str], metric: str = "return", bytes: int | None = None) -> Groups:
    """Rows by the values of some axes; split by further axes wherever the runs of a row would differ in them.

    With `bytes`, an evaluation's metric is taken when all agents together have sent so many.

    Raises:
        UserError: there are no runs, no such axis, or no such metric.
    """
    for axis in by:
        if axis not in AXES:
            raise InvalidParameter(f"no axis {axis!r}. {suggest(axis, AXES)}Axes: {', '.join(AXES)}.")
    if metric not in METRICS:
        raise InvalidParameter(f"no metric {metric!r}. {suggest(metric, METRICS)}Metrics: {', '.join(METRICS)}.")
    if bytes is not None and (not metric.startswith("evaluation") or metric.endswith("auc")):
        raise InvalidParameter(f"a metric at fixed bytes is one of an evaluation, not {metric!r}")
    entries, scores, problems = _scores(entries, metric, bytes)
    if not entries:
        raise UserError("; ".join(["no runs were found there", *problems]))
    asked = list(dict.fromkeys(by))
    values = {axis: _canonical(entries, axis) for axis in AXES}
    names = {axis: _labels(entries, axis, values) for axis in AXES}
    axes = _split(values, names, asked)
    members: dict[tuple[Label, ...], list[Entry]] = defaultdict(list)
    for index, entry in enumerate(entries):
        members[tuple(names[axis][index] for axis in axes)].append(entry)
    rows = [_row(dict(zip(axes, key, strict=True)), found, scores) for key, found in members.items()]
    rows.sort(key=lambda row: [_order(label) for label in row.key.values()])
    fixed = {a: names[a][0] for a in AXES if a not in (*axes, "seed") and len(set(names[a])) == 1}
    notes = _notes(entries, rows, axes[len(asked) :])
    return Groups(metric, tuple(axes), fixed, tuple(rows), tuple(notes), tuple(problems), bytes)


def measured(entry: Entry, metric: str, bytes: int | None = None) -> float | None:
    """A metric of a run, or None where there is none, or none that is finite; see `group`.

    Raises:
        CorruptRecord: its log cannot be trusted.
    """
    if not entry.result:
        return None
    if bytes is not None:
        from byzbench.experiments.metrics import at_bytes
        from byzbench.experiments.records import RunFolder

        return number(at_bytes(RunFolder(entry.path).metrics(), metric, bytes))
    if metric == "return":
        return number(entry.value)
    if metric in ("auc", "evaluation_auc"):
        from byzbench.reports.plots import trace

        at, values = trace(entry.path, "return" if metric == "auc" else "evaluation")
        return number(float(np.sum(values * np.diff(at)) / at[-1]))
    return number(entry.result["evaluation"].get(metric))


def estimated(values: np.ndarray, lost: int = 0) -> Estimate | None:
    """The interquartile mean of values, if there are any; without an interval if others were lost."""
    if not len(values):
        return None
    found = estimate(values)
    return replace(found, low=None, high=None, level=None) if lost else found


def reference(entry: Entry) -> Mapping[str, float]:
    """What a random policy and a solved task score, if the run's task is known here."""
    from byzbench.registry import find

    try:
        known = find("task", entry.name("env")).__dict__.get("reference", {})
        return known if isinstance(known, Mapping) else {}
    except ByzbenchError:
        return {}


def number(value: object) -> float | None:
    """A number that can be averaged with others, or None: a stranger's may overflow."""
    return float(value) if type(value) in (int, float) and abs(value) < 1e100 else None  # type: ignore[arg-type]


def rounded(value: float, decimals: int) -> str:
    """A number for people."""
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else f"{value:.3g}"


def clean(text: object, longest: int = _LONGEST) -> str:
    """A stranger's text on one line, of a bounded length, with nothing in it that a terminal would obey."""
    line = "".join(letter if letter.isprintable() else " " for letter in str(text)[: 2 * longest])
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _scores(
    entries: Iterable[Entry], metric: str, bytes: int | None
) -> tuple[list[Entry], dict[Path, float | None], list[str]]:
    """The runs whose metric can be read, the metric by folder, and a line for each of the others."""
    good, scores, problems = [], {}, []
    for entry in entries:
        try:
            scores[entry.path] = measured(entry, metric, bytes)
            good.append(entry)
        except CorruptRecord as error:
            problems.append(str(error))
    return good, scores, problems


def _row(key: dict[str, Label], entries: list[Entry], scores: Mapping[Path, float | None]) -> Row:
    entries = sorted(entries, key=lambda entry: (entry.name("seed"), entry.hash))
    over = [(entry.name("seed"), scores[entry.path]) for entry in entries if entry.status != "unfinished"]
    good = [(seed, value) for seed, value in over if value is not None]
    seeds, values = tuple(seed for seed, _ in good), np.array([value for _, value in good])
    return Row(key, tuple(entries), seeds, values, len(over) - len(good), len(entries) - len(over))


def _canonical(entries: Sequence[Entry], axis: str) -> list[Hashable]:
    """The value of an axis in every run; of a component, its name with all parameters."""
    found = (entry.experiment[AXES[axis]] for entry in entries)
    return [json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value for value in found]


def _split(
    values: Mapping[str, Sequence[Hashable]], names: Mapping[str, Sequence[Label]], asked: Sequence[str]
) -> list[str]:
    """The axes asked for, and those of the others but the seed that must join them for rows to be of one kind."""
    axes = list(asked)
    for axis in AXES:
        if axis in axes or axis == "seed":
            continue
        keys = list(zip(*(names[a] for a in axes), strict=True)) or [()] * len(values[axis])
        if len(set(zip(keys, values[axis], strict=True))) > len(set(keys)):
            axes.append(axis)
    return axes


def _labels(entries: Sequence[Entry], axis: str, values: Mapping[str, Sequence[Hashable]]) -> list[Label]:
    """What the value of an axis is called in each run: on one task, no two values the same.

    A task suggests parameters of its own. A component that differs in them from task to task has one name on all.
    """
    tasks = [None] * len(entries) if axis == "env" else values["env"]
    described: dict[Hashable, dict[Hashable, Any]] = defaultdict(dict)
    for entry, task, value in zip(entries, tasks, values[axis], strict=True):
        described[task][value] = entry.experiment[AXES[axis]]
    called = {task: _named(found) for task, found in described.items()}
    return [called[task][value] for task, value in zip(tasks, values[axis], strict=True)]


def _named(described: Mapping[Hashable, Any]) -> dict[Hashable, Label]:
    """Labels of values, all of them different."""
    found: dict[Hashable, Label] = {}
    for value, what in sorted(described.items(), key=lambda item: str(item[0])):
        label: Label = what if isinstance(what, int) else clean(_written(what, list(described.values())))
        while label in found.values():
            label = f"{label}'"
        found[value] = label
    return found


def _written(what: Any, among: Sequence[Any], depth: int = 4) -> str:
    """A component by name, with those parameters in which others of its name differ: `alie(z=1.5)`, `nnm+krum`."""
    if not _is_component(what) or depth == 0:
        return str(what)
    peers = [o["parameters"] for o in among if _is_component(o) and o["name"] == what["name"]]
    shown, inner = [], ""
    for key, value in what["parameters"].items():
        others = [peer.get(key) for peer in peers]
        if _is_component(value):
            inner += "+" + _written(value, others, depth - 1)
        elif any(other != value or type(other) is not type(value) for other in others):
            shown.append(f"{key}={value}")
    return what["name"] + (f"({', '.join(shown)})" if shown else "") + inner


def _is_component(value: Any) -> bool:
    return (
        isinstance(value, Mapping) and isinstance(value.get("name"), str) and isinstance(value.get("parameters"), dict)
    )


def _order(label: Label) -> tuple[bool, int, str]:
    """Numbers by size, words by alphabet; no attack before any."""
    return label != "none", label if isinstance(label, int) else 0, str(label)


def _notes(entries: Sequence[Entry], rows: Sequence[Row], added: Sequence[str]) -> list[str]:
    said = []
    if added:
        said.append(f"also split by {', '.join(added)}: runs that differ in more than their seeds are not averaged")
    if mixed := sum(len({entry.code for entry in row.entries}) > 1 for row in rows):
        said.append(f"{mixed} of {len(rows)} rows mix runs of different versions of the code")
    counts = Counter(entry.status for entry in entries)
    said += [f"{counts[word]} of {len(entries)} runs {word}" for word in ("failed", "unfinished") if counts[word]]
    return said
