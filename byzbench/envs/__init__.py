"""Environments in which a reinforcement learner controls the Byzantine agents of a federation."""

from typing import Any

import gymnasium

from byzbench.envs.attack_env import AttackEnv as AttackEnv

__all__ = ["AttackEnv", "FederationEnv"]

gymnasium.register("byzbench/AttackEnv-v0", entry_point="byzbench.envs.attack_env:AttackEnv")


def __getattr__(name: str) -> Any:
    """Load `FederationEnv` on first access, since PettingZoo takes long to import."""
    if name != "FederationEnv":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from byzbench.envs.federation_env import FederationEnv

    return FederationEnv
