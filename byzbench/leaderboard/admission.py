"""The tests by which a suite admits strata and attacks, on the runs of one stage of a pilot.

Scores are of raw AUC: 0 at the random policy, 1 at the mean clean AUC of the reference in the same stage. In the stage
`choose` each attack of the worst case gets a named pair, the stratum and the robust method where the upper end of its
retention is lowest; in the stage `confirm` the pairs are fixed. In both the pairs are tested together by Holm's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from byzbench.experiments.curves import area_under_curve
from byzbench.leaderboard.pilot import REFERENCE, Pilot, Selection, Stage, StageRuns
from byzbench.leaderboard.pilot_panel import (
    Cost,
    Entries,
    MethodScore,
    PairPower,
    Separation,
    compare_methods,
    costs,
    method_score,
    overhead,
    pair_power,
    scored_runs,
)
from byzbench.leaderboard.suites import CLEAN, Stratum
from byzbench.reports.paired_tests import SD_FLOOR, holm
from byzbench.reports.scoring import EntryRuns, Retention, StratumRuns, score_entry

FLOOR = 0.05
"""Score up to which a run is at the floor."""

CEILING = 0.95
"""Share of the attainable maximum of a score from which on a run is at the maximum."""

EXTREME_SHARE = 0.25
"""Largest share of runs at the floor or at the maximum in a stratum that is admitted."""

HARM = 0.9
"""Retention below which an attack is harmful."""


@dataclass(frozen=True)
class StratumShares:
    """The single runs of robust methods under attacks of the worst case in one stratum.

    Attributes:
        stratum: The stratum.
        reference: Mean clean AUC of the reference.
        num_runs: Number of runs; 0 where the reference is not above random, so that there are no scores.
        num_floor, num_ceiling: How many have a score of at most `FLOOR`, and are at the attainable maximum.
    """

    stratum: str
    reference: float
    num_runs: int = 0
    num_floor: int = 0
    num_ceiling: int = 0

    @property
    def admitted(self) -> bool:
        """True if runs at the floor and at the maximum together are at most `EXTREME_SHARE` of the runs."""
        return self.num_runs > 0 and self.num_floor + self.num_ceiling <= EXTREME_SHARE * self.num_runs


@dataclass(frozen=True)
class HarmTest:
    """The test of an attack of the worst case on its named pair.

    Attributes:
        attack: The attack.
        stratum, method: The pair; None where no retention is defined.
        retention: The retention of the method under the attack.
        p: Two-sided p-value of a retention of `HARM`; 1 where the retention is not lower.
        harmful: Whether Holm's rule over the named pairs rejects it.
    """

    attack: str
    stratum: str | None = None
    method: str | None = None
    retention: Retention | None = None
    p: float = 1.0
    harmful: bool = False


@dataclass(frozen=True)
class StageResult:
    """The results of a stage.

    Attributes:
        stage: The stage.
        num_seeds, num_runs, num_failed: Numbers of seeds, of runs, and of runs that failed or diverged.
        shares, harm: The tests of strata and of attacks.
        scores, separations, power, costs: The panel and its runs.
        overhead: Seconds of a whole run over those of its training loop.
        inert: Stratum, method and attack under which all traces equal those without an attack.
    """

    stage: Stage
    num_seeds: int
    num_runs: int
    num_failed: int
    shares: tuple[StratumShares, ...]
    harm: tuple[HarmTest, ...]
    scores: tuple[MethodScore, ...]
    separations: tuple[Separation, ...]
    power: tuple[PairPower, ...]
    costs: tuple[Cost, ...]
    overhead: float
    inert: tuple[tuple[str, str, str], ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """A line for each stratum and each attack that is not admitted."""
        return (
            *(share_line(shares) for shares in self.shares if not shares.admitted),
            *(_harm_line(test) for test in self.harm if not test.harmful),
        )


@dataclass(frozen=True)
class PilotResult:
    """The results of a pilot; `confirm` is None where that stage was not run."""

    choose: StageResult
    confirm: StageResult | None = None

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the suite is not admitted, one line each; of the stage `choose` alone: why nothing is left to confirm."""
        if self.confirm is not None:
            return self.confirm.failures
        chosen = any(shares.admitted for shares in self.choose.shares) and any(t.harmful for t in self.choose.harm)
        return () if chosen else ("the stage choose admits no stratum with an attack", *self.choose.failures)


