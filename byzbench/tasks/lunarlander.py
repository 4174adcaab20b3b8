"""LunarLander-v3: land a spacecraft with discrete engine commands; by Gymnasium (Box2D) or EnvPool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class LunarLander(GymnasiumTask):
    """Land between two flags within 1,000 steps, softly and with little fuel: 100 points at rest, -100 for a crash."""

    source: ClassVar[str] = "Klimov, 2016; Gymnasium LunarLander-v3"
    gymnasium_id: ClassVar[str] = "LunarLander-v3"
    engine: ClassVar[str] = "box2d"
    discount: ClassVar[float] = 0.999
    reference: ClassVar[Mapping[str, float]] = task_reference("lunarlander")
    suggested: ClassVar[Mapping[str, float]] = {"N": 96, "B": 32, "p": 0.2, "lr": 1e-3}
    constants: ClassVar[tuple[str, ...]] = ("gravity",)
