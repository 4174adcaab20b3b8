"""Whether it pays to take part: a method's return beside that of its agents alone. Imports nothing heavy."""

from __future__ import annotations

import numpy as np

from byzbench.reports.sheets import Sheet
from byzbench.reports.statistics import Estimate
from byzbench.reports.summary import Groups, Row, estimated, reference, rounded

ALONE = "solo"
"""The algorithm whose agents do not talk."""

_SETTING = ("env", "agents", "trajectories")
"""Where runs differ in one of these, what an agent does alone is no measure of what it does among others."""


def benefit(groups: Groups) -> Sheet:
    """Every row beside the same agents alone; empty where there are no runs of `solo`, or no reference scores.

    The participation benefit is (J - J_solo) / (J_solved - J_random), of every seed that both have, for the metric J.
    Solo's row is that of the same task, agents and budget, with as much else in common as there is.
    """
    alone = [row for row in groups.rows if _algorithm(row) == ALONE]
    axes = [axis for axis in groups.axes if len({row.key[axis] for row in groups.rows}) > 1]
    records, cells = [], []
    for row in groups.rows:
        peers = [s for s in alone if all(s.key[a] == row.key[a] for a in groups.axes if a in _SETTING)]
        if _algorithm(row) == ALONE or not peers:
            continue
        solo = max(peers, key=lambda s: sum(s.key[a] == row.key[a] for a in groups.axes))
        found, decimals = _gain(row, solo), 3
        if found is None:
            continue
        records.append({**row.key, "value": found.value, "low": found.low, "high": found.high, "seeds": found.n})
        interval = (
            "–"
            if found.low is None or found.high is None
            else " to ".join(rounded(end, decimals) for end in (found.low, found.high))
        )
        cells.append([*(str(row.key[a]) for a in axes), rounded(found.value, decimals), interval, str(found.n)])
    title = (
        f"Participation benefit: how much more {groups.title} than alone, as a share of the way from random to solved; "
        "whoever has less than zero had better stay alone"
    )
    return Sheet("benefit", title, records, [*axes, ">benefit", ">95 % interval", ">seeds"], cells)


def _algorithm(row: Row) -> str:
    return str(row.entries[0].name("algo"))


def _gain(row: Row, solo: Row) -> Estimate | None:
    """The benefit over the seeds that both rows have."""
    known, ours, theirs = reference(row.entries[0]), row.by_seed, solo.by_seed
    seeds = [seed for seed in ours if seed in theirs]
    if not {"random", "solved"} <= known.keys() or not seeds:
        return None
    gains = np.array([ours[seed] - theirs[seed] for seed in seeds])
    return estimated(gains / (known["solved"] - known["random"]), row.lost + solo.lost)