def examine(pilot: Pilot, stage: Stage, runs: StageRuns, selection: Selection) -> StageResult:
    """Compute the tests and the tables of a stage.

    Args:
        pilot: The pilot.
        stage: Which of its stages.
        runs: The runs of the selection.
        selection: What was run; its pairs are tested, and where it has none they are chosen.

    Returns:
        The result.
    """
    strata = selection.strata_of(pilot)
    references = {stratum.name: reference_area(runs, stratum) for stratum in strata}
    entries = scored_runs(pilot, strata, runs, references)
    worst_case = {s.name: restricted(entries[s.name], pilot.worst_case(s)) for s in strata if s.name in entries}
    shares = tuple(stratum_shares(pilot, s, worst_case.get(s.name, {}), references[s.name]) for s in strata)
    tested = [stratum.stratum for stratum in shares if stratum.admitted or selection.pairs]
    areas = np.concatenate([cell.areas for cell in runs.values()])
    return StageResult(
        stage=stage,
        num_seeds=len(pilot.stage_seeds(stage)),
        num_runs=len(areas),
        num_failed=int((~np.isfinite(areas)).sum()),
        shares=shares,
        harm=_harm_tests(pilot, selection, {name: worst_case.get(name, {}) for name in tested}),
        scores=tuple(method_score(m, one, worst_case[s][m]) for s, by in entries.items() for m, one in by.items()),
        separations=compare_methods(pilot, worst_case),
        power=pair_power(pilot, worst_case),
        costs=costs(runs),
        overhead=overhead(runs),
        inert=tuple(key for key, cell in runs.items() if key[2] != CLEAN and cell.same_traces(runs[*key[:2], CLEAN])),
    )


def select(pilot: Pilot, result: StageResult) -> Selection:
    """Return what the stage `choose` admits: the strata, the attacks that harm a named pair, and the pairs.

    Attacks with the role `sanity` are not tested, and stay.

    Args:
        pilot: The pilot.
        result: The result of the stage `choose`.

    Returns:
        The selection; strata in which none of its attacks applies are left out.
    """
    pairs = {t.attack: (t.stratum, t.method) for t in result.harm if t.harmful and t.stratum and t.method}
    admitted = {shares.stratum for shares in result.shares if shares.admitted}
    strata = [s.name for s in pilot.strata if s.name in admitted and set(pilot.worst_case(s)) & set(pairs)]
    sanity = [a.spec for a in pilot.attacks if a.role == "sanity"]
    return Selection(tuple(strata), (*pairs, *sanity), pairs)


def run_stages(
    pilot: Pilot, stages: Stage | Literal["both"], runs_of: Callable[[Stage, Selection], StageRuns]
) -> tuple[PilotResult, StageRuns]:
    """Choose strata and attacks on the runs of one stage, and confirm them on those of the other.

    Args:
        pilot: The pilot.
        stages: `choose` alone, or both; `confirm` too needs what `choose` selects.
        runs_of: Return the runs of a stage over a selection.

    Returns:
        The result, without the stage `confirm` if there is nothing to confirm; and the runs of that stage.
    """
    everything = Selection.whole(pilot)
    chosen = examine(pilot, "choose", runs_of("choose", everything), everything)
    selection = select(pilot, chosen)
    if stages == "choose" or not selection.strata:
        return PilotResult(chosen), {}
    runs = runs_of("confirm", selection)
    return PilotResult(chosen, examine(pilot, "confirm", runs, selection)), runs


def attainable_maximum(stratum: Stratum, evaluations: int) -> float:
    """Return the AUC of a curve that stands at the highest return from the first evaluation date on.

    Args:
        stratum: The stratum.
        evaluations: Number of evaluations over the budget.

    Example:
        >>> from byzbench.leaderboard.suites import suite
        >>> print(f"{attainable_maximum(suite('smoke-v1').strata[0], evaluations=20):.1f}")
        488.1
    """
    first = stratum.trajectories / evaluations
    return area_under_curve([first], [stratum.high], stratum.random, stratum.trajectories)


def harm_p_value(attacked: ArrayLike, clean: ArrayLike) -> float:
    """Test a retention of `HARM` against a lower one.

    The inversion of the test is Fieller's interval; `estimators.ratio_interval` is wider, since it allows for a run
    that loses nothing, which no seed has shown.

    Args:
        attacked: Scores under the attack, not cut off at 0, [n].
        clean: Scores without it on the same seeds, [n].

    Returns:
        The two-sided p-value of Student's t of attacked - HARM * clean; 1 where its mean is not negative.

    Example:
        >>> print(f"{harm_p_value([0.4, 0.5, 0.3, 0.4], [0.8, 1.0, 0.7, 0.8]):.4f}")
        0.0017
    """
    excess = np.asarray(attacked, float) - HARM * np.asarray(clean, float)
    t = excess.mean() / np.sqrt((excess.var(ddof=1) + SD_FLOOR**2) / len(excess))
    return float(2 * special.stdtr(len(excess) - 1, t)) if t < 0 else 1.0


