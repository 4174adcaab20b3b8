"""The checks of a submission that run nothing, in this order: files and schema, suite and cells, code, plausibility.

Each finding says where, with a path, and what. `docs/leaderboards.md` says what each is against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from byzbench.errors import ByzbenchError
from byzbench.leaderboard.documents import Finding, Refused
from byzbench.leaderboard.entries import Entry, read, scan
from byzbench.leaderboard.plan import Lot, division_of, listens, lot
from byzbench.leaderboard.schema import Cell
from byzbench.leaderboard.suites import Place, Stratum, Suite, suite, suites

SHOWN = 10
"""Findings of one sort; the rest are counted."""


@dataclass
class Report:
    """What came of the checks.

    Attributes:
        entry: if its files can be read. lot: its cells, if the code that is here can plan them.
    """

    findings: list[Finding] = field(default_factory=list)
    entry: Entry | None = None
    lot: Lot | None = None

    @property
    def refused(self) -> bool:
        """Whether the submission is not taken."""
        return any(finding.fatal for finding in self.findings)


def check(folder: Path, submissions: Path, *, any_code: bool = False) -> Report:
    """Check a submission.

    Args:
        folder: of the submission.
        submissions: the folder of all of them, whose traces it must not share.
        any_code: take an entry of other code than is here, whose numbers can then only be replayed as far as it goes.
    """
    report = Report()
    try:
        report.entry = entry = read(folder)
        board = _suite(entry)
    except Refused as error:
        report.findings += error.findings
        return report
    try:
        places = {place.key: place for place in _places(entry, board)}
    except (ByzbenchError, AssertionError) as error:
        what = str(error) or "this track needs an attack"
        report.findings.append(Finding("method", "submission.json $.method", what))
        return report
    report.findings += _completeness(entry, places.keys())
    if report.refused:
        return report
    report.findings += _plausibility(entry, places)
    report.findings += _neighbours(entry, submissions)
    if entry.submission.track == "reported":
        return report
    try:
        report.lot = lot(board, entry.submission.track, entry.submission.method)
    except ByzbenchError as error:
        report.findings.append(Finding("method", "submission.json $.method", str(error)))
        return report
    report.findings += _code(entry, report.lot, any_code)
    if entry.submission.code.sha256 == report.lot.code.sha256:
        report.findings += _hashes(entry, report.lot)
    return report


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


def _places(entry: Entry, board: Suite) -> Iterator[Place]:
    """The cells that the entry must have. What is only reported need not be a method that anybody has."""
    track, method = entry.submission.track, entry.submission.method
    division = None
    if track == "reported":
        division = entry.division(board)
    elif track != "attack":
        division = division_of(str(method.algo))
    yield from board.places(track, method, division)


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


def _code(entry: Entry, here: Lot, any_code: bool) -> Iterator[Finding]:
    """The code that ran must be the code that is here, or nothing can be replayed to the byte."""
    said, found, at = entry.submission.code, here.code, "submission.json $.code"
    if said.sha256 == found.sha256:
        return
    fatal = not any_code
    installed = {(p.kind, p.name): p for p in found.plugins}
    for index, plugin in enumerate(said.plugins):
        mine = installed.get((plugin.kind, plugin.name))
        if mine is not None and mine.sha256 != plugin.sha256:
            what = (
                f"the code of {plugin.distribution} {plugin.version} has the digest {plugin.sha256[:12]}…, and that of "
                f"{mine.distribution} {mine.version}, which is installed, {mine.sha256[:12]}…"
            )
            yield Finding("plugin-code", f"{at}.plugins[{index}].sha256", what, fatal)
    if said.harness != found.harness:
        where = f"; check out {said.commit}" if said.commit else ""
        what = (
            f"byzbench {said.byzbench} of the digest {said.harness[:12]}… ran it, and here is {found.byzbench} of "
            f"{found.harness[:12]}…{where}"
        )
        yield Finding("other-version", f"{at}.harness", what, fatal)
    elif {p.name for p in said.plugins} != {p.name for p in found.plugins}:
        yield Finding("plugin-code", f"{at}.plugins", "are not those that the method has here", fatal)
    elif [p.sha256 for p in said.plugins] == [p.sha256 for p in found.plugins]:
        yield Finding("code", f"{at}.sha256", f"does not follow from the code, which gives {found.sha256[:12]}…", fatal)


def _hashes(entry: Entry, here: Lot) -> Iterator[Finding]:
    """Each cell's hash, anew from the suite, the method and the seed that follows from the index."""
    wanted = {place.key: cell.hash for place, cell in here.cells.items()}
    wrong = [
        (f"cells.jsonl:{number} $.cell", f"is {cell.cell}, and {_named(cell.place)} is {wanted[cell.place]}")
        for number, cell in enumerate(entry.cells, 1)
        if cell.cell != wanted.get(cell.place)
    ]
    yield from _some("wrong-cell", wrong)


