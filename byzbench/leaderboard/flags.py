"""What a reader must know about a row before believing it; docs/leaderboards.md has a section for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.scoring import Score
from byzbench.leaderboard.suites import CLEAN, LEVELS, Stratum, Suite
from byzbench.reports.statistics import FEW, Estimate

MARGIN = 0.1
"""In units of the way from random to the reference: less is no difference worth a flag."""

HALF = 0.5


Cells = Mapping[str, Mapping[str, Estimate]]
"""By stratum, by attack, `none` with them: the interquartile mean of normalised returns."""


@dataclass(frozen=True)
class Flag:
    """Something to know. `name` is the anchor of its section in docs/leaderboards.md; `why` has the numbers."""

    name: str
    why: str


def flags(entry: Entry, suite: Suite, score: Score, cells: Cells, aimed: Sequence[Entry] = ()) -> Iterator[Flag]:
    """The flags of an entry of the track defence or reported.

    Args:
        entry: whose they are.
        suite: its suite.
        score: against all attacks of the suite.
        cells: what it scores, by stratum, by attack.
        aimed: the entries of the track adaptive that are aimed at it.
    """
    strata = entry.strata(suite)
    runs = [cell for cell in entry.cells if cell.stratum in {s.name for s in strata}]
    if score.seeds < FEW:
        yield Flag("few-seeds", f"{score.seeds} seeds")
    if entry.submission.tuning and len(held_out := _held_out(entry, suite)) < 2:
        named = ", ".join(held_out) or "no attack"
        yield Flag("tuned-on-suite", f"its tuning held out {named} of the suite")
    if failed := [cell for cell in runs if cell.status != "ok"]:
        yield Flag("failed-cells", f"{len(failed)} of {len(runs)} cells ended otherwise than well, and score 0")
    yield from _price(strata, cells)
    for stratum in (s for s in strata if s.byzantine):
        if inert := [a for a in suite.attacks_at(LEVELS[-1]) if _inert(entry, suite, stratum, a)]:
            all_of_them = len(inert) == len(suite.attacks_at(LEVELS[-1]))
            yield Flag("attack-inert", f"{stratum.name}: {'every attack' if all_of_them else ', '.join(inert)}")
    if score.clean.value < HALF:
        yield Flag("clean-below-reference", f"without an attack it scores {score.clean.value:.2f}")
    for stratum in strata:
        yield from _blind(suite, stratum, cells[stratum.name])
    if apart := [cell for cell in runs if cell.verdict == "no_consensus"]:
        yield Flag("no-consensus", f"honest agents ended apart in {len(apart)} of {len(runs)} cells")
    for stratum in strata:
        yield from _survived(entry, suite, stratum, cells[stratum.name])
    for adaptive in aimed:
        yield from _failed(adaptive, suite, strata)


def _held_out(entry: Entry, suite: Suite) -> list[str]:
    """Attacks of the suite that the tuning has not seen, under any parameters."""
    assert entry.submission.tuning is not None
    seen = {attack.partition("(")[0] for attack in entry.submission.tuning.attacks}
    return [attack for attack in suite.attacks_at(LEVELS[-1]) if attack.partition("(")[0] not in seen]


def _inert(entry: Entry, suite: Suite, stratum: Stratum, attack: str) -> bool:
    """Whether every run under the attack is, to the byte, the one without."""
    traces = [
        (entry.cell(stratum, attack, None, k).trace, entry.cell(stratum, CLEAN, None, k).trace)
        for k in range(suite.seeds)
    ]
    return all(one is not None and one == other for one, other in traces)


def _price(strata: Sequence[Stratum], cells: Cells) -> Iterator[Flag]:
    """Strata that differ in the number of liars alone, who follow the protocol: what is lost goes for the bound."""
    alike: dict[tuple[str, str, int, int], list[Stratum]] = {}
    for stratum in sorted(strata, key=lambda s: s.byzantine):
        alike.setdefault((stratum.env, stratum.topology, stratum.agents, stratum.trajectories), []).append(stratum)
    for fewest, *others in alike.values():
        before = cells[fewest.name][CLEAN].value
        for stratum in others:
            if (left := cells[stratum.name][CLEAN].value) < before - MARGIN:
                counts = (
                    f"with {stratum.byzantine} liars who do not lie {left:.2f}, with {fewest.byzantine} {before:.2f}"
                )
                yield Flag("bound-costs", f"{stratum.name}: {counts}")


def _blind(suite: Suite, stratum: Stratum, cells: Mapping[str, Estimate]) -> Iterator[Flag]:
    """Attacks that see most should do most harm."""
    left = {a.spec: cells[a.spec].value for a in suite.attacks if a.knows}
    local = [a.spec for a in suite.attacks if a.knows == LEVELS[0]]
    seeing = [a.spec for a in suite.attacks if a.knows and a.knows != LEVELS[0]]
    if local and seeing:
        blind, informed = min(local, key=left.__getitem__), min(seeing, key=left.__getitem__)
        if left[blind] < left[informed] - MARGIN:
            numbers = f"{blind} leaves {left[blind]:.2f}, {informed} {left[informed]:.2f}"
            yield Flag("blind-beats-informed", f"{stratum.name}: {numbers}")


def _survived(entry: Entry, suite: Suite, stratum: Stratum, cells: Mapping[str, Estimate]) -> Iterator[Flag]:
    """Messages that are no numbers were sent, and did no harm: they are screened out before the rule sees them."""
    for attack in (a.spec for a in suite.attacks if a.spec.startswith("non_finite")):
        if cells[attack].value >= cells[CLEAN].value - MARGIN:
            screened = sum(entry.cell(stratum, attack, None, k).screened for k in range(suite.seeds))
            yield Flag("non-finite-survived", f"{stratum.name}: {screened:,} messages were screened out")


OBJECTIVES = ("aggregate_error", "disagreement")
"""What an attack may drive at in the first round: the rule away from the honest mean, honest agents from another."""


def _failed(adaptive: Entry, suite: Suite, strata: Sequence[Stratum]) -> Iterator[Flag]:
    """Whether an adaptive attack has reached nothing of what it drives at.

    Honest agents say the same in the first round with and without it, so that the numbers of the one and the other
    differ by what the liars did alone. Where none are known, nothing follows.
    """
    attack = adaptive.submission.method.attack
    assert attack is not None
    pairs = []
    for stratum in strata:
        for k in range(suite.seeds):
            hit, calm = (adaptive.cell(stratum, name, None, k).opening for name in (attack, CLEAN))
            pairs += [(float(hit[o]), float(calm[o])) for o in OBJECTIVES if o in hit and o in calm]
    if pairs and not any(reached > before * (1 + 1e-6) for reached, before in pairs):
        what = f"in none of {len(pairs)} numbers of first rounds is it above what liars reach who do not lie"
        yield Flag("objective-did-not-rise", f"{attack} of {adaptive.slug}: {what}")
