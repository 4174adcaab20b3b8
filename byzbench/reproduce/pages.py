"""The Markdown page of a study, and the list of all studies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from byzbench.reports.sheets import Table, render_tables
from byzbench.reports.terminal import wrap_description
from byzbench.reproduce.study import Study, StudyResult

WIDTH = 120
"""The largest number of letters of a line of text."""


def _check_table(checks: Mapping[str, bool]) -> Table:
    """Return the table of statements and whether they hold."""
    records = [{"statement": statement, "holds": holds} for statement, holds in checks.items()]
    cells = [[statement, "yes" if holds else "no"] for statement, holds in checks.items()]
    return Table("checks", "Statements", records, ["statement", "holds"], cells)


def all_tables(study: Study, result: StudyResult) -> list[Table]:
    """Return the tables of a study, and that of its statements if it has any.

    Args:
        study: The study.
        result: Its result.
    """
    checks = study.checks(result)
    return [*study.tables(result), *([_check_table(checks)] if checks else [])]


def study_page(study: Study, result: StudyResult, command: str, figure: str | None = None) -> str:
    """Return a page with the tables and the figure of a study. It depends on the study and the result alone.

    Args:
        study: The study.
        result: Its result.
        command: The command that makes the page.
        figure: The file name of the figure, if there is one.
    """
    findings = study.findings(result)
    num_seeds = " or ".join(map(str, sorted({len(row.seeds) for row in result.rows.values()})))
    parts = [
        f"# {study.title}",
        f"Made by `{command}`, at engine {result.engine}.",
        wrap_description(f"Source: {study.source}. {num_seeds} seeds.", WIDTH),
        wrap_description(study.introduction.strip(), WIDTH),
        *([f"![{study.title}]({PurePosixPath(figure)})"] if figure else []),
        render_tables(all_tables(study, result), "md", {}).strip(),
        *(["## Findings", *(wrap_description(sentence, WIDTH) for sentence in findings)] if findings else []),
    ]
    return "\n\n".join(parts) + "\n"


def study_table(studies: Mapping[str, Study]) -> Table:
    """Return a table of studies with their sources, numbers of runs and rough durations.

    Args:
        studies: The studies by name.
    """
    records = [
        {"study": name, "runs": study.num_runs(), "cost": study.cost, "source": study.source}
        for name, study in studies.items()
    ]
    cells = [[str(value) for value in record.values()] for record in records]
    return Table("studies", "Studies", records, ["study", ">runs", "cost", "source"], cells)
