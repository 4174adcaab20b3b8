"""What all kinds of component have in common."""

from __future__ import annotations

import typing
from abc import ABC
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from byzbench.errors import InvalidParameter

State: TypeAlias = dict[str, Tensor]


@cache
def _validators(cls: type) -> dict[str, TypeAdapter[Any]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)
    adapters = {}
    for f in fields(cls):
        try:
            adapters[f.name] = TypeAdapter(hints[f.name], config=config)
        except Exception:  # the type carries its own configuration, or is a dataclass: validated as it is
            adapters[f.name] = TypeAdapter(hints[f.name])
    return adapters


@dataclass(frozen=True)
class Range:
    """Beside a field's bounds: where a search for its best value looks. Whole numbers for a field of type int."""

    low: float
    high: float
    log: bool = False


class Choice(tuple[Any, ...]):
    """Beside a field's type: the values that a search tries."""

    def __new__(cls, *values: Any) -> Choice:
        """From the values, one by one."""
        return super().__new__(cls, values)


@dataclass(frozen=True)
class Component(ABC):
    """The root of every kind: a frozen dataclass whose fields are checked against their annotations.

    Class attributes:
        kind: the kind's name.
        source: where the definition comes from (authors, year, arXiv id, equation or algorithm).
        version: of its numerical behaviour, from 1; raised when, and only when, its outputs change.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    source: ClassVar[str] = ""

    @classmethod
    def searched(cls) -> dict[str, Range | Choice]:
        """The fields that a search may set, and where it looks."""
        hints = typing.get_type_hints(cls, include_extras=True)
        found = {}
        for f in fields(cls):
            for note in getattr(hints[f.name], "__metadata__", ()):
                if isinstance(note, Range | Choice):
                    found[f.name] = note
        return found

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions, besides those that all runs depend on, whose version can change a bit of a result."""
        return ()

    @property
    def data(self) -> tuple[Path, ...]:
        """Files, besides code, whose content can change a bit of a result."""
        return ()

    def __post_init__(self) -> None:
        for name, adapter in _validators(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, Component):
                continue
            try:
                object.__setattr__(self, name, adapter.validate_python(value))
            except ValidationError as error:
                said = error.errors()[0]["msg"]
                raise InvalidParameter(f"{type(self).__name__}: {name}={value!r}: {said}") from None
