"""Flags: warnings about rows for their readers. docs/leaderboards.md has a section for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.suites import CLEAN, LEVELS, Stratum, Suite
from byzbench.reports.scoring import EntryScore, StratumScore

MARGIN = 0.1
"""Difference of two scores below which no flag is raised."""

HALF = 0.5
"""Clean score below which the flag `clean-below-reference` is raised."""

FEW_SEEDS = 8
"""Seeds below which docs/scoring.md has not measured how often intervals hold."""

OBJECTIVES = ("aggregate_error", "disagreement")
"""Objectives of attacks in the first round: the distance of the aggregate from the honest mean, and of honest agents
from each other."""


@dataclass(frozen=True)
class Flag:
    """A warning about a row.

    Attributes:
        name: The name, which is the anchor of its section in docs/leaderboards.md.
        why: The numbers for which it is raised.
    """

    name: str
    why: str


def flags(
    entry: Entry,
    suite: Suite,
    score: EntryScore | None,
    matrix: Mapping[str, StratumScore],
    aimed: Sequence[Entry] = (),
) -> Iterator[Flag]:
    """Yield the flags of an entry of the track defence or reported.

    Args:
        entry: The entry.
        suite: Its suite.
        score: Its score; None without a reference, so that flags which need one are left out.
        matrix: Its scores in each stratum over all attacks, sanity attacks included.
        aimed: The entries of the track adaptive that are aimed at it.
    """
    strata = entry.strata(suite)
    if suite.seeds < FEW_SEEDS:
        yield Flag("few-seeds", f"{suite.seeds} seeds")
    yield from _tuned_on_suite(entry, suite)
    if failed := [cell for cell in entry.cells if cell.status != "ok"]:
        yield Flag("failed-cells", f"{len(failed)} of {len(entry.cells)} cells failed or diverged, and score 0")
    for stratum in (s for s in strata if s.byzantine):
        yield from _inert(entry, suite, stratum)
    if score is not None:
        yield from _weak_clean(score)
        yield from _cost_of_bound(strata, matrix)
        for stratum in strata:
            yield from _blind(suite, stratum, matrix[stratum.name])
            yield from _non_finite(entry, suite, stratum, matrix[stratum.name])
    yield from _no_consensus(entry)
    for adaptive in aimed:
        yield from _objective(adaptive, suite, strata)


def _tuned_on_suite(entry: Entry, suite: Suite) -> Iterator[Flag]:
    """Find attacks of the worst case that the tuning used, under any parameters."""
    used = {attack.partition("(")[0] for tuning in entry.submission.studies for attack in tuning.attacks}
    scored = dict.fromkeys(attack for stratum in entry.strata(suite) for attack in suite.worst_case(stratum))
    if shared := [attack for attack in scored if attack.partition("(")[0] in used]:
        yield Flag("tuned-on-suite", f"tuned against {len(shared)} of {len(scored)} attacks: {', '.join(shared)}")


def _inert(entry: Entry, suite: Suite, stratum: Stratum) -> Iterator[Flag]:
    """Find attacks of the worst case under which every run has the trace of the run without an attack."""
    attacks = suite.worst_case(stratum)
    inert = [attack for attack in attacks if _same_traces(entry, suite, stratum, attack)]
    if inert:
        names = "every attack" if len(inert) == len(attacks) else ", ".join(inert)
        yield Flag("attack-inert", f"{stratum.name}: {names}")


def _same_traces(entry: Entry, suite: Suite, stratum: Stratum, attack: str) -> bool:
    traces = [
        (entry.cell(stratum, attack, None, k).trace, entry.cell(stratum, CLEAN, None, k).trace)
        for k in range(suite.seeds)
    ]
    return all(attacked is not None and attacked == clean for attacked, clean in traces)


def _weak_clean(score: EntryScore) -> Iterator[Flag]:
    if score.clean.value < HALF:
        yield Flag("clean-below-reference", f"its clean score is {score.clean.value:.2f}")


def _cost_of_bound(strata: Sequence[Stratum], matrix: Mapping[str, StratumScore]) -> Iterator[Flag]:
    """Compare clean scores of strata that differ in the number of Byzantine agents alone."""
    alike: dict[tuple[str, str, int, int], list[Stratum]] = {}
    for stratum in sorted(strata, key=lambda s: s.byzantine):
        alike.setdefault((stratum.task, stratum.topology, stratum.agents, stratum.trajectories), []).append(stratum)
    for fewest, *others in alike.values():
        before = matrix[fewest.name].clean.value
        for stratum in others:
            if (clean := matrix[stratum.name].clean.value) < before - MARGIN:
                counts = f"clean score {clean:.2f} with f={stratum.byzantine}, {before:.2f} with f={fewest.byzantine}"
                yield Flag("bound-costs", f"{stratum.name}: {counts}")


def _blind(suite: Suite, stratum: Stratum, scores: StratumScore) -> Iterator[Flag]:
    """Compare attacks that see their own vectors alone with those of the worst case that see more."""
    knows = {a.spec: a.knows for a in suite.attacks}
    local = [attack for attack in scores.means if knows.get(attack) == LEVELS[0]]
    informed = [attack for attack in suite.worst_case(stratum) if knows[attack] != LEVELS[0]]
    if local and informed:
        blind, seeing = min(local, key=scores.means.__getitem__), min(informed, key=scores.means.__getitem__)
        if scores.means[blind] < scores.means[seeing] - MARGIN:
            numbers = f"{blind} {scores.means[blind]:.2f}, {seeing} {scores.means[seeing]:.2f}"
            yield Flag("blind-beats-informed", f"{stratum.name}: {numbers}")


def _non_finite(entry: Entry, suite: Suite, stratum: Stratum, scores: StratumScore) -> Iterator[Flag]:
    """Find attacks whose messages are not finite, and that do no harm because validation removes them."""
    for attack in (attack for attack in scores.means if attack.startswith("non_finite")):
        if scores.means[attack] >= scores.clean.value - MARGIN:
            removed = sum(entry.cell(stratum, attack, None, k).num_malformed for k in range(suite.seeds))
            yield Flag("non-finite-survived", f"{stratum.name}: validation removed {removed:,} messages")


def _no_consensus(entry: Entry) -> Iterator[Flag]:
    """Find runs that ended in disagreement; a method without an agreement stage cannot do otherwise."""
    stages = [axes.get("agreement") for axes in entry.submission.resolved.values()]
    if stages and not any(isinstance(stage, dict) and stage["name"] != "none" for stage in stages):
        return
    if apart := [cell for cell in entry.cells if cell.verdict == "no_consensus"]:
        yield Flag("no-consensus", f"honest agents ended with different policies in {len(apart)} of {len(entry.cells)}")


def _objective(adaptive: Entry, suite: Suite, strata: Sequence[Stratum]) -> Iterator[Flag]:
    """Test whether an adaptive attack raised any of `OBJECTIVES` in the first round.

    Honest agents send the same messages in the first round with the attack and without it, so a difference comes from
    the Byzantine agents alone. Where no value is on record, no flag is raised.
    """
    attack = str(adaptive.submission.method.attack)
    pairs = []
    for stratum in strata:
        for k in range(suite.seeds):
            attacked, clean = (adaptive.cell(stratum, name, None, k).opening for name in (attack, CLEAN))
            pairs += [(float(attacked[o]), float(clean[o])) for o in OBJECTIVES if o in attacked and o in clean]
    if pairs and not any(value > before * (1 + 1e-6) for value, before in pairs):
        what = f"none of {len(pairs)} values of first rounds is above that without an attack"
        yield Flag("objective-did-not-rise", f"{attack} of {adaptive.slug}: {what}")
