"""The results of a pilot as tables, as a Markdown page and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from byzbench.experiments.provenance import commit
from byzbench.identity import ENGINE
from byzbench.leaderboard.admission import CEILING, EXTREME_SHARE, FLOOR, HARM, PilotResult, StageResult
from byzbench.leaderboard.pilot import Pilot
from byzbench.leaderboard.pilot_panel import POWER, POWER_SEEDS, MethodScore
from byzbench.reports.sheets import Table, render_tables

CORES = 2
"""Cores for which the time of a row is stated."""


def verdict(pilot: Pilot, result: PilotResult) -> list[str]:
    """Return the verdict on a candidate suite, and its reasons, one line each.

    Args:
        pilot: The pilot.
        result: Its result.
    """
    if result.failures:
        return [f"{pilot.name} is not admitted", *result.failures]
    last = result.confirm or result.choose
    strata = ", ".join(shares.stratum for shares in last.shares if shares.admitted)
    attacks = ", ".join(test.attack for test in last.harm if test.harmful)
    word = "admitted" if result.confirm else "to be confirmed"
    left_out = [f"left out by the stage choose: {line}" for line in result.choose.failures]
    return [f"{pilot.name}, {word}: strata {strata}; attacks {attacks}", *left_out]


def stage_tables(pilot: Pilot, stage: StageResult) -> list[Table]:
    """Return the tables of a stage.

    Args:
        pilot: The pilot.
        stage: The result of the stage.
    """
    return [
        _strata(stage),
        _attacks(stage),
        *_retentions(stage),
        _methods(stage),
        *_separations(stage),
        _power(pilot, stage),
        _costs(stage),
        _rows(pilot, stage),
        *_inert(stage),
    ]


def stage_line(stage: StageResult) -> str:
    """Return the numbers of seeds, of runs and of inert attacks of a stage on one line.

    Args:
        stage: The result of the stage.
    """
    runs = f"{stage.num_seeds} seeds, {stage.num_runs} runs, {stage.num_failed} failed or diverged"
    return f"stage {stage.stage}: {runs}, {len(stage.inert) or 'no'} inert attacks"


def markdown_page(pilot: Pilot, result: PilotResult, command: str) -> str:
    """Return a page with the verdict and all tables. It depends on the pilot, the store and the code alone.

    Args:
        pilot: The pilot.
        result: Its result.
        command: The command that makes the page.
    """
    head = [
        f"# Pilot of {pilot.name}",
        "\n".join(f"- {line}" for line in verdict(pilot, result)),
        f"Made by `{command}` at commit {commit() or 'unknown (the checkout has changes)'}, ENGINE {ENGINE}; sha256 of "
        f"the pilot file: `{pilot.sha256}`.",
        f"A stratum is admitted if at most {100 * EXTREME_SHARE:.0f} % of the single runs of robust methods under "
        f"attacks of the worst case have a score of at most {FLOOR} or at least {CEILING} of the attainable maximum.",
        f"An attack of the worst case is admitted if it harms its named pair of a stratum and a robust method: "
        f"retention below {HARM}, two-sided 95 %, Holm over the named pairs. The stage choose names the pairs, the "
        "stage confirm tests them on other seeds. Intervals of retention allow for a failure, or a run that loses "
        "nothing, that no seed has shown; the test compares what was seen. Scores are 0 at random and 1 at the mean "
        "clean AUC of the reference.",
    ]
    stages = [stage for stage in (result.choose, result.confirm) if stage is not None]
    parts = [
        f"## {stage_line(stage).capitalize()}\n\n{render_tables(stage_tables(pilot, stage), 'md', {})}"
        for stage in stages
    ]
    return "\n\n".join([*head, *parts]).rstrip() + "\n"


def to_json(pilot: Pilot, result: PilotResult) -> str:
    """Return the result as one JSON object.

    Args:
        pilot: The pilot.
        result: Its result.
    """
    about = {"pilot": pilot.name, "sha256": pilot.sha256, "engine": ENGINE, "commit": commit()}
    outcome = {"failures": result.failures, "admitted": result.confirm is not None and not result.failures}
    return json.dumps({**about, **outcome, **asdict(result)}, allow_nan=False)


def _strata(stage: StageResult) -> Table:
    head = ["stratum", ">reference", ">runs", ">floor", ">maximum", "admitted"]
    cells = [
        [
            s.stratum,
            f"{s.reference:.1f}",
            str(s.num_runs),
            _share(s.num_floor, s.num_runs),
            _share(s.num_ceiling, s.num_runs),
            _yes(s.admitted),
        ]
        for s in stage.shares
    ]
    return Table("strata", "Strata: single runs of robust methods under attacks of the worst case", [], head, cells)


def _attacks(stage: StageResult) -> Table:
    head = ["attack", "stratum", "method", ">retention", ">p", "admitted"]
    cells = [
        [t.attack, t.stratum or "–", t.method or "–", str(t.retention or "–"), _p_value(t.p), _yes(t.harmful)]
        for t in stage.harm
    ]
    return Table("attacks", "Attacks of the worst case, each on its named pair", [], head, cells)


def _retentions(stage: StageResult) -> Iterable[Table]:
    for stratum, scores in _by_stratum(stage).items():
        attacks = list(dict.fromkeys(attack for score in scores for attack in score.retention))
        cells = [[s.method, *(str(s.retention[a]) for a in attacks)] for s in scores if s.retention]
        title = f"Retention in {stratum} (in brackets: the method alone does not learn enough without the attack)"
        yield Table("retention", title, [], ["method", *(f">{attack}" for attack in attacks)], cells)


def _methods(stage: StageResult) -> Table:
    head = ["stratum", "method", ">clean", ">worst", "worst attack"]
    cells = [[s.stratum, s.method, str(s.clean), str(s.worst or "–"), s.worst_attack or "–"] for s in stage.scores]
    return Table("methods", "Scores of the panel, mean over seeds (95 % interval)", [], head, cells)


def _separations(stage: StageResult) -> Iterable[Table]:
    for one in stage.separations:
        correlation = "–" if one.correlation is None else f"{one.correlation:.2f}"
        title = f"Order in {', '.join(one.strata)}. {one.sentence} Correlation of worst and clean: {correlation}"
        rows = sorted(zip(one.methods, one.worst, one.clean, one.ranks, strict=True), key=lambda row: -row[1])
        beaten = {name: ", ".join(b for a, b in one.better if a == name) or "–" for name in one.methods}
        cells = [[m, f"{w:.2f}", f"{c:.2f}", f"{low} to {high}", beaten[m]] for m, w, c, (low, high) in rows]
        yield Table("order", title, [], ["method", ">worst", ">clean", ">ranks", "certainly better than"], cells)


def _power(pilot: Pilot, stage: StageResult) -> Table:
    first, second = pilot.pilot.pair
    title = f"Power to find a difference of {pilot.pilot.difference} between {first} and {second}, by number of seeds"
    head = ["strata", ">difference here", ">spread", *(f">{n}" for n in POWER_SEEDS), f">seeds for {POWER}"]
    cells = [
        [
            ", ".join(one.strata),
            f"{one.value:+.2f}",
            f"{one.spread:.2f}",
            *(f"{power:.2f}" for power in one.power.values()),
            str(one.num_seeds or "more than 200"),
        ]
        for one in stage.power
    ]
    return Table("power", title, [], head, cells)


def _costs(stage: StageResult) -> Table:
    title = f"Seconds of training of a cell; a whole run takes {stage.overhead:.2f} times as long (median)"
    cells = [[c.stratum, c.attack, f"{c.mean:.1f}", f"{c.largest:.1f}"] for c in stage.costs]
    return Table("seconds", title, [], ["stratum", "attack", ">mean", ">largest"], cells)


def _rows(pilot: Pilot, stage: StageResult) -> Table:
    """Return the minutes that a row would take, by strata, at the suite's number of seeds and at that of the power."""
    cells = []
    num_seeds = {power.strata: power.num_seeds for power in stage.power}
    for strata in (order.strata for order in stage.separations):
        costs = [cost for cost in stage.costs if cost.stratum in strata]
        minutes = sum(cost.mean for cost in costs) * stage.overhead / 60 / CORES
        counts = dict.fromkeys((pilot.seeds, num_seeds.get(strata) or pilot.seeds))
        cells += [[", ".join(strata), str(len(costs) * n), str(n), f"{minutes * n:.1f}"] for n in counts]
    title = f"Minutes of a row on {CORES} cores, with the mean over the panel"
    return Table("rows", title, [], ["strata", ">cells", ">seeds", ">minutes"], cells)


def _inert(stage: StageResult) -> Iterable[Table]:
    if stage.inert:
        title = "Inert attacks: every trace equals that without an attack"
        yield Table("inert", title, [], ["stratum", "method", "attack"], [list(key) for key in stage.inert])


def _by_stratum(stage: StageResult) -> dict[str, list[MethodScore]]:
    by_stratum: dict[str, list[MethodScore]] = {}
    for score in stage.scores:
        by_stratum.setdefault(score.stratum, []).append(score)
    return by_stratum


def _p_value(p: float) -> str:
    return f"{p:.4f}" if p >= 1e-4 else "< 0.0001"


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} %" if total else "–"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
