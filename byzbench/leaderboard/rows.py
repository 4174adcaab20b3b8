"""Rows of boards: the scores of an entry by `byzbench.reports.scoring`, with its settings and its costs.

Two values of a row depend on other rows: the gain of joining, which compares the entry with the method alone, and the
best known score, which uses the entries that are aimed at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from byzbench.errors import InvalidParameter
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.flags import Flag, flags
from byzbench.leaderboard.references import unit
from byzbench.leaderboard.schema import Cell, Knowledge, Method, TaskMethod
from byzbench.leaderboard.suites import CLEAN, LEVELS, Stratum, Suite
from byzbench.reports.ordering import JoiningBenefit, joining
from byzbench.reports.scoring import EntryRuns, EntryScore, StratumRuns, StratumScore, cell_scores, score_entry

_LARGEST = 1e15
"""Largest absolute value of a parameter or a cost that is shown."""

SOLO = "solo"
"""The algorithm whose agents send nothing: the method alone, with which joining is compared."""


@dataclass(frozen=True)
class Settings:
    """The parameters of an entry that a board shows.

    Attributes:
        origin: `tuned`, `preset NAME`, `set by hand` (the method writes parameters) or `default`.
        lr, batch_size: The different values of the algorithm's parameters lr and N over tasks.
        always_large: Whether a method of the PAGE family has p=1, so that each batch is a large one and no variance
            is reduced.
        search_episodes: Number of episodes of the searches for parameters in all tasks; None without one.
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
        searches = entry.submission.searches
        return cls(
            origin=_origin(entry),
            lr=tuple(map(float, _numbers(values.get("lr") for values in parameters))),
            batch_size=tuple(map(int, _numbers(values.get("N") for values in parameters))),
            always_large=any(values.get("p") == 1 and "B" in values for values in parameters),
            search_episodes=sum(search.episodes for search in searches) if searches else None,
        )


@dataclass(frozen=True)
class Costs:
    """Mean costs over the cells of an entry with the status `ok`; None where one of them has no value.

    Attributes:
        messages, bytes: Numbers of messages and bytes sent by all agents in a cell.
        seconds: Seconds of the training loop of a cell on the author's machine.
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
class AimedAttack:
    """An attack of the track adaptive that is aimed at a row.

    Attributes:
        slug: The slug of its entry.
        attack: The attack.
        scores: By stratum the scores of the row under it, [n].
    """

    slug: str
    attack: str
    scores: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """An entry of the tracks defence and reported.

    Attributes:
        entry: The entry.
        settings: The parameters that a board shows.
        costs: The mean costs of a cell.
        final_returns: By task, the mean last evaluation return without an attack.
        failed: Number of cells that are not `ok`.
        matrix: Scores by stratum over all attacks that are run there, sanity attacks included.
        runs: The runs under the attacks of the worst case; None without a reference at the entry's engine.
        score: The score of these runs; None without a reference.
        by_knowledge: By level of knowledge below the largest, the worst case over attacks that need no more; without
            levels at which a stratum has no attack.
        aimed: The attacks of adaptive entries that are aimed at this entry; none without a reference at their engine.
        best_known: The lowest worst case, with one of these attacks or without.
        joining: The worst case minus the clean score of the method alone; None where no row of it can be compared.
        flags: Warnings for readers.
        unranked: The reasons why the entry is not ranked; empty if it is ranked.
        resubmissions: Number of earlier submissions that the entry supersedes, directly or not.
        ranks: The best and the worst rank that the data allow.
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
    aimed: tuple[AimedAttack, ...] = ()
    best_known: float | None = None
    joining: JoiningBenefit | None = None
    flags: tuple[Flag, ...] = ()
    unranked: tuple[str, ...] = ()
    resubmissions: int = 0
    ranks: tuple[int, int] | None = None

    @property
    def named_attacks(self) -> tuple[str, ...]:
        """The different worst attacks of the strata in which an attack did harm."""
        strata = self.score.strata if self.score else ()
        return tuple(dict.fromkeys(stratum.named_attack for stratum in strata if stratum.named_attack))


