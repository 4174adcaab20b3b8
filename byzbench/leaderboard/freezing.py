"""The test of a suite against its pilot, before it is frozen: it holds nothing that the pilot did not admit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from byzbench.leaderboard.admission import PilotResult, StageResult, examine, select
from byzbench.leaderboard.pilot import Pilot, Selection, Stage, load_runs, pilot_cells
from byzbench.leaderboard.schema import Division
from byzbench.leaderboard.suites import Suite


def load_result(pilot: Pilot, store: Path) -> PilotResult:
    """Compute the result of a pilot from its runs.

    Args:
        pilot: The pilot.
        store: The folder of run folders.

    Returns:
        The result; without the stage `confirm` if there is nothing to confirm.

    Raises:
        UserError: A cell has not been run by the behaviour that is here.
        CorruptRecord: A run folder cannot be trusted.
    """

    chosen = _load_stage(pilot, "choose", Selection.whole(pilot), store)
    selection = select(pilot, chosen)
    return PilotResult(chosen, _load_stage(pilot, "confirm", selection, store) if selection.strata else None)


def suite_problems(suite: Suite, pilot: Pilot, result: PilotResult) -> Iterator[str]:
    """Yield what keeps a suite from being frozen, one line each.

    Args:
        suite: The suite.
        pilot: Its pilot.
        result: The result of the pilot.

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
    for division in dict.fromkeys(stratum.division for stratum in suite.strata):
        yield from _power_problems(suite, division, result.confirm)


def _power_problems(suite: Suite, division: Division, confirmed: StageResult) -> Iterator[str]:
    """Yield why the seeds of a suite are too few in a division; where the pilot has no pair there, nothing is said."""
    strata = tuple(stratum.name for stratum in suite.division(division))
    by_strata = {frozenset(one.strata): one for one in confirmed.power}
    if (power := by_strata.get(frozenset(strata))) is None:
        if any(set(strata) & scope for scope in by_strata):
            yield f"the pilot states no power over {', '.join(strata)} together"
    elif power.num_seeds is None or suite.seeds < power.num_seeds:
        yield f"it has {suite.seeds} seeds, and the power over {', '.join(strata)} asks for {power.num_seeds or 'more'}"


def _load_stage(pilot: Pilot, stage: Stage, selection: Selection, store: Path) -> StageResult:
    return examine(pilot, stage, load_runs(pilot_cells(pilot, stage, selection), store), selection)
