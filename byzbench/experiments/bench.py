"""Rules against attacks on random vectors: what tells one rule from another before anything is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch

from byzbench import registry
from byzbench.contracts import Aggregator, State
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.diagnostics import diagnose
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep, one_thread

ATTACKS = ("none", "alie:z=1.5", "ipm", "sign_flip", "min_max", "large_noise")

REPEATS = 20
"""Calls that a time is the median of."""


@dataclass(frozen=True)
class Trial:
    """What n agents draw, each for itself, round after round.

    Attributes:
        agents: n, on the complete graph.
        byzantine: f.
        dimension: d.
        signal: the length of the mean of what honest agents draw, in units of their spread.
        rounds: how many times; rules and attacks that remember do so.
        seed: of everything drawn.
    """

    agents: int = 13
    byzantine: int = 3
    dimension: int = 386
    signal: float = 1.0
    rounds: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimension", "rounds"):
            if getattr(self, name) < 1:
                raise InvalidParameter(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.signal >= 0:
            raise InvalidParameter(f"signal must not be negative, got {self.signal}")

    def vectors(self, round: int) -> torch.Tensor:
        """The clean vectors of one round: float32 [n, d], of spread 1 around a mean that all rounds share."""
        shared, own = np.random.default_rng(self.seed), np.random.default_rng([self.seed, round])
        mean = shared.standard_normal(self.dimension)
        noise = own.standard_normal((self.agents, self.dimension))
        mean *= self.signal / np.linalg.norm(mean)
        return torch.from_numpy(mean + noise / np.sqrt(self.dimension)).float()


@dataclass(frozen=True)
class Outcome:
    """How one rule did.

    Attributes:
        rule: as it was written.
        errors: by attack, ||value - honest mean|| over the honest spread, the mean over rounds and honest receivers.
        milliseconds: of one call on the vectors of one receiver, one thread, the median.
        guarantee: whether the rule's theorem covers (n, f).
        kappa: see `Aggregator.kappa`.
        why: what speaks against trying it, if anything does; then there are no numbers.
    """

    rule: str
    errors: dict[str, float] = field(default_factory=dict)
    milliseconds: float | None = None
    guarantee: bool = False
    kappa: float | None = None
    why: str = ""

    @property
    def worst(self) -> float:
        """The largest error over attacks; NaN is worse than anything."""
        values = list(self.errors.values())
        return max((v if v == v else float("inf") for v in values), default=float("inf"))


def bench(
    rules: Sequence[str] | None = None,
    attacks: Sequence[str] = ATTACKS,
    trial: Trial | None = None,
    watch: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Try every rule (default: all there are) under every attack; least worst error first.

    Raises:
        UserError: a name, a parameter or an attack that cannot be. A rule that cannot be tried is an outcome.
    """
    given = trial or Trial()
    for attack in attacks:
        _experiment("mean", attack, given)
    outcomes = []
    with one_thread():
        for name in rules or registry.origins("aggregator"):
            outcome = _outcome(name, attacks, given)
            outcomes.append(outcome)
            if watch:
                watch(outcome)
    return sorted(outcomes, key=lambda outcome: (bool(outcome.why), outcome.worst))


def _experiment(rule: str, attack: str, trial: Trial) -> Experiment:
    return Experiment.create(
        "dec_page_pg",
        attack,
        "complete",
        aggregator=rule,
        agents=trial.agents,
        byzantine=trial.byzantine,
        seed=trial.seed,
    )


def _outcome(name: str, attacks: Sequence[str], trial: Trial) -> Outcome:
    built = registry.build("aggregator", name)
    assert isinstance(built, Aggregator)
    try:
        errors = {attack: _error(_experiment(name, attack, trial), trial) for attack in attacks}
    except UserError as error:
        return Outcome(name, why=str(error))
    n, f = trial.agents, trial.byzantine
    guarantee = bool(built.guarantee(n, f))
    return Outcome(name, errors, _milliseconds(built, trial), guarantee, built.kappa(n, f) if guarantee else None)


def _error(experiment: Experiment, trial: Trial) -> float:
    """The mean over rounds of the error relative to the spread, all honest receivers together."""
    federation, _ = federate(experiment)
    found: list[float] = []
    state: State = {}
    for round in range(trial.rounds):
        federation.begin(round, round / trial.rounds)
        inbox = lockstep(federation.exchange("gradient", trial.vectors(round)))
        _, state = federation.aggregate(inbox, state)
        assert federation.ledger.aggregation is not None
        seen = diagnose(federation.ledger.aggregation, experiment.members.byzantine)
        error, spread = seen.get("error"), seen.get("spread")
        found.append(float("nan") if error is None or not spread else error / spread)
    return float(np.mean(found))


def _milliseconds(rule: Aggregator, trial: Trial) -> float:
    x, n = trial.vectors(0), trial.agents
    given: dict[str, Any] = {"own": torch.tensor(n - 1), "honest": torch.arange(n) >= trial.byzantine}
    spent = []
    for _ in range(1 + REPEATS):
        rng = np.random.default_rng(0)
        start = time.perf_counter()
        rule(x, trial.byzantine, rng=rng, **given)
        spent.append(time.perf_counter() - start)
    return 1e3 * median(spent[1:])
