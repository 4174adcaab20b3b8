"""The findings of a suite as tables and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from byzbench.leaderboard.findings import Findings
from byzbench.leaderboard.rows import Row
from byzbench.leaderboard.suites import Suite
from byzbench.reports.ordering import describe_separation
from byzbench.reports.scoring import EntryScore
from byzbench.reports.sheets import Sheet, render


def markdown_page(suite: Suite, found: Sequence[Findings], command: str) -> str:
    """Return a page with the findings of every division. It depends on the suite and its submissions alone.

    Args:
        suite: The suite.
        found: The findings by board.
        command: The command that makes the page.
    """
    strata = "; ".join(
        f"{s.name} ({s.env}, K={s.agents}, f={s.byzantine}, {s.trajectories} trajectories)" for s in suite.strata
    )
    head = [
        f"# What the rows of {suite.name} show",
        f"Made by `{command}` from the submissions; sha256 of the suite: `{suite.sha256}`.",
        f"Strata: {strata}. {suite.seeds} seeds, the same for all rows. A score is 0 at the random policy and 1 at the "
        "clean AUC of the reference; the score of a row is the mean over strata of its lowest mean under an attack of "
        "the worst case. Intervals are 95 %, over seeds.",
        "Not shown: other tasks, numbers of agents, budgets and graphs; attacks that are fitted to a method; and how "
        "a tuned row would do under another search. A row stands for the parameters in its line, not for all that its "
        "method can do.",
    ]
    parts = []
    for one in found:
        tables = render(list(sheets(one)), "md", {}).rstrip()
        parts.append(f"## Division {one.board.division}\n\n{bullets(one)}\n\n{tables}")
    return "\n\n".join([*head, *parts]) + "\n"


def bullets(found: Findings) -> str:
    """Return the findings of a division as a Markdown list.

    Args:
        found: The findings.
    """
    return "\n".join(f"- {line}" for line in sentences(found))


def sentences(found: Findings) -> Iterator[str]:
    """Yield the findings of a division, a sentence or a few for each.

    Args:
        found: The findings.
    """
    names = [_name(row) for row in found.rows]
    if found.span:
        yield (
            f"Span: {names[0]} scores {found.span} more than {names[-1]} (the interval allows for the "
            f"choice of this pair among all pairs of {len(names)} rows)."
        )
        pairs = {(names.index(one), names.index(other)) for one, other in found.better}
        yield f"Separation: {describe_separation(names, pairs)}"
    if found.correlation is not None:
        yield f"Correlation of the worst case and the clean score over {len(names)} rows: {found.correlation:.2f}."
    join = found.joining
    if join.better or join.worse or join.undecided:
        yield (
            f"Under its worst attack, certainly better than learning alone: {_list(join.better)}; certainly worse: "
            f"{_list(join.worse)}; undecided: {_list(join.undecided)}."
        )
    yield from (f"Flag `{name}`: {_list(rows)}." for name, rows in _flags(found.rows))


def sheets(found: Findings) -> Iterator[Sheet]:
    """Yield the tables of a division.

    Args:
        found: The findings.
    """
    yield _rows(found)
    for stratum in found.board.suite.division(found.board.division) if found.board.division else ():
        yield _retentions(found.rows, stratum.name)
    if found.tuning:
        yield _tuning(found)


def _rows(found: Findings) -> Sheet:
    head = [
        *(">ranks", "method", ">score", ">cross-fitted", ">CVaR", ">clean", ">joining", "harmful worst attack"),
        *("parameters", ">lr", ">N", ">MB a cell"),
    ]
    cells = [_row(row, row.score) for row in found.rows if row.score]
    worse = {one: [b for a, b in found.better if a == one] for one in (_name(row) for row in found.rows)}
    notes = [f"{name} is certainly better than {_list(others)}." for name, others in worse.items() if others]
    return Sheet("rows", "Rows by score", [], head, cells, notes=notes)


def _row(row: Row, score: EntryScore) -> list[str]:
    best, last = row.ranks or (0, 0)
    own = row.settings
    megabytes = "–" if row.costs.bytes is None else f"{row.costs.bytes / 1e6:.1f}"
    return [
        f"{best} to {last}",
        _name(row),
        str(score.worst),
        "–" if score.crossfit is None else f"{score.crossfit:.2f}",
        f"{score.cvar:.2f}",
        str(score.clean),
        str(row.joining.overall) if row.joining else "–",
        ", ".join(row.named_attacks) or "none",
        own.origin + (", p=1" if own.always_large else ""),
        ", ".join(f"{lr:.2g}" for lr in own.lr) or "–",
        ", ".join(map(str, own.batch_size)) or "–",
        megabytes,
    ]


def _retentions(rows: Sequence[Row], stratum: str) -> Sheet:
    attacks = list(dict.fromkeys(attack for row in rows for attack in row.matrix[stratum].retention))
    cells = [[_name(row), *(str(row.matrix[stratum].retention[a]) for a in attacks)] for row in rows]
    title = f"Retention in {stratum} (in brackets: the method does not learn enough without the attack)"
    return Sheet("retention", title, [], ["method", *(f">{attack}" for attack in attacks)], cells)


def _tuning(found: Findings) -> Sheet:
    head = ["method", ">score", ">clean score", ">objective on fresh seeds", "parameters"]
    cells = [
        [
            one.method,
            str(one.worst),
            str(one.clean),
            f"{one.fresh[0]:.1f} to {one.fresh[1]:.1f}",
            ", ".join(f"{key}: {_value(old)} to {_value(new)}" for key, (old, new) in one.changed.items()) or "none",
        ]
        for one in found.tuning
    ]
    return Sheet("tuning", "What tuning changed: tuned minus as written, paired over seeds", [], head, cells)


def _flags(rows: Sequence[Row]) -> Iterator[tuple[str, list[str]]]:
    names = dict.fromkeys(flag.name for row in rows for flag in row.flags)
    for name in names:
        yield name, [_name(row) for row in rows if any(flag.name == name for flag in row.flags)]


def _name(row: Row) -> str:
    return row.entry.submission.entry.name


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
