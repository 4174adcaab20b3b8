"""Checks of a submission that run no cell, in this order: files and schema, suite and cells, code, plausibility.

A finding has a path and a description. `docs/leaderboards.md` states the purpose of each check.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

from byzbench.errors import ByzbenchError
from byzbench.identity import equal_digests
from byzbench.leaderboard.documents import Finding, Refused
from byzbench.leaderboard.entries import Entry, read_entry, scan_entries
from byzbench.leaderboard.names import look_alike
from byzbench.leaderboard.plan import SubmissionPlan, check_track, plan_submission, receives_messages
from byzbench.leaderboard.resolved import current_method, methods, resolved_differences
from byzbench.leaderboard.schema import Cell, Submission
from byzbench.leaderboard.suites import CellKey, Suite, suite, suites

SHOWN = 10
"""Largest number of findings of one check that are listed; the others are counted."""


@dataclass
class CheckReport:
    """The result of the checks of a submission.

    Attributes:
        findings: The findings, fatal ones and notes.
        entry: The submission; None if its files cannot be read.
        lot: The cells of the submission; None if they cannot be run here.
    """

    findings: list[Finding] = field(default_factory=list)
    entry: Entry | None = None
    submission_plan: SubmissionPlan | None = None

    @property
    def refused(self) -> bool:
        """True if a finding is fatal, so that the submission is refused."""
        return any(finding.fatal for finding in self.findings)


def check_submission(folder: Path, submissions: Path) -> CheckReport:
    """Check a submission.

    Args:
        folder: The folder of the submission.
        submissions: The folder of all submissions; a copied trace of another one is refused.

    Returns:
        The findings; later checks are left out where the files, the suite, the method or the set of cells is refused.
    """
    report = CheckReport()
    try:
        report.entry = entry = read_entry(folder)
        board = _suite(entry)
    except Refused as error:
        report.findings += error.findings
        return report
    submission = entry.submission
    try:
        check_track(submission.track, submission.method)
        plan = submission_plan_of(entry, board) if submission.replayable else None
        places = {place.key: place for place in plan.cells} if plan else _places(entry, board)
    except (ByzbenchError, AssertionError) as error:
        what = str(error) or "this track needs an attack"
        report.findings.append(Finding("method", "submission.json $.method", what))
        return report
    report.findings += _completeness(entry, places.keys())
    if report.refused:
        return report
    report.findings += _plausibility(entry, places, plan)
    report.findings += _compare_with_others(entry, submissions)
    report.findings += _tuning(entry, board, plan)
    if submission.code.engine is None:
        what = "was made before seeds followed from the suite; it is listed, and cannot be replayed"
        report.findings.append(Finding("older", "submission.json $.schema", what, fatal=False))
    if plan is None:
        return report
    report.submission_plan = plan
    report.findings += _defaults(plan, submission.version)
    report.findings += _code(entry, plan)
    report.findings += _hashes(entry, plan)
    return report


def submission_plan_of(entry: Entry, board: Suite) -> SubmissionPlan:
    """Return the cells of an entry, built from its own `resolved`.

    Raises:
        ByzbenchError: The cells cannot be run here.
    """
    submission = entry.submission
    return plan_submission(board, submission.track, submission.method, submission.resolved, submission.version)


def _suite(entry: Entry) -> Suite:
    """Return the suite that an entry names; its sha256 must be the one of the entry."""
    submission, path = entry.submission, "submission.json $.suite"
    if submission.suite not in suites():
        raise Refused([Finding("suite", path, f"is {submission.suite!r}; the suites are {', '.join(suites())}")])
    board = suite(submission.suite)
    if board.sha256 != submission.suite_sha256:
        what = f"is not the sha256 of {board.name}, which is {board.sha256}"
        raise Refused([Finding("suite", f"{path}_sha256", what)])
    return board


def _places(entry: Entry, board: Suite) -> dict[tuple[str, str, str | None, int], CellKey]:
    """Return the cells of an entry that is not replayed. Its method need not be installed."""
    track = entry.submission.track
    division = None if track == "attack" else entry.division(board)
    return {place.key: place for place in board.places(track, entry.submission.method, division)}


def _completeness(entry: Entry, expected: Set[tuple[str, str, str | None, int]]) -> Iterator[Finding]:
    """Refuse missing, repeated and unexpected cells."""
    count = Counter(cell.place for cell in entry.cells)
    lines = {cell.place: number for number, cell in enumerate(entry.cells, 1)}
    if entry.submission.track != "reported":
        what = "is missing; a failed run is recorded with the status failed"
        yield from _limited("missing-cell", [(_label(key), what) for key in sorted(expected - count.keys(), key=str)])
    unexpected = [
        (f"cells.jsonl:{lines[key]}", f"{_label(key)} is not a cell of this entry") for key in count.keys() - expected
    ]
    yield from _limited("strange-cell", unexpected)
    repeated = [(f"cells.jsonl:{lines[key]}", f"{_label(key)} occurs {n} times") for key, n in count.items() if n > 1]
    yield from _limited("repeated-cell", sorted(repeated))


def _limited(check: str, problems: list[tuple[str, str]]) -> Iterator[Finding]:
    """Yield a finding for each of the first `SHOWN` problems, given as (where, what), and one with their number."""
    for where, what in problems[:SHOWN]:
        yield Finding(check, where if where.startswith("cells") else f"cells.jsonl {where}", what)
    if len(problems) > SHOWN:
        yield Finding(check, "cells.jsonl", f"{len(problems) - SHOWN} more")


def _label(key: tuple[str, str, str | None, int]) -> str:
    stratum, attack, algo, seed = key
    return " · ".join(filter(None, (stratum, algo, attack, f"seed {seed}")))


def _tuning(entry: Entry, board: Suite, plan: SubmissionPlan | None) -> Iterator[Finding]:
    """Refuse tuning on seeds of the suite, and a study that is not of the suite or of the entered method or attack."""
    submission = entry.submission
    if not submission.studies:
        return
    where = f"submission.json $.{'tunings' if submission.tunings else 'tuning'}"
    if shared := sorted({seed for tuning in submission.studies for seed in tuning.seeds} & {*board.seed_values}):
        what = f"contains {len(shared)} seeds of the suite, for example {shared[0]}"
        yield Finding("tuned-on-seeds", f"{where}.seeds", what)
    if submission.searches or submission.tunings:
        # They import Optuna, which few checks need.
        from byzbench.leaderboard.attack_study import attack_search_problems
        from byzbench.leaderboard.suite_study import tuned_row_problems

        if submission.track == "adaptive":
            attacks = {name: axes["attack"] for name, axes in plan.resolved.items()} if plan else {}
            problems = attack_search_problems(board, submission, attacks)
        else:
            problems = tuned_row_problems(board, submission, methods(submission))
        for what in list(dict.fromkeys(problems))[:SHOWN]:
            yield Finding("tuned-otherwise", f"{where}.search", what)


def _defaults(plan: SubmissionPlan, schema: int) -> Iterator[Finding]:
    """Note the parameters of a resolved method that differ from today's defaults."""
    try:
        today = plan_submission(plan.suite, plan.track, current_method(plan.method, schema)).resolved
    except ByzbenchError as error:
        yield Finding("defaults", "submission.json $.method", f"cannot be run as written today: {error}", fatal=False)
        return
    for line in resolved_differences(plan.resolved, today)[:SHOWN]:
        yield Finding("defaults", "submission.json $.resolved", f"{line} as by today's defaults", fatal=False)


