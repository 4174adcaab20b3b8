"""How far what some agents say travels by gossip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

HORIZON = 30
"""Rounds of gossip that are looked at by default, as in the source."""


def walks(w: Tensor, horizon: int = HORIZON) -> Tensor:
    """W + W^2 + ... + W^T for W [n, n], by doubling: S_2m = S_m + W^m S_m."""
    return _walks(w, horizon)[0]


def _walks(w: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    if horizon == 1:
        return w, w
    total, power = _walks(w, horizon // 2)
    total, power = total + power @ total, power @ power
    if horizon % 2:
        power = power @ w
        total = total + power
    return total, power


def influence(weights: Tensor, senders: Tensor, byzantine: Tensor, horizon: int = HORIZON) -> float:
    """Phi_T(W, A) = (1/|H|) 1_H' (W + ... + W^T) 1_A, the weight of liars in T rounds of an honest agent's gossip.

    With A the Byzantine agents and H the honest ones; 0 where one of both is empty. At most T, which it reaches where
    honest agents hear nobody else.

    Source: Gabrielli, Tolomei, the Byzantine placement influence (BPI).

    Args:
        weights: float64 [K, n], of gossip.
        senders: int64 [K, n], whom each agent hears.
        byzantine: bool [K].
        horizon: T.
    """
    reached, total = byzantine.double(), 0.0
    if byzantine.all() or not byzantine.any():
        return 0.0
    for _ in range(horizon):
        reached = (weights * reached[senders]).sum(1)
        total += float(reached[~byzantine].mean())
    return total


def with_one_more(total: Tensor, chosen: Sequence[int]) -> np.ndarray:
    """Phi of the `chosen` and one more agent, for each such agent: float64 [n], -inf for the chosen themselves.

    Args:
        total: [n, n] from `walks`.
        chosen: fewer than n - 1 agents.
    """
    s, a = total.numpy(), list(chosen)
    honest = np.ones(len(s), dtype=bool)
    honest[a] = False
    theirs = s[:, a].sum(1)  # of the chosen, at each agent
    own = s[honest].sum(0) - s.diagonal()  # of each candidate, at the other honest agents
    value = (theirs[honest].sum() - theirs + own) / (honest.sum() - 1)
    return np.where(honest, value, -np.inf)
