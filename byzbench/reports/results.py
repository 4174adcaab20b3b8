"""Results of many runs: filtered, averaged over seeds, plotted, and as a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byzbench.axes import axis_named, recorded_axes
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.result import Result
from byzbench.records.files import require_writable, write_file
from byzbench.records.store import AXES, StoredRun, gather
from byzbench.registry import parse_spec, plain
from byzbench.reports.estimators import Interval, seed_cvar
from byzbench.reports.row_scores import CLEAN, row_retention
from byzbench.reports.scoring import Retention
from byzbench.reports.summary import Groups, Label, ReportRow, group, score_bounds

if TYPE_CHECKING:
    import pandas

BY = ("attack", "algo")
"""The axes that distinguish rows by default, as in `byzbench report`."""

Key = tuple[Label, ...]
"""The labels of a row: those of the requested axes, then those by which rows had to be split further."""


@dataclass(frozen=True, repr=False)
class Results:
    """The runs of a store, a sweep or several of them. Iteration gives the results of the finished runs.

    Attributes:
        runs: All runs, sorted by hash.
        problems: One line for each folder that cannot be trusted, and of a sweep for each cell whose process died.
        undefined: Of a sweep, the reasons why combinations are undefined, by label.

    Example:
        >>> results = Results(())
        >>> len(results), results.failed
        (0, ())
    """

    runs: tuple[StoredRun, ...]
    problems: tuple[str, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> tuple[StoredRun, ...]:
        """Return the finished runs."""
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def failed(self) -> tuple[StoredRun, ...]:
        """Return the failed runs, each with its `error`."""
        return tuple(run for run in self.runs if run.status == "failed")

    def __len__(self) -> int:
        return len(self.finished)

    def __iter__(self) -> Iterator[Result]:
        for run in self.finished:
            yield Result.from_json({**run.result, "run": str(run.path)})

    def __getitem__(self, index: int) -> Result:
        run = self.finished[index]
        return Result.from_json({**run.result, "run": str(run.path)})

    def filter(self, **axes: Any) -> Results:
        """Return the runs that have given values on some axes.

        Args:
            **axes: By axis a value, or a list of values. A component is its name, or `name(key=value)` for those runs
                of it that have these parameters.

        Raises:
            UserError: There is no such axis.
        """
        allowed = {axis_named(word, recorded_axes()).name: _values(value) for word, value in axes.items()}
        kept = [r for r in self.runs if all(any(_has(r, a, v) for v in values) for a, values in allowed.items())]
        return replace(self, runs=tuple(kept))

    def mean(self, metric: str | None = None, by: str | Sequence[str] = BY) -> dict[Key, Interval]:
        """Return the mean over seeds of each row, with its 95 % interval.

        Args:
            metric: A metric of `byzbench report`; None: the area under the evaluation curve where all runs have one.
            by: Axes that distinguish rows.

        Raises:
            UserError: There are no runs, no such axis, or no such metric.
        """
        rows = self._groups(metric, by).rows
        return {_key(row): row.estimate for row in rows if row.estimate is not None}

    def cvar(self, metric: str | None = None, by: str | Sequence[str] = BY) -> dict[Key, float]:
        """Return the mean of the worst fifth of seeds of each row.

        Args:
            metric: See `mean`.
            by: See `mean`.
        """
        return {_key(row): seed_cvar(row.values) for row in self._groups(metric, by).rows if len(row.values)}

    def retention(self, by: str | Sequence[str] = BY) -> dict[Key, Retention]:
        """Return what each attack leaves of the improvement over a random policy, paired by seed.

        Args:
            by: Axes that distinguish rows, with `attack` among them.

        Raises:
            InvalidParameter: There are no runs without an attack, or `attack` is not among the axes.
        """
        groups = self._groups(None, by)
        if "attack" not in groups.axes:
            raise InvalidParameter("retention compares attacks: give by= with attack")
        kept: dict[Key, Retention] = {}
        for rows in groups.blocks(["attack"]).values():
            for clean in (row for row in rows if row.key["attack"] == CLEAN):
                shares = {_key(row): row_retention(row, clean) for row in rows if row is not clean}
                kept |= {key: share for key, share in shares.items() if share is not None}
        if not kept:
            raise InvalidParameter("there is no attack whose runs can be compared with runs without an attack")
        return kept

    def plot_curves(self, path: str | Path | None = None, *, by: str | Sequence[str] = BY) -> Any:
        """Plot learning curves with intervals over seeds.

        Args:
            path: The file to write, .png, .pdf or .svg; None: only return the figure.
            by: Axes that distinguish lines.

        Returns:
            The Matplotlib figure.
        """
        from byzbench.reports.figures import curves, draw_figure

        groups = self._groups(None, by)
        return curves(groups, ()).figure if path is None else draw_figure("curves", groups, Path(path)).figure

    def to_html(
        self, path: str | Path | None = None, *, metric: str | None = None, by: str | Sequence[str] = BY
    ) -> str:
        """Return the report of `byzbench report --html`: one page with tables, figures and what was run.

        Args:
            path: The file to write; None: only return the page.
            metric: See `mean`.
            by: See `mean`.

        Raises:
            UserError: There are no runs, or the file cannot be written.
        """
        from byzbench.reports.html_report import html_report

        if path is not None:
            require_writable(Path(path))
        page = html_report(self._groups(metric, by), problems=self.problems)
        if path is not None:
            write_file(Path(path), page)
        return page

    def to_records(self) -> list[dict[str, Any]]:
        """Return one flat dict for each run: its axes, parameters of components, status and numbers.

        Parameters are named `kind.parameter`, and numbers as in `result.json`.
        """
        return [_record(run) for run in self.runs]

    def to_pandas(self) -> pandas.DataFrame:
        """Return a data frame with one row for each run: see `to_records`.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("data frames need pandas: pip install 'byzbench[pandas]'") from None
        return pandas.DataFrame.from_records(self.to_records())

    def __repr__(self) -> str:
        others = {"failed": len(self.failed), "problems": len(self.problems), "undefined": len(self.undefined)}
        counts = [f"{len(self.runs)} runs", *(f"{count} {name}" for name, count in others.items() if count)]
        varied = [axis for axis in AXES if len({str(run.experiment[AXES[axis]]) for run in self.runs}) > 1]
        return f"Results({', '.join(counts)}{'; over ' + ', '.join(varied) if varied else ''})"

    def _repr_html_(self) -> str:
        """Return the table of results that a notebook shows."""
        from byzbench.reports.html_report import table_markup
        from byzbench.reports.markup import el
        from byzbench.reports.result_tables import sheets

        tables = [table_markup(sheets(self._groups(None, BY))[0])] if self.runs else []
        return el("p", repr(self)) + "".join(tables)

    def _groups(self, metric: str | None, by: str | Sequence[str]) -> Groups:
        return group(self.runs, [by] if isinstance(by, str) else by, metric)


