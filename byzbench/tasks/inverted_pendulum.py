"""InvertedPendulum-v5: a pole on a cart, pushed by a continuous force."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class InvertedPendulum(GymnasiumTask):
    """Balance a pole on a cart for 1,000 steps, with reward 1 in every step."""

    source: ClassVar[str] = "Barto, Sutton and Anderson, 1983; Gymnasium InvertedPendulum-v5 (MuJoCo)"
    gymnasium_id: ClassVar[str] = "InvertedPendulum-v5"
    engine: ClassVar[str] = "mujoco"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("inverted_pendulum")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
