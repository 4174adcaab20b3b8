"""Rows of boards: the scores of an entry by `byzbench.reports.scoring`, with its settings and its costs.

A row depends on no other row, but for two values that name theirs: the gain of joining, which compares the entry with
the method alone, and the best known attack, which comes from entries that are aimed at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from byzbench.errors import InvalidParameter
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.flags import Flag, flags
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.schema import Cell, Knowledge
from byzbench.leaderboard.suites import CLEAN, LEVELS, Stratum, Suite
from byzbench.reports.ordering import JoiningBenefit, joining
from byzbench.reports.scoring import EntryRuns, EntryScore, StratumRuns, StratumScore, cell_scores, score_entry

_LARGEST = 1e15
"""Largest size of a parameter or a cost that is shown."""

SOLO = "solo"
"""The algorithm whose agents send nothing: the method alone, which joining is compared with."""


@dataclass(frozen=True)
class Settings:
    """The parameters of an entry that a board shows.

    Attributes:
        origin: `tuned`, `preset NAME`, `set by hand` (the method writes parameters) or `default`.
        lr, batch_size: values of the algorithm's parameters lr and N, one for each task that differs.
        always_large: whether a method of the PAGE family has p=1, so that each batch is a large one and no variance
            is reduced.
        search_episodes: episodes that the search of the parameters took; None without one.
    """

    origin: str
    lr: tuple[float, ...]
    batch_size: tuple[int, ...]
    always_large: bool
    search_episodes: int | None

    @classmethod
    def of(cls, entry: Entry) -> Settings:
        """Return the settings of an entry."""
        parameters = [algorithm["parameters"] for algorithm in entry.algorithms]
        search = entry.submission.tuning.search if entry.submission.tuning else None
        return cls(
            origin=_origin(entry),
            lr=tuple(map(float, _numbers(own.get("lr") for own in parameters))),
            batch_size=tuple(map(int, _numbers(own.get("N") for own in parameters))),
            always_large=any(own.get("p") == 1 and "B" in own for own in parameters),
            search_episodes=search.episodes if search else None,
        )


@dataclass(frozen=True)
class Costs:
    """Means over the cells of an entry that ended well; None where one of them does not say.

    Attributes:
        messages, bytes: sent by all agents in a cell.
        seconds: of the training loop of a cell, as the author's machine timed it.
    """

    messages: float | None
    bytes: float | None
    seconds: float | None

    @classmethod
    def of(cls, cells: Sequence[Cell]) -> Costs:
        """Return the mean costs of cells."""
        done = [cell for cell in cells if cell.status == "ok"]
        return cls(
            _mean([cell.messages for cell in done]),
            _mean([cell.bytes for cell in done]),
            _mean([None if cell.seconds is None else float(cell.seconds) for cell in done]),
        )


@dataclass(frozen=True)
class Row:
    """An entry of the tracks defence and reported.

    Attributes:
        entry: the entry.
        settings, costs: see there.
        final_returns: by task, the mean last evaluation return without an attack.
        failed: number of cells that are not `ok`.
        matrix: scores by stratum, over all attacks that are run there, sanity attacks among them.
        runs: the runs under the attacks of the worst case; None without a reference at the entry's engine.
        score: what they come to; None as above.
        by_knowledge: the worst case over the attacks of adversaries that see less, where every stratum has one.
        best_known: the lowest worst case with the attacks that entries of the track adaptive have aimed at it.
        joining: the worst case less the clean score of the method alone; None where no row of it can be compared.
        flags: what a reader must know.
        unranked: the reasons why it is not ranked; none of a row that is.
        resubmissions: number of earlier submissions that it supersedes, one after the other.
        ranks: the best and the worst rank that the data allow.
    """

    entry: Entry
    settings: Settings
    costs: Costs
    final_returns: Mapping[str, float]
    failed: int
    matrix: Mapping[str, StratumScore] = field(default_factory=dict)
    runs: EntryRuns | None = None
    score: EntryScore | None = None
    by_knowledge: Mapping[Knowledge, float] = field(default_factory=dict)
    best_known: float | None = None
    joining: JoiningBenefit | None = None
    flags: tuple[Flag, ...] = ()
    unranked: tuple[str, ...] = ()
    resubmissions: int = 0
    ranks: tuple[int, int] | None = None

    @property
    def named_attacks(self) -> tuple[str, ...]:
        """The worst attack of each stratum in which it did harm, each once."""
        strata = self.score.strata if self.score else ()
        return tuple(dict.fromkeys(stratum.named_attack for stratum in strata if stratum.named_attack))


@dataclass(frozen=True)
class Peers:
    """The other entries of a suite that a row needs.

    Attributes:
        adaptive: entries of that track.
        solo: the row of the method alone; None if there is none.
        replaced: by the digest of each entry, the digest of the one that it supersedes.
    """

    adaptive: Sequence[Entry] = ()
    solo: Entry | None = None
    replaced: Mapping[str, str | None] = field(default_factory=dict)


def make_row(entry: Entry, suite: Suite, peers: Peers) -> Row:
    """Return the row of an entry, without ranks.

    Args:
        entry: of the track defence or reported, with all its cells.
        suite: its suite.
        peers: the other entries that it needs.

    Raises:
        Refused: a cell is missing.
    """
    strata, units = entry.strata(suite), reference_returns(entry, suite)
    aimed = [one for one in peers.adaptive if one.submission.method.against == entry.slug]
    runs = score = None
    if units:
        runs = EntryRuns(tuple(stratum_runs(entry, suite, s, suite.worst_case(s), units[s.name]) for s in strata))
        score = score_entry(runs)
    matrix = score_matrix(entry, suite, score.strata if score else ())
    superseded = entry.digest in peers.replaced.values()
    return Row(
        entry=entry,
        settings=Settings.of(entry),
        costs=Costs.of(entry.cells),
        final_returns=_final_returns(entry, suite),
        failed=sum(cell.status != "ok" for cell in entry.cells),
        matrix=matrix,
        runs=runs,
        score=score,
        by_knowledge=_by_knowledge(suite, strata, matrix),
        best_known=None if score is None else _best_known(score, suite, strata, aimed),
        joining=None if runs is None else _joining(entry, suite, runs, peers.solo),
        flags=tuple(flags(entry, suite, score, matrix, aimed)),
        unranked=unranked_reasons(entry, superseded, scored=score is not None),
        resubmissions=_resubmissions(entry, peers.replaced),
    )


def unranked_reasons(entry: Entry, superseded: bool = False, scored: bool = True) -> tuple[str, ...]:
    """Return the reasons why an entry is not ranked, each in a few words; none where it is.

    Args:
        entry: the entry.
        superseded: whether another one takes its place.
        scored: whether its suite has a reference at its engine.
    """
    about = entry.submission
    reasons = {
        "reported, not replayed": about.track == "reported",
        "cannot be replayed": about.code.engine is None,
        "superseded": superseded,
        f"no reference at engine {about.code.engine}": not scored and about.code.engine is not None,
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def reference_returns(entry: Entry, suite: Suite) -> dict[str, float] | None:
    """Return R in every stratum of an entry, by the reference at the entry's own engine; None without one."""
    try:
        return {s.name: unit(suite, s, entry.submission.code.engine or 0) for s in entry.strata(suite)}
    except InvalidParameter:
        return None


