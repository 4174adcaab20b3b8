"""The page of an entry: its scores, what a reader must know, every attack on every graph, and how to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np

from byzbench import registry
from byzbench.leaderboard.boards import Board, Row
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.flags import Cells
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.resolved import text_of
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.site.board_pages import listed, marks, title
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.leaderboard.site.drawings import curves
from byzbench.leaderboard.site.html import Child, Markup, el, join, outward
from byzbench.leaderboard.site.tables import bracketed, cell, facts, figure, lead, number, row, table
from byzbench.leaderboard.suites import CLEAN, Stratum, Suite
from byzbench.reports.statistics import Estimate, estimate, iqm

STEPS = 10
"""Shades of the heatmap."""

_MOST_FAILURES = 50


def entry_page(entry: Entry, all_of_them: Collection) -> Iterator[Child]:
    """The main part of the page."""
    suite, about = all_of_them.suite(entry), entry.submission
    rows = all_of_them.rows.get(entry.digest, ())
    yield el("h1", about.entry.name)
    superseded = any(r.superseded for _, r in rows)
    yield el("p", marks(entry, superseded, all_of_them.audit[entry.digest]), class_="marks")
    yield _about(entry, suite, all_of_them)
    if rows:
        yield el("h2", "Scores")
        yield table("Scores by what the adversary sees", _SCORES, (_scores(board, r) for board, r in rows))
        yield from _flags(rows)
    for harm in all_of_them.harm.get(entry.digest, ()):
        yield el("h2", "Damage")
        yield el("p", "Over all strata and algorithms: ", bracketed(harm.damage))
        victims = list(dict.fromkeys(a for by in harm.by.values() for a in by))
        body = (row(lead(a), *(_lost(by.get(a)) for by in harm.by.values())) for a in victims)
        yield table("What is lost of each algorithm's score, by stratum", ["Algorithm", *harm.by], body)
    if about.track != "attack":
        yield el("h2", "Attacks by graphs")
        yield _heatmap(entry, suite, rows[-1][1].cells if rows else _estimates(entry, suite))
    yield el("h2", "Learning curves")
    yield el(
        "p",
        "Evaluation returns over the budget: a thin line is a seed, the thick one their interquartile mean. Dashed, "
        "the returns of a random policy and of the reference.",
    )
    yield from _curves(entry, suite)
    yield from _again(entry, suite)
    yield from _ran(entry)
    yield from _failures(entry)
    if entry.notes:
        yield el("h2", "Notes")
        yield el("pre", entry.notes, class_="notes")


def _about(entry: Entry, suite: Suite, all_of_them: Collection) -> Markup:
    about, method = entry.submission, entry.submission.method
    earlier = next((e for e in all_of_them.entries if e.digest == about.supersedes), None)
    later = next((e for e in all_of_them.entries if e.submission.supersedes == entry.digest), None)
    aimed = [e for e in all_of_them.entries if e.submission.method.against == entry.slug and about.track == "defence"]
    aimed = [e for e in aimed if e.submission.suite == about.suite]

    def link(to: Entry | None) -> Markup | None:
        return el("a", to.submission.entry.name, href=f"../{entry_path(to)}") if to else None

    tuning = about.tuning and (
        f"{about.tuning.trials:,} trials on {len(about.tuning.seeds)} seeds, against "
        f"{', '.join(about.tuning.attacks) or 'no attack'}"
    )
    return facts(
        [
            ("Authors", ", ".join(about.entry.authors)),
            ("Paper", about.entry.paper and outward(about.entry.paper, about.entry.paper)),
            ("Suite", el("a", suite.name, href=f"../index.html#{suite.name}")),
            ("Track", about.track),
            ("Method", listed(method.options.items(), lambda option: (option[0], " ", el("code", option[1])))),
            ("Every parameter", [el("div", line) for line in _parameters(entry, suite)] or None),
            ("Aimed at", method.against),
            ("Tuning", tuning or "none: parameters are the defaults, or were chosen by hand"),
            ("License", about.entry.license),
            ("Interests", about.entry.conflicts),
            ("Supersedes", link(earlier) or about.supersedes),
            ("Superseded by", link(later)),
            ("Attacks aimed at it", listed(aimed, link) if aimed else None),
        ]
    )


def _parameters(entry: Entry, suite: Suite) -> Iterator[Markup]:
    """Yield the resolved method of each task."""
    about = entry.submission
    tasks = {stratum.env: stratum.name for stratum in reversed(suite.strata) if stratum.name in about.resolved}
    for env, stratum in sorted(tasks.items()):
        for axis, described in about.resolved[stratum].items():
            yield join(f"{env}, {axis}: ", el("code", text_of(described)))


_SCORES = ("Board", "Rank", "Worst case", "Bracket", "Best known", "Clean", "Mean", "Gap", "Worst attack")


def _scores(board: Board, r: Row) -> Markup:
    s, worst = r.score, dict.fromkeys(r.score.attack.values())
    return row(
        lead(el("a", title(board), href=f"../{board_path(board)}")),
        cell(r.rank if r.rank is not None else "not ranked", class_="n"),
        figure(s.worst),
        cell(f"{number(s.bracket[0])} to {number(s.bracket[1])}" if s.bracket else None, class_="n"),
        figure(r.best_known),
        figure(s.clean),
        figure(s.mean),
        figure(s.gap),
        cell(listed(worst, lambda a: el("a", a, href=f"../{attack_path(a)}"))),
    )


def _flags(rows: Sequence[tuple[Board, Row]]) -> Iterator[Markup]:
    found = dict.fromkeys(flag for _, r in rows for flag in r.flags)
    if found:
        yield el("h2", "Flags")
        yield el("ul", (el("li", el("a", f.name, href=f"../reading.html#{f.name}"), f": {f.why}") for f in found))
    if times := max((r.resubmissions for _, r in rows), default=0):
        yield el("p", f"It takes the place of {times} earlier submission{'s' * (times > 1)}, one after the other.")


def _attacks(entry: Entry) -> list[str]:
    """The attacks it has cells of, as they come, `none` first."""
    found = dict.fromkeys(c.attack for c in entry.cells)
    return sorted(found, key=lambda attack: attack != CLEAN)


def _estimates(entry: Entry, suite: Suite) -> Cells:
    """What is whole of an entry that has no row on a board."""
    return {
        s.name: {a: estimate(entry.scores(suite, s, a)) for a in _attacks(entry) if _whole(entry, suite, s, a)}
        for s in entry.strata(suite)
    }


def _heatmap(entry: Entry, suite: Suite, found: Cells) -> Markup:
    """Attacks down, strata across. The lowest cell of a column is marked by a word, not by its colour alone."""
    worst = {
        name: min((a for a in by if a != CLEAN), key=lambda a: by[a].value, default="") for name, by in found.items()
    }
    heads = ["Attack", *(el("a", s.name, href=f"../{topology_path(s.topology)}") for s in entry.strata(suite))]
    body = (
        row(
            lead("none" if a == CLEAN else el("a", a, href=f"../{attack_path(a)}")),
            *(_shaded(by.get(a), worst=worst[name] == a) for name, by in found.items()),
        )
        for a in _attacks(entry)
    )
    return table("Normalised return under each attack, by stratum: 0 a random policy, 1 the reference", heads, body)


def _whole(entry: Entry, suite: Suite, stratum: Stratum, attack: str) -> bool:
    """Whether all seeds were run: those of the track reported need not be."""
    return all((stratum.name, attack, None, seed) in entry.at for seed in range(suite.seeds))


def _shaded(found: Estimate | None, worst: bool = False) -> Markup:
    if found is None:
        return cell("not run")
    return cell(bracketed(found), el("strong", " worst") if worst else None, class_=_shade(found.value))


def _lost(damage: float | None) -> Markup:
    return cell("not run") if damage is None else cell(number(damage), class_=_shade(1 - damage))


def _shade(left: float) -> str:
    return f"n heat h{round(STEPS * min(max(left, 0.0), 1.0))}"


def _curves(entry: Entry, suite: Suite) -> Iterator[Markup]:
    for stratum in entry.strata(suite):
        by: dict[tuple[str | None, str], list[Cell]] = {}
        for c in entry.cells:
            if c.stratum == stratum.name:
                by.setdefault((c.algo, c.attack), []).append(c)
        lines = {", ".join(filter(None, key)): _returns(cells, stratum) for key, cells in by.items()}
        seen = np.concatenate([x[np.isfinite(x)] for x in lines.values()])
        one = unit(suite, stratum)
        span = float(seen.min(initial=stratum.random)), float(seen.max(initial=one))
        yield el("h3", stratum.name)
        yield el("p", f"The frames reach from a return of {span[0]:.4g} to one of {span[1]:.4g}.")
        yield el("div", (_curve(name, x, (stratum.random, one), span) for name, x in lines.items()), class_="panels")


def _curve(name: str, returns: np.ndarray, levels: tuple[float, float], span: tuple[float, float]) -> Markup:
    whole = np.isfinite(returns).all(0)
    middle = np.where(whole, iqm(np.where(whole, returns, 0.0).T), np.nan)
    ends = middle[whole]
    said = f"{name}: from {ends[0]:.4g} to {ends[-1]:.4g}" if len(ends) else f"{name}: no curve"
    drawn = curves(returns, middle, levels, span, said)
    return el("figure", drawn, el("figcaption", name))


def _returns(cells: Sequence[Cell], stratum: Stratum) -> np.ndarray:
    """Curves [n, points], NaN where a seed has nothing; what lies outside what is possible is put at the edge of it."""
    columns = list(zip_longest(*(c.curve for c in cells)))
    return np.array(columns, dtype=float).reshape(len(columns), len(cells)).T.clip(stratum.low, stratum.high)


def _again(entry: Entry, suite: Suite) -> Iterator[Child]:
    """Yield the commands that run it again: drawn cells, and the first one alone."""
    about = entry.submission
    yield el("h2", "Run it again")
    if about.code.engine is None:
        yield el("p", "It was made before seeds followed from the suite, and cannot be replayed.")
        return
    folder = f"leaderboards/submissions/{about.suite}/{about.track}/{entry.slug}"
    first = entry.cells[0]
    stratum = next(s for s in suite.strata if s.name == first.stratum)
    seed = suite.seed_values[first.seed] if first.seed < suite.seeds else first.seed
    resolved = about.resolved.get(first.stratum, {}).items()
    method = {registry.FLAGS.get(axis, axis): text_of(described) for axis, described in resolved}
    options = {"algo": first.algo, **about.method.options, **method, **stratum.options}
    if first.attack != about.method.attack:
        options["attack"] = first.attack
    options = {key: value for key, value in {**options, "seed": seed}.items() if value is not None}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    yield el("p", "Cells that its author could not choose, compared with what was submitted:")
    yield el("pre", shlex.join(["byzbench", "leaderboard", "verify", folder]))
    yield el("p", "Its first cell; the others differ in stratum, attack and seed:")
    yield el("pre", shlex.join(["byzbench", "run", *words]))


def _ran(entry: Entry) -> Iterator[Child]:
    about, code = entry.submission, entry.submission.code
    plugins = [f"{p.kind} {p.name}: {p.distribution} {p.version}" for p in code.plugins]
    changed = [f"{name} {part.version}" for name, part in code.components.items() if part.version > 1]
    yield el("h2", "Environment")
    yield facts(
        [
            ("byzbench", code.byzbench),
            ("Engine", code.engine),
            ("Versions above 1", ", ".join(changed) or None),
            ("Commit", code.commit and el("code", code.commit)),
            ("Source files", el("code", code.source)),
            ("Plug-ins", [el("div", p) for p in plugins] or None),
            ("Libraries", ", ".join(f"{name} {v}" for name, v in sorted(about.environment.versions.items()))),
            ("CPU", ", ".join(filter(None, (about.environment.cpu, about.environment.processor))) + ", one thread"),
            ("Training, as reported", _cost(entry.cells)),
            ("Cells", el("code", about.cells_sha256)),
            ("Submission", el("code", entry.digest)),
        ]
    )


def _cost(cells: Sequence[Cell]) -> str | None:
    """About what it takes to run it again; nothing if a cell does not say."""
    seconds = [float(c.seconds) for c in cells if c.seconds is not None]
    if len(seconds) < len(cells):
        return None
    return f"{sum(seconds) / len(seconds):,.1f} seconds a cell, {sum(seconds) / 60:,.1f} minutes in all"


def _failures(entry: Entry) -> Iterator[Child]:
    failed = [c for c in entry.cells if c.status != "ok"]
    if failed:
        yield el("h2", "Cells that did not end well")
        yield el("p", f"{len(failed)} of {len(entry.cells)}; each scores 0.", _shown(len(failed)))
        heads = ("Stratum", "Attack", "Algorithm", "Seed", "Status", "Reason")
        yield table("Cells that did not end well", heads, map(_failure, failed[:_MOST_FAILURES]))


def _shown(count: int) -> str | None:
    return f" The first {_MOST_FAILURES} are shown." if count > _MOST_FAILURES else None


def _failure(c: Cell) -> Markup:
    return row(
        lead(c.stratum), cell(c.attack), cell(c.algo), cell(c.seed, class_="n"), cell(c.status), cell(join(c.reason))
    )
