"""Recommended parameters of the PAGE family by task, and their origin: the default preset `recommended`.

`byzbench show algorithm decbyzpg` prints both. With p=1 every round takes a large batch: the method then has no
variance reduction, and B has no effect. docs/recommended.md has the settings that were compared on CartPole. A step
that falls to zero over the budget is faster there than a constant one, and keeps what it has learned.

The search for DecByzPG on the suite smoke-v2 (300 trajectories) found N=6, B=5, p=0.825, lr=0.0083 and rfa(nu=0.061).
They are not recommended here: with 500 trajectories on the complete graph, seeds 0, 1, 2 end at 493, 495, 500 without
an attack, and at 75, 492, 485 under ALIE (engine 1).
"""

from __future__ import annotations

from collections.abc import Mapping

from byzbench.core import Recommendation

FEDERATED: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 8, "p": 1.0, "lr": 0.02, "lr_schedule": "linear"},
        "docs/recommended.md: K=13, 500 trajectories; a smaller K needs a smaller lr",
    ),
}
"""Parameters for methods that average or aggregate the gradients of many agents."""

ONE_BATCH: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 8, "lr": 0.02, "lr_schedule": "linear"},
        "docs/recommended.md: K=13, 500 trajectories; a smaller K needs a smaller lr",
    ),
}
"""Parameters for methods that aggregate the gradients of many agents, without variance reduction."""

ALONE: Mapping[str, Recommendation] = {
    "cartpole": Recommendation(
        {"N": 1, "p": 1.0, "lr": 0.003, "lr_schedule": "linear"}, "docs/recommended.md: 500 trajectories"
    ),
}
"""Parameters for an agent that learns alone."""
