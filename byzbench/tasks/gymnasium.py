"""Any environment of Gymnasium, by its id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from byzbench.errors import InvalidParameter
from byzbench.tasks._gymnasium import GymnasiumTask, facts


@dataclass(frozen=True)
class Gymnasium(GymnasiumTask):
    """Any environment of Gymnasium with vectors or kinds as observations: `gymnasium:Acrobot-v1`.

    Environments of other packages are found as Gymnasium finds them: `gymnasium:package/Name-v0`, or with the module
    that registers them, `gymnasium:module:Name-v0`. Without reference scores no verdict `not_learning` can be given.

    Attributes:
        id: Gymnasium's.
        steps: the most steps of an episode, for an environment that names none itself, or to have fewer.
        gamma: the discount.
        random, solved: reference scores, where known.
    """

    id: Annotated[str, Field(min_length=1, description="Gymnasium's id")]
    steps: Annotated[int | None, Field(ge=1, le=1_000_000, description="most steps of an episode")] = field(
        default=None, kw_only=True
    )
    gamma: Annotated[float, Field(gt=0, le=1, description="discount")] = field(default=0.99, kw_only=True)
    random: Annotated[float | None, Field(description="a random policy's return")] = field(default=None, kw_only=True)
    solved: Annotated[float | None, Field(description="the return of a solved task")] = field(
        default=None, kw_only=True
    )

    source: ClassVar[str] = "Gymnasium"

    def __post_init__(self) -> None:
        super().__post_init__()
        if facts(self.id).horizon is None and self.steps is None:
            raise InvalidParameter(f"environment {self.id!r} has no fixed horizon: say steps=, the most of an episode")

    @property
    def gymnasium_id(self) -> str:  # type: ignore[override]
        """As given."""
        return self.id

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """The environment's, unless told otherwise."""
        return self.steps or super().horizon

    @property
    def discount(self) -> float:  # type: ignore[override]
        """As given."""
        return self.gamma

    @property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """What is known."""
        solved = facts(self.id).threshold if self.solved is None else self.solved
        return {
            name: float(score) for name, score in (("random", self.random), ("solved", solved)) if score is not None
        }