def _plausibility(entry: Entry, places: Mapping[tuple[str, str, str | None, int], Place]) -> Iterator[Finding]:
    """Numbers that no run can have."""
    for number, cell in enumerate(entry.cells, 1):
        for where, what in _implausible(cell, places[cell.place]):
            yield Finding("plausibility", f"cells.jsonl:{number} {where}", what)
    by_trace: dict[str, list[Cell]] = {}
    for cell in entry.cells:
        if cell.trace:
            by_trace.setdefault(cell.trace, []).append(cell)
    for cells in by_trace.values():
        if len({_run(entry, c, places[c.place].stratum) for c in cells}) > 1:
            what = f"{_named(cells[0].place)} and {_named(cells[-1].place)} have one trace"
            yield Finding("copied-trace", "cells.jsonl", what)
        elif len({(c.value, c.curve, c.steps) for c in cells}) > 1:
            yield Finding("plausibility", "cells.jsonl", f"{_named(cells[0].place)}: one trace, and several results")
    done = [cell for cell in entry.cells if cell.status == "ok"]
    ends = {repr(float(end)) for place in places.values() for end in (place.stratum.low, place.stratum.high)}
    if len(done) >= SHOWN and len({cell.value for cell in done}) == 1 and done[0].value not in ends:
        yield Finding("plausibility", "cells.jsonl", f"all {len(done)} returns are {done[0].value}")


def _run(entry: Entry, cell: Cell, stratum: Stratum) -> tuple[object, ...]:
    """What two cells of one trace have in common. An attack may change nothing; a graph, if nobody listens."""
    method = entry.submission.method
    # What is only reported may be a method that nobody has.
    deaf = entry.submission.track != "reported" and not listens(cell.algo or str(method.algo))
    world = stratum.options | {"topology": None} if deaf else {"name": stratum.name}
    return cell.algo, cell.seed, *world.values()


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
    """What is wrong beside the other submissions: shared traces, and a place taken that is nobody's."""
    others = [other for other in scan(submissions)[0] if other.digest != entry.digest]
    mine = {cell.trace for cell in entry.cells if cell.trace}
    for other in others:
        if shared := mine & {cell.trace for cell in other.cells if cell.trace}:
            what = f"{len(shared)} traces are those of {other.submission.suite}/{other.submission.track}/{other.slug}"
            yield Finding("copied-trace", "cells.jsonl", what)
    before, said = {other.digest: other for other in others}, entry.submission.supersedes
    if said is not None and said not in before:
        yield Finding("supersedes", "submission.json $.supersedes", "is the digest of no submission that is there")
    elif said is not None and before[said].submission.suite_sha256 != entry.submission.suite_sha256:
        yield Finding("supersedes", "submission.json $.supersedes", f"{before[said].slug} is of another suite")
    if entry.submission.track == "adaptive":
        yield from _aim(entry, others)


def _aim(entry: Entry, others: list[Entry]) -> Iterator[Finding]:
    """An adaptive attack must run the very method of the entry that it is aimed at."""
    method, at = entry.submission.method, "submission.json $.method.against"
    wanted = [o for o in others if o.submission.track == "defence" and o.slug == method.against]
    wanted = [o for o in wanted if o.submission.suite == entry.submission.suite]
    mine = {k: v for k, v in method.options.items() if k != "attack"}
    if not wanted:
        yield Finding("aim", at, f"there is no entry {method.against!r} in this suite")
    elif wanted[0].submission.method.options != mine:
        yield Finding("aim", at, f"{method.against} runs {wanted[0].submission.method.options}, and this {mine}")
