"""Environments in which a reinforcement learner controls the Byzantine agents of a federation."""

from typing import Any

import gymnasium

from byzbench.envs.attacker_seat import AttackerSeat as AttackerSeat

__all__ = ["AttackerSeat", "FederationEnv"]

gymnasium.register("byzbench/AttackerSeat-v0", entry_point="byzbench.envs.attacker_seat:AttackerSeat")


def __getattr__(name: str) -> Any:
    """Load `FederationEnv` on first access, since PettingZoo takes long to import."""
    if name != "FederationEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from byzbench.envs.federation_env import FederationEnv

    return FederationEnv
