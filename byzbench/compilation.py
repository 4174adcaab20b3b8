"""Compilation of functions by Numba: import modules that compile where they are used, as loading Numba takes time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F, signature: Any = None, by: Callable[..., Any] = njit) -> F:
    """Compile a function, when it is first called or for a signature, and keep the machine code on disk.

    The arithmetic is executed as written, without reordering or fusing. Division by zero gives an infinity.

    Args:
        function: the function.
        signature: the types of its arguments; None for those of the first call.
        by: the decorator of Numba.
    """
    try:
        return cast(F, by(signature, error_model="numpy", cache=True)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, by(signature, error_model="numpy")(function))
