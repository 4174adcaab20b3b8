"""MountainCar-v0: drive a car with a weak engine out of a valley."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.tasks._references import task_reference


@dataclass(frozen=True)
class MountainCar(GymnasiumTask):
    """Reach the flag within 200 steps by rocking to and fro, with reward -1 in every step.

    The reward is constant until the flag is reached, which a random policy hardly ever does, so most gradients carry no
    information.
    """

    source: ClassVar[str] = "Moore, 1990; Gymnasium MountainCar-v0"
    gymnasium_id: ClassVar[str] = "MountainCar-v0"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = task_reference("mountaincar")
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}
    constants: ClassVar[tuple[str, ...]] = ("gravity", "force")
