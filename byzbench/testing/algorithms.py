"""Conformance tests of algorithms: one function for each property.

    for check in CHECKS:
        check(algorithm, AlgorithmCase(seed=0))

A check raises `AssertionError` with one line that describes the failure. Every check runs a few rounds of a small
experiment on the task `cartpole`, or on one with exact gradients, with the algorithm's default topology, aggregator and
agreement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any, TypeAlias

import safetensors.torch
import torch
from torch import Tensor

from byzbench.core import Algorithm, Communication, State
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.federation import SERVER
from byzbench.testing.rows import Trace, run_as_block, run_by_rows

SMALL = {"N": 6, "B": 3}
"""The largest values of parameters that set the number of episodes, so that checks take seconds."""
EXACT_BATCH = 200
"""The number of episodes of each agent from which first estimates are compared with exact gradients."""
MAX_Z = 5.0
"""The largest deviation of a mean from its expectation, in standard errors."""


@dataclass(frozen=True)
class AlgorithmCase:
    """Input of a check: an experiment of five agents, one of which is Byzantine.

    An algorithm of a single agent runs with one, which is honest.

    Attributes:
        attack: The attack.
        topology: The communication graph; by default the algorithm's.
        seed: The seed.
        rounds: The number of rounds.
    """

    attack: str = "none"
    topology: str | None = None
    seed: int = 1
    rounds: int = 3

    def experiment(self, algorithm: Algorithm) -> Experiment:
        """Return the experiment with an algorithm, whose batches are made small."""
        values = {f.name: getattr(algorithm, f.name) for f in fields(algorithm) if f.name in SMALL}
        small = {k: SMALL[k] for k, v in values.items() if isinstance(v, int) and v > SMALL[k]}
        alone = algorithm.communication == Communication.SINGLE_AGENT
        return Experiment.create(
            replace(algorithm, **small),
            self.attack,
            self.topology,
            agents=1 if alone else 5,
            byzantine=0 if alone else 1,
            trajectories=60,
            seed=self.seed,
        )


Check: TypeAlias = Callable[[Algorithm, AlgorithmCase], None]
CASES = (
    AlgorithmCase(),
    AlgorithmCase("sign_flip(on=both)", seed=2),
    AlgorithmCase("large_noise(on=both)", seed=3),
)


def run_rounds(
    experiment: Experiment, rounds: int, state: State | None = None, counters: Mapping[str, Any] | None = None
) -> tuple[list[State], list[Any], dict[str, Any]]:
    """Run rounds of an experiment, from the start or from a saved state.

    Args:
        experiment: The experiment.
        rounds: The number of rounds.
        state: The state to resume from; by default the initial one.
        counters: The last return value of the call that returned the state.

    Returns:
        The state before each round and after the last, the metrics of each round, and the counters of the federation.
    """
    federation, adversary = federate(experiment)
    totals, honest, first = federation.counters, ~experiment.members.byzantine, 0
    states = [experiment.algorithm.start(federation) if state is None else state]
    metrics: list[Any] = []
    _check_state("start", states[0], experiment)
    if counters is not None:
        first = counters["round"]
        adversary.load_state_dict(counters["memory"])
        totals.load_state_dict({name: value.clone() for name, value in counters["statistics"].items()})
    for round in range(first, first + rounds):
        federation.begin(round, totals.trajectories_spent(honest) / experiment.trajectories)
        output = lockstep(experiment.algorithm.round(federation, states[-1]))
        valid = isinstance(output, tuple) and len(output) == 2
        assert valid, f"round returned a {type(output).__name__}, expected (state, metrics)"
        _check_state("round", output[0], experiment)
        states.append(output[0])
        metrics.append(output[1])
    counted = {name: value.clone() for name, value in totals.state_dict().items()}
    return states, metrics, {"statistics": counted, "round": first + rounds, "memory": adversary.state_dict()}


def _check_state(method: str, state: Any, experiment: Experiment) -> None:
    """Check that a state is a flat dict of tensors with a row for each agent, and contains theta [K, d].

    The state of a server that handles messages by itself has one row.
    """
    assert isinstance(state, dict), f"{method} returned a {type(state).__name__} as the state, not a dict"
    for name, value in state.items():
        assert isinstance(name, str), f"{method} returned a state with the key {name!r}"
        assert isinstance(value, Tensor), f"{method}: the state's {name!r} is a {type(value).__name__}, no tensor"
        rows = value.shape[:1] == (1 if name.startswith(SERVER) else experiment.agents,)
        assert rows, f"{method}: the state's {name!r} has shape {list(value.shape)}, not a row for each agent"
    assert "theta" in state, f"{method} returned a state without theta"
    assert state["theta"].ndim == 2, f"{method} returned theta of shape {list(state['theta'].shape)}, expected [K, d]"


def compare_rows(experiment: Experiment, rounds: int = 5) -> Trace:
    """Check that K rows as one block give the same bytes as K blocks of one row, and return the record of the block.

    States, metrics, returns and counters are compared.

    Args:
        experiment: The experiment.
        rounds: The number of rounds.

    Raises:
        AssertionError: They differ.
    """
    block, rows = run_as_block(experiment, rounds), run_by_rows(experiment, rounds)
    for round, (one, other) in enumerate(zip(block.states, rows.states, strict=True)):
        assert one.keys() == other.keys(), f"round {round}: a single row has another state"
        for name in one:
            same = torch.equal(one[name], other[name])
            assert same, f"round {round}: {name!r} of the state depends on the rows of other agents"
    assert block.metrics == rows.metrics, "metrics depend on the rows of other agents"
    for one_return, other_return in zip(block.returns, rows.returns, strict=True):
        assert torch.equal(one_return, other_return), "episodes depend on the rows of other agents"
    for name in ("trajectories", "steps", "server_samples"):
        same = torch.equal(getattr(block.counters, name), getattr(rows.counters, name))
        assert same, f"the counter {name!r} depends on the rows of other agents"
    for name in ("messages", "bytes", "num_malformed", "num_silent", "num_undefined"):
        same = getattr(block.counters, name) == getattr(rows.counters, name)
        assert same, f"the counter {name!r} depends on the rows of other agents"
    return block


def rounds_return_a_state_and_metrics(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that `start` and `round` return a flat dict of tensors with a row for each agent, and numbers as metrics.

    The state contains `theta` [K, d], which is finite without an attack and changes in some round.
    """
    experiment = case.experiment(algorithm)
    states, metrics, _ = run_rounds(experiment, case.rounds)
    theta0 = federate(experiment)[0].theta0
    for method, state in zip(["start", *["round"] * case.rounds], states, strict=True):
        shape, expected = list(state["theta"].shape), [experiment.agents, *states[0]["theta"].shape[1:]]
        assert shape == expected, f"{method} returned theta of shape {shape}, expected {expected}"
        if case.attack == "none":
            assert state["theta"].isfinite().all(), f"{method} returned a theta that is not finite"
    if type(algorithm).deployed_policy is Algorithm.deployed_policy:
        shape = list(states[0]["theta"].shape)
        assert shape == list(theta0.shape), f"start returned theta of shape {shape}, expected {list(theta0.shape)}"
    for entry in metrics:
        numbers = isinstance(entry, Mapping) and all(isinstance(value, Real) for value in entry.values())
        assert numbers, f"round returned {entry!r} as its metrics, not a dict of numbers"
    if case.attack == "none":
        assert not torch.equal(states[0]["theta"], states[-1]["theta"]), f"theta is the same after {case.rounds} rounds"


