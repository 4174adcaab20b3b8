"""MountainCar-v0: get out of a valley with an engine that is too weak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from byzbench.tasks._gymnasium import GymnasiumTask
from byzbench.tasks._references import reference


@dataclass(frozen=True)
class MountainCar(GymnasiumTask):
    """Reach the flag within 200 steps by rocking to and fro; every step costs one point.

    The reward is the same until the flag is reached, which random play hardly ever does: without luck there is no
    gradient at all.
    """

    source: ClassVar[str] = "Moore, 1990; Gymnasium MountainCar-v0"
    gymnasium_id: ClassVar[str] = "MountainCar-v0"
    discount: ClassVar[float] = 0.99
    reference: ClassVar[Mapping[str, float]] = reference("mountaincar")
    suggested: ClassVar[Mapping[str, float]] = {"N": 32, "B": 8, "p": 0.2, "lr": 1e-3}
    constants: ClassVar[tuple[str, ...]] = ("gravity", "force")
