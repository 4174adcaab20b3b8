"""Keywords of the public functions that take an experiment: one for each axis, with its type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter
from typing import Any, TypedDict, TypeVar, cast

from byzbench.axes import AXES, without_aliases
from byzbench.core import (
    Aggregator,
    Agreement,
    Algorithm,
    Attack,
    Channel,
    Coin,
    Placement,
    PolicyFamily,
    Scenario,
    Schedule,
    Task,
    Topology,
)
from byzbench.errors import InvalidParameter, suggest

_Function = TypeVar("_Function", bound=Callable[..., Any])


class AxisKeywords(TypedDict, total=False):
    """The axes of `byzbench.axes` as keywords; a component is its written form or an instance.

    A keyword that is left out, or is None where that is allowed, has the default of `Experiment.create`.
    """

    algo: str | Algorithm
    attack: str | Attack
    topology: str | Topology | None
    env: str | Task
    policy: str | PolicyFamily | None
    scenario: str | Scenario
    aggregator: str | Aggregator | None
    agreement: str | Agreement | None
    placement: str | Placement
    channel: str | Channel
    coin: str | Coin
    schedule: str | Schedule
    preset: str
    agents: int | None
    byzantine: int | None
    assumed_byzantine: int | None
    relay: bool
    mixing: str
    trajectories: int | None
    evaluations: int | None
    evaluation_episodes: int | None
    seed: int
    device: str


def takes_axis_keywords(*, without: Iterable[str] = ()) -> Callable[[_Function], _Function]:
    """Check the keywords of a function whose `**axes` are axes, and list them in its signature.

    Type checkers read `AxisKeywords`. The signature is for `help` and for completion at a prompt. An alias of an axis
    is taken too.

    Args:
        without: The axes that the function sets itself.

    Raises:
        InvalidParameter: A call has a keyword that the function does not take; the message names the one meant.

    Example:
        >>> @takes_axis_keywords(without=["seed"])
        ... def count(*, out: str = "runs", **axes: Any) -> int:
        ...     return len(axes)
        >>> count(algorithm="byzpg", agents=5)
        2
        >>> "trajectories" in inspect.signature(count).parameters
        True
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind != Parameter.VAR_KEYWORD]

        def allowed() -> list[str]:
            return [*(p.name for p in own), *(axis.name for axis in AXES if axis.name not in {*without})]

        @wraps(function)
        def call(*values: Any, **keywords: Any) -> Any:
            keywords = without_aliases(keywords)
            for name in keywords:
                if name not in allowed():
                    raise InvalidParameter(
                        f"{function.__name__} has no keyword {name!r}. {suggest(name, allowed())}"
                        f"Keywords: {', '.join(allowed())}."
                    )
            return function(*values, **keywords)

        types = AxisKeywords.__annotations__
        axes = [
            Parameter(axis.name, Parameter.KEYWORD_ONLY, default=axis.default, annotation=types.get(axis.name, Any))
            for axis in AXES
            if axis.name not in {*without, *(p.name for p in own)}
        ]
        call.__signature__ = signature.replace(parameters=[*own, *axes])  # type: ignore[attr-defined]
        return cast(_Function, call)

    return decorate
