"""Tiny runs: an experiment from its stored description, and what is compared of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from byzbench.canonical import canonical, modern
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread
from tests.golden.summaries import summary

FIRST = ("steps", "return", "gradient_norm", "disagreement", "aggregate_error")
"""What is kept of the first round, which is not yet chaotic: it is compared with a tolerance on other processors."""

LONGEST = 12
"""The most rounds of a run."""


def described(experiment: Experiment) -> dict[str, Any]:
    """Return the fully resolved description of an experiment as it would first have been written."""
    return json.loads(json.dumps(canonical(experiment.describe())))


def experiment_of(description: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a canonical description."""
    return Experiment.from_description(modern(description, 1))


def trace(experiment: Experiment, evaluate: bool) -> dict[str, Any]:
    """Run an experiment to the end of its budget.

    Args:
        experiment: what is run.
        evaluate: whether the policies are evaluated at the end.

    Returns:
        A short digest of each round's line of trace, numbers of the first round, the last line of metrics, the
        evaluation, and what the graph and the placement leave of guarantees.
    """
    training = Training(experiment)
    lines, rounds = [], []
    with one_thread():
        while not training.over and training.round < LONGEST:
            lines.append(lockstep(training.advance()))
            rounds.append(hashlib.sha256(json.dumps(training.trace(lines[-1])).encode()).hexdigest()[:8])
        evaluation = training.evaluate(1) if evaluate else {}
    return {
        "rounds": rounds,
        "first": {name: summary(lines[0][name]) for name in FIRST if name in lines[0]},
        "last": summary(lines[-1]),
        "evaluation": summary(evaluation),
        "diagnostics": summary(experiment.diagnostics),
    }
