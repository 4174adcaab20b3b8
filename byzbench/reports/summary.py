"""Runs grouped into rows, the input of tables and plots. Imports nothing heavy.

The runs of a row differ in their seeds and in nothing else, so that a mean is never taken over different experiments.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from byzbench.axes import axis_named, method_axes, recorded_axes
from byzbench.errors import ByzbenchError, CorruptRecord, InvalidParameter, UserError, suggest
from byzbench.experiments.curves import area_under_curve
from byzbench.records.store import AXES, StoredRun
from byzbench.reports.abscissa import ABSCISSAE, Abscissa, common_abscissa, num_shorter, require_return
from byzbench.reports.estimators import Interval
from byzbench.reports.labels import description_label
from byzbench.reports.statistics import FEW_SEEDS, mean_interval

Label = str | int

ASSUMED = "assumed_byzantine"
SETTING = "setting"
"""Name of the column that shows where a row differs from `Groups.usual`."""

METRICS = {
    "return": "training return",
    "evaluation": "evaluation return",
    "evaluation_greedy": "greedy evaluation return",
    "evaluation_worst": "evaluation return of the worst honest agent",
    "evaluation_cvar": "evaluation return of the worst fifth of honest agents",
    "auc": "training return over the budget (AUC)",
    "evaluation_auc": "evaluation return over the budget (AUC)",
}
BOARD_METRIC = "evaluation_auc"
"""The metric that boards score."""

END_OF = {BOARD_METRIC: "evaluation", "auc": "return"}
"""The return at the end of the curve whose area a metric is."""

DEFENCE = tuple(axis.name for axis in method_axes())
"""Axes of the defence, along which rows compete."""

_LONGEST = 80
"""Largest number of letters of a label; a submitted name may be longer."""

_LARGEST = 1e30
"""Largest reference return of which scores are computed; a submitted record may hold any number."""


@dataclass(frozen=True)
class ReportRow:
    """Runs that differ in their seeds only.

    Attributes:
        key: The label of each axis that distinguishes rows.
        entries: The runs, in the order of their seeds.
        seeds: Seeds of the runs that have a value.
        values: [n] The metric of each. A run that failed or diverged has the return of a random policy, if it is known.
        lost: How many failed, diverged, or finished without a finite metric.
        left_out: How many of these have no value.
        unfinished: How many have neither finished nor failed.
        point: Where on the learning curves metrics are taken; None for the end of a run.
    """

    key: Mapping[str, Label]
    entries: tuple[StoredRun, ...]
    seeds: tuple[int, ...]
    values: np.ndarray
    lost: int
    left_out: int
    unfinished: int
    point: Abscissa | None = None

    @cached_property
    def bounds(self) -> tuple[float, float] | None:
        """Returns of a random policy and of the solved task; None where the task does not state both."""
        return score_bounds(self.entries[0])

    @cached_property
    def estimate(self) -> Interval | None:
        """Mean over seeds; without an interval if runs are left out, since the others are not a fair sample."""
        return estimated(self.values, self.bounds, self.left_out)

    @property
    def by_seed(self) -> dict[int, float]:
        """Metric of each seed."""
        return dict(zip(self.seeds, self.values.tolist(), strict=True))

    def secondary(self, metric: str) -> float | None:
        """Return the mean of another metric of the same runs, by the same rules; None where a log does not hold it."""
        try:
            values = [(e, measured(e, metric, self.point)) for e in self.entries if e.status != "unfinished"]
        except CorruptRecord:
            return None
        valued = _valued(values)
        return float(np.mean([value for _, value in valued])) if valued else None

    @property
    def verdicts(self) -> dict[str, int]:
        """Number of runs of each verdict, the most frequent first."""
        names = Counter(clean(entry.result["verdict"]["name"]) for entry in self.entries if entry.result)
        return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))

    @property
    def gaps(self) -> list[str]:
        """Statements of how many runs failed, have no value or are unfinished."""
        failed = sum(entry.status == "failed" for entry in self.entries)
        valueless = "not finite" if self.point is None else "not finite, or not evaluated by then"
        counts = {"failed": failed, valueless: self.lost - failed, "unfinished": self.unfinished}
        return [f"{count} of {len(self.entries)} {word}" for word, count in counts.items() if count]

    @property
    def remarks(self) -> list[str]:
        """Statements of what limits the value."""
        estimate = self.estimate
        at_random = self.lost - self.left_out
        return [
            *self.gaps,
            *([f"{at_random} at the random policy's return"] if at_random else []),
            *(["few seeds"] if estimate and len(self.values) < FEW_SEEDS else []),
            *(["no interval"] if estimate and estimate.low is None else []),
        ]


@dataclass(frozen=True)
class Groups:
    """All rows of a report.

    Attributes:
        metric: The metric, a key of `METRICS`.
        axes: The axes that distinguish rows: the requested ones, then those by which rows had to be split further.
        fixed: The label of each other axis but the seed that has one value in all runs.
        rows: The rows, in the order of their keys.
        notes: Remarks for the reader, one line each.
        problems: One line for each run that could not be read, with its path.
        point: Where on the learning curves the metric is taken; None for the end of a run.
        split: Those of the axes by which rows had to be split further.
    """

    metric: str
    axes: tuple[str, ...]
    fixed: Mapping[str, Label]
    rows: tuple[ReportRow, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    point: Abscissa | None = None
    split: tuple[str, ...] = ()

    @cached_property
    def usual(self) -> Mapping[str, Label]:
        """Labels of the setting that most runs have, by axis: of several axes by which rows were split further.

        Tables and plots then show only where a row differs from it.
        """
        if len(self.split) < 2:
            return {}
        counts: Counter[tuple[Label, ...]] = Counter()
        for row in self.rows:
            counts[tuple(row.key[axis] for axis in self.split)] += len(row.entries)
        ((setting, _),) = counts.most_common(1)
        return dict(zip(self.split, setting, strict=True))

    def columns(self, axes: Sequence[str]) -> list[str]:
        """Return the names of the columns of a table that shows these axes."""
        own = [axis for axis in axes if axis not in self.usual]
        return own if len(own) == len(axes) else [*own, SETTING]

    def cells(self, key: Mapping[str, Label]) -> list[str]:
        """Return the texts of a row in the columns of the axes that its key has."""
        own = [str(label) for axis, label in key.items() if axis not in self.usual]
        return own if len(own) == len(key) else [*own, ", ".join(self.setting(key))]

    def setting(self, key: Mapping[str, Label]) -> list[str]:
        """Return where a key differs from the usual setting."""
        usual = dict(self.usual)
        if ASSUMED in usual and usual[ASSUMED] == usual.get("byzantine"):
            usual[ASSUMED] = key.get("byzantine", usual[ASSUMED])  # usually agents assume the true f
        return [f"{axis}={label}" for axis, label in key.items() if label != usual.get(axis, label)]

    @property
    def title(self) -> str:
        """Name of the metric, with the point at which it is taken."""
        return METRICS[self.metric] + ("" if self.point is None else f" at {self.point}")

    def varied(self, among: Sequence[str]) -> tuple[str, ...]:
        """Return the axes among these that have more than one value."""
        return tuple(a for a in self.axes if a in among and len({row.key[a] for row in self.rows}) > 1)

    def blocks(self, axes: Sequence[str]) -> dict[tuple[Label, ...], list[ReportRow]]:
        """Return the rows that agree in all axes but these, by their labels in the other axes."""
        rows_by_labels: dict[tuple[Label, ...], list[ReportRow]] = defaultdict(list)
        for row in self.rows:
            rows_by_labels[tuple(row.key[axis] for axis in self.axes if axis not in axes)].append(row)
        return dict(rows_by_labels)


def default_metric(entries: Sequence[StoredRun]) -> tuple[str, str]:
    """Return the metric that boards score if all finished runs have it, else the training return, and why.

    Args:
        entries: The runs. One that diverged needs no evaluation.

    Returns:
        A key of `METRICS`, and a note where it is not `BOARD_METRIC`, else an empty text.
    """
    finished = [entry for entry in entries if entry.result]
    without = [
        e for e in finished if not _diverged(e) and not {"evaluation", BOARD_METRIC} & e.result["evaluation"].keys()
    ]
    if not without:
        return BOARD_METRIC, ""
    return (
        "return",
        f"{len(without)} of {len(finished)} finished runs have no evaluations: the metric is the training return",
    )


def group(
    entries: Sequence[StoredRun],
    by: Sequence[str],
    metric: str | None = None,
    *,
    x: str | None = None,
    at: float | None = None,
) -> Groups:
    """Group runs into rows by the values of some axes.

    Rows are split by further axes wherever their runs would differ in more than the seed.

    Args:
        entries: The runs.
        by: Axes that distinguish rows.
        metric: A key of `METRICS`; None for `default_metric`, or with `x` for the return that it is the area of.
        x: Take returns at equal trajectories, seconds or bytes, a key of `ABSCISSAE`; None for the end of each run.
        at: So many; None for the largest number that every run has reached.

    Returns:
        The rows, with notes and problems.

    Raises:
        UserError: There are no runs, no such axis, or no such metric.
    """
    note = ""
    if metric is None:
        metric, note = default_metric(entries)
        metric = END_OF.get(metric, metric) if x else metric
    requested = list(dict.fromkeys(axis_named(word, recorded_axes()).name for word in by))
    if metric not in METRICS:
        raise InvalidParameter(f"no metric {metric!r}. {suggest(metric, METRICS)}Metrics: {', '.join(METRICS)}.")
    point = _point(entries, metric, x, at)
    entries, scores, problems = _scores(entries, metric, point)
    if not entries:
        raise UserError("; ".join(["no readable runs there", *problems]))
    values = {axis: _canonical(entries, axis) for axis in AXES}
    names = {axis: _labels(entries, axis, values) for axis in AXES}
    axes = _split(values, names, requested)
    members: dict[tuple[Label, ...], list[StoredRun]] = defaultdict(list)
    for index, entry in enumerate(entries):
        members[tuple(names[axis][index] for axis in axes)].append(entry)
    rows = [_row(dict(zip(axes, key, strict=True)), runs, scores, point) for key, runs in members.items()]
    rows.sort(key=lambda row: [_order(label) for label in row.key.values()])
    fixed = {a: names[a][0] for a in AXES if a not in (*axes, "seed") and len(set(names[a])) == 1}
    split = tuple(axes[len(requested) :])
    notes = [*([note] if note else []), *_notes(entries, rows, {axis: names[axis] for axis in split})]
    if point and at is not None and (shorter := num_shorter(entries, point, metric)):
        notes.append(f"{shorter} of {len(entries)} runs end before {point}, and count as at their end")
    return Groups(metric, tuple(axes), fixed, tuple(rows), tuple(notes), tuple(problems), point, split)


def _point(entries: Sequence[StoredRun], metric: str, x: str | None, at: float | None) -> Abscissa | None:
    """Return the point at which returns are compared; see `group`."""
    if x is None:
        if at is not None:
            raise InvalidParameter(f"a number at which runs are compared needs --x {' or '.join(ABSCISSAE)}")
        return None
    require_return(metric)
    return common_abscissa(entries, x, metric) if at is None else Abscissa(x, at)


def measured(entry: StoredRun, metric: str, point: Abscissa | None = None) -> float | None:
    """Return a metric of a run, or None where there is none, or none that is finite; see `group`.

    Areas are those of `byzbench.experiments.curves.area_under_curve`. The area under the evaluation curve is read from
    result.json, and computed from the log of a run that is older than that record.

    Args:
        entry: The run.
        metric: A key of `METRICS`.
        point: Where on the learning curve; None for the end.

    Raises:
        CorruptRecord: Its log cannot be trusted.
    """
    if not entry.result or _diverged(entry):
        return None
    if point is not None:
        return format_number(point.value(entry, metric))
    if metric == "return":
        return format_number(entry.value)
    if metric == "auc" or (metric == BOARD_METRIC and BOARD_METRIC not in entry.result["evaluation"]):
        return _area(entry, "return" if metric == "auc" else "evaluation")
    return format_number(entry.result["evaluation"].get(metric))


def estimated(values: np.ndarray, bounds: tuple[float, float] | None = None, left_out: int = 0) -> Interval | None:
    """Return the mean of values [n] with its interval.

    Args:
        values: One for each seed.
        bounds: See `byzbench.reports.statistics.mean_interval`.
        left_out: How many further runs have no value; if there are any, there is no interval.

    Returns:
        The mean; None if there are no values.
    """
    if not len(values):
        return None
    mean = mean_interval(values, bounds)
    return Interval(mean.value) if left_out else mean


def run_reference(entry: StoredRun) -> Mapping[str, float]:
    """Return the known reference returns of a run's task: `random`, `solved` and others.

    They are taken from the run's description, else from the measured ones of byzbench's tasks, else from an installed
    task.
    """
    from byzbench.registry import find

    name, parameters = entry.name("env"), entry.experiment[AXES["env"]].get("parameters", {})
    known: Mapping[str, Any] = {}
    if name in _measured():
        known = {key: _measured()[name][key] for key in ("random", "solved", "solo") if key in _measured()[name]}
    elif "id" in parameters:
        known = {
            k: v for k, v in _measured().get(f"{name}:{parameters['id']}", {}).items() if k in ("random", "solved")
        }
    else:
        try:
            known = find("task", name).__dict__.get("reference", {})
        except ByzbenchError:
            known = {}
    stated = {key: parameters[key] for key in ("random", "solved") if format_number(parameters.get(key)) is not None}
    return {**(known if isinstance(known, Mapping) else {}), **stated}


def score_bounds(entry: StoredRun) -> tuple[float, float] | None:
    """Return the returns of a random policy and of the solved task, which have the scores 0 and 1.

    Args:
        entry: A run.

    Returns:
        Both; None where one is not known, or they do not rise.
    """
    known = run_reference(entry)
    low, high = format_number(known.get("random")), format_number(known.get("solved"))
    if low is None or high is None or max(abs(low), abs(high)) > _LARGEST or high - low < 1 / _LARGEST:
        return None
    return low, high


@cache
def _measured() -> dict[str, dict[str, float]]:
    """Return the contents of references.json. `byzbench.tasks._references` has the same, and imports torch."""
    return dict(json.loads(files("byzbench.tasks").joinpath("references.json").read_text(encoding="utf-8")))


def _diverged(entry: StoredRun) -> bool:
    return bool(entry.result) and entry.result["verdict"]["name"] == "diverged"


def _area(entry: StoredRun, key: str) -> float | None:
    """Return the area under a curve of a run's log, from the random policy's return on, or from its first value."""
    from byzbench.reports.plots import trace

    at, values = trace(entry.path, key)
    returns = [value if np.isfinite(value) else None for value in values.tolist()]
    start = format_number(run_reference(entry).get("random", returns[0]))
    if start is None:
        return None
    return format_number(area_under_curve(at[1:].tolist(), returns, start, max(1, entry.name("trajectories"))))


def _valued(values: Sequence[tuple[StoredRun, float | None]]) -> list[tuple[StoredRun, float]]:
    """Return the runs that have a value; one that failed or diverged has the random policy's return, if known."""
    valued = []
    for entry, value in values:
        if value is None and (entry.status == "failed" or _diverged(entry)):
            value = format_number(run_reference(entry).get("random"))
        if value is not None:
            valued.append((entry, value))
    return valued


