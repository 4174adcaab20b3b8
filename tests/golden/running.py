"""Tiny runs: an experiment from its stored description, and its outputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from byzbench.canonical import canonical, to_current
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep, one_thread
from tests.golden.summaries import summary

FIRST = ("steps", "return", "gradient_norm")
"""Metrics of the first round, which is not yet chaotic: they are compared with a tolerance on other processors."""

MAX_ROUNDS = 12
"""The most rounds of a run."""

CHAOTIC = 200
"""Steps of an agent from which on the first round is chaotic too, so that nothing of it is compared."""


def described(experiment: Experiment) -> dict[str, Any]:
    """Return the fully resolved description of an experiment as it would first have been written."""
    return json.loads(json.dumps(canonical(experiment.describe())))


def described_inputs(options: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the inputs of a case whose experiment has these options of `Experiment.create`, and further inputs."""
    return {"experiment": described(Experiment.create(**options)), **more}


def experiment_of(description: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a canonical description."""
    return _experiment(json.dumps(description))


@lru_cache(maxsize=4)
def _experiment(text: str) -> Experiment:
    return Experiment.from_description(to_current(json.loads(text), 1))


def trace(experiment: Experiment, also: Sequence[str]) -> dict[str, Any]:
    """Run an experiment to the end of its budget.

    Args:
        experiment: what is run.
        also: `evaluation` of the policies at the end; `diagnostics`, what the placement leaves of guarantees.

    Returns:
        A short digest of each round's line of trace, numbers of the first round, and the last line of metrics.
    """
    training = Training(experiment)
    lines, rounds = [], []
    with one_thread():
        while not training.is_finished and training.round < MAX_ROUNDS:
            lines.append(lockstep(training.advance()))
            rounds.append(hashlib.sha256(json.dumps(training.trace(lines[-1])).encode()).hexdigest()[:8])
        results = {
            "rounds": rounds,
            "first": _first(lines[0], experiment.agents),
            "last": {name: summary(value) for name, value in lines[-1].items() if value is not None},
        }
        if "evaluation" in also:
            results["evaluation"] = summary(training.evaluate(1))
    if "diagnostics" in also:
        results["diagnostics"] = summary(experiment.diagnostics)
    return results


def _first(metrics: Mapping[str, Any], agents: int) -> dict[str, float]:
    """Return numbers of the first round, rounded."""
    if metrics["steps"] > CHAOTIC * agents:
        return {}
    return {name: float(f"{value:.5g}") for name in FIRST if (value := metrics.get(name)) is not None}