def _code(entry: Entry, plan: SubmissionPlan) -> Iterator[Finding]:
    """Note differences between the code that ran an entry and the installed code.

    A component of byzbench with edited code is refused, and so is a plug-in that differs from the installed one. Such
    a component needs a name of its own to enter.
    """
    recorded, installed, path = entry.submission.code, plan.code, "submission.json $.code"
    plugins = {f"{plugin.kind} {plugin.name}" for plugin in installed.plugins}
    for name, component in installed.components.items():
        recorded_component, where = recorded.components.get(name), f"{path}.components.{name}"
        if recorded_component is None:
            continue
        version, digest = recorded_component.version, recorded_component.digest
        known = equal_digests().get(name, {}).get(str(version))
        if name not in plugins and known is not None and digest not in known:
            yield Finding("edited-code", where, f"has a digest that byzbench's {name} never had at version {version}")
        if name in plugins and (not digest or digest != component.digest):
            had = f"the digest {digest}" if digest else "no digest"
            yield Finding("plugin-code", where, f"the plug-in had {had}, and the installed one has {component.digest}")
    if {(p.kind, p.name) for p in recorded.plugins} != {(p.kind, p.name) for p in installed.plugins}:
        yield Finding("plugin-code", f"{path}.plugins", "differ from the plug-ins of the method as installed")
    identity = plan.identity
    for line in recorded.identity(identity).difference(identity):
        if not line.endswith(("edited", "same")):
            yield Finding("other-version", path, line, fatal=False)
    for line in environment_difference(entry.submission, plan):
        yield Finding("other-environment", "submission.json $.environment", line, fatal=False)
    if recorded.source != installed.source:
        ran = f"byzbench {recorded.byzbench}{f' at commit {recorded.commit}' if recorded.commit else ''}"
        yield Finding("other-source", path, f"{ran} ran it, and the installed source files differ", fatal=False)


