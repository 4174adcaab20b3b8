"""Recommended parameters by task, and their origin: the default preset `recommended`.

`byzbench show algorithm decbyzpg` prints both. docs/recommended.md has the settings that were compared on CartPole, and
docs/stability.md the optimizers, with runs on seeds that no choice has used. With the baseline of returns more runs
keep what they have learned, most clearly on the ring. The step falls with the number of rounds, so that it does not
depend on the budget: the pages have budgets of 500 and of 2,000 trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from byzbench.core import Recommendation

_STEPS: Mapping[str, str] = {"lr_schedule": "inverse_sqrt", "baseline": "others"}

PAGE: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 10, "B": 5, "p": 0.5, "lr": 0.05, **_STEPS}, "docs/recommended.md: K=13; a smaller K needs a smaller lr"
    ),
}
"""Parameters for PAGE methods that aggregate the gradients of many agents robustly."""

AVERAGED: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 10, "B": 5, "p": 0.5, "lr": 0.03, **_STEPS}, "docs/recommended.md: K=13; a smaller K needs a smaller lr"
    ),
}
"""Parameters for PAGE methods with a plain mean, of which fewer runs stay with the larger step of `PAGE`."""

ONE_BATCH: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 8, "lr": 0.05, **_STEPS}, "docs/recommended.md: K=13; a smaller K needs a smaller lr"
    ),
}
"""Parameters for methods without variance reduction; the batch has about as many episodes as PAGE's in the mean."""

ALONE: Mapping[str, Recommendation] = {
    "cartpole": Recommendation({"N": 4, "p": 1.0, "lr": 0.06, **_STEPS}, "docs/recommended.md: 500 trajectories"),
}
"""Parameters for an agent that learns alone."""


def for_unequal_agents(**parameters: Any) -> Mapping[str, Recommendation]:
    """Return parameters for a server that handles every message by itself, or whose agents take local steps.

    Example:
        >>> for_unequal_agents(N=4)["cartpole"].parameters["lr_schedule"]
        'inverse_sqrt'
    """
    origin = "a few runs with speed=two_speed, K=13, f=0 and f=3; docs/asynchrony.md has most methods on other seeds"
    return {"cartpole": Recommendation({**parameters, **_STEPS}, origin)}
