"""HalfCheetah-v5: a planar robot with two legs that runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class HalfCheetah(GymnasiumTask):
    """Run forward for 1,000 steps: six joints; a reward for speed; a fall does not end the episode."""

    source: ClassVar[str] = "Wawrzynski, 2009; Gymnasium HalfCheetah-v5 (MuJoCo)"
    gymnasium_id: ClassVar[str] = "HalfCheetah-v5"
    engine: ClassVar[str] = "mujoco"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("halfcheetah")
    suggested: ClassVar[Mapping[str, float]] = {"N": 8, "B": 2, "p": 0.2, "lr": 1e-3}
