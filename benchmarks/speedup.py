"""How much a federation saves each of its agents: trajectories to return 400 against honest agents; docs/speedup.md.

    python benchmarks/speedup.py [--seeds 5] [--trajectories 8000]

DecByzPG on CartPole, complete graph; without liars, and with about a fifth of the agents lying (avg_zero). A run that
is already in `runs/` is not repeated. The picture is that of `byzbench plot --kind speedup`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from byzbench.experiments.executors import executor
from byzbench.experiments.store import gather, save_sweep
from byzbench.experiments.suite import Plan, Suite, plan
from byzbench.experiments.sweep import sweep

TARGET = 400.0
CLEAN = (1, 2, 5, 13, 26)
ATTACKED = {5: 1, 13: 3, 26: 5}
"""K to f: with alpha = f / K near 0.2. Below K=5 no liar can be borne."""


def cells(seeds: int, trajectories: int) -> Plan:
    """All runs, as one plan."""
    shared: dict[str, Any] = {"algo": "decbyzpg", "trajectories": trajectories, "seeds": seeds}
    suites = [{"attack": "none", "agents": k, "byzantine": 0, **shared} for k in CLEAN]
    suites += [{"attack": "avg_zero", "agents": k, "byzantine": f, **shared} for k, f in ATTACKED.items()]
    found = {
        f"K={suite['agents']} f={suite['byzantine']} · {label}": cell
        for suite in suites
        for label, cell in plan(Suite.of(suite)).cells.items()
    }
    return Plan("speedup", found, {})


def main() -> None:
    """Run, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trajectories", type=int, default=8000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    given = parser.parse_args()
    todo = cells(given.seeds, given.trajectories)
    with executor("process", given.out, jobs=given.jobs) as workers:
        summary = sweep(todo, given.out, workers, watch=lambda label, o: print(label, o.status, file=sys.stderr))
    assert not summary.failed, summary.failed
    saved = save_sweep(given.out, todo.name, todo.hash, [cell.hash for cell in todo.cells.values()])
    entries, _ = gather([saved])
    write(entries, given)


def write(entries: list[Any], given: argparse.Namespace) -> None:
    """The page and its picture."""
    raise NotImplementedError


if __name__ == "__main__":
    main()
