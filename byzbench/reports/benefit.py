"""Benefit of taking part: the return of a method beside that of its agents alone. Imports nothing heavy."""

from __future__ import annotations

from byzbench.reports.row_scores import row_benefit
from byzbench.reports.sheets import Table
from byzbench.reports.summary import Groups, ReportRow, rounded

ALONE = "solo"
"""The algorithm whose agents do not communicate."""

_SETTING = ("env", "agents", "trajectories")
"""Axes that a row and its reference row of `solo` must agree in, since their returns are not comparable else."""


def benefit(groups: Groups) -> Table:
    """Return the score of every row minus that of the same agents alone, paired by seed.

    The row of `solo` is that of the same task, agents and budget, with as many further axes in common as there are. The
    difference is that of `byzbench.reports.ordering.joining`.

    Args:
        groups: The rows of a report.

    Returns:
        The table. It has no records where there are no runs of `solo`, or no reference returns of the task.
    """
    alone = [row for row in groups.rows if _algorithm(row) == ALONE]
    axes = [axis for axis in groups.axes if len({row.key[axis] for row in groups.rows}) > 1]
    records, cells = [], []
    for row in groups.rows:
        peers = [
            candidate
            for candidate in alone
            if all(candidate.key[a] == row.key[a] for a in groups.axes if a in _SETTING)
        ]
        if _algorithm(row) == ALONE or not peers:
            continue
        solo = max(peers, key=lambda candidate: sum(candidate.key[a] == row.key[a] for a in groups.axes))
        if row.left_out or solo.left_out or (compared := row_benefit(row, solo)) is None:
            continue
        (difference, num_seeds), decimals = compared, 3
        records.append(
            {**row.key, "value": difference.value, "low": difference.low, "high": difference.high, "seeds": num_seeds}
        )
        interval = (
            "–"
            if difference.low is None or difference.high is None
            else " to ".join(rounded(end, decimals) for end in (difference.low, difference.high))
        )
        cells.append(
            [
                *groups.cells({a: row.key[a] for a in axes}),
                rounded(difference.value, decimals),
                interval,
                str(num_seeds),
            ]
        )
    title = (
        f"Benefit of taking part: score of the {groups.title} minus that of the same agents alone, on the same seeds; "
        "0 is the random policy, 1 the solved task"
    )
    return Table("benefit", title, records, [*groups.columns(axes), ">benefit", ">95 % interval", ">seeds"], cells)


def _algorithm(row: ReportRow) -> str:
    return str(row.entries[0].name("algo"))
