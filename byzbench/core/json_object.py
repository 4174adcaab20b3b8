"""JSON objects as values of parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, JsonValue
from pydantic_core import CoreSchema, core_schema


class JsonObject(Mapping[str, Any]):
    """Immutable mapping from names to JSON values, for parameters such as the keyword arguments of an environment.

    It is hashable, as components are. Two objects are equal if their JSON texts with sorted keys are, so that 1, 1.0
    and True differ.

    Args:
        values: The values by name: numbers, booleans, texts, None, and lists and mappings of these.

    Example:
        >>> JsonObject({"size": 8, "slippery": False}) == JsonObject({"slippery": False, "size": 8})
        True
        >>> JsonObject({"size": 8})
        {'size': 8}
    """

    __slots__ = ("_text",)

    def __init__(self, values: Mapping[str, Any] = {}) -> None:
        self._text = json.dumps(dict(values), sort_keys=True, allow_nan=False)

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self._text))

    def __len__(self) -> int:
        return len(json.loads(self._text))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonObject) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return repr(json.loads(self._text))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let a field of this type take any mapping of JSON values."""
        return core_schema.no_info_after_validator_function(cls, handler.generate_schema(dict[str, JsonValue]))
