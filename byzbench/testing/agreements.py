"""Measured contraction of agreements: under given attacks, and under a random search for Byzantine messages."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from byzbench import registry
from byzbench.contracts import Aggregator, Attack
from byzbench.experiments.diagnostics import contraction
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep

INNER = (
    "alie(z=1.5, on=parameters)",
    "ipm(on=parameters)",
    "min_max(on=parameters)",
    "fixed_bias(on=parameters)",
    "sign_flip(on=parameters)",
)


def equivocating() -> list[str]:
    """Return the equivocating attacks on parameters, as strings that build components."""
    names = []
    for name in registry.origins("attack"):
        attack = registry.build("attack", name)
        assert isinstance(attack, Attack)
        if attack.threat.equivocates and attack.speaks("parameters"):
            names.append(name)
    return [*names, *(f"split_brain({name})" for name in INNER)]


def contracted(agreement: str, attack: str, agents: int, byzantine: int, seed: int, d: int = 20) -> float | None:
    """Measure the contraction of the honest vectors by one exchange of an agreement on random vectors [K, d].

    Args:
        agreement: the agreement, as a string that builds a component.
        attack: the attack, as a string that builds a component.
        agents: K, the number of agents.
        byzantine: f, the number of Byzantine agents.
        seed: the seed of the experiment and of the vectors.
        d: the dimension of the vectors.

    Returns:
        The measure of the agreement (diameter or bounding box) after the exchange, divided by that before it.
    """
    todo = Experiment.create(
        attack=attack,
        agreement=agreement,
        agents=agents,
        byzantine=byzantine,
        seed=seed,
        parameters={"agreement": {"cap": 1}},
    )
    federation, _ = federate(todo)
    federation.begin(0, 0.0)
    rng = np.random.default_rng(seed)
    theta = torch.from_numpy(rng.standard_normal((agents, d)).astype(np.float32))
    lockstep(federation.agree(theta, {}))
    assert federation.ledger.agreed is not None
    return contraction(federation.ledger.agreed, todo.members.byzantine, todo.agreement.measure)


def worst_found(rule: Aggregator, n: int, f: int, rng: np.random.Generator, tries: int = 2000) -> float:
    """Search for Byzantine messages that maximise the ratio of the honest diameters after and before one use of a rule.

    Honest vectors are points on a line, and Byzantine agents send different messages to two receivers. The search draws
    n - f points and f messages for each of the two receivers, then varies the best of `tries` candidates at random.

    Args:
        rule: the aggregation rule.
        n: the number of vectors in an inbox.
        f: the number of Byzantine vectors among them.
        rng: the generator of the search.
        tries: the number of candidates that are drawn.

    Returns:
        The largest ratio of the search, which is a lower bound of the worst case.
    """

    def ratios(points: Tensor) -> Tensor:
        """Return the ratio for each candidate [n + f]."""
        honest, messages = points[:, : n - f], points[:, n - f :].reshape(-1, 2, f)
        inboxes = torch.cat([honest.unsqueeze(1).expand(-1, 2, -1), messages], 2).unsqueeze(-1)
        values = rule(inboxes, f)[0].squeeze(-1)
        diameter = honest.amax(1) - honest.amin(1)
        return torch.where(diameter > 1e-6, (values[:, 0] - values[:, 1]).abs() / diameter, 0.0)

    points = torch.from_numpy(rng.uniform(-1, 1, (tries, n + f)))
    # Worst cases have ties between distances, so half of the points are moved to the ends of the interval.
    at_end = torch.from_numpy(rng.random((tries, n + f)) < 0.5)
    points = torch.where(at_end, points.sign(), points)
    points[:, n - f :] *= torch.from_numpy(rng.choice([1.0, 1.5, 2.0], (tries, 2 * f)))
    candidate_ratios = ratios(points)
    best, value = points[candidate_ratios.argmax()], float(candidate_ratios.max())
    for scale in np.geomspace(0.5, 1e-3, 20):
        variations = best + torch.from_numpy(rng.normal(0, scale, (tries // 4, n + f)))
        candidate_ratios = ratios(variations)
        if float(candidate_ratios.max()) > value:
            best, value = variations[candidate_ratios.argmax()], float(candidate_ratios.max())
    return value
