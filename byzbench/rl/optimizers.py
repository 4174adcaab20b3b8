"""Gradient ascent steps, as pure functions of a flat state with one row an agent."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

StepSchedule = Literal["constant", "linear", "inverse_sqrt"]


def learning_rate(base: float, schedule: StepSchedule, round: int, progress: float) -> float:
    """Return the step size of a round: `base`, base (1 - progress), or base / sqrt(round + 1).

    Args:
        base: The step size of the first round.
        schedule: The schedule: `constant`, `linear` or `inverse_sqrt`, in the order of the formulas.
        round: The number of the round, from 0.
        progress: The share of the trajectory budget that is spent, from 0 to 1.

    Returns:
        The step size.

    Example:
        >>> learning_rate(0.1, "linear", round=7, progress=0.75)
        0.025
    """
    if schedule == "linear":
        return base * max(0.0, 1.0 - progress)
    return base / math.sqrt(round + 1) if schedule == "inverse_sqrt" else base


def adam_start(theta: Tensor) -> dict[str, Tensor]:
    """Return the state of `adam` before its first step, for theta [K, d]."""
    return {"m": torch.zeros_like(theta), "v": torch.zeros_like(theta), "t": theta.new_zeros(len(theta), 1)}


def adam(theta: Tensor, direction: Tensor, state: dict[str, Tensor], lr: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Take one ascent step of Adam with its usual constants (0.9, 0.999, 1e-8).

    Args:
        theta: The parameters, [K, d].
        direction: The ascent directions, [K, d].
        state: The moments m and v [K, d], and the number t of steps [K, 1].
        lr: The step size.

    Returns:
        The new parameters and the new state.

    Source: Kingma and Ba, arXiv 1412.6980, algorithm 1, with the sign of ascent.

    Example:
        >>> theta = torch.zeros(1, 2)
        >>> theta, state = adam(theta, torch.tensor([[3.0, -0.5]]), adam_start(theta), lr=0.1)
        >>> theta
        tensor([[ 0.1000, -0.1000]])
    """
    t = state["t"] + 1
    m = state["m"].lerp(direction, 0.1)
    v = state["v"].mul(0.999).addcmul(direction, direction, value=0.001)
    step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return theta + lr * step, {"m": m, "v": v, "t": t}
