"""Benchmarks of aggregation rules under attacks on random vectors, without training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch

from byzbench import registry
from byzbench.core import Aggregator, RuleContext, State
from byzbench.errors import InvalidParameter, UserError
from byzbench.experiments.diagnostics import diagnose
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.threads import one_thread

ATTACKS = ("none", "alie:z=1.5", "ipm", "sign_flip", "min_max", "large_noise")

REPEATS = 20
"""The number of calls of which the time is the median."""


@dataclass(frozen=True)
class Trial:
    """A distribution of vectors that n agents draw independently in every round.

    Attributes:
        agents: The number n of agents, on the complete graph.
        byzantine: The number f of Byzantine agents.
        dimension: The dimension d of the vectors.
        signal: The norm of the mean of the honest vectors, in units of their spread.
        rounds: The number of rounds; rules and attacks keep their state between rounds.
        seed: The seed of all random numbers.

    Example:
        >>> Trial(agents=4, byzantine=1, dimension=5).vectors(0).shape
        torch.Size([4, 5])
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
        """Draw the clean vectors of one round: float32 [n, d], of spread 1 around a mean that all rounds share."""
        mean_rng, noise_rng = np.random.default_rng(self.seed), np.random.default_rng([self.seed, round])
        mean = mean_rng.standard_normal(self.dimension)
        noise = noise_rng.standard_normal((self.agents, self.dimension))
        mean *= self.signal / np.linalg.norm(mean)
        return torch.from_numpy(mean + noise / np.sqrt(self.dimension)).float()


@dataclass(frozen=True)
class RuleBenchmark:
    """The measurements of one rule.

    Attributes:
        rule: The rule as the user wrote it.
        errors: The error by attack: ||value - honest mean|| over the honest spread, the mean over rounds and honest
            receivers.
        milliseconds: The median time of one call on the vectors of one receiver, with one thread.
        guarantee: Whether the rule's theorem covers (n, f).
        kappa: The rule's robustness coefficient, see `Aggregator.kappa`.
        why: The reason why the rule cannot be measured, or empty; with a reason there are no numbers.
    """

    rule: str
    errors: dict[str, float] = field(default_factory=dict)
    milliseconds: float | None = None
    guarantee: bool = False
    kappa: float | None = None
    why: str = ""

    @property
    def worst(self) -> float:
        """Return the largest error over attacks, where NaN counts as infinity."""
        values = list(self.errors.values())
        return max((v if v == v else float("inf") for v in values), default=float("inf"))


def benchmark_rules(
    rules: Sequence[str] | None = None,
    attacks: Sequence[str] = ATTACKS,
    trial: Trial | None = None,
    callback: Callable[[RuleBenchmark], None] | None = None,
) -> list[RuleBenchmark]:
    """Measure rules under attacks.

    Args:
        rules: The aggregators as written by the user; None: all registered ones.
        attacks: The attacks as written by the user.
        trial: The distribution of the vectors; None: `Trial()`.
        callback: A function that is called with every outcome.

    Returns:
        The outcomes, sorted by their largest error; rules that cannot be measured come last.

    Raises:
        UserError: A name, a parameter or an attack is invalid. A rule that cannot be measured is no error.
    """
    trial = trial or Trial()
    for attack in attacks:
        _experiment("mean", attack, trial)
    outcomes = []
    with one_thread():
        for name in rules or registry.origins("aggregator"):
            outcome = _outcome(name, attacks, trial)
            outcomes.append(outcome)
            if callback:
                callback(outcome)
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


def _outcome(name: str, attacks: Sequence[str], trial: Trial) -> RuleBenchmark:
    rule = registry.make("aggregator", name)
    assert isinstance(rule, Aggregator)
    try:
        errors = {attack: _error(_experiment(name, attack, trial), trial) for attack in attacks}
    except UserError as error:
        return RuleBenchmark(name, why=str(error))
    n, f = trial.agents, trial.byzantine
    guarantee = bool(rule.guarantee(n, f))
    return RuleBenchmark(name, errors, _milliseconds(rule, trial), guarantee, rule.kappa(n, f) if guarantee else None)


def _error(experiment: Experiment, trial: Trial) -> float:
    """Return the mean over rounds of the error in units of the honest spread, over all honest receivers."""
    federation, _ = federate(experiment)
    errors: list[float] = []
    state: State = {}
    for round in range(trial.rounds):
        federation.begin(round, round / trial.rounds)
        inbox = lockstep(federation.exchange("gradient", trial.vectors(round)))
        _, state = federation.aggregate(inbox, state)
        assert federation.statistics.aggregation is not None
        diagnostics = diagnose(federation.statistics.aggregation, experiment.members.byzantine)
        error, spread = diagnostics.get("error"), diagnostics.get("spread")
        errors.append(float("nan") if error is None or not spread else error / spread)
    return float(np.mean(errors))


def _milliseconds(rule: Aggregator, trial: Trial) -> float:
    x, n = trial.vectors(0), trial.agents
    own, honest, f = torch.tensor(n - 1), torch.arange(n) >= trial.byzantine, torch.tensor(trial.byzantine)
    seconds = []
    for _ in range(1 + REPEATS):
        context = RuleContext(own=own, rng=np.random.default_rng(0), honest=honest)
        start = time.perf_counter()
        rule.aggregate(x, f, context)
        seconds.append(time.perf_counter() - start)
    return 1e3 * median(seconds[1:])
