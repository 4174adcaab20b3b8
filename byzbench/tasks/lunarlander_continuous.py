"""LunarLanderContinuous-v3: land a spacecraft with continuous throttles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class LunarLanderContinuous(GymnasiumTask):
    """Land between two flags within 1,000 steps: 100 points at rest, -100 for a crash; two continuous throttles."""

    source: ClassVar[str] = "Klimov, 2016; Gymnasium LunarLanderContinuous-v3"
    gymnasium_id: ClassVar[str] = "LunarLanderContinuous-v3"
    engine: ClassVar[str] = "box2d"
    discount: ClassVar[float] = 0.999
    reference: ClassVar[Mapping[str, float]] = task_reference("lunarlander_continuous")
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}
    constants: ClassVar[tuple[str, ...]] = ("gravity",)
