"""Compilation of functions by Numba: import modules that compile where they are used, as loading Numba takes time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

from numba import njit
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])

_compilation = event.TimingListener()
event.register("numba:compile", _compilation)


def seconds_compiled() -> float:
    """Return the seconds that this process has spent on compilation."""
    return float(_compilation.duration) if _compilation.done else 0.0


def compiled(function: F, signature: Any = None, by: Callable[..., Any] = njit, *, counted: bool = True) -> F:
    """Compile a function, when it is first called or for a signature, and keep the machine code on disk.

    The arithmetic is executed as written, without reordering or fusing. Division by zero gives an infinity.

    Args:
        function: the function.
        signature: the types of its arguments; None for those of the first call.
        by: the decorator of Numba.
        counted: whether references to arrays are counted. A function without counts cannot make arrays.
    """
    options = {"error_model": "numpy"} if counted else {"error_model": "numpy", "_nrt": False}
    try:
        return cast(F, by(signature, cache=True, **options)(function))
    except RuntimeError:  # no writable folder for the cache
        return cast(F, by(signature, **options)(function))


def on_first_call(signature: Any, *, counted: bool = True) -> Callable[[F], F]:
    """Return a decorator that compiles a function for a signature when it is first called; see `compiled`."""

    def decorate(function: F) -> F:
        @cache
        def code() -> Any:
            return compiled(function, signature, counted=counted)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return code()(*arguments)

        return cast(F, call)

    return decorate