def stratum_runs(entry: Entry, suite: Suite, stratum: Stratum, attacks: Iterable[str], reference: float) -> StratumRuns:
    """Return the runs of an entry in a stratum under some attacks.

    Raises:
        Refused: a cell is missing.
    """
    attacked = {attack: entry.areas(suite, stratum, attack) for attack in attacks}
    return StratumRuns(stratum.name, stratum.random, reference, entry.areas(suite, stratum, CLEAN), attacked)


def score_matrix(entry: Entry, suite: Suite, scored: Sequence[StratumScore] = ()) -> dict[str, StratumScore]:
    """Return the scores of an entry in each stratum, over all attacks that it has all seeds of.

    A stratum is left out where clean runs are missing, or all attacked ones, or a reference at the entry's engine.

    Args:
        entry: the entry.
        suite: its suite.
        scored: scores over the attacks of the worst case; used again where no other attack is run.
    """
    found, units = {}, reference_returns(entry, suite) or {}
    known = {(one.name, frozenset(one.means)): one for one in scored}
    attacks = dict.fromkeys(cell.attack for cell in entry.cells if cell.attack != CLEAN)
    for stratum in entry.strata(suite) if units else ():
        whole = [attack for attack in attacks if entry.whole(suite, stratum, attack)]
        if (same := known.get((stratum.name, frozenset(whole)))) is not None:
            found[stratum.name] = same
        elif whole and entry.whole(suite, stratum, CLEAN):
            runs = stratum_runs(entry, suite, stratum, whole, units[stratum.name])
            (found[stratum.name],) = score_entry(EntryRuns((runs,))).strata
    return found


