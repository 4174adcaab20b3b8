"""Pendulum-v1: swing up a pendulum and hold it there, by a continuous torque."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class Pendulum(GymnasiumTask):
    """Hold a pendulum upright for 200 steps, with penalties for angle, speed and torque."""

    source: ClassVar[str] = "Gymnasium Pendulum-v1"
    gymnasium_id: ClassVar[str] = "Pendulum-v1"
    discount: ClassVar[float] = 0.95
    reference: ClassVar[Mapping[str, float]] = task_reference("pendulum")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
    constants: ClassVar[tuple[str, ...]] = ("g", "m", "l")
