"""The checks of a submission that run nothing, in this order: files and schema, suite and cells, code, plausibility.

Each finding says where, with a path, and what. `docs/leaderboards.md` says what each is against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from byzbench.errors import ByzbenchError
from byzbench.identity import equal_digests
from byzbench.leaderboard.documents import Finding, Refused
from byzbench.leaderboard.entries import Entry, read, scan
from byzbench.leaderboard.plan import Lot, listens, lot
from byzbench.leaderboard.resolved import methods, resolved_differences
from byzbench.leaderboard.schema import Cell, Submission
from byzbench.leaderboard.suites import Place, Suite, suite, suites

SHOWN = 10
"""Findings of one sort; the rest are counted."""


@dataclass
class Report:
    """What came of the checks.

    Attributes:
        findings: what is wrong, or worth knowing.
        entry: the submission, if its files can be read.
        lot: its cells, if they can be run here.
    """

    findings: list[Finding] = field(default_factory=list)
    entry: Entry | None = None
    lot: Lot | None = None

    @property
    def refused(self) -> bool:
        """Whether the submission is not taken."""
        return any(finding.fatal for finding in self.findings)


def check(folder: Path, submissions: Path) -> Report:
    """Check a submission.

    Args:
        folder: of the submission.
        submissions: the folder of all of them, whose traces it must not share.
    """
    report = Report()
    try:
        report.entry = entry = read(folder)
        board = _suite(entry)
    except Refused as error:
        report.findings += error.findings
        return report
    submission = entry.submission
    try:
        here = lot_of(entry, board) if submission.replayable else None
        places = {place.key: place for place in here.cells} if here else _places(entry, board)
    except (ByzbenchError, AssertionError) as error:
        what = str(error) or "this track needs an attack"
        report.findings.append(Finding("method", "submission.json $.method", what))
        return report
    report.findings += _completeness(entry, places.keys())
    if report.refused:
        return report
    report.findings += _plausibility(entry, places, here)
    report.findings += _neighbours(entry, submissions)
    report.findings += _tuning(entry, board)
    if submission.code.engine is None:
        what = "was made before seeds followed from the suite; it is listed, and cannot be replayed"
        report.findings.append(Finding("older", "submission.json $.schema", what, fatal=False))
    if here is None:
        return report
    report.lot = here
    report.findings += _defaults(here)
    report.findings += _code(entry, here)
    report.findings += _hashes(entry, here)
    return report


def lot_of(entry: Entry, board: Suite) -> Lot:
    """Return the cells of an entry, as its own `resolved` has them.

    Raises:
        ByzbenchError: they cannot be run here.
    """
    about = entry.submission
    return lot(board, about.track, about.method, about.resolved, about.version)


def _suite(entry: Entry) -> Suite:
    """The suite that it names, whose bytes must be those that it ran."""
    submission, at = entry.submission, "submission.json $.suite"
    if submission.suite not in suites():
        raise Refused([Finding("suite", at, f"is {submission.suite!r}; there are {', '.join(suites())}")])
    board = suite(submission.suite)
    if board.sha256 != submission.suite_sha256:
        what = f"is not that of {board.name}, which is {board.sha256}"
        raise Refused([Finding("suite", f"{at}_sha256", what)])
    return board


def _places(entry: Entry, board: Suite) -> dict[tuple[str, str, str | None, int], Place]:
    """Return the cells of an entry that is not replayed. Its method need not be one that anybody has."""
    track = entry.submission.track
    division = None if track == "attack" else entry.division(board)
    return {place.key: place for place in board.places(track, entry.submission.method, division)}


def _completeness(entry: Entry, wanted: Set[tuple[str, str, str | None, int]]) -> Iterator[Finding]:
    """Every cell of the suite once, and no other."""
    count = Counter(cell.place for cell in entry.cells)
    lines = {cell.place: number for number, cell in enumerate(entry.cells, 1)}
    if entry.submission.track != "reported":
        what = "must be there; a run that failed is there as failed"
        yield from _some("missing-cell", [(_named(key), what) for key in sorted(wanted - count.keys(), key=str)])
    strange = {key: f"cells.jsonl:{lines[key]}" for key in count.keys() - wanted}
    yield from _some("strange-cell", [(at, f"{_named(key)} is no cell of this entry's") for key, at in strange.items()])
    twice = [(f"cells.jsonl:{lines[key]}", f"{_named(key)} is there {n} times") for key, n in count.items() if n > 1]
    yield from _some("repeated-cell", sorted(twice))


def _some(check: str, found: list[tuple[str, str]]) -> Iterator[Finding]:
    for where, what in found[:SHOWN]:
        yield Finding(check, where if where.startswith("cells") else f"cells.jsonl {where}", what)
    if len(found) > SHOWN:
        yield Finding(check, "cells.jsonl", f"{len(found) - SHOWN} more")


def _named(key: tuple[str, str, str | None, int]) -> str:
    stratum, attack, algo, seed = key
    return " · ".join(filter(None, (stratum, algo, attack, f"seed {seed}")))


def _tuning(entry: Entry, board: Suite) -> Iterator[Finding]:
    """Refuse tuning on seeds of the suite, and a study that is not the suite's or did not find what was entered."""
    submission = entry.submission
    if (tuning := submission.tuning) is None:
        return
    if shared := sorted({*tuning.seeds} & {*board.seed_values}):
        what = f"holds {len(shared)} of the suite's seeds, the first {shared[0]}"
        yield Finding("tuned-on-seeds", "submission.json $.tuning.seeds", what)
    if tuning.search is not None:
        from byzbench.leaderboard.suite_study import search_problems  # it imports Optuna, which few checks need

        problems = search_problems(board, tuning, submission.method, methods(submission))
        for what in list(dict.fromkeys(problems))[:SHOWN]:
            yield Finding("tuned-otherwise", "submission.json $.tuning.search", what)


