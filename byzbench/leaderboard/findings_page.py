"""The findings from the rows of a suite as tables and as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from byzbench.leaderboard.boards import strata_of
from byzbench.leaderboard.findings import Findings, ScoredRow
from byzbench.leaderboard.suites import Suite
from byzbench.reports.sheets import Table, plain_markdown, render_tables


def findings_page(suite: Suite, divisions: Sequence[Findings], command: str) -> str:
    """Return a Markdown page with the findings of every division. It depends on the suite and its submissions alone.

    Args:
        suite: The suite.
        divisions: The findings by board.
        command: The command that makes the page.
    """
    strata = "; ".join(
        f"{s.name} ({s.task}, K={s.agents}, f={s.byzantine}, {s.trajectories} trajectories)" for s in suite.strata
    )
    engines = {row.row.entry.submission.code.engine for division in divisions for row in division.rows}
    head = [
        f"# What the rows of {suite.name} show",
        f"Made by `{command}` from rows of engine {', '.join(map(str, sorted(filter(None, engines))))}; sha256 of the "
        f"suite: `{suite.sha256}`.",
        f"Strata: {strata}. {suite.seeds} seeds, the same for all rows. A score is 0 at the random policy and 1 at the "
        "clean AUC of the reference; the score of a row is the mean over strata of its lowest mean under an attack of "
        "the worst case. Intervals are 95 %, over seeds.",
        f"Not shown: other tasks, numbers of agents, budgets and graphs; {_unattacked(divisions)}and how a tuned row "
        "would do under another search. A row stands for the parameters in its line, not for all that its "
        "method can do.",
    ]
    parts = []
    for division in divisions:
        tables = render_tables(list(division_tables(division)), "md", {}).rstrip()
        lines = "\n".join(f"- {plain_markdown(sentence)}" for sentence in sentences(division))
        parts.append(f"## Division {division.board.division}\n\n{lines}\n\n{tables}")
    return "\n\n".join([*head, *parts]) + "\n"


def sentences(division: Findings) -> Iterator[str]:
    """Yield the findings of a division, a sentence or a few for each.

    Args:
        division: The findings.
    """
    names = [row.name for row in division.rows]
    if division.span:
        choice = f"; the interval allows for the choice of this pair among all pairs of {len(names)} rows"
        bounds = choice if division.span.low is not None else ""
        yield f"Span: the score of {names[0]} minus that of {names[-1]} is {division.span}{bounds}."
    if division.board.separation:
        yield f"Separation: {division.board.separation}"
    if division.correlation is not None:
        yield f"Correlation of the worst case and the clean score over {len(names)} rows: {division.correlation:.2f}."
    joining = division.joining
    if joining.better or joining.worse or joining.undecided:
        yield (
            f"Under its worst attack, certainly better than learning alone: {_list(joining.better)}; certainly worse: "
            f"{_list(joining.worse)}; undecided: {_list(joining.undecided)}."
        )
    if division.num_compared:
        yield (
            f"Tuning changes the certain order of {len(division.reorderings)} of {division.num_compared} pairs of "
            f"methods, and reverses that of {sum(one.reversed for one in division.reorderings)}."
        )
    for flag in dict.fromkeys(flag.name for row in division.rows for flag in row.row.flags):
        flagged = [row.name for row in division.rows if any(own.name == flag for own in row.row.flags)]
        yield f"Flag {flag}: {_list(flagged)}."


def division_tables(division: Findings) -> Iterator[Table]:
    """Yield the tables of a division: rows, where each attack is the worst, retention in each stratum, the effect of
    tuning, the orders that it changes, and attacks that were tuned against a row.

    Args:
        division: The findings.
    """
    yield _row_table(division)
    yield _worst_table(division)
    for stratum in strata_of(division.board):
        yield _retention_table(division.rows, stratum.name)
    if division.tuning:
        yield _tuning_table(division)
    if division.reorderings:
        yield _order_table(division)
    if division.adaptive:
        yield _adaptive_table(division)


def _row_table(division: Findings) -> Table:
    head = [
        *(">ranks", "method", ">score", ">cross-fitted", ">CVaR", ">clean", ">joining", "harmful worst attack"),
        *("parameters", ">lr", ">N", ">MB a cell"),
    ]
    notes = []
    for position, row in enumerate(division.rows):
        if beaten := [division.rows[j].name for i, j in division.better if i == position]:
            notes.append(f"{row.name} is certainly better than {_list(beaten)}.")
    return Table("rows", "Rows by score", [], head, [*map(_row_cells, division.rows)], notes=notes)


def _row_cells(scored: ScoredRow) -> list[str]:
    row, score, settings = scored.row, scored.score, scored.row.settings
    first, last = row.ranks or (0, 0)
    return [
        f"{first} to {last}",
        scored.name,
        str(score.worst),
        "–" if score.crossfit is None else f"{score.crossfit:.2f}",
        f"{score.cvar:.2f}",
        str(score.clean),
        str(row.joining.overall) if row.joining else "–",
        ", ".join(row.named_attacks) or "none",
        settings.origin + (", p=1" if settings.always_large else ""),
        ", ".join(f"{lr:.2g}" for lr in settings.lr) or "–",
        ", ".join(map(str, settings.batch_size)) or "–",
        "–" if row.costs.bytes is None else f"{row.costs.bytes / 1e6:.1f}",
    ]


def _worst_table(division: Findings) -> Table:
    """Return by attack the rows whose worst attack it is in a stratum, where it did harm."""
    attacks = dict.fromkeys(attack for row in division.rows for s in row.score.strata for attack in s.means)
    cells = []
    for attack in attacks:
        harmed = [
            f"{row.name} in {scores.name} retains {scores.retention[attack]}"
            for row in division.rows
            for scores in row.score.strata
            if scores.named_attack == attack
        ]
        cells.append([attack, str(len(harmed)), "; ".join(harmed) or "none"])
    title = "Where an attack is the worst: rows with a score certainly below their clean one (Holm over attacks)"
    return Table("worst", title, [], ["attack", ">cases", "rows"], cells)


def _retention_table(rows: Sequence[ScoredRow], stratum: str) -> Table:
    retentions = [(row.name, row.row.matrix[stratum].retention) for row in rows]
    attacks = list(dict.fromkeys(attack for _, by_attack in retentions for attack in by_attack))
    cells = [[name, *(str(by_attack.get(attack, "–")) for attack in attacks)] for name, by_attack in retentions]
    title = f"Retention in {stratum} (in brackets: not shown to learn enough without the attack)"
    return Table("retention", title, [], ["method", *(f">{attack}" for attack in attacks)], cells)


def _tuning_table(division: Findings) -> Table:
    head = ["method", ">score", ">clean score", ">objective on fresh seeds", "parameters"]
    cells = [
        [
            effect.method,
            str(effect.worst),
            str(effect.clean),
            "; ".join(
                f"{f'{task}: ' if task else ''}{before:.1f} to {after:.1f}"
                for task, (before, after) in effect.fresh.items()
            ),
            ", ".join(f"{key}: {_value(old)} to {_value(new)}" for key, (old, new) in effect.changed.items()) or "none",
        ]
        for effect in division.tuning
    ]
    return Table("tuning", "Effect of tuning: tuned minus as written, paired over seeds", [], head, cells)


def _order_table(division: Findings) -> Table:
    cells = []
    for one in division.reorderings:
        tests = zip((one.written, one.tuned), one.certain, strict=True)
        numbers = [f"{difference}{', certain' if certain else ''}" for difference, certain in tests]
        cells.append([" minus ".join(one.methods), *numbers])
    title = "Orders that tuning changes: differences of scores, certain by Holm over all pairs"
    return Table("orders", title, [], ["methods", ">as written", ">tuned"], cells)


def _adaptive_table(division: Findings) -> Table:
    head = ["method", "attack tuned against it", ">minus clean", ">minus the suite's worst", ">best known score"]
    cells = [
        [one.method, one.attack, str(one.clean), str(one.fixed), f"{one.best_known:.2f}"] for one in division.adaptive
    ]
    return Table("adaptive", "Attacks tuned against a row: score of the row under it", [], head, cells)


def _unattacked(divisions: Sequence[Findings]) -> str:
    """Return what the page lacks of attacks that are fitted to a method."""
    rows = [row for division in divisions for row in division.rows]
    if all(row.row.aimed for row in rows):
        return ""
    some = " for the rows that no attack was tuned against" if any(row.row.aimed for row in rows) else ""
    return f"attacks that are fitted to a method{some}; "


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
