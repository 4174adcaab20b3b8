"""How far one exchange of an agreement brings honest agents together: against attacks, and a search for words."""

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
    """The attacks of the zoo that tell neighbours different things about parameters, as components are written."""
    found = []
    for name in registry.origins("attack"):
        attack = registry.build("attack", name)
        assert isinstance(attack, Attack)
        if attack.threat.equivocates and attack.speaks("parameters"):
            found.append(name)
    return [*found, *(f"split_brain({name})" for name in INNER)]


def contracted(agreement: str, attack: str, agents: int, byzantine: int, seed: int, d: int = 20) -> float | None:
    """What one exchange leaves of the honest spread of random vectors [K, d], in the agreement's own measure."""
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
    """The most that hostile words are found to leave of the honest diameter after one use of a rule.

    Honest vectors lie on a line, where liars pull two receivers apart: n - f places and f words for each of the two are
    drawn, the best of `tries` is varied at random, and its ratio is a lower bound of the worst there is.
    """

    def ratios(points: Tensor) -> Tensor:
        honest, words = points[:, : n - f], points[:, n - f :].reshape(-1, 2, f)
        heard = torch.cat([honest.unsqueeze(1).expand(-1, 2, -1), words], 2).unsqueeze(-1)
        out = rule(heard, f)[0].squeeze(-1)
        wide = honest.amax(1) - honest.amin(1)
        return torch.where(wide > 1e-6, (out[:, 0] - out[:, 1]).abs() / wide, 0.0)

    points = torch.from_numpy(rng.uniform(-1, 1, (tries, n + f)))
    # Worst cases sit where distances tie: most places at an end.
    ends = torch.from_numpy(rng.random((tries, n + f)) < 0.5)
    points = torch.where(ends, points.sign(), points)
    points[:, n - f :] *= torch.from_numpy(rng.choice([1.0, 1.5, 2.0], (tries, 2 * f)))
    found = ratios(points)
    best, value = points[found.argmax()], float(found.max())
    for width in np.geomspace(0.5, 1e-3, 20):
        near = best + torch.from_numpy(rng.normal(0, width, (tries // 4, n + f)))
        found = ratios(near)
        if float(found.max()) > value:
            best, value = near[found.argmax()], float(found.max())
    return value