def _defaults(here: Lot) -> Iterator[Finding]:
    """Name the parameters of a resolved method that differ from today's defaults."""
    try:
        today = lot(here.suite, here.track, here.method).resolved
    except ByzbenchError as error:
        yield Finding("defaults", "submission.json $.method", f"cannot be run as written today: {error}", fatal=False)
        return
    for line in resolved_differences(here.resolved, today)[:SHOWN]:
        yield Finding("defaults", "submission.json $.resolved", f"{line} as by today's defaults", fatal=False)


def _code(entry: Entry, here: Lot) -> Iterator[Finding]:
    """Name what ran an entry where it is other than what is here.

    Refused is a component whose code is known to nobody: an edited one of byzbench's, or another plug-in than is
    installed. Such a component enters under a name of its own.
    """
    recorded, current, at = entry.submission.code, here.code, "submission.json $.code"
    plugins = {f"{plugin.kind} {plugin.name}" for plugin in current.plugins}
    for name, now in current.components.items():
        then, where = recorded.components.get(name), f"{at}.components.{name}"
        if then is None:
            continue
        known = equal_digests().get(name, {}).get(str(then.version))
        if name not in plugins and known is not None and then.digest not in known:
            yield Finding("edited-code", where, f"is no code of byzbench's {name} that has version {then.version}")
        if name in plugins and (not then.digest or then.digest != now.digest):
            what = f"the plug-in had the digest {then.digest or 'of nothing'}, and the one installed has {now.digest}"
            yield Finding("plugin-code", where, what)
    if {(p.kind, p.name) for p in recorded.plugins} != {(p.kind, p.name) for p in current.plugins}:
        yield Finding("plugin-code", f"{at}.plugins", "are not those that the method has here")
    identity = here.identity
    for line in recorded.identity(identity).difference(identity):
        if not line.endswith(("edited", "same")):
            yield Finding("other-version", at, line, fatal=False)
    for line in environment_difference(entry.submission, here):
        yield Finding("other-environment", "submission.json $.environment", line, fatal=False)
    if recorded.source != current.source:
        ran = f"byzbench {recorded.byzbench}{f' at commit {recorded.commit}' if recorded.commit else ''}"
        yield Finding("other-source", at, f"{ran} ran it, and its source files are not those here", fatal=False)


def environment_difference(submission: Submission, here: Lot) -> list[str]:
    """Return the libraries and processors in which a submission's runs differ from those here, one line each."""
    then, now = submission.environment, here.environment
    before: dict[str, str | None] = {**then.versions, "cpu": then.cpu, "processor": then.processor}
    after: dict[str, str | None] = {**now.versions, "cpu": now.cpu, "processor": now.processor}
    names = [name for name in before if name != "byzbench"]
    return [f"{name}: {before[name]} then, {after.get(name)} now" for name in names if before[name] != after.get(name)]


def _hashes(entry: Entry, here: Lot) -> Iterator[Finding]:
    """Each cell's hash, anew from the suite, the method and the seed that follows from the index."""
    wanted = {place.key: cell.hash for place, cell in here.cells.items()}
    wrong = [
        (f"cells.jsonl:{number} $.cell", f"is {cell.cell}, and {_named(cell.place)} is {wanted[cell.place]}")
        for number, cell in enumerate(entry.cells, 1)
        if cell.cell != wanted.get(cell.place)
    ]
    yield from _some("wrong-cell", wrong)