def format_number(value: object) -> float | None:
    """Return a number as a float, or None for any other value and for numbers that may overflow in sums.

    Example:
        >>> format_number(3), format_number(True), format_number("3"), format_number(1e200)
        (3.0, None, None, None)
    """
    return float(value) if type(value) in (int, float) and abs(value) < 1e100 else None  # type: ignore[arg-type]


def rounded(value: float, decimals: int) -> str:
    """Return a number with fixed decimals, or with three digits where it is very large.

    Example:
        >>> rounded(0.4567, 2), rounded(-3.2e12, 2)
        ('0.46', '-3.2e+12')
    """
    return f"{value:.{decimals}f}" if abs(value) < 1e9 else f"{value:.3g}"


def clean(text: object, longest: int = _LONGEST) -> str:
    r"""Return an untrusted text on one line of bounded length, without control characters.

    Example:
        >>> clean("a\x1b[31m name\n of two lines", longest=12)
        'a [31m name…'
    """
    line = "".join(letter if letter.isprintable() else " " for letter in str(text)[: 2 * longest])
    line = " ".join(line.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _scores(
    entries: Iterable[StoredRun], metric: str, point: Abscissa | None
) -> tuple[list[StoredRun], dict[Path, float | None], list[str]]:
    """Read the metric of each run.

    Args:
        entries: The runs.
        metric: See `group`.
        point: See `measured`.

    Returns:
        The runs whose metric can be read, the metric by folder, and a line for each of the other runs.
    """
    readable, scores, problems = [], {}, []
    for entry in entries:
        try:
            scores[entry.path] = measured(entry, metric, point)
            readable.append(entry)
        except CorruptRecord as error:
            problems.append(str(error))
    return readable, scores, problems


def _row(
    key: dict[str, Label], entries: list[StoredRun], scores: Mapping[Path, float | None], point: Abscissa | None
) -> ReportRow:
    entries = sorted(entries, key=lambda entry: (entry.name("seed"), entry.hash))
    ended = [(entry, scores[entry.path]) for entry in entries if entry.status != "unfinished"]
    valued = _valued(ended)
    return ReportRow(
        key=key,
        entries=tuple(entries),
        seeds=tuple(entry.name("seed") for entry, _ in valued),
        values=np.array([value for _, value in valued]),
        lost=sum(value is None for _, value in ended),
        left_out=len(ended) - len(valued),
        unfinished=len(entries) - len(ended),
        point=point,
    )


def _canonical(entries: Sequence[StoredRun], axis: str) -> list[Hashable]:
    """Return the value of an axis in every run; of a component, its description with all parameters."""
    described = (entry.experiment[AXES[axis]] for entry in entries)
    return [json.dumps(value, sort_keys=True) if isinstance(value, Mapping) else value for value in described]


def _split(
    values: Mapping[str, Sequence[Hashable]], names: Mapping[str, Sequence[Label]], requested: Sequence[str]
) -> list[str]:
    """Return the requested axes and all further ones but the seed that are needed to separate different experiments.

    Args:
        values: The value of each axis in every run.
        names: The label of each axis in every run.
        requested: The requested axes.
    """
    axes = list(requested)
    for axis in AXES:
        if axis in axes or axis == "seed":
            continue
        keys = list(zip(*(names[a] for a in axes), strict=True)) or [()] * len(values[axis])
        if len(set(zip(keys, values[axis], strict=True))) > len(set(keys)):
            axes.append(axis)
    return axes


def _labels(entries: Sequence[StoredRun], axis: str, values: Mapping[str, Sequence[Hashable]]) -> list[Label]:
    """Return the label of an axis in each run.

    Different values have different labels on one task. Across tasks a component keeps its label, although each task
    suggests parameters of its own.
    """
    tasks = [None] * len(entries) if axis == "env" else values["env"]
    described: dict[Hashable, dict[Hashable, Any]] = defaultdict(dict)
    for entry, task, value in zip(entries, tasks, values[axis], strict=True):
        described[task][value] = entry.experiment[AXES[axis]]
    names_of_tasks = dict(zip(tasks, (None if axis == "env" else entry.name("env") for entry in entries), strict=True))
    names = {task: _named(AXES[axis], values_there, names_of_tasks[task]) for task, values_there in described.items()}
    return [names[task][value] for task, value in zip(tasks, values[axis], strict=True)]


def _named(kind: str, described: Mapping[Hashable, Any], task: str | None) -> dict[Hashable, Label]:
    """Return a label for each value of an axis on a task, all of them different."""
    candidates = list(described.values())
    labels: dict[Hashable, Label] = {}
    for value, description in sorted(described.items(), key=lambda item: str(item[0])):
        label: Label = (
            description
            if isinstance(description, int)
            else clean(description_label(kind, description, candidates, task))
        )
        while label in labels.values():
            label = f"{label}'"
        labels[value] = label
    return labels


def choice(entries: Iterable[StoredRun], axes: Sequence[str]) -> str:
    """Return the options by which the runs that are most alike in some axes are chosen among others."""
    settings = Counter(tuple(entry.name(axis) for axis in axes) for entry in entries)
    ((most, _),) = settings.most_common(1)
    flags = [
        (axis_named(axis).flag if value is not False else f"--no-{axis}", "" if type(value) is bool else f" {value}")
        for position, (axis, value) in enumerate(zip(axes, most, strict=True))
        if any(setting[position] != value for setting in settings)
    ]
    options = " ".join(flag + value for flag, value in flags)
    return f"to choose, for example: {options}" if options else "to choose, name run folders or the file of a sweep"


def _order(label: Label) -> tuple[bool, int, str]:
    """Return the sort key of a label: `none` first, then numbers by size, then words in alphabetical order."""
    return label != "none", label if isinstance(label, int) else 0, str(label)


def _notes(entries: Sequence[StoredRun], rows: Sequence[ReportRow], split: Mapping[str, Sequence[Label]]) -> list[str]:
    """Return remarks on the runs.

    Args:
        entries: The runs.
        rows: Their rows.
        split: By axis by which rows had to be split further, the label of each run.
    """
    notes = []
    if split:
        mixed = {axis: Counter(labels).most_common() for axis, labels in split.items() if axis != ASSUMED}
        texts = [
            f"{axis} {counts[0][0]} and {len(counts) - 1} other{'s' * (len(counts) > 2)}"
            for axis, counts in mixed.items()
        ]
        notes.append(f"mixed settings, which are not averaged: {', '.join(texts)}; {choice(entries, [*split])}")
    if versions := sum(len({entry.code for entry in row.entries}) > 1 for row in rows):
        notes.append(f"{versions} of {len(rows)} rows mix runs of different versions of the code")
    counts = Counter(entry.status for entry in entries)
    notes += [
        f"{counts[status]} of {len(entries)} runs {status}" for status in ("failed", "unfinished") if counts[status]
    ]
    return notes
