"""The influence of a set of agents in several rounds of gossip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

HORIZON = 30
"""Number of rounds of gossip by default, as in the source."""


def walks(w: Tensor, horizon: int = HORIZON) -> Tensor:
    """Return W + W^2 + ... + W^T for W [n, n], by doubling: S_2m = S_m + W^m S_m.

    Example:
        >>> import torch
        >>> walks(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), horizon=3)
        tensor([[1.5000, 1.5000],
                [1.5000, 1.5000]])
    """
    return _walks(w, horizon)[0]


def _walks(w: Tensor, horizon: int) -> tuple[Tensor, Tensor]:
    """Return W + ... + W^T and W^T."""
    if horizon == 1:
        return w, w
    total, power = _walks(w, horizon // 2)
    total, power = total + power @ total, power @ power
    if horizon % 2:
        power = power @ w
        total = total + power
    return total, power


def influence(weights: Tensor, senders: Tensor, byzantine: Tensor, horizon: int = HORIZON) -> float:
    """Return Phi_T(W, A) = (1/|H|) 1_H' (W + ... + W^T) 1_A, the Byzantine weight in T rounds of gossip.

    A are the Byzantine agents and H the honest ones; the weight is the mean over the honest agents. The value is zero
    where A or H is empty, and at most T, which it reaches where honest agents receive from Byzantine agents only.

    Source: Gabrielli, Tolomei, the Byzantine placement influence (BPI).

    Args:
        weights: float64 [K, n], of gossip.
        senders: int64 [K, n], the agents that each agent receives from.
        byzantine: bool [K].
        horizon: T.
    """
    byzantine_weight, total = byzantine.double(), 0.0
    if byzantine.all() or not byzantine.any():
        return 0.0
    for _ in range(horizon):
        byzantine_weight = (weights * byzantine_weight[senders]).sum(1)
        total += float(byzantine_weight[~byzantine].mean())
    return total


def with_one_more(total: Tensor, chosen: Sequence[int]) -> np.ndarray:
    """Return Phi of the `chosen` and one more agent, for each such agent: float64 [n], -inf for the chosen themselves.

    Args:
        total: [n, n] from `walks`.
        chosen: fewer than n - 1 agents.
    """
    s, a = total.numpy(), list(chosen)
    honest = np.ones(len(s), dtype=bool)
    honest[a] = False
    of_chosen = s[:, a].sum(1)  # weight of the chosen at each agent
    of_candidate = s[honest].sum(0) - s.diagonal()  # weight of each candidate at the other honest agents
    value = (of_chosen[honest].sum() - of_chosen + of_candidate) / (honest.sum() - 1)
    return np.where(honest, value, -np.inf)
