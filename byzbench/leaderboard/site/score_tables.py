"""Tables of the scores of one entry: by stratum, and of every attack in every stratum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from byzbench.leaderboard.boards import Board
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.rows import Row, score_matrix
from byzbench.leaderboard.site.board_pages import LEVEL, attack_links, final_text, megabytes, rank_text, title
from byzbench.leaderboard.site.collection import attack_path, board_path, topology_path
from byzbench.reports.markup import Child, Markup, el, join
from byzbench.leaderboard.site.tables import (
    cell,
    count,
    fact_list,
    figure,
    html_table,
    interval_text,
    lead,
    number_text,
    row,
    with_interval,
)
from byzbench.leaderboard.suites import CLEAN, Suite
from byzbench.reports.scoring import EntryScore, Retention, StratumScore

STEPS = 10
"""Number of steps of the heatmap's colour scale."""


def score_section(board: Board, r: Row) -> Iterator[Markup]:
    """Yield the scores, flags and costs of a row.

    Args:
        board: The board of the row.
        r: The row.
    """
    yield el("h2", "Scores")
    yield _summary(board, r)
    if r.score:
        heads = (
            "Stratum",
            "Score",
            "Cross-fitted",
            "CVaR",
            "Clean",
            "Joining",
            "Worst attack",
            "Not told apart from it",
        )
        yield html_table("Scores by stratum", heads, _strata(r))
    if r.flags:
        yield el("h2", "Flags")
        yield el("ul", (el("li", el("a", f.name, href=f"../reading.html#{f.name}"), f": {f.why}") for f in r.flags))


def matrices(entry: Entry, suite: Suite, r: Row | None) -> Iterator[Markup]:
    """Yield tables of scores and of retentions, with a row for each attack and a column for each stratum.

    Args:
        entry: The entry.
        suite: Its suite.
        r: Its row; None for an entry on no board.
    """
    matrix = r.matrix if r else score_matrix(entry, suite)
    yield el("h2", "Attacks by strata")
    if not matrix:
        yield el("p", "No cell can be scored: runs are missing, or a reference at the engine of the entry.")
    strata = entry.strata(suite)
    heads = ["Attack", *(el("a", s.name, href=f"../{topology_path(s.topology)}") for s in strata)]
    attacks = dict.fromkeys(c.attack for c in entry.cells if c.attack != CLEAN)
    worst = {s.name: s.named_attack for s in r.score.strata} if r and r.score else {}
    scores = (
        row(_attack(a, suite), *(_score(matrix.get(s.name), a, worst.get(s.name) == a) for s in strata))
        for a in (CLEAN, *attacks)
    )
    yield html_table("Mean score under each attack, by stratum: 0 a random policy, 1 the reference", heads, scores)
    retentions = (row(_attack(a, suite), *(_retention(matrix.get(s.name), a) for s in strata)) for a in attacks)
    yield html_table("Retention under each attack; in grey and brackets where it is not defined", heads, retentions)


def damage_table(by: Mapping[str, Mapping[str, float]]) -> Markup:
    """Return a table of the damage of an attack, with a row for each algorithm and a column for each stratum.

    Args:
        by: The damage by stratum and algorithm.
    """
    attacked = dict.fromkeys(algorithm for losses in by.values() for algorithm in losses)
    body = (row(lead(a), *(_loss(losses.get(a)) for losses in by.values())) for a in attacked)
    return html_table("Loss of each algorithm's score, by stratum", ["Algorithm", *by], body)


def _summary(board: Board, r: Row) -> Markup:
    """Return ranks, scores and costs of a row as a description list."""
    costs = r.costs
    cost = [(count(v), unit) for v, unit in ((costs.messages, "messages"), (megabytes(r), "MB"), (costs.seconds, "s"))]
    resubmitted = f"{r.resubmissions} earlier submission{'s' * (r.resubmissions > 1)}" if r.resubmissions else None
    return fact_list(
        [
            ("Board", el("a", title(board), href=f"../{board_path(board)}")),
            ("Ranks", rank_text(r.ranks) or f"not ranked: {', '.join(r.unranked)}"),
            *(_numbers(r, r.score) if r.score else ()),
            ("Final return", final_text(r)),
            ("Cost of a cell", ", ".join(f"{text} {unit}" for text, unit in cost if text)),
            ("Supersedes", resubmitted),
        ]
    )


def _numbers(r: Row, s: EntryScore) -> Iterator[tuple[Child, Child]]:
    retention, defined, total = s.mean_retention()
    yield "Score", with_interval(s.worst)
    yield "Cross-fitted", number_text(s.crossfit)
    yield "Best known", number_text(r.best_known)
    yield from ((LEVEL[level], number_text(value)) for level, value in r.by_knowledge.items())
    yield "CVaR", number_text(s.cvar)
    yield "Clean", with_interval(s.clean)
    yield "Mean over attacks", number_text(s.mean)
    yield "Retention", f"{number_text(retention)} ({defined} of {total} defined)"
    yield "Joining", with_interval(r.joining.overall) if r.joining else None


def _strata(r: Row) -> Iterator[Markup]:
    for s in r.score.strata if r.score else ():
        tied = sorted(s.tied - {s.worst_attack}) if s.named_attack else []
        yield row(
            lead(s.name),
            figure(s.worst),
            figure(s.crossfit),
            figure(s.cvar),
            figure(s.clean),
            figure(r.joining.strata[s.name] if r.joining else None),
            cell(attack_links([s.named_attack]) if s.named_attack else "none did harm"),
            cell(attack_links(tied)),
        )


def _attack(attack: str, suite: Suite) -> Markup:
    if attack == CLEAN:
        return lead("none")
    role = next((a.role for a in suite.attacks if a.spec == attack), "")
    mark = el("span", "sanity", class_="mark") if role == "sanity" else None
    return lead(el("a", attack, href=f"../{attack_path(attack)}"), " " if mark else None, mark)


def _score(scores: StratumScore | None, attack: str, worst: bool) -> Markup:
    """Return a shaded cell. The worst attack is marked by a text and not by the colour alone."""
    value = None if scores is None else scores.clean.value if attack == CLEAN else scores.means.get(attack)
    if value is None:
        return cell("not run")
    return cell(number_text(value), el("strong", " worst") if worst else None, class_=_shade(value))


def _retention(scores: StratumScore | None, attack: str) -> Markup:
    retention = scores.retention.get(attack) if scores else None
    if retention is None:
        return cell("not run")
    return cell(*_retention_text(retention), class_="n" if retention.defined else "n undefined")


def _retention_text(retention: Retention) -> Sequence[Child]:
    if not retention.defined:
        return [f"({number_text(retention.value)})" if retention.value is not None else "none"]
    return [join(number_text(retention.value)), " ", interval_text(retention.low, retention.high)]


def _loss(damage: float | None) -> Markup:
    return cell("not run") if damage is None else cell(number_text(damage), class_=_shade(1 - damage))


def _shade(score: float) -> str:
    """Return the classes of a cell of the heatmap."""
    return f"n heat h{round(STEPS * min(max(score, 0.0), 1.0))}"
