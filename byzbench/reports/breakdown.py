"""The empirical breakdown point: how many liars a method bears before it loses a fifth of what it learns without them.

With J the mean final return over seeds, f liars leave the retention

    R(f) = (J_attacked(f) - J_random) / (J_clean - J_random)

and the breakdown point is the largest f with R(f) >= 0.8, found by bisection, so that R is taken to fall with f. Each
seed seats its liars anew. Whether R(f) >= 0.8 is a linear question, mean over seeds s of

    J_attacked(f, s) - 0.8 J_clean(s) - 0.2 J_random >= 0

so that its 95 % interval comes from the same seeds, attacked and clean, without a ratio of random numbers: the largest
f at which all of the interval is above zero, and the largest at which any of it is, are the ends of the answer's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.executors import Executor
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.metrics import LEARNING
from byzbench.experiments.suite import Plan
from byzbench.experiments.sweep import sweep

RETENTION = 0.8


@dataclass(frozen=True)
class Tried:
    """One number of liars.

    Attributes:
        retention: R(f); None where the experiment is undefined.
        margin, low, high: mean over seeds of the contrast above, and its 95 % interval.
        why: why it is undefined, or how many runs failed, which count as random play.
    """

    retention: float | None
    margin: float = -np.inf
    low: float = -np.inf
    high: float = -np.inf
    why: str = ""


@dataclass(frozen=True)
class Breakdown:
    """The answer: the largest f that is survived, and the ends of its 95 % interval.

    Attributes:
        f, low, high: numbers of liars; the largest that was asked about is `most`.
        tried: every f that was run.
        clean: mean final return without liars.
    """

    f: int
    low: int
    high: int
    most: int
    tried: Mapping[int, Tried]
    clean: float


def breakdown(
    point: Mapping[str, Any],
    seeds: Sequence[int],
    out: Path,
    executor: Executor,
    *,
    most: int | None = None,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    watch: Callable[[int, Tried], None] | None = None,
) -> Breakdown:
    """Bisect over the number of liars.

    Args:
        point: the experiment by flag, with its attack and without a number of liars.
        seeds: at least three.
        out: the store.
        executor: who runs cells.
        most: the largest number of liars; default: the largest minority.
        parameters: further parameters by kind.
        watch: called with every number of liars that was run.

    Raises:
        InvalidParameter: too few seeds, a `most` that is none, or nothing is learned without liars.
    """
    if len(seeds) < 3:
        raise InvalidParameter(f"a breakdown point needs at least 3 seeds, got {len(seeds)}")
    unarmed = {k: v for k, v in point.items() if k != "attack"}
    calm = {kind: values for kind, values in (parameters or {}).items() if kind != "attack"}
    clean = [Experiment.create(**unarmed, byzantine=0, seed=s, parameters=calm) for s in seeds]
    agents, random = clean[0].agents, clean[0].task.worth("random")
    top = (agents - 1) // 2 if most is None else most
    if not 0 < top < agents:
        raise InvalidParameter(f"the largest number of liars must be from 1 to {agents - 1}, got {top}")
    unhurt, lost = _returns(clean, out, executor, random)
    if lost:
        raise InvalidParameter(f"{lost} of the runs without liars failed: there is nothing to compare with")
    floor = random + LEARNING * (clean[0].task.worth("solved") - random)
    if unhurt.mean() < floor:
        raise InvalidParameter(
            f"without liars the return is {unhurt.mean():.1f}, below {floor:.1f}: nothing was learned that liars could "
            "undo; give it more trajectories"
        )
    tried: dict[int, Tried] = {}

    def look(f: int) -> Tried:
        if f not in tried:
            tried[f] = _try(f)
            if watch:
                watch(f, tried[f])
        return tried[f]

    def _try(f: int) -> Tried:
        try:
            cells = [Experiment.create(**point, byzantine=f, seed=s, parameters=parameters) for s in seeds]
        except Undefined as error:
            return Tried(None, why=str(error))
        hurt, lost = _returns(cells, out, executor, random)
        contrast = _interval(hurt - RETENTION * unhurt - (1 - RETENTION) * random)
        share = float((hurt.mean() - random) / (unhurt.mean() - random))
        return Tried(share, *contrast, why=f"{lost} of {len(seeds)} runs failed" if lost else "")

    f = _largest(lambda f: look(f).margin >= 0, top)
    low, high = _largest(lambda f: look(f).low >= 0, top), _largest(lambda f: look(f).high >= 0, top)
    return Breakdown(f, low, high, top, dict(sorted(tried.items())), float(unhurt.mean()))


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and Student's 95 % interval, from at least three values."""
    half = float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    mean = float(values.mean())
    return mean, mean - half, mean + half


def _largest(survives: Callable[[int], bool], top: int) -> int:
    """The largest f of 0 .. top that is survived, if all below it are; 0 always is."""
    low, high = 0, top + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if survives(middle) else (low, middle)
    return low


def _returns(cells: Sequence[Experiment], out: Path, executor: Executor, random: float) -> tuple[np.ndarray, int]:
    """Final returns by seed; a run that failed or diverged counts as random play. And how many failed."""
    plan = Plan("breakdown", {str(cell.seed): cell for cell in cells}, {})
    outcomes = sweep(plan, out, executor).outcomes
    found = [outcomes[str(cell.seed)] for cell in cells]
    values = [o.result["return"]["mean"] if o.status == "finished" else None for o in found]
    return np.array([random if v is None else v for v in values]), sum(o.status == "failed" for o in found)
