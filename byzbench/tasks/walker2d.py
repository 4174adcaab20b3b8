"""Walker2d-v5: a planar robot with two legs that walks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class Walker2d(GymnasiumTask):
    """Walk forward for 1,000 steps without falling: six joints; rewards for speed and for staying up."""

    source: ClassVar[str] = "Erez, Tassa and Todorov, 2011; Gymnasium Walker2d-v5 (MuJoCo)"
    gymnasium_id: ClassVar[str] = "Walker2d-v5"
    engine: ClassVar[str] = "mujoco"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("walker2d")
    suggested: ClassVar[Mapping[str, float]] = {"N": 16, "B": 4, "p": 0.2, "lr": 1e-3}
