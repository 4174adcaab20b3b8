"""The trace of a run: one line for each round with the numbers that identify its behaviour, in a fixed format.

Leaderboard rows hold the sha256 of a trace, and golden traces decide when a version number is raised, so that
`metrics.jsonl` may gain columns at any time. A line has six keys, in this order:

    index         the number of the line, from 0
    time          virtual time: in seconds where the schedule has a clock, else the number of the round
    trajectories  the largest number of episodes that an honest agent or the server has sampled
    steps         the environment steps of all agents and the server
    return        the mean undiscounted return of the honest agents in the last batch of the round, or null
    state         the sha256 of the state tensors of all honest agents
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def trace_line(
    index: int, time: float, metrics: Mapping[str, Any], state: Mapping[str, Tensor], honest: Tensor
) -> dict[str, Any]:
    """Return the line of a round, or of as many rounds of asynchronous honest agents as there are honest agents.

    Args:
        index: The number of the line.
        time: The virtual time.
        metrics: The metrics of the round.
        state: The algorithm's state after the round, tensors [K, ...] or of a server.
        honest: The honest agents, bool [K].
    """
    numbers = {name: metrics[name] for name in ("trajectories", "steps", "return")}
    return {"index": index, "time": time, **numbers, "state": state_digest(state, honest)}


def state_digest(state: Mapping[str, Tensor], honest: Tensor) -> str:
    """Return the sha256 over names, types, shapes and bytes of a state, sorted by name.

    Args:
        state: The tensors. Of a tensor whose first dimension is K, only the rows of honest agents are included.
        honest: The honest agents, bool [K].

    Example:
        >>> state_digest({"theta": torch.zeros(2, 3)}, torch.tensor([True, False]))[:16]
        'd8149f28f06a4619'
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.ndim and len(tensor) == len(honest):
            tensor = tensor[honest]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
