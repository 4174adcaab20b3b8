"""The test of a suite against its pilot, before it is frozen: it holds nothing that the pilot did not admit."""

from __future__ import annotations

from collections.abc import Iterator

from byzbench.leaderboard.admission import (
    PilotResult,
    StageResult,
    reference_area,
    restricted,
    share_line,
    stratum_shares,
)
from byzbench.leaderboard.pilot import Pilot, StageRuns
from byzbench.leaderboard.pilot_panel import pair_power, scored_runs
from byzbench.leaderboard.suites import Suite


def suite_problems(suite: Suite, pilot: Pilot, result: PilotResult, runs: StageRuns) -> list[str]:
    """Return what keeps a suite from being frozen, one line each.

    Args:
        suite: The suite.
        pilot: Its pilot.
        result: The result of the pilot.
        runs: The runs of its stage `confirm`.

    Returns:
        What differs from the pilot; strata and attacks that it did not admit on its confirming seeds; attacks that are
        inert for a method that the pilot attacks. Without any of these: strata where too many runs are at the floor or
        at the maximum under the suite's own attacks, and fewer seeds than the power asks for.
    """
    if result.confirm is None:
        return [*result.failures] or [f"the pilot {pilot.name} has no stage confirm"]
    problems = [*_differences(suite, pilot), *_not_admitted(suite, pilot, result.confirm)]
    return problems or [*_too_weak(suite, pilot, runs)]


def _differences(suite: Suite, pilot: Pilot) -> Iterator[str]:
    for name in ("name", "evaluations", "evaluation_episodes", "references"):
        if getattr(suite, name) != getattr(pilot, name):
            yield f"its {name.replace('_', ' ')} differ from those of the pilot"
    for stratum in suite.strata:
        if stratum not in pilot.strata:
            yield f"the stratum {stratum.name} is not one of the pilot"
    by_spec = {attack.spec: attack for attack in pilot.attacks}
    for attack in suite.attacks:
        pilots = by_spec.get(attack.spec)
        if pilots is None or (pilots.role, pilots.knows) != (attack.role, attack.knows):
            yield f"the attack {attack.spec} is not one of the pilot, or has another role there"
        elif missing := [s.name for s in suite.strata if attack.applies(s) and not pilots.applies(s)]:
            yield f"the pilot did not try the attack {attack.spec} in {missing[0]}"


def _not_admitted(suite: Suite, pilot: Pilot, confirmed: StageResult) -> Iterator[str]:
    admitted = {shares.stratum for shares in confirmed.shares if shares.admitted}
    for stratum in suite.strata:
        if stratum in pilot.strata and stratum.name not in admitted:
            yield f"the pilot did not admit the stratum {stratum.name}"
    cells = {(stratum.name, attack) for stratum in suite.strata for attack in suite.attacks_of(stratum)}
    harmful_in = {test.attack: test.stratum for test in confirmed.harm if test.harmful}
    for attack in suite.attacks:
        if attack.role != "worst_case" or not attack.knows:
            continue
        if attack.spec not in harmful_in:
            yield f"the pilot did not admit the attack {attack.spec}"
        elif (harmful_in[attack.spec], attack.spec) not in cells:
            yield f"the attack {attack.spec} was shown to do harm in {harmful_in[attack.spec]}, which it is not run in"
    for stratum_name, method, spec in confirmed.inert:
        if (stratum_name, spec) in cells:
            yield f"the attack {spec} is inert for {method} in {stratum_name}: its traces are those without an attack"


def _too_weak(suite: Suite, pilot: Pilot, runs: StageRuns) -> Iterator[str]:
    """Repeat the tests of shares and of power over the suite's own strata and attacks."""
    references = {stratum.name: reference_area(runs, stratum) for stratum in suite.strata}
    entries = scored_runs(pilot, suite.strata, runs, references)
    worst_case = {s.name: restricted(entries[s.name], suite.worst_case(s)) for s in suite.strata}
    for stratum in suite.strata:
        shares = stratum_shares(pilot, stratum, worst_case[stratum.name], references[stratum.name])
        if not shares.admitted:
            yield share_line(shares)
    strata = {tuple(s.name for s in suite.division(division)) for division in {s.division for s in suite.strata}}
    for power in pair_power(pilot, worst_case):
        if power.strata in strata and (power.num_seeds is None or suite.seeds < power.num_seeds):
            needed = power.num_seeds or "more than can be stated"
            yield f"it has {suite.seeds} seeds, and the power over {', '.join(power.strata)} asks for {needed}"
