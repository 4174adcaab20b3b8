"""Acrobot-v1: swing a double pendulum up by the torque at its elbow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.tasks._gymnasium import GymnasiumTask
from byzbench.tasks._references import reference


@dataclass(frozen=True)
class Acrobot(GymnasiumTask):
    """Swing the free end above a line within 500 steps; every step before costs one point."""

    source: ClassVar[str] = "Sutton, 1996; Gymnasium Acrobot-v1"
    gymnasium_id: ClassVar[str] = "Acrobot-v1"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = reference("acrobot")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
