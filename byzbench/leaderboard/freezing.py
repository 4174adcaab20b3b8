"""The test of a suite against its pilot, before it is frozen: it holds nothing that the pilot did not admit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from byzbench.leaderboard.admission import PilotResult, examine, reference_area, restricted, select
from byzbench.leaderboard.pilot import REFERENCE, Pilot, Selection, StageRuns, load_runs, pilot_cells
from byzbench.leaderboard.pilot_panel import PairPower, pair_power, scored_runs
from byzbench.leaderboard.schema import Division
from byzbench.leaderboard.suites import CLEAN, Suite


def load_result(pilot: Pilot, store: Path) -> tuple[PilotResult, StageRuns]:
    """Compute the result of a pilot from its runs.

    Args:
        pilot: The pilot.
        store: The folder of run folders.

    Returns:
        The result, without the stage `confirm` if there is nothing to confirm; and the runs of that stage.

    Raises:
        UserError: A cell has not been run by the behaviour that is here.
        CorruptRecord: A run folder cannot be trusted.
    """
    whole = Selection.whole(pilot)
    chosen = examine(pilot, "choose", load_runs(pilot_cells(pilot, "choose", whole), store), whole)
    if not (selection := select(pilot, chosen)).strata:
        return PilotResult(chosen), {}
    runs = load_runs(pilot_cells(pilot, "confirm", selection), store)
    return PilotResult(chosen, examine(pilot, "confirm", runs, selection)), runs


def suite_problems(suite: Suite, pilot: Pilot, result: PilotResult, runs: StageRuns) -> Iterator[str]:
    """Yield what keeps a suite from being frozen, one line each.

    Args:
        suite: The suite.
        pilot: Its pilot.
        result: The result of the pilot.
        runs: The runs of its stage `confirm`.

    Yields:
        What differs from the pilot, what the pilot did not admit on its confirming seeds, attacks that are inert for a
        method that the pilot attacks, and fewer seeds than the pilot's power asks for.
    """
    if result.confirm is None:
        yield from result.failures or (f"the pilot {pilot.name} has no stage confirm",)
        return
    for name in ("name", "evaluations", "evaluation_episodes", "references"):
        if getattr(suite, name) != getattr(pilot, name):
            yield f"its {name.replace('_', ' ')} differ from those of the pilot"
    strata = {shares.stratum for shares in result.confirm.shares if shares.admitted}
    attacks = {test.attack for test in result.confirm.harm if test.harmful}
    attacks |= {attack.spec for attack in pilot.attacks if attack.role != "worst_case" or not attack.knows}
    for stratum in suite.strata:
        if stratum not in pilot.strata:
            yield f"the stratum {stratum.name} is not one of the pilot"
        elif stratum.name not in strata:
            yield f"the pilot did not admit the stratum {stratum.name}"
    written = {attack.spec: attack for attack in pilot.attacks}
    for attack in suite.attacks:
        own = written.get(attack.spec)
        if own is None or (own.role, own.knows) != (attack.role, attack.knows):
            yield f"the attack {attack.spec} is not one of the pilot, or has another role there"
        elif attack.spec not in attacks:
            yield f"the pilot did not admit the attack {attack.spec}"
        elif untried := [s.name for s in suite.strata if attack.applies(s) and not own.applies(s)]:
            yield f"the pilot did not try the attack {attack.spec} in {untried[0]}"
    run = {(stratum.name, attack) for stratum in suite.strata for attack in suite.attacks_of(stratum)}
    for place, method, spec in result.confirm.inert:
        if (place, spec) in run:
            yield f"the attack {spec} is inert for {method} in {place}: its traces are those without an attack"
    for power in suite_power(suite, pilot, runs):
        if power.num_seeds is None or suite.seeds < power.num_seeds:
            asked = power.num_seeds or "more than can be stated"
            yield f"it has {suite.seeds} seeds, and the power over {', '.join(power.strata)} asks for {asked}"


def suite_power(suite: Suite, pilot: Pilot, runs: StageRuns) -> tuple[PairPower, ...]:
    """Return the power of the pilot's pair in each division of a suite, over its own strata and attacks.

    Args:
        suite: The suite.
        pilot: Its pilot.
        runs: The runs of the stage `confirm`.
    """
    strata = [stratum for stratum in suite.strata if (stratum.name, REFERENCE, CLEAN) in runs]
    entries = scored_runs(pilot, strata, runs, {stratum.name: reference_area(runs, stratum) for stratum in strata})
    worst_case = {s.name: restricted(entries[s.name], suite.worst_case(s)) for s in strata if s.name in entries}
    widest: dict[Division, PairPower] = {}
    for power in pair_power(pilot, worst_case):
        division = next(stratum.division for stratum in suite.strata if stratum.name in power.strata)
        widest.setdefault(division, power)
    return tuple(widest.values())