def environment_difference(submission: Submission, here: SubmissionPlan) -> list[str]:
    """Return the differences between the environment of a submission and the installed one, one line each.

    Args:
        submission: The submission, with its library versions, CPU and processor.
        here: The cells of the submission, with the environment that is installed.
    """
    recorded, installed = submission.environment, here.environment
    before: dict[str, str | None] = {**recorded.versions, "cpu": recorded.cpu, "processor": recorded.processor}
    after: dict[str, str | None] = {**installed.versions, "cpu": installed.cpu, "processor": installed.processor}
    names = [name for name in before if name != "byzbench"]
    return [f"{name}: {before[name]} then, {after.get(name)} now" for name in names if before[name] != after.get(name)]


def _hashes(entry: Entry, plan: SubmissionPlan) -> Iterator[Finding]:
    """Refuse cells whose hash is not that of the experiment of the suite, the method and the seed."""
    expected = {place.key: cell.hash for place, cell in plan.cells.items()}
    wrong = [
        (f"cells.jsonl:{number} $.cell", f"is {cell.cell}, and {_label(cell.place)} has {expected[cell.place]}")
        for number, cell in enumerate(entry.cells, 1)
        if cell.cell != expected.get(cell.place)
    ]
    yield from _limited("wrong-cell", wrong)


def _plausibility(
    entry: Entry, places: Mapping[tuple[str, str, str | None, int], CellKey], plan: SubmissionPlan | None
) -> Iterator[Finding]:
    """Refuse numbers that no run can have."""
    for number, cell in enumerate(entry.cells, 1):
        for where, what in _implausible(cell, places[cell.place]):
            yield Finding("plausibility", f"cells.jsonl:{number} {where}", what)
    by_trace: dict[tuple[str | None, str], list[Cell]] = {}
    for cell in entry.cells:
        if cell.trace:  # two algorithms of a suite may do the same: one without a server on a complete graph, one with
            by_trace.setdefault((cell.algo, cell.trace), []).append(cell)
    for cells in by_trace.values():
        if len({_run(places[c.place], plan) for c in cells}) > 1:
            what = f"{_label(cells[0].place)} and {_label(cells[-1].place)} have the same trace"
            yield Finding("copied-trace", "cells.jsonl", what)
        elif len({(c.value, c.curve, c.steps) for c in cells}) > 1:
            what = f"cells with the trace of {_label(cells[0].place)} have different results"
            yield Finding("plausibility", "cells.jsonl", what)
    done = [cell for cell in entry.cells if cell.status == "ok"]
    ends = {repr(float(end)) for place in places.values() for end in (place.stratum.low, place.stratum.high)}
    if len(done) >= SHOWN and len({cell.value for cell in done}) == 1 and done[0].value not in ends:
        yield Finding("plausibility", "cells.jsonl", f"all {len(done)} returns are {done[0].value}")


def _run(place: CellKey, plan: SubmissionPlan | None) -> tuple[object, ...]:
    """Return a key that two cells with the same trace must share.

    The attack is not part of it, since an attack may have no effect. The graph is not part of it where agents receive
    no messages.
    """
    no_messages = plan is not None and not receives_messages(plan.cells[place])
    setting = place.stratum.options | {"topology": None} if no_messages else {"name": place.stratum.name}
    return place.seed, *setting.values()


def _implausible(cell: Cell, place: CellKey) -> Iterator[tuple[str, str]]:
    stratum = place.stratum
    if (cell.status == "ok") != (cell.value is not None):
        yield "$.return", "must be present if and only if the status is ok"
    if cell.status in ("failed", "timeout"):
        if not cell.reason:
            yield "$.reason", "must be present in a failed cell"
        return
    if cell.trace is None or not cell.curve or not cell.opening:
        yield "$", "must have a trace, a curve and an opening"
        return
    for where, value in [("$.return", cell.value), *((f"$.curve[{i}]", v) for i, v in enumerate(cell.curve))]:
        if value is not None and not stratum.low <= float(value) <= stratum.high:
            yield where, f"is {value}; returns of this task are between {stratum.low:g} and {stratum.high:g}"
    if cell.status == "ok" and cell.curve[-1] != cell.value:
        yield "$.curve", f"ends at {cell.curve[-1]}, and the return is {cell.value}"
    if not stratum.trajectories <= cell.trajectories <= 2 * stratum.trajectories:
        allowed = f"{stratum.trajectories} to {2 * stratum.trajectories}"
        yield "$.trajectories", f"is {cell.trajectories}; with this budget {allowed} are possible"
    if cell.steps < cell.trajectories:
        yield "$.steps", f"is {cell.steps}; {cell.trajectories} episodes have at least as many steps"
    if cell.disagreement is not None and float(cell.disagreement) < 0:
        yield "$.disagreement", "is negative"
    if cell.seconds is not None and float(cell.seconds) < 0:
        yield "$.seconds", "is negative"


