"""The base class of all components, and the annotations of their fields."""

from __future__ import annotations

import typing
from abc import ABC
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from byzbench.errors import InvalidParameter, validation_text

if TYPE_CHECKING:
    from byzbench.core.setting import Setting

State: TypeAlias = dict[str, Tensor]


@cache
def _validators(cls: type) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    adapters = {}
    for f in fields(cls):
        try:
            adapters[f.name] = TypeAdapter(hints[f.name], config=config)
        except Exception:  # a dataclass, or a type with a configuration of its own, takes no other
            adapters[f.name] = TypeAdapter(hints[f.name])
    return adapters


@dataclass(frozen=True)
class FloatRange:
    """The interval of a tuning search, given beside a field's bounds.

    For a field of type int the search tries whole numbers.

    Attributes:
        low: the smallest value.
        high: the largest value.
        log: whether the search is logarithmic.

    Example:
        >>> @dataclass(frozen=True)
        ... class Example(Component):
        ...     kind = "example"
        ...     lr: typing.Annotated[float, FloatRange(1e-4, 1e-1, log=True)] = 1e-3
        >>> Example.search_space()
        {'lr': FloatRange(low=0.0001, high=0.1, log=True)}
    """

    low: float
    high: float
    log: bool = False


class Categorical(tuple[Any, ...]):
    """The values that a tuning search tries, given beside a field's type."""

    def __new__(cls, *values: Any) -> Categorical:
        """Create a choice from its values."""
        return super().__new__(cls, values)


@dataclass(frozen=True)
class Component(ABC):
    """The base class of every kind: a frozen dataclass whose fields are validated against their annotations.

    Class attributes:
        kind: the kind's name.
        source: the origin of the definition (authors, year, arXiv id, equation or algorithm).
        version: the version of the numerical behaviour, from 1; raised when, and only when, outputs change.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""

    @classmethod
    def search_space(cls) -> dict[str, FloatRange | Categorical]:
        """Return the fields that a tuning search may set, with their search spaces."""
        hints = typing.get_type_hints(cls, include_extras=True)
        search_spaces = {}
        for f in fields(cls):
            for annotation in getattr(hints[f.name], "__metadata__", ()):
                if isinstance(annotation, FloatRange | Categorical):
                    search_spaces[f.name] = annotation
        return search_spaces

    @property
    def libraries(self) -> tuple[str, ...]:
        """Return the distributions whose version can change a result.

        Those that all runs depend on are left out.
        """
        return ()

    @property
    def data(self) -> tuple[Path, ...]:
        """Return the files, other than code, whose content can change a result."""
        return ()

    def check(self, setting: Setting) -> None:  # noqa: B027 (most kinds require nothing)
        """Check that the component is defined in an experiment.

        An implementation also calls that of its base class, which checks what all components of the kind need.

        Args:
            setting: the description of the experiment.

        Raises:
            Undefined: the component has no meaning, or no effect, in the experiment. The message is one line.
        """

    def notes(self, setting: Setting) -> list[str]:
        """Return remarks for the reader of the results, one line each.

        Args:
            setting: the description of an experiment that `check` accepts.
        """
        return []

    def __post_init__(self) -> None:
        for name, adapter in _validators(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, Component):
                continue
            try:
                object.__setattr__(self, name, adapter.validate_python(value))
            except ValidationError as error:
                deepest = max(error.errors(), key=lambda e: len(e["loc"]))  # of a union, the type that fits best
                message = validation_text(deepest)
                raise InvalidParameter(f"{type(self).__name__}: {name}={value!r}: {message}") from None
