"""The trace of a run: one line a round that says what its behaviour was, in a form that never changes.

Leaderboard rows hold the sha256 of a trace, and golden traces decide when a version rises, so that `metrics.jsonl` may
gain columns for ever. A line has six keys, in this order:

    index         the line's number, from 0
    time          virtual time; the round, where agents are synchronous
    trajectories  episodes of the honest agent, or the server, that has sampled most of them
    steps         of all agents, and of a server
    return        mean undiscounted return of the honest agents in the round's last batch, or null
    state         sha256 over the state tensors of all honest agents
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def trace_line(index: int, metrics: Mapping[str, Any], state: Mapping[str, Tensor], honest: Tensor) -> dict[str, Any]:
    """Return the line of a round.

    Args:
        index: of the round.
        metrics: its line of metrics.
        state: the algorithm's state after it, tensors [K, ...] or of a server.
        honest: bool [K].
    """
    numbers = {name: metrics[name] for name in ("trajectories", "steps", "return")}
    return {"index": index, "time": index, **numbers, "state": state_digest(state, honest)}


def state_digest(state: Mapping[str, Tensor], honest: Tensor) -> str:
    """Return the sha256 over names, types, shapes and bytes of a state, sorted by name.

    Args:
        state: tensors; of those whose first dimension counts agents, the rows of honest agents enter.
        honest: bool [K].
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.ndim and len(tensor) == len(honest):
            tensor = tensor[honest]
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