def _tuned_from(entry: Entry, other: Entry) -> bool:
    """Return whether a submission is the method of another one after the suite's search, or the other way round.

    A search may find the parameters as written, and the runs are then the same.
    """
    pairs = ((entry.submission, other.submission), (other.submission, entry.submission))
    return any(
        not written.studies and (search.method, tuned.track) == (written.method, written.track)
        for tuned, written in pairs
        for search in tuned.searches
    )


def _compare_with_others(entry: Entry, submissions: Path) -> Iterator[Finding]:
    """Refuse traces and names of other submissions, and a `supersedes` or an `against` that names none of them."""
    others = [other for other in scan_entries(submissions)[0] if other.digest != entry.digest]
    for other in others:
        if not _tuned_from(entry, other) and (count := _num_copied(entry, other)):
            source = other.submission
            what = f"{count} traces are those of {source.suite}/{source.track}/{other.slug}"
            yield Finding("copied-trace", "cells.jsonl", what)
    yield from _twins(entry, others)
    by_digest, superseded = {other.digest: other for other in others}, entry.submission.supersedes
    if superseded is not None and superseded not in by_digest:
        yield Finding("supersedes", "submission.json $.supersedes", "is not the digest of a submission in this folder")
    elif superseded is not None and by_digest[superseded].submission.suite_sha256 != entry.submission.suite_sha256:
        what = f"{by_digest[superseded].slug} is of another suite"
        yield Finding("supersedes", "submission.json $.supersedes", what)
    elif superseded is not None and by_digest[superseded].submission.track != entry.submission.track:
        what = f"{by_digest[superseded].slug} is of another track"
        yield Finding("supersedes", "submission.json $.supersedes", what)
    if entry.submission.track == "adaptive":
        yield from _target(entry, others)


def _twins(entry: Entry, others: list[Entry]) -> Iterator[Finding]:
    """Refuse a name that looks like that of another row of the suite, unless one of both supersedes the other."""
    submission, by_digest = entry.submission, {other.digest: other for other in [entry, *others]}
    superseded = _superseded(entry, by_digest)
    for other in others:
        related = other.digest in superseded or entry.digest in _superseded(other, by_digest)
        same_suite = other.submission.suite == submission.suite
        if same_suite and not related and look_alike(submission.entry.name, other.submission.entry.name):
            what = f"{submission.entry.name!a} looks like the name of {other.submission.track}/{other.slug}"
            yield Finding("twin", "submission.json $.entry.name", what)


def _superseded(entry: Entry, by_digest: Mapping[str, Entry]) -> set[str]:
    """Return the digests of the submissions that an entry supersedes, at once or by way of others."""
    digests: set[str] = set()
    following = entry.submission.supersedes
    while following is not None and following in by_digest and following not in digests:
        digests.add(following)
        following = by_digest[following].submission.supersedes
    return digests


def _num_copied(entry: Entry, other: Entry) -> int:
    """Return the number of traces that an entry must have copied from another one.

    Seeds are the same for all entries, so methods that behave alike have some equal traces, for example those without
    an attack. A trace at another seed is copied, and so are all traces of an entry that shares all of them with
    another entry of its track, or with any entry if its own are only reported.
    """
    seeds = {cell.trace: cell.seed for cell in entry.cells if cell.trace}
    shared = {cell.trace: cell.seed for cell in other.cells if cell.trace in seeds}
    track = entry.submission.track
    all_shared = len(shared) == len(seeds) and track in (other.submission.track, "reported")
    return sum(all_shared or seed != seeds[trace] for trace, seed in shared.items())


def _target(entry: Entry, others: list[Entry]) -> Iterator[Finding]:
    """Refuse an adaptive attack whose method is not that of the entry that it is aimed at."""
    submission, path = entry.submission, "submission.json $.method.against"
    targets = [o.submission for o in others if o.submission.track == "defence" and o.slug == submission.method.against]
    targets = [target for target in targets if target.suite == submission.suite]
    if not targets:
        yield Finding("aim", path, f"there is no entry {submission.method.against!r} in this suite")
    elif lines := resolved_differences(methods(submission), methods(targets[0])):
        yield Finding("aim", path, f"the method differs from that of this entry: {'; '.join(lines[:SHOWN])}")
