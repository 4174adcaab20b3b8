"""Environments of Gymnasium by their ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from byzbench.core import JsonObject
from byzbench.core.environment_spec import EnvironmentSpec, normalized_wrapper
from byzbench.core.gymnasium_task import GymnasiumTask
from byzbench.errors import Undefined

_MAX_STEPS = 1_000_000
"""The largest horizon, as the noise of all steps of an episode is drawn at its start."""


@dataclass(frozen=True)
class Gymnasium(GymnasiumTask):
    """Any environment of Gymnasium with vectors or discrete observations: `gymnasium:Acrobot-v1`.

    Environments of other packages are named as in Gymnasium: `gymnasium:package/Name-v0`, or with the module that
    registers them, `gymnasium:module:Name-v0`. Without reference scores no verdict `not_learning` is possible.

    Wrappers are classes of `gymnasium.wrappers`, or `module:Class`, with arguments in brackets. Those whose state spans
    episodes are refused, since an episode depends on its seed and the policy only.

    Attributes:
        id: The id of the environment in Gymnasium.
        options: The keyword arguments of `gymnasium.make`, such as {'is_slippery': False}.
        wrappers: The wrappers around the environment, from the inside out.
        steps: The maximal number of steps of an episode, for an environment without a limit, or to lower it.
        gamma: The discount.
        random: The mean return of a random policy, where known.
        solved: The return of a solved task, where known.

    Example:
        >>> task = Gymnasium("FrozenLake-v1", options={"map_name": "8x8"}, wrappers=["TimeAwareObservation"])
        >>> task.observation_size
        65
    """

    id: Annotated[str, Field(min_length=1, description="id of the environment in Gymnasium")]
    options: Annotated[JsonObject, Field(description="keyword arguments of gymnasium.make")] = field(
        default=JsonObject(), kw_only=True
    )
    wrappers: Annotated[
        tuple[Annotated[str, AfterValidator(normalized_wrapper)], ...],
        Field(description="wrappers from the inside out, as Name, module:Name or Name(key=value)"),
    ] = field(default=(), kw_only=True)
    steps: Annotated[int | None, Field(ge=1, le=_MAX_STEPS, description="maximal number of steps of an episode")] = (
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
        horizon = self.facts.horizon
        if horizon is None:
            raise Undefined(f"environment {self.id!r} has no fixed horizon: set steps=, the maximum of an episode")
        if not 1 <= horizon <= _MAX_STEPS:
            raise Undefined(f"environment {self.id!r} has episodes of {horizon} steps: set steps=, 1 to {_MAX_STEPS}")

    @property
    def gymnasium_id(self) -> str:  # type: ignore[override]
        """Return `id`."""
        return self.id

    @property
    def environment(self) -> EnvironmentSpec:
        """Return the environment with its options, wrappers and `steps`."""
        return EnvironmentSpec(self.id, self.options, self.wrappers, self.steps)

    @property
    def data(self) -> tuple[Path, ...]:
        """Return the files of an environment and of wrappers that are written with their modules."""
        return self.facts.files

    @property
    def discount(self) -> float:  # type: ignore[override]
        """Return `gamma`."""
        return self.gamma

    @property
    def reference(self) -> Mapping[str, float]:  # type: ignore[override]
        """Return the known scores; the default of `solved` is the threshold of the environment as it is registered."""
        solved = self.facts.threshold if self.solved is None else self.solved
        return {
            name: float(score) for name, score in (("random", self.random), ("solved", solved)) if score is not None
        }
