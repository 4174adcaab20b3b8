"""Studies: published or theoretical experiments as data, and what was measured of them."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from matplotlib.figure import Figure

from byzbench.reports.sheets import Table

Options: TypeAlias = Mapping[str, Any]
"""Keyword arguments of `Experiment.create` without the seed."""


@dataclass(frozen=True)
class MeasuredRow:
    """Row of a study with what was measured of its runs.

    Attributes:
        options: The options of the runs.
        seeds: Their seeds.
        runs: What `Study.measure` returned for each seed: JSON.
        num_candidates: The number of settings among which these options were chosen.
    """

    options: Options
    seeds: Sequence[int]
    runs: Sequence[Any]
    num_candidates: int = 1


@dataclass(frozen=True)
class StudyResult:
    """What was measured of a study: JSON, from which tables, checks and the figure are made.

    Attributes:
        study: The name of the study.
        engine: The `ENGINE` of the runs.
        rows: The rows by name.

    Example:
        >>> result = StudyResult("speedup", 3, {"K=1": MeasuredRow({"agents": 1}, [0], [12.5])})
        >>> StudyResult.from_json(result.to_json()) == result
        True
    """

    study: str
    engine: int
    rows: Mapping[str, MeasuredRow]

    def to_json(self) -> str:
        """Return the result as one JSON object, with a line for each row."""
        rows = [f"{json.dumps(name)}: {json.dumps(asdict(row), allow_nan=False)}" for name, row in self.rows.items()]
        head = f'"study": {json.dumps(self.study)}, "engine": {self.engine}'
        return "{" + head + ', "rows": {\n' + ",\n".join(rows) + "\n}}\n"

    @classmethod
    def from_json(cls, text: str) -> StudyResult:
        """Create a result from the text of `to_json`."""
        data = json.loads(text)
        return cls(data["study"], data["engine"], {name: MeasuredRow(**row) for name, row in data["rows"].items()})


@dataclass(frozen=True)
class Study(ABC):
    """Published or theoretical experiment: what runs, what is measured, and what is made of it.

    A row is a setting that runs once for each seed. A row with several candidates runs with the one of the highest
    `score` on the seeds of the search. Tables, checks and the figure depend on the result alone.

    Attributes:
        name: The name.
        title: The title of its page.
        source: Where the experiment or the claim comes from.
        cost: The rough duration with the usual number of seeds.
        num_seeds: The usual number of seeds.
        first_seed: The first seed of the rows.
        search_seeds: The seeds on which rows with several candidates choose; no row is scored on them.
    """

    name: str
    title: str
    source: str
    cost: str
    num_seeds: int = 10
    first_seed: int = 0
    search_seeds: tuple[int, ...] = ()

    @property
    @abstractmethod
    def introduction(self) -> str:
        """Return what the page says before the tables, in Markdown."""

    @abstractmethod
    def rows(self) -> Mapping[str, Sequence[Options]]:
        """Return the candidates of each row, by name."""

    @abstractmethod
    def measure(self, folder: Path) -> Any:
        """Return what is kept of a run: JSON.

        Args:
            folder: The folder of the run.
        """

    def choice_of(self, row: str) -> str:
        """Return the row whose choice of a candidate a row takes: by default its own.

        The candidates of both rows belong together by position, for example the same method under two attacks.
        """
        return row

    def score(self, runs: Sequence[Any]) -> tuple[float, ...]:
        """Return the score of a candidate; the highest wins, and of equals the first candidate.

        Args:
            runs: What was measured on each seed of the search.
        """
        raise NotImplementedError(f"{self.name} has no search")

    @abstractmethod
    def tables(self, result: StudyResult) -> list[Table]:
        """Return the tables of a result."""

    @abstractmethod
    def figure(self, result: StudyResult) -> Figure:
        """Return the figure of a result."""

    def checks(self, result: StudyResult) -> dict[str, bool]:
        """Return the statements that the study tests, and whether they hold in a result."""
        return {}

    def findings(self, result: StudyResult) -> Sequence[str]:
        """Return what a result shows, in sentences with intervals that end its page."""
        return ()

    def seeds(self, number: int | None = None) -> list[int]:
        """Return the seeds of a row.

        Args:
            number: Their number; None for the usual one of the study.
        """
        return list(range(self.first_seed, self.first_seed + (self.num_seeds if number is None else number)))

    def num_seeds_of(self, row: str) -> int:
        """Return the usual number of seeds of a row: by default that of the study.

        Args:
            row: The name of the row.
        """
        return self.num_seeds

    def num_runs(self) -> int:
        """Return the number of runs with the usual number of seeds, with those of the search."""
        rows = self.rows()
        candidates = sum(
            len(several) for row, several in rows.items() if len(several) > 1 and self.choice_of(row) == row
        )
        return candidates * len(self.search_seeds) + sum(map(self.num_seeds_of, rows))
