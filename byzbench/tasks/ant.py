"""Ant-v5: a robot with four legs that crawls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class Ant(GymnasiumTask):
    """Crawl forward for 1,000 steps without turning over: eight joints; rewards for speed and for staying up."""

    source: ClassVar[str] = "Schulman et al., 2015, arXiv 1506.02438; Gymnasium Ant-v5 (MuJoCo)"
    gymnasium_id: ClassVar[str] = "Ant-v5"
    engine: ClassVar[str] = "mujoco"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("ant")
    suggested: ClassVar[Mapping[str, float]] = {"N": 8, "B": 2, "p": 0.2, "lr": 1e-3}