def reference_area(runs: StageRuns, stratum: Stratum) -> float:
    """Return the mean clean AUC of the reference; a failed run is at random."""
    areas = runs[stratum.name, REFERENCE, CLEAN].areas
    return float(np.where(np.isfinite(areas), areas, stratum.random).mean())


def restricted(by_method: Mapping[str, StratumRuns], attacks: tuple[str, ...]) -> dict[str, StratumRuns]:
    """Return runs by method under some of the attacks alone."""
    return {
        method: replace(runs, attacked={a: x for a, x in runs.attacked.items() if a in attacks})
        for method, runs in by_method.items()
    }


def stratum_shares(
    pilot: Pilot, stratum: Stratum, worst_case: Mapping[str, StratumRuns], reference: float
) -> StratumShares:
    """Count the single runs of robust methods at the floor and at the attainable maximum.

    Args:
        pilot: The pilot.
        stratum: The stratum.
        worst_case: By method, its runs under attacks of the worst case.
        reference: The AUC that has score 1.
    """
    robust = [method.name for method in pilot.methods(stratum.division) if method.robust]
    if not worst_case:
        return StratumShares(stratum.name, reference)
    scores = np.concatenate([worst_case[name].attacked_scores.ravel() for name in robust])
    top = (attainable_maximum(stratum, pilot.evaluations) - stratum.random) / (reference - stratum.random)
    num_floor, num_ceiling = int((scores <= FLOOR).sum()), int((scores >= CEILING * top).sum())
    return StratumShares(stratum.name, reference, len(scores), num_floor, num_ceiling)


def _harm_tests(pilot: Pilot, selection: Selection, worst_case: Entries) -> tuple[HarmTest, ...]:
    """Test the attacks of the worst case on the pairs of the selection, or on those where harm is largest."""
    attacks = [a.spec for a in pilot.attacks if a.role == "worst_case" and a.spec in selection.attacks]
    tests = [_harm_test(pilot, attack, worst_case, selection.pairs.get(attack)) for attack in attacks]
    named = [test for test in tests if test.retention is not None]
    rejected = {t.attack for t, certain in zip(named, holm([t.p for t in named]), strict=True) if certain}
    return tuple(replace(test, harmful=test.attack in rejected) for test in tests)


def _harm_test(pilot: Pilot, attack: str, worst_case: Entries, pair: tuple[str, str] | None) -> HarmTest:
    candidates = [
        (retention.high, runs.name, method, retention)
        for method, runs in _attacked_by(pilot, attack, worst_case)
        if pair is None or pair == (runs.name, method)
        if (retention := _retention(runs, attack)).defined and retention.high is not None
    ]
    if not candidates:
        return HarmTest(attack, *(pair or (None, None)))
    _, stratum, method, retention = min(candidates, key=lambda candidate: candidate[0])
    runs = worst_case[stratum][method]
    attacked, clean = (_improvements(x, runs) for x in (runs.attacked[attack], runs.clean))
    return HarmTest(attack, stratum, method, retention, harm_p_value(attacked, clean))


def _attacked_by(pilot: Pilot, attack: str, worst_case: Entries) -> Iterator[tuple[str, StratumRuns]]:
    """Yield the robust methods that are run under an attack, with their runs in each stratum."""
    robust = {(method.division, method.name) for method in pilot.panel if method.robust}
    for stratum in pilot.strata:
        for method, runs in worst_case.get(stratum.name, {}).items():
            if (stratum.division, method) in robust and attack in runs.attacked:
                yield method, runs


def _retention(runs: StratumRuns, attack: str) -> Retention:
    return (
        score_entry(EntryRuns((replace(runs, attacked={attack: runs.attacked[attack]}),))).strata[0].retention[attack]
    )


def _improvements(areas: np.ndarray, runs: StratumRuns) -> np.ndarray:
    """Return scores that are not cut off at 0; a failed run is at random."""
    return (np.where(np.isfinite(areas), areas, runs.random) - runs.random) / (runs.reference - runs.random)


def share_line(shares: StratumShares) -> str:
    """Return the counts of a stratum in a sentence, as the reason why it is not admitted."""
    if not shares.num_runs:
        return f"{shares.stratum}: the reference is not above random, at {shares.reference:.1f}"
    return (
        f"{shares.stratum}: {shares.num_floor} of {shares.num_runs} runs of robust methods under attack are at the "
        f"floor and {shares.num_ceiling} at the attainable maximum"
    )


def _harm_line(test: HarmTest) -> str:
    if test.retention is None:
        method = f"{test.method} in {test.stratum}" if test.method else "every robust method in an admitted stratum"
        return f"{test.attack}: without it {method} does not learn enough to define a retention"
    return (
        f"{test.attack}: not certainly harmful: {test.method} in {test.stratum} retains {test.retention.value:.2f} "
        f"({test.retention.low:.2f} to {test.retention.high:.2f})"
    )
