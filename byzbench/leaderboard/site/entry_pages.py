"""The page of an entry: its scores, flags, every attack in every stratum, curves, and the commands to run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import numpy as np

from byzbench import registry
from byzbench.leaderboard.boards import AttackRow
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.resolved import text_of
from byzbench.leaderboard.rows import reference_returns, unranked_reasons
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.site.board_pages import entry_link, listed, marks
from byzbench.leaderboard.site.collection import Collection
from byzbench.leaderboard.site.drawings import curves
from byzbench.leaderboard.site.html import Child, Markup, el, join, outward
from byzbench.leaderboard.site.score_tables import damage_table, matrices, score_section
from byzbench.leaderboard.site.tables import cell, facts, lead, row, table, with_interval
from byzbench.leaderboard.suites import Stratum, Suite

_MOST_FAILURES = 50


def entry_page(entry: Entry, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page."""
    suite, about = collection.suite(entry), entry.submission
    found, harm = collection.rows.get(entry.digest), collection.harm.get(entry.digest)
    listed_row = found[1] if found else harm
    reasons = listed_row.unranked if listed_row else unranked_reasons(entry)
    yield el("h1", about.entry.name)
    yield el("p", marks(entry, reasons, collection.audit[entry.digest]), class_="marks")
    yield _about(entry, suite, collection)
    if found:
        yield from score_section(*found)
    if harm:
        yield from _damage(harm)
    if about.track != "attack":
        yield from matrices(entry, suite, found[1] if found else None)
    yield el("h2", "Learning curves")
    yield el(
        "p",
        "Evaluation returns over the budget: a thin line is a seed, the thick one their mean. Dashed, the return of a "
        "random policy, and that of the reference if there is one.",
    )
    yield from _curves(entry, suite)
    yield from _again(entry, suite)
    yield from _environment(entry)
    yield from _failures(entry)
    if entry.notes:
        yield el("h2", "Notes")
        yield el("pre", entry.notes, class_="notes")


def _damage(harm: AttackRow) -> Iterator[Markup]:
    if harm.damage:
        yield el("h2", "Damage")
        yield el("p", "Over all strata and algorithms: ", with_interval(harm.damage))
        yield damage_table(harm.by)


def _about(entry: Entry, suite: Suite, collection: Collection) -> Markup:
    about, method = entry.submission, entry.submission.method
    earlier = next((e for e in collection.entries if e.digest == about.supersedes), None)
    later = next((e for e in collection.entries if e.submission.supersedes == entry.digest), None)
    aimed = [e for e in collection.entries if e.submission.method.against == entry.slug and about.track == "defence"]
    aimed = [e for e in aimed if e.submission.suite == about.suite]

    def link(to: Entry | None) -> Markup | None:
        return entry_link(to) if to else None

    tuning = about.tuning and (
        f"{about.tuning.trials:,} trials on {len(about.tuning.seeds)} seeds, against "
        f"{', '.join(about.tuning.attacks) or 'no attack'}"
        + (f"; {about.tuning.search.episodes:,} episodes" if about.tuning.search else "")
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
            ("Tuning", tuning or "none"),
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


def _curves(entry: Entry, suite: Suite) -> Iterator[Markup]:
    units = reference_returns(entry, suite) or {}
    for stratum in entry.strata(suite):
        by: dict[tuple[str | None, str], list[Cell]] = {}
        for c in entry.cells:
            if c.stratum == stratum.name:
                by.setdefault((c.algo, c.attack), []).append(c)
        lines = {", ".join(filter(None, key)): _returns(cells, stratum) for key, cells in by.items()}
        levels = [stratum.random, *([units[stratum.name]] if units else [])]
        known = np.concatenate([*(returns[np.isfinite(returns)] for returns, _ in lines.values()), levels])
        span = float(known.min()), float(known.max())
        yield el("h3", stratum.name)
        yield el("p", f"The frames reach from a return of {span[0]:.4g} to one of {span[1]:.4g}.")
        yield el("div", (_curve(name, *line, levels, span) for name, line in lines.items()), class_="panels")


def _curve(
    name: str, returns: np.ndarray, dates: np.ndarray, levels: Sequence[float], span: tuple[float, float]
) -> Markup:
    ends = returns[:, np.isfinite(returns).all(0)].mean(0)
    words = f"{name}: from {ends[0]:.4g} to {ends[-1]:.4g}" if len(ends) else f"{name}: no curve"
    return el("figure", curves(returns, dates, levels, span, words), el("figcaption", name))


def _returns(cells: Sequence[Cell], stratum: Stratum) -> tuple[np.ndarray, np.ndarray]:
    """Return curves and their dates as shares of the budget, both [n, points].

    A value is NaN where a seed has none, and lies within the returns that are possible. Dates that a cell does not
    have divide the budget evenly.
    """
    columns = list(zip_longest(*(c.curve for c in cells)))
    returns = np.array(columns, dtype=float).reshape(len(columns), len(cells)).T.clip(stratum.low, stratum.high)
    dates = np.tile((1 + np.arange(len(columns))) / max(len(columns), 1), (len(cells), 1))
    for own, c in zip(dates, cells, strict=True):
        own[: len(c.dates)] = np.array(c.dates[: len(columns)], float) / stratum.trajectories
    return returns, dates


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
    yield el("p", "Drawn cells, compared with what was submitted:")
    yield el("pre", shlex.join(["byzbench", "leaderboard", "verify", folder]))
    yield el("p", "Its first cell; the others differ in stratum, attack and seed:")
    yield el("pre", shlex.join(["byzbench", "run", *words]))


def _environment(entry: Entry) -> Iterator[Child]:
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
    """Return the time that the cells took; None if a cell does not say."""
    seconds = [float(c.seconds) for c in cells if c.seconds is not None]
    if len(seconds) < len(cells):
        return None
    return f"{sum(seconds) / len(seconds):,.1f} seconds a cell, {sum(seconds) / 60:,.1f} minutes in all"


def _failures(entry: Entry) -> Iterator[Child]:
    failed = [c for c in entry.cells if c.status != "ok"]
    if failed:
        yield el("h2", "Failed cells")
        yield el("p", f"{len(failed)} of {len(entry.cells)}; each scores 0.", _shown(len(failed)))
        heads = ("Stratum", "Attack", "Algorithm", "Seed", "Status", "Reason")
        yield table("Cells that failed, diverged or ran out of time", heads, map(_failure, failed[:_MOST_FAILURES]))


def _shown(count: int) -> str | None:
    return f" The first {_MOST_FAILURES} are shown." if count > _MOST_FAILURES else None


def _failure(c: Cell) -> Markup:
    return row(
        lead(c.stratum), cell(c.attack), cell(c.algo), cell(c.seed, class_="n"), cell(c.status), cell(join(c.reason))
    )