def solo_row(suite: Suite, entries: Iterable[Entry]) -> Entry | None:
    """Return the entry of the method alone that others are compared with.

    Tuned ones come first, then those with larger clean areas.

    Args:
        suite: the suite.
        entries: those that are ranked.
    """

    def order(entry: Entry) -> tuple[bool, float, str]:
        clean = np.mean([entry.areas(suite, stratum, CLEAN).mean() for stratum in entry.strata(suite)])
        return entry.submission.tuning is not None, float(clean), entry.digest

    return max((entry for entry in entries if entry.algorithm == SOLO), key=order, default=None)


def _joining(entry: Entry, suite: Suite, runs: EntryRuns, solo: Entry | None) -> JoiningBenefit | None:
    """Compare with the method alone in strata of the same task, numbers of agents and budget; graphs do not matter."""
    if solo is None or entry.algorithm == SOLO:
        return None
    alone = []
    for stratum, own in zip(entry.strata(suite), runs.strata, strict=True):
        alike = [s for s in solo.strata(suite) if _without_graph(s) == _without_graph(stratum)]
        if not alike:
            return None
        match = min(alike, key=lambda s: s.name != stratum.name)
        alone.append(StratumRuns(own.name, own.random, own.reference, solo.areas(suite, match, CLEAN), {}))
    return joining(runs, EntryRuns(tuple(alone)))


def _without_graph(stratum: Stratum) -> tuple[str, int, int, int]:
    return stratum.env, stratum.agents, stratum.byzantine, stratum.trajectories


def _by_knowledge(
    suite: Suite, strata: Sequence[Stratum], matrix: Mapping[str, StratumScore]
) -> dict[Knowledge, float]:
    found: dict[Knowledge, float] = {}
    for level in LEVELS[:-1]:
        attacks = {stratum.name: suite.worst_case(stratum, level) for stratum in strata}
        if matrix and all(attacks.values()):
            worst = [min(matrix[name].means[attack] for attack in own) for name, own in attacks.items()]
            found[level] = float(np.mean(worst))
    return found


def _best_known(score: EntryScore, suite: Suite, strata: Sequence[Stratum], aimed: Sequence[Entry]) -> float:
    worst = {stratum.name: stratum.worst.value for stratum in score.strata}
    found = [score.worst.value]
    for adaptive in aimed:
        attack, units = str(adaptive.submission.method.attack), reference_returns(adaptive, suite)
        if units:
            means = (cell_scores(adaptive.areas(suite, s, attack), s.random, units[s.name]).mean() for s in strata)
            found.append(float(np.mean([min(worst[s.name], mean) for s, mean in zip(strata, means, strict=True)])))
    return min(found)


def _final_returns(entry: Entry, suite: Suite) -> dict[str, float]:
    tasks: dict[str, list[float]] = {}
    for stratum in entry.strata(suite):
        for seed in range(suite.seeds):
            cell = entry.cell(stratum, CLEAN, None, seed)
            value = float(cell.value) if cell.status == "ok" and cell.value else stratum.random
            tasks.setdefault(stratum.env, []).append(min(max(value, stratum.low), stratum.high))
    return {task: float(np.mean(values)) for task, values in tasks.items()}


def _resubmissions(entry: Entry, replaced: Mapping[str, str | None]) -> int:
    """Return the number of submissions that an entry supersedes, directly or not."""
    count, at, visited = 0, entry.submission.supersedes, {entry.digest}
    while at is not None and at not in visited:
        visited.add(at)
        count, at = count + 1, replaced.get(at)
    return count


def _origin(entry: Entry) -> str:
    method = entry.submission.method
    if entry.submission.tuning:
        return "tuned"
    if method.preset:
        return f"preset {method.preset}"
    written = any("=" in text for text in (method.algo, method.aggregator, method.agreement) if text)
    return "set by hand" if written else "default"


def _numbers(values: Iterable[object]) -> list[float]:
    """Return the different numbers among parameters, sorted; those too large to be one are left out."""
    known = (value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    return sorted({value for value in known if abs(value) <= _LARGEST})


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and abs(value) <= _LARGEST]
    return float(np.mean(known)) if known and len(known) == len(values) else None