@dataclass(frozen=True)
class Peers:
    """The other entries of a suite that a row needs.

    Attributes:
        adaptive: The entries of the track adaptive.
        solo: The entry of the method alone; None if there is none.
        replaced: By the digest of each entry, the digest of the entry that it supersedes.
    """

    adaptive: Sequence[Entry] = ()
    solo: Entry | None = None
    replaced: Mapping[str, str | None] = field(default_factory=dict)


def make_row(entry: Entry, suite: Suite, peers: Peers) -> Row:
    """Return the row of an entry, without ranks.

    Args:
        entry: An entry of the track defence or reported, with all its cells.
        suite: Its suite.
        peers: The other entries that the row needs.

    Raises:
        Refused: A cell is missing.
    """
    strata, units = entry.strata(suite), reference_returns(entry, suite)
    adaptive = [other for other in peers.adaptive if other.submission.method.against == entry.slug]
    aimed = tuple(_aimed_attacks(adaptive, suite, strata))
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
        aimed=aimed,
        best_known=None if score is None else best_known(score, aimed),
        joining=None if runs is None else _joining(entry, suite, runs, peers.solo),
        flags=tuple(flags(entry, suite, score, matrix, adaptive)),
        unranked=unranked_reasons(entry, superseded, scored=score is not None),
        resubmissions=_resubmissions(entry, peers.replaced),
    )


def unranked_reasons(entry: Entry, superseded: bool = False, scored: bool = True) -> tuple[str, ...]:
    """Return the reasons why an entry is not ranked, each in a few words; empty if it is ranked.

    Args:
        entry: The entry.
        superseded: Whether another entry supersedes it.
        scored: Whether its suite has a reference at its engine.
    """
    submission, engine = entry.submission, entry.submission.code.engine
    reasons = {
        "reported, not replayed": submission.track == "reported",
        "cannot be replayed": engine is None,
        "superseded": superseded,
        f"no reference at engine {engine}": not scored and engine is not None,
    }
    return tuple(reason for reason, holds in reasons.items() if holds)


def reference_returns(entry: Entry, suite: Suite) -> dict[str, float] | None:
    """Return R in every stratum of an entry, by the reference at the entry's engine; None without a reference."""
    try:
        return {s.name: unit(suite, s, entry.submission.code.engine or 0) for s in entry.strata(suite)}
    except InvalidParameter:
        return None


def stratum_runs(entry: Entry, suite: Suite, stratum: Stratum, attacks: Iterable[str], reference: float) -> StratumRuns:
    """Return the runs of an entry in a stratum under some attacks.

    Args:
        entry: The entry.
        suite: Its suite.
        stratum: The stratum.
        attacks: The attacks.
        reference: R, the return that has score 1 in the stratum.

    Raises:
        Refused: A cell is missing.
    """
    attacked = {attack: entry.areas(suite, stratum, attack) for attack in attacks}
    return StratumRuns(stratum.name, stratum.random, reference, entry.areas(suite, stratum, CLEAN), attacked)


def score_matrix(entry: Entry, suite: Suite, scored: Sequence[StratumScore] = ()) -> dict[str, StratumScore]:
    """Return the scores of an entry in each stratum, over all attacks for which it has every seed.

    A stratum is left out if its clean runs, the runs under every attack, or the reference at the entry's engine are
    missing.

    Args:
        entry: The entry.
        suite: Its suite.
        scored: Scores over the attacks of the worst case; they are reused where no other attack is run.
    """
    matrix, units = {}, reference_returns(entry, suite) or {}
    known = {(score.name, frozenset(score.means)): score for score in scored}
    attacks = dict.fromkeys(cell.attack for cell in entry.cells if cell.attack != CLEAN)
    for stratum in entry.strata(suite) if units else ():
        complete = [attack for attack in attacks if entry.has_all_seeds(suite, stratum, attack)]
        if (same := known.get((stratum.name, frozenset(complete)))) is not None:
            matrix[stratum.name] = same
        elif complete and entry.has_all_seeds(suite, stratum, CLEAN):
            runs = stratum_runs(entry, suite, stratum, complete, units[stratum.name])
            (matrix[stratum.name],) = score_entry(EntryRuns((runs,))).strata
    return matrix


