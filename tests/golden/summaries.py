"""Outputs as short JSON: a digest that shows whether anything moved, and a few numbers that show how far."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

DIGITS = 8
"""Hexadecimal digits of a digest."""


def digest_of(value: Any) -> str:
    """Return the digest of a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def summary(value: Any) -> Any:
    """Return a value if it is a short JSON value; of an array its digest, first and last number and norm."""
    if isinstance(value, Mapping):
        return {str(key): summary(part) for key, part in value.items()}
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, tuple | list):
        return [summary(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return _number(value) if isinstance(value, float) else value


def short(value: Any) -> Any:
    """Return a summary with the digests of arrays alone."""
    if isinstance(value, Mapping):
        return {str(key): short(part) for key, part in value.items()}
    summaries = summary(value)
    return summaries[:1] if is_array(summaries) else summaries


def _array(x: np.ndarray) -> list[Any]:
    plain = np.array(x)
    if plain.dtype.kind == "f":
        plain[np.isnan(plain)] = np.nan  # whose sign and payload differ between processors
    header = f"{plain.dtype}{plain.shape}".encode()
    digest = hashlib.sha256(header + np.ascontiguousarray(plain).tobytes()).hexdigest()[:DIGITS]
    flat = plain.astype(np.float64).ravel()
    if not flat.size:
        return [digest]
    with np.errstate(all="ignore"):
        numbers = flat[0], flat[-1], np.sqrt(np.square(flat).sum())
    return [digest, *(_number(float(f"{number:.5g}")) for number in numbers)]


def _number(value: float) -> float | str:
    """Return a float as strict JSON has it: infinities and NaN are text."""
    return value if math.isfinite(value) else str(value)


def is_array(value: Any) -> bool:
    """Return whether a summary is that of an array."""
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], str)
        and len(value[0]) == DIGITS
        and all(isinstance(number, float | int | str) for number in value[1:])
    )
