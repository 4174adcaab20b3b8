"""Environments of Gymnasium by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.core.gymnasium_task import GymnasiumTask, environment_facts
from byzbench.errors import InvalidParameter


@dataclass(frozen=True)
class Gymnasium(GymnasiumTask):
    """Any environment of Gymnasium with vectors or discrete observations: `gymnasium:Acrobot-v1`.

    Environments of other packages are named as in Gymnasium: `gymnasium:package/Name-v0`, or with the module that
    registers them, `gymnasium:module:Name-v0`. Without reference scores no verdict `not_learning` is possible.

    Attributes:
        id: The id of the environment in Gymnasium.
        steps: The maximal number of steps of an episode, for an environment without a limit, or to lower it.
        gamma: The discount.
        random: The mean return of a random policy, where known.
        solved: The return of a solved task, where known.
    """

    id: Annotated[str, Field(min_length=1, description="id of the environment in Gymnasium")]
    steps: Annotated[int | None, Field(ge=1, le=1_000_000, description="maximal number of steps of an episode")] = (
        field(default=None, kw_only=True)
    )
    gamma: Annotated[float, Field(gt=0, le=1, description="discount")] = field(default=0.99, kw_only=True)
    random: Annotated[float | None, Field(description="mean return of a random policy")] = field(
        default=None, kw_only=True
    )
    solved: Annotated[float | None, Field(description="return of a solved task")] = field(default=None, kw_only=True)

    source: ClassVar[str] = "Gymnasium"

    def __post_init__(self) -> None:
        super().__post_init__()
        if environment_facts(self.id).horizon is None and self.steps is None:
            raise InvalidParameter(
                f"environment {self.id!r} has no fixed horizon: set steps=, the maximum of an episode"
            )

    @property
    def gymnasium_id(self) -> str:  # type: ignore[override]
        """Return `id`."""
        return self.id

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """Return `steps`, or else the environment's horizon."""
        return self.steps or super().horizon

    @property
    def discount(self) -> float:  # type: ignore[override]
        """Return `gamma`."""
        return self.gamma

    @property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """Return the known scores; the default of `solved` is the environment's threshold."""
        solved = environment_facts(self.id).threshold if self.solved is None else self.solved
        return {
            name: float(score) for name, score in (("random", self.random), ("solved", solved)) if score is not None
        }