def solo_row(suite: Suite, entries: Iterable[Entry]) -> Entry | None:
    """Return the entry of the method alone with which others are compared; None if there is none.

    Of several, a tuned one is preferred, then one with a larger clean area.

    Args:
        suite: The suite.
        entries: The ranked entries.
    """

    def order(entry: Entry) -> tuple[bool, float, str]:
        clean = np.mean([entry.areas(suite, stratum, CLEAN).mean() for stratum in entry.strata(suite)])
        return bool(entry.submission.studies), float(clean), entry.digest

    return max((entry for entry in entries if entry.algorithm == SOLO), key=order, default=None)


def _joining(entry: Entry, suite: Suite, runs: EntryRuns, solo: Entry | None) -> JoiningBenefit | None:
    """Compare an entry with the method alone, in strata that have the same task, numbers of agents and budget."""
    if solo is None or entry.algorithm == SOLO:
        return None
    solo_runs = []
    for stratum, attacked in zip(entry.strata(suite), runs.strata, strict=True):
        alike = [s for s in solo.strata(suite) if _without_graph(s) == _without_graph(stratum)]
        if not alike:
            return None
        match = min(alike, key=lambda s: s.name != stratum.name)
        areas = solo.areas(suite, match, CLEAN)
        solo_runs.append(StratumRuns(attacked.name, attacked.random, attacked.reference, areas, {}))
    return joining(runs, EntryRuns(tuple(solo_runs)))


def _without_graph(stratum: Stratum) -> tuple[str, int, int, int]:
    return stratum.task, stratum.agents, stratum.byzantine, stratum.trajectories


def _by_knowledge(
    suite: Suite, strata: Sequence[Stratum], matrix: Mapping[str, StratumScore]
) -> dict[Knowledge, float]:
    """Return the mean over strata of the worst case, by each level of knowledge below the largest."""
    by_level: dict[Knowledge, float] = {}
    for level in LEVELS[:-1]:
        attacks = {stratum.name: suite.worst_case(stratum, level) for stratum in strata}
        if matrix and all(attacks.values()):
            worst = [min(matrix[name].means[attack] for attack in specs) for name, specs in attacks.items()]
            by_level[level] = float(np.mean(worst))
    return by_level


def _aimed_attacks(adaptive: Iterable[Entry], suite: Suite, strata: Sequence[Stratum]) -> Iterator[AimedAttack]:
    for entry in adaptive:
        attack, units = str(entry.submission.method.attack), reference_returns(entry, suite)
        if units:
            scores = {s.name: cell_scores(entry.areas(suite, s, attack), s.random, units[s.name]) for s in strata}
            yield AimedAttack(entry.slug, attack, scores)


def best_known(score: EntryScore, aimed: Iterable[AimedAttack]) -> float:
    """Return the lowest worst case, with one of the attacks that are aimed at a row or without.

    Args:
        score: The score of the row.
        aimed: The attacks.
    """
    worst = {stratum.name: stratum.worst.value for stratum in score.strata}
    lowered = [np.mean([min(worst[name], own.mean()) for name, own in one.scores.items()]) for one in aimed]
    return float(min([score.worst.value, *lowered]))


def _final_returns(entry: Entry, suite: Suite) -> dict[str, float]:
    tasks: dict[str, list[float]] = {}
    for stratum in entry.strata(suite):
        for seed in range(suite.seeds):
            cell = entry.cell(stratum, CLEAN, None, seed)
            value = float(cell.value) if cell.status == "ok" and cell.value else stratum.random
            tasks.setdefault(stratum.task, []).append(min(max(value, stratum.low), stratum.high))
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
    if entry.submission.studies:
        return "tuned"
    if method.preset:
        return f"preset {method.preset}"
    parts: tuple[Method | TaskMethod, ...] = (method, *(method.tasks or ()))
    written = any("=" in text for part in parts for text in (part.algo, part.aggregator, part.agreement) if text)
    return "set by hand" if written else "default"


def _numbers(values: Iterable[object]) -> list[float]:
    """Return the different numbers among values, sorted, without those above `_LARGEST`."""
    numbers = (value for value in values if isinstance(value, int | float) and not isinstance(value, bool))
    return sorted({value for value in numbers if abs(value) <= _LARGEST})


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of values; None if one is missing or above `_LARGEST`."""
    known = [value for value in values if value is not None and abs(value) <= _LARGEST]
    return float(np.mean(known)) if known and len(known) == len(values) else None