def old_state_is_not_modified(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that a round does not write into the state that it receives."""
    experiment = case.experiment(algorithm)
    federation, _ = federate(experiment)
    state = experiment.algorithm.start(federation)
    for round in range(case.rounds):
        federation.begin(round, 0.0)
        before = {name: value.clone() for name, value in state.items()}
        new_state, _ = lockstep(experiment.algorithm.round(federation, state))
        for name, value in before.items():
            same = name in state and torch.equal(value.nan_to_num(), state[name].nan_to_num())
            assert same, f"round modified {name!r} of the state that it received"
        state = new_state


def episodes_are_charged(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that every round samples episodes at an honest agent or at the server, so that a run ends."""
    experiment = case.experiment(algorithm)
    federation, _ = federate(experiment)
    state, honest, spent = experiment.algorithm.start(federation), ~experiment.members.byzantine, 0
    for round in range(case.rounds):
        federation.begin(round, 0.0)
        state, _ = lockstep(experiment.algorithm.round(federation, state))
        now = federation.counters.trajectories_spent(honest)
        assert now > spent, f"round {round} samples no episodes, so a run would not end"
        spent = now


def same_experiment_gives_same_states(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that two runs of the same experiment give the same bytes."""
    experiment = case.experiment(algorithm)
    first, second = (run_rounds(experiment, case.rounds)[0] for _ in range(2))
    for round, (one, other) in enumerate(zip(first, second, strict=True)):
        assert one.keys() == other.keys(), "two equal runs have states with other names"
        for name in one:
            same = torch.equal(one[name].nan_to_num(), other[name].nan_to_num())
            assert same, f"two equal runs differ in {name!r} after {round} rounds: it draws from another generator"


def state_is_all_that_it_remembers(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that a new copy, resumed from a saved state, continues as the original."""
    experiment = case.experiment(algorithm)
    fresh, copy = (replace(experiment, algorithm=deepcopy(experiment.algorithm)) for _ in range(2))
    states, *_ = run_rounds(experiment, case.rounds)
    first, _, counters = run_rounds(copy, 1)
    tensors = {name: value.contiguous() for name, value in first[-1].items()}
    saved = safetensors.torch.load(safetensors.torch.save(tensors))
    resumed = run_rounds(fresh, case.rounds - 1, saved, counters)[0][-1]
    for name, value in states[-1].items():
        same = name in resumed and torch.equal(value.nan_to_num(), resumed[name].nan_to_num())
        assert same, f"resumed from its state it continues differently in {name!r}: it has hidden state"


def rows_do_not_depend_on_other_rows(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check row-locality: an agent's row depends on its own row and on what the federation passes to it only."""
    compare_rows(case.experiment(algorithm), case.rounds)


def first_estimates(algorithm: Algorithm, agents: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the gradient estimates of honest agents in a first round on `riverswim`, and the exact gradient.

    The estimates are those that agents send to an aggregator, or where they send none, those along which they step.

    Args:
        algorithm: The algorithm.
        agents: The number of agents. A method of a single agent is run so many times, with other seeds.
        seed: The seed.

    Returns:
        The estimates [K, d], and the gradient [d], both float64.
    """
    small = {"N": EXACT_BATCH} if any(f.name == "N" for f in fields(algorithm)) else {}
    alone = algorithm.communication == Communication.SINGLE_AGENT
    rows = []
    for run in range(agents if alone else 1):
        experiment = Experiment.create(
            replace(algorithm, **small),
            env="riverswim",
            policy="tabular",
            agents=1 if alone else agents,
            byzantine=0,
            seed=seed + 1000 * run,
        )
        federation, _ = federate(experiment)
        # A policy of its own, as the first gradients of all actions are alike where all are equally likely.
        theta = torch.linspace(-1, 1, federation.policy.dimension).roll(5).expand_as(federation.theta0)
        federation.theta0 = theta.contiguous()
        federation.begin(0, 0.0)
        lockstep(experiment.algorithm.round(federation, experiment.algorithm.start(federation)))
        statistics = federation.finish()
        if statistics.aggregation is not None:
            rows.append(statistics.aggregation.inbox.base[: len(theta)])
        else:
            assert statistics.direction is not None, "it aggregates no gradients, and logs no direction (log_direction)"
            rows.append(statistics.direction[0])
    return torch.cat(rows).double(), experiment.task.exact(federation.policy, theta[:1]).gradients[0]


def first_estimates_are_unbiased(algorithm: Algorithm, case: AlgorithmCase) -> None:
    """Check that the first gradient estimates of an algorithm with the trait `unbiased` have the exact mean.

    The mean over 100 agents is compared along the exact gradient and in four other directions.
    """
    if not algorithm.unbiased:
        return
    estimates, gradient = first_estimates(algorithm, 100, case.seed)
    others = torch.randn(4, len(gradient), generator=torch.Generator().manual_seed(case.seed), dtype=torch.float64)
    errors = (estimates - gradient) @ torch.cat([gradient.unsqueeze(0), others]).mT
    z = float((errors.mean(0) / errors.std(0) * len(errors) ** 0.5).abs().max())
    assert z <= MAX_Z, f"it declares `unbiased`, and its first estimates are {z:.1f} standard errors off the gradient"


CHECKS: tuple[Check, ...] = (
    rounds_return_a_state_and_metrics,
    old_state_is_not_modified,
    episodes_are_charged,
    same_experiment_gives_same_states,
    state_is_all_that_it_remembers,
    rows_do_not_depend_on_other_rows,
    first_estimates_are_unbiased,
)
FORM: tuple[Check, ...] = (rounds_return_a_state_and_metrics,)
"""The checks of shapes and types, without which the others cannot run."""
