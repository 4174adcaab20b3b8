"""Empirical breakdown point: the largest number of Byzantine agents under which a method keeps 0.8 of what it learns.

J is the mean final return over seeds. With f Byzantine agents the retention is

    R(f) = (J_attacked(f) - J_random) / (J_clean - J_random)

The breakdown point is the largest f with R(f) >= 0.8. It is found by bisection, which assumes that R falls with f.
Every seed draws a new placement of the Byzantine agents.

R(f) >= 0.8 is equivalent to a linear contrast, the mean over seeds s of

    J_attacked(f, s) - 0.8 J_clean(s) - 0.2 J_random >= 0

The 95 % interval of the contrast pairs attacked and clean runs of one seed and needs no ratio of random numbers. The
interval of the breakdown point reaches from the largest f whose interval is above zero altogether to the largest f
whose interval reaches above zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.curves import LEARNING
from byzbench.experiments.experiment import Experiment
from byzbench.sweeps.cells import CellOutcome
from byzbench.sweeps.executors import Executor
from byzbench.sweeps.grid import SweepPlan
from byzbench.sweeps.sweep import run_sweep

RETENTION = 0.8
"""The retention that a method must have to withstand f Byzantine agents."""


@dataclass(frozen=True)
class BreakdownTrial:
    """Result for one number f of Byzantine agents.

    Attributes:
        retention: R(f); None where the experiment is undefined.
        margin, low, high: Mean over seeds of the contrast above, and the ends of its 95 % interval.
        why: Why the experiment is undefined, or how many runs failed. A run that failed by itself counts as the random
            policy.
    """

    retention: float | None
    margin: float = -np.inf
    low: float = -np.inf
    high: float = -np.inf
    why: str = ""


@dataclass(frozen=True)
class Breakdown:
    """Breakdown point with its 95 % interval.

    Attributes:
        f, low, high: The largest number of Byzantine agents that is withstood, and the ends of its 95 % interval.
        most: The largest number of Byzantine agents that was considered.
        tried: The result of every f that was run.
        clean: Mean final return without Byzantine agents.
    """

    f: int
    low: int
    high: int
    most: int
    tried: Mapping[int, BreakdownTrial]
    clean: float


def find_breakdown(
    point: Mapping[str, Any],
    seeds: Sequence[int],
    out: Path,
    executor: Executor,
    *,
    most: int | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    callback: Callable[[int, BreakdownTrial], None] | None = None,
    on_run: Callable[[str, CellOutcome, int], None] | None = None,
) -> Breakdown:
    """Find the breakdown point by bisection over the number of Byzantine agents.

    Args:
        point: The experiment by flag, with its attack and without a number of Byzantine agents.
        seeds: The seeds; at least three.
        out: The folder of the store.
        executor: The executor that runs the cells.
        most: The largest number of Byzantine agents to consider; None for the largest minority.
        parameters: Further parameters by kind.
        callback: A callback that gets every f that was run, with its result.
        on_run: A callback that gets the label and the outcome of every run that is over, and how many runs a bisection
            has; the ends of the interval may need more.

    Returns:
        The breakdown point and the result of every f that was run.

    Raises:
        InvalidParameter: There are fewer than three seeds, `most` is out of range, or nothing is learned without
            Byzantine agents.
        UnfinishedRun: The process of a run was killed after a time limit, or died.
        CorruptRecord: The records of a run are damaged.
        StorageError: The records of a run could not be written.
    """
    if len(seeds) < 3:
        raise InvalidParameter(f"a breakdown point needs at least 3 seeds, got {len(seeds)}")
    clean_point = {k: v for k, v in point.items() if k != "attack"}
    clean_parameters = {kind: values for kind, values in (parameters or {}).items() if kind != "attack"}
    clean = [Experiment.create(**clean_point, byzantine=0, seed=s, parameters=clean_parameters) for s in seeds]
    agents, random_return = clean[0].agents, clean[0].task.reference_score("random")
    top = (agents - 1) // 2 if most is None else most
    if not 0 < top < agents:
        raise InvalidParameter(f"the largest number of Byzantine agents must be from 1 to {agents - 1}, got {top}")
    total = len(seeds) * (1 + math.ceil(math.log2(top + 1)))
    on_cell = None if on_run is None else lambda label, outcome: on_run(label, outcome, total)
    clean_returns, num_failed = _returns(clean, out, executor, random_return, on_cell)
    _require_learning(clean_returns, num_failed, random_return, clean[0].task.reference_score("solved"))
    tried: dict[int, BreakdownTrial] = {}

    def result_of(f: int) -> BreakdownTrial:
        if f not in tried:
            tried[f] = run_attacked(f)
            if callback:
                callback(f, tried[f])
        return tried[f]

    def run_attacked(f: int) -> BreakdownTrial:
        try:
            cells = [Experiment.create(**point, byzantine=f, seed=s, parameters=parameters) for s in seeds]
        except Undefined as error:
            return BreakdownTrial(None, why=str(error))
        attacked_returns, num_failed = _returns(cells, out, executor, random_return, on_cell)
        contrast = _interval(attacked_returns - RETENTION * clean_returns - (1 - RETENTION) * random_return)
        share = float((attacked_returns.mean() - random_return) / (clean_returns.mean() - random_return))
        return BreakdownTrial(share, *contrast, why=f"{num_failed} of {len(seeds)} runs failed" if num_failed else "")

    f = _largest(lambda f: result_of(f).margin >= 0, top)
    low, high = _largest(lambda f: result_of(f).low >= 0, top), _largest(lambda f: result_of(f).high >= 0, top)
    return Breakdown(f, low, high, top, dict(sorted(tried.items())), float(clean_returns.mean()))


def _require_learning(returns: np.ndarray, num_failed: int, random_return: float, solved_return: float) -> None:
    """Raise InvalidParameter if runs without Byzantine agents failed, or did not learn."""
    if num_failed:
        raise InvalidParameter(f"{num_failed} of the runs without Byzantine agents failed: nothing to compare with")
    threshold = random_return + LEARNING * (solved_return - random_return)
    if returns.mean() < threshold:
        raise InvalidParameter(
            f"without Byzantine agents the return is {returns.mean():.1f}, below {threshold:.1f}: the method did "
            "not learn, so no attack can be measured; give it more trajectories"
        )


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of at least three values and the ends of Student's 95 % interval."""
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def _largest(survives: Callable[[int], bool], top: int) -> int:
    """Return the largest f from 0 to `top` that is survived, if all smaller ones are; 0 always is."""
    low, high = 0, top + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if survives(middle) else (low, middle)
    return low


def _returns(
    cells: Sequence[Experiment],
    out: Path,
    executor: Executor,
    random_return: float,
    on_cell: Callable[[str, CellOutcome], None] | None,
) -> tuple[np.ndarray, int]:
    """Run cells and return their final returns, with the random policy's for a failed or diverged run.

    Args:
        cells: The cells, one for each seed.
        out: The folder of the store.
        executor: The executor that runs the cells.
        random_return: The return of the random policy.
        on_cell: A callback that gets the label and the outcome of every cell that is over.

    Returns:
        The returns [seeds], and how many runs failed.

    Raises:
        ByzbenchError: A run has no result for another reason than its experiment.
    """
    plan = SweepPlan("breakdown", {f"f={cell.byzantine}, seed {cell.seed}": cell for cell in cells}, {})
    outcomes = run_sweep(plan, out, executor, callback=on_cell).outcomes
    by_seed = [outcomes[label] for label in plan.cells]
    for label in plan.cells:
        if outcomes[label].cause != "experiment":
            raise outcomes[label].exception(label)
    values = [outcome.result["return"]["mean"] if outcome.status == "finished" else None for outcome in by_seed]
    return np.array([random_return if value is None else value for value in values]), sum(
        outcome.status == "failed" for outcome in by_seed
    )