def load_results(*paths: str | Path) -> Results:
    """Read runs, each experiment once.

    Args:
        *paths: Stores, run folders, or files of sweeps.

    Raises:
        UserError: A path is none of these, or cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as store:
        ...     load_results(store)
        Results(0 runs)
    """
    for path in paths:
        if not isinstance(path, str | Path):
            raise InvalidParameter(f"load_results takes paths, got {path!r}")
    runs, problems = gather([Path(path) for path in paths])
    return Results(tuple(runs), tuple(problems))


def _key(row: ReportRow) -> Key:
    return tuple(row.key.values())


def _values(value: Any) -> list[Any]:
    return [*value] if isinstance(value, list | tuple | set | range) else [value]


def _has(run: StoredRun, axis: str, value: Any) -> bool:
    """Return whether a run has a value on an axis; of a component, the name and the parameters that are written."""
    recorded = run.experiment[AXES[axis]]
    if not isinstance(recorded, Mapping):
        return bool(recorded == value)
    spec = parse_spec(str(value))
    if spec.inner:
        raise InvalidParameter(f"{axis}={value!r}: write a name, or a name with parameters by name")
    parameters = recorded["parameters"]
    return recorded["name"] == spec.name and all(parameters.get(k) == plain(v) for k, v in spec.parameters.items())


def _record(run: StoredRun) -> dict[str, Any]:
    """Return a run as one flat dict."""
    record: dict[str, Any] = {"hash": run.hash, "status": run.status, "path": str(run.path), "error": run.error}
    parameters: dict[str, Any] = {}
    for axis, key in AXES.items():
        value = run.experiment[key]
        record[axis] = value["name"] if isinstance(value, Mapping) else value
        if isinstance(value, Mapping):
            parameters |= {f"{axis}.{name}": part for name, part in value["parameters"].items()}
    if run.result:
        record["verdict"], record["return"] = run.result["verdict"]["name"], run.value
        record |= run.result["evaluation"]
        record |= {k: v for k, v in run.result.items() if isinstance(v, int | float) and k not in ("schema", *record)}
        record |= {"random": None, "solved": None}
        if (bounds := score_bounds(run)) is not None:
            record["random"], record["solved"] = bounds
    return {**record, **parameters}
