"""What benchmarks of whole runs share: their options, and running what is missing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TypeVar

from byzbench import run
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.result import Result
from byzbench.sweeps.executors import make_executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

Key = TypeVar("Key", bound=Hashable)

TUNED: dict[str, dict[str, float]] = {"algorithm": {"lr": 0.00658, "B": 13, "p": 0.5}, "aggregator": {"nu": 0.0807}}
"""Found by `benchmarks/tuned.py` for DecByzPG on CartPole: docs/tuning.md."""


def options(doc: str | None, seeds: int = 3, trajectories: int = 3000) -> argparse.ArgumentParser:
    """Those that all of them have; the numbers are defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--trajectories", type=int, default=trajectories)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    return parser


def results(name: str, cells: Mapping[Key, Experiment], args: argparse.Namespace) -> dict[Key, Result]:
    """The result of every cell; a run that is in `given.out` is not repeated."""
    todo = SweepPlan(name, {str(number): cell for number, cell in enumerate(cells.values())}, {})
    keys = list(cells)
    with make_executor("process", args.out, jobs=args.jobs) as workers:
        summary = run_sweep(
            todo, args.out, workers, callback=lambda n, o: print(keys[int(n)], o.status, file=sys.stderr)
        )
    if summary.failed:
        raise SystemExit(f"failed: {summary.failed}")
    return {key: run(cell, out=args.out) for key, cell in cells.items()}
