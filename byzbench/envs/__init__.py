"""Federations as environments: somebody from outside sits in a liar's seat, and learns to lie."""

import gymnasium

from byzbench.envs.attacker_seat import AttackerSeat as AttackerSeat

__all__ = ["AttackerSeat"]

gymnasium.register("byzbench/AttackerSeat-v0", entry_point="byzbench.envs.attacker_seat:AttackerSeat")
