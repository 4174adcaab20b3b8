"""The page of an entry: scores, flags, every attack in every stratum, curves, and the commands that run it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from byzbench import registry
from byzbench.canonical import to_current
from byzbench.leaderboard.boards import AttackRow
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.resolved import text_of
from byzbench.leaderboard.rows import reference_returns, unranked_reasons
from byzbench.leaderboard.schema import Cell, Submission
from byzbench.leaderboard.site.board_pages import entry_link, listed, marks
from byzbench.leaderboard.site.collection import Collection
from byzbench.leaderboard.site.drawings import curve_drawing
from byzbench.reports.markup import Child, Markup, el, join, outward
from byzbench.leaderboard.site.ranking import paper_links
from byzbench.leaderboard.site.score_tables import damage_table, matrices, score_section
from byzbench.leaderboard.site.tables import cell, fact_list, html_table, lead, row, with_interval
from byzbench.leaderboard.suites import Stratum, Suite

_MOST_FAILURES = 50


def entry_page(entry: Entry, collection: Collection) -> Iterator[Child]:
    """Yield the main part of the page of an entry.

    Args:
        entry: The entry.
        collection: The content of the site.
    """
    suite, submission = collection.suite(entry), entry.submission
    board_and_row, attack_row = collection.rows.get(entry.digest), collection.harm.get(entry.digest)
    listed_row = board_and_row[1] if board_and_row else attack_row
    reasons = listed_row.unranked if listed_row else unranked_reasons(entry)
    yield el("h1", submission.entry.name)
    yield el("p", marks(entry, reasons, collection.audit[entry.digest]), class_="marks")
    yield _about(entry, suite, collection)
    if board_and_row:
        yield from score_section(*board_and_row)
    if attack_row:
        yield from _damage(attack_row)
    if submission.track != "attack":
        yield from matrices(entry, suite, board_and_row[1] if board_and_row else None)
    yield el("h2", "Learning curves")
    yield el(
        "p",
        "Evaluation returns over the budget: a thin line is a seed, the thick one their mean. Dashed, the return of a "
        "random policy, and that of the reference if there is one.",
    )
    yield from _curves(entry, suite)
    yield from _commands(entry, suite)
    yield from _environment(entry)
    yield from _failures(entry)
    if entry.notes:
        yield el("h2", "Notes")
        yield el("pre", entry.notes, class_="notes")


def _damage(attack_row: AttackRow) -> Iterator[Markup]:
    if attack_row.damage:
        yield el("h2", "Damage")
        yield el("p", "Over all strata and algorithms: ", with_interval(attack_row.damage))
        yield damage_table(attack_row.by)


def _about(entry: Entry, suite: Suite, collection: Collection) -> Markup:
    """Return the authors, the method, the tuning and related entries as a description list."""
    submission, about, method = entry.submission, entry.submission.entry, entry.submission.method
    earlier = next((e for e in collection.entries if e.digest == submission.supersedes), None)
    later = next((e for e in collection.entries if e.submission.supersedes == entry.digest), None)
    is_defence = submission.track == "defence"
    aimed = [e for e in collection.entries if e.submission.method.against == entry.slug and is_defence]
    aimed = [e for e in aimed if e.submission.suite == submission.suite]

    def link(other: Entry | None) -> Markup | None:
        return entry_link(other) if other else None

    return fact_list(
        [
            ("Authors", ", ".join(about.authors)),
            ("Paper", outward(about.paper, about.paper) if about.paper else paper_links(entry)),
            ("Date", about.submitted or "not recorded"),
            ("Suite", el("a", suite.name, href=f"../index.html#{suite.name}")),
            ("Track", submission.track),
            ("Method", _options(method.options)),
            *((f"Method in {part.task}", _options(part.options)) for part in method.tasks or ()),
            ("Every parameter", [el("div", line) for line in _parameters(entry, suite)] or None),
            ("Aimed at", method.against),
            ("Tuning", [el("div", line) for line in _tunings(submission)] or "none"),
            ("License", about.license),
            ("Conflicts of interest", about.conflicts),
            ("Supersedes", link(earlier) or submission.supersedes),
            ("Superseded by", link(later)),
            ("Attacks aimed at it", listed(aimed, link) if aimed else None),
        ]
    )


def _options(options: Mapping[str, str]) -> Child:
    """Return the options of `byzbench run` in a list."""
    return listed(options.items(), lambda option: (option[0], " ", el("code", option[1])))


def _tunings(submission: Submission) -> Iterator[str]:
    """Yield the studies of the parameters, one line each."""
    for tuning in submission.studies:
        search, attacks = tuning.search, ", ".join(tuning.attacks) or "no attack"
        text = f"{tuning.trials:,} trials on {len(tuning.seeds)} seeds, against {attacks}"
        if search and submission.track == "adaptive":
            fresh = f"on fresh seeds {float(search.default):.2f} without an attack, {float(search.again):.2f} under it"
            text = f"{tuning.trials:,} trials on {len(tuning.seeds)} seeds, of {attacks}; {fresh}"
        task = f"{tuning.task}: " if tuning.task else ""
        yield f"{task}{text}; {search.episodes:,} episodes" if search else f"{task}{text}"


def _parameters(entry: Entry, suite: Suite) -> Iterator[Markup]:
    """Yield the resolved method of each task."""
    resolved = entry.submission.resolved
    tasks = {stratum.task: stratum.name for stratum in reversed(suite.strata) if stratum.name in resolved}
    for task, stratum in sorted(tasks.items()):
        for axis, described in _resolved(entry, stratum).items():
            yield join(f"{task}, {axis}: ", el("code", text_of(described)))


def _resolved(entry: Entry, stratum: str) -> dict[str, Any]:
    """Return the components of the resolved method in a stratum by axis, described as they would be written today."""
    submission = entry.submission
    return to_current(submission.resolved.get(stratum, {}), submission.version, whole=False)


def _curves(entry: Entry, suite: Suite) -> Iterator[Markup]:
    """Yield the learning curves of every stratum, one drawing for each attack and attacked algorithm."""
    units = reference_returns(entry, suite) or {}
    for stratum in entry.strata(suite):
        by_attack: dict[tuple[str | None, str], list[Cell]] = {}
        for c in entry.cells:
            if c.stratum == stratum.name:
                by_attack.setdefault((c.algo, c.attack), []).append(c)
        lines = {", ".join(filter(None, key)): _returns(cells, stratum) for key, cells in by_attack.items()}
        levels = [stratum.random, *([units[stratum.name]] if units else [])]
        finite = np.concatenate([*(returns[np.isfinite(returns)] for returns, _ in lines.values()), levels])
        span = float(finite.min()), float(finite.max())
        yield el("h3", stratum.name)
        yield el("p", f"The frames show returns from {span[0]:.4g} to {span[1]:.4g}.")
        yield el("div", (_curve(name, *line, levels, span) for name, line in lines.items()), class_="panels")


def _curve(
    name: str, returns: np.ndarray, dates: np.ndarray, levels: Sequence[float], span: tuple[float, float]
) -> Markup:
    means = returns[:, np.isfinite(returns).all(0)].mean(0)
    label = f"{name}: from {means[0]:.4g} to {means[-1]:.4g}" if len(means) else f"{name}: no curve"
    return el("figure", curve_drawing(returns, dates, levels, span, label), el("figcaption", name))


def _returns(cells: Sequence[Cell], stratum: Stratum) -> tuple[np.ndarray, np.ndarray]:
    """Return curves and their dates as shares of the budget, both [n, points].

    A value is NaN where a seed has none, and is clipped to the possible returns. Where a cell has no dates, its points
    divide the budget evenly.
    """
    columns = list(zip_longest(*(c.curve for c in cells)))
    returns = np.array(columns, dtype=float).reshape(len(columns), len(cells)).T.clip(stratum.low, stratum.high)
    dates = np.tile((1 + np.arange(len(columns))) / max(len(columns), 1), (len(cells), 1))
    for cell_dates, c in zip(dates, cells, strict=True):
        cell_dates[: len(c.dates)] = np.array(c.dates[: len(columns)], float) / stratum.trajectories
    return returns, dates


def _commands(entry: Entry, suite: Suite) -> Iterator[Child]:
    """Yield the commands that replay drawn cells, and that run the first cell."""
    submission = entry.submission
    yield el("h2", "Run it again")
    if submission.code.engine is None:
        yield el("p", "It was made before seeds followed from the suite, and cannot be replayed.")
        return
    folder = f"leaderboards/submissions/{submission.suite}/{submission.track}/{entry.slug}"
    first = entry.cells[0]
    stratum = next(s for s in suite.strata if s.name == first.stratum)
    seed = suite.seed_values[first.seed] if first.seed < suite.seeds else first.seed
    resolved = _resolved(entry, first.stratum)
    method = {registry.FLAGS.get(axis, axis): text_of(described) for axis, described in resolved.items()}
    options = {"algo": first.algo, **submission.method.options, **method, **stratum.options}
    if first.attack != submission.method.attack:
        options["attack"] = first.attack
    options = {key: value for key, value in {**options, "seed": seed}.items() if value is not None}
    arguments = [argument for key, value in options.items() for argument in (f"--{key}", str(value))]
    yield el("p", "Drawn cells, compared with the submission:")
    yield el("pre", shlex.join(["byzbench", "leaderboard", "verify", folder]))
    yield el("p", "Its first cell; the others differ in stratum, attack and seed:")
    yield el("pre", shlex.join(["byzbench", "run", *arguments]))


def _environment(entry: Entry) -> Iterator[Child]:
    environment, code = entry.submission.environment, entry.submission.code
    plugins = [f"{p.kind} {p.name}: {p.distribution} {p.version}" for p in code.plugins]
    changed = [f"{name} {part.version}" for name, part in code.components.items() if part.version > 1]
    yield el("h2", "Environment")
    yield fact_list(
        [
            ("byzbench", code.byzbench),
            ("Engine", code.engine),
            ("Versions above 1", ", ".join(changed) or None),
            ("Commit", code.commit and el("code", code.commit)),
            ("Source files", el("code", code.source)),
            ("Plug-ins", [el("div", p) for p in plugins] or None),
            ("Libraries", ", ".join(f"{name} {v}" for name, v in sorted(environment.versions.items()))),
            ("CPU", ", ".join(filter(None, (environment.cpu, environment.processor))) + ", one thread"),
            ("Training, as reported", _cost(entry.cells)),
            ("Cells", el("code", entry.submission.cells_sha256)),
            ("Submission", el("code", entry.digest)),
        ]
    )


def _cost(cells: Sequence[Cell]) -> str | None:
    """Return the training time of the cells; None if a cell has none."""
    seconds = [float(c.seconds) for c in cells if c.seconds is not None]
    if len(seconds) < len(cells):
        return None
    return f"{sum(seconds) / len(seconds):,.1f} seconds a cell, {sum(seconds) / 60:,.1f} minutes in all"


def _failures(entry: Entry) -> Iterator[Child]:
    failed = [c for c in entry.cells if c.status != "ok"]
    if failed:
        yield el("h2", "Failed cells")
        yield el("p", f"{len(failed)} of {len(entry.cells)}; each scores 0.", _limit_note(len(failed)))
        heads = ("Stratum", "Attack", "Algorithm", "Seed", "Status", "Reason")
        yield html_table(
            "Cells that failed, diverged or ran out of time", heads, map(_failure, failed[:_MOST_FAILURES])
        )


def _limit_note(count: int) -> str | None:
    return f" The first {_MOST_FAILURES} are shown." if count > _MOST_FAILURES else None


def _failure(c: Cell) -> Markup:
    return row(
        lead(c.stratum), cell(c.attack), cell(c.algo), cell(c.seed, class_="n"), cell(c.status), cell(join(c.reason))
    )