def _plausibility(
    entry: Entry, places: Mapping[tuple[str, str, str | None, int], Place], here: Lot | None
) -> Iterator[Finding]:
    """Refuse numbers that no run can have."""
    for number, cell in enumerate(entry.cells, 1):
        for where, what in _implausible(cell, places[cell.place]):
            yield Finding("plausibility", f"cells.jsonl:{number} {where}", what)
    by_trace: dict[str, list[Cell]] = {}
    for cell in entry.cells:
        if cell.trace:
            by_trace.setdefault(cell.trace, []).append(cell)
    for cells in by_trace.values():
        if len({_run(places[c.place], here) for c in cells}) > 1:
            what = f"{_named(cells[0].place)} and {_named(cells[-1].place)} have one trace"
            yield Finding("copied-trace", "cells.jsonl", what)
        elif len({(c.value, c.curve, c.steps) for c in cells}) > 1:
            yield Finding("plausibility", "cells.jsonl", f"{_named(cells[0].place)}: one trace, and several results")
    done = [cell for cell in entry.cells if cell.status == "ok"]
    ends = {repr(float(end)) for place in places.values() for end in (place.stratum.low, place.stratum.high)}
    if len(done) >= SHOWN and len({cell.value for cell in done}) == 1 and done[0].value not in ends:
        yield Finding("plausibility", "cells.jsonl", f"all {len(done)} returns are {done[0].value}")


def _run(place: Place, here: Lot | None) -> tuple[object, ...]:
    """Return what two cells of one trace have in common.

    An attack may change nothing; nor does a graph, if no agent receives messages.
    """
    deaf = here is not None and not listens(here.cells[place])
    world = place.stratum.options | {"topology": None} if deaf else {"name": place.stratum.name}
    return place.algo, place.seed, *world.values()


def _implausible(cell: Cell, place: Place) -> Iterator[tuple[str, str]]:
    stratum = place.stratum
    if (cell.status == "ok") != (cell.value is not None):
        yield "$.return", "is there if and only if the status is ok"
    if cell.status in ("failed", "timeout"):
        if not cell.reason:
            yield "$.reason", "a cell that failed says why"
        return
    if cell.trace is None or not cell.curve or not cell.opening:
        yield "$", "a run has a trace, a curve and an opening"
        return
    for where, value in [("$.return", cell.value), *((f"$.curve[{i}]", v) for i, v in enumerate(cell.curve))]:
        if value is not None and not stratum.low <= float(value) <= stratum.high:
            yield where, f"{value} is not between {stratum.low:g} and {stratum.high:g}, as every return of this task is"
    if cell.status == "ok" and cell.curve[-1] != cell.value:
        yield "$.curve", f"ends at {cell.curve[-1]}, and the return is {cell.value}"
    if not stratum.trajectories <= cell.trajectories <= 2 * stratum.trajectories:
        yield "$.trajectories", f"is {cell.trajectories}, and the budget {stratum.trajectories}"
    if cell.steps < cell.trajectories:
        yield "$.steps", f"{cell.steps} steps are too few for {cell.trajectories} episodes"
    if cell.disagreement is not None and float(cell.disagreement) < 0:
        yield "$.disagreement", "is negative"
    if cell.seconds is not None and float(cell.seconds) < 0:
        yield "$.seconds", "is negative"


def _neighbours(entry: Entry, submissions: Path) -> Iterator[Finding]:
    """Refuse what does not fit with the other submissions: their traces, a supersession or an aim of nothing."""
    others = [other for other in scan(submissions)[0] if other.digest != entry.digest]
    for other in others:
        if count := _copied(entry, other):
            about = other.submission
            what = f"{count} traces are those of {about.suite}/{about.track}/{other.slug}"
            yield Finding("copied-trace", "cells.jsonl", what)
    before, superseded = {other.digest: other for other in others}, entry.submission.supersedes
    if superseded is not None and superseded not in before:
        yield Finding("supersedes", "submission.json $.supersedes", "is the digest of no submission that is there")
    elif superseded is not None and before[superseded].submission.suite_sha256 != entry.submission.suite_sha256:
        yield Finding("supersedes", "submission.json $.supersedes", f"{before[superseded].slug} is of another suite")
    if entry.submission.track == "adaptive":
        yield from _aim(entry, others)


def _copied(entry: Entry, other: Entry) -> int:
    """Return how many traces an entry has that it must have copied from another one.

    Seeds are the same for all entries, so methods that behave alike have equal traces: every one without an attack, for
    example. But no trace is that of another seed, and no entry is another one of its track throughout.
    """
    seeds = {cell.trace: cell.seed for cell in entry.cells if cell.trace}
    shared = {cell.trace: cell.seed for cell in other.cells if cell.trace in seeds}
    throughout = len(shared) == len(seeds) and entry.submission.track == other.submission.track
    return sum(throughout or seed != seeds[trace] for trace, seed in shared.items())


def _aim(entry: Entry, others: list[Entry]) -> Iterator[Finding]:
    """Refuse an adaptive attack that does not run the very method of the entry that it is aimed at."""
    about, at = entry.submission, "submission.json $.method.against"
    wanted = [o.submission for o in others if o.submission.track == "defence" and o.slug == about.method.against]
    wanted = [other for other in wanted if other.suite == about.suite]
    if not wanted:
        yield Finding("aim", at, f"there is no entry {about.method.against!r} in this suite")
    elif lines := resolved_differences(methods(about), methods(wanted[0])):
        yield Finding("aim", at, f"is run otherwise: {'; '.join(lines[:SHOWN])}")
