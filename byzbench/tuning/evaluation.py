"""Evaluations of tuned algorithms: tune on some attacks and seeds, and run a suite on others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from byzbench.errors import InvalidParameter
from byzbench.registry import kind_of, parse_spec
from byzbench.sweeps.grid import SweepGrid, SweepPlan, plan_sweep
from byzbench.tuning.problem import FIRST_SEED, TuningProblem, tuning_problem

CANDIDATES = ("ipm", "sign_flip", "large_noise", "avg_zero", "gaussian", "min_max", "min_sum", "alie(z=1.5)", "mimic")
"""Default attacks to tune against, in this order, without those that the suite has."""


def evaluation_suite(suite: SweepGrid, algo: str) -> SweepGrid:
    """Return a suite with one algorithm.

    Args:
        suite: The suite.
        algo: The algorithm, which replaces those of the suite.

    Raises:
        InvalidParameter: The suite has tuned parameters, or a seed of the suite is for tuning.
    """
    if suite.tuned:
        raise InvalidParameter("the suite has tuned parameters already; remove them, since an evaluation tunes its own")
    if any(seed >= FIRST_SEED for seed in suite.seeds):
        raise InvalidParameter(f"the seeds of a suite must be below {FIRST_SEED}; larger ones are for tuning")
    return suite.model_copy(update={"algo": [algo]})


def tuning_attacks(suite: SweepGrid, given: Sequence[str] | None = None) -> list[str]:
    """Return the attacks to tune against.

    Args:
        suite: The suite to evaluate on.
        given: The attacks that the user names; None or empty for two of `CANDIDATES`.

    Raises:
        InvalidParameter: An attack is in the suite, with whatever parameters.

    Example:
        >>> tuning_attacks(SweepGrid(attack=["ipm", "alie(z=1)"]))
        ['sign_flip', 'large_noise']
    """
    suite_attacks = {parse_spec(attack).name for attack in suite.attack}
    attacks = list(given or [attack for attack in CANDIDATES if parse_spec(attack).name not in suite_attacks][:2])
    if shared := sorted({parse_spec(attack).name for attack in attacks} & suite_attacks):
        raise InvalidParameter(f"--attacks must not be in the suite, which has {', '.join(shared)}")
    return attacks


def tuning_problems(suite: SweepGrid, attacks: Sequence[str], seeds: int = 3) -> list[TuningProblem]:
    """Return the tuning problem of each task of a suite, with the first value of each other axis.

    Args:
        suite: The suite.
        attacks: The attacks to tune against.
        seeds: The number of seeds of a trial for each attack.
    """
    first = {axis: values[0] for axis, values in suite.axes().items() if axis != "attack"}
    fixed = {kind: values for kind, values in suite.parameters.items() if kind_of(kind) != "attack"}
    return [tuning_problem("algorithm", {**first, "env": env}, attacks, seeds=seeds, fixed=fixed) for env in suite.env]


def evaluation_plan(suite: SweepGrid, files: Sequence[Path]) -> SweepPlan:
    """Plan the cells of a suite with the default and with the tuned parameters.

    Args:
        suite: The suite.
        files: The file of tuned parameters of each task.
    """
    default_plan = plan_sweep(suite)
    cells = {f"default · {label}": cell for label, cell in default_plan.cells.items()}
    for env, file in zip(suite.env, files, strict=True):
        tuned_plan = plan_sweep(suite.model_copy(update={"env": [env], "tuned": [str(file)]}))
        # Tuned and default cells are equal where tuning found nothing better.
        known = {cell.hash for cell in cells.values()}
        cells |= {f"tuned · {label}": cell for label, cell in tuned_plan.cells.items() if cell.hash not in known}
    return SweepPlan(f"evaluate-{suite.name}", cells, default_plan.undefined)
