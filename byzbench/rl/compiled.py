"""Functions as machine code, which Numba compiles once and caches on disk.

Each file has a cache of its own, which changes of another file do not make stale. So kernels take the functions of a
simulation as an address. The arithmetic is executed as written, without reordering or fusing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from byzbench.compilation import compiled
from byzbench.errors import BrokenPlugin

_ROWS, _OBSERVATIONS, _INDICES = types.float64[:, ::1], types.float32[:, ::1], types.int64[::1]
_ADVANCE = types.void(_ROWS, _ROWS, _ROWS, _INDICES, types.int64, types.float32[::1], types.boolean[::1], _OBSERVATIONS)
_PRESENT = types.void(_ROWS, _OBSERVATIONS)


class SimulationCode(NamedTuple):
    """The machine code of a simulation.

    Attributes:
        advance: The function that `_advance` returns.
        address: Its address.
        present: The function that `_present` returns.
    """

    advance: Callable[..., None]
    address: int
    present: Callable[..., None]


@cache
def code_of(step: Callable[..., Any], show: Callable[..., Any]) -> SimulationCode:
    """Compile the functions of a `Simulation`.

    Raises:
        BrokenPlugin: Numba cannot compile a function.
    """
    step_code, show_code = compiled(step), compiled(show)
    advance = _compile(_advance(step_code, show_code), _ADVANCE, step, show)
    present = _compile(_present(show_code), _PRESENT, show)
    result = advance.overloads[_ADVANCE.args]
    address = cast(int, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))
    return SimulationCode(advance, address, present)


def _compile(function: Callable[..., Any], signature: Any, *parts: Callable[..., Any]) -> Any:
    try:
        return compiled(function, signature, addressed=signature is _ADVANCE, parts=parts)
    except NumbaError as error:
        names = " or ".join(f"{part.__module__}.{part.__qualname__}" for part in parts)
        text = re.sub(r"\x1b\[\d*m", "", str(error))  # colours, if colorama is installed
        lines = [line for line in text.splitlines() if line and not line.startswith("Failed in nopython mode")]
        raise BrokenPlugin(f"{names} cannot be compiled: {lines[0] if lines else text}") from None


def _advance(step: Callable[..., Any], show: Callable[..., Any]) -> Callable[..., None]:
    def advance(
        states: np.ndarray,
        constants: np.ndarray,
        actions: np.ndarray,
        rows: np.ndarray,
        count: int,
        rewards: np.ndarray,
        terminated: np.ndarray,
        observations: np.ndarray,
    ) -> None:
        """Advance some rows by one step.

        Args:
            states: The states of all rows, [rows, s]; they change in place.
            constants: The physical constants, [parts, c]; each is of an equal part of the rows.
            actions: The actions of some rows, [n, a].
            rows: The numbers of these rows, [n].
            count: How many of the n rows are stepped, the first ones.
            rewards: The result, [n], which is filled in, as are the following.
            terminated: The result, [n].
            observations: The result, [n, o].
        """
        part = max(len(states) // len(constants), 1)
        for i in range(count):
            row = rows[i]
            rewards[i], terminated[i] = step(states[row], actions[i], constants[row // part])
            show(states[row], observations[i])

    return advance


def _present(show: Callable[..., Any]) -> Callable[..., None]:
    def present(states: np.ndarray, observations: np.ndarray) -> None:
        """Write the observations of all states into `observations` [rows, o]."""
        for row in range(len(states)):
            show(states[row], observations[row])

    return present


def _function_at(kind: Any) -> Any:
    """Return an intrinsic that turns an address into a function of type `kind`.

    Kernels take addresses, as kernels that take functions are slow to call.
    """

    def function(typing: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            pointer = cgutils.create_struct_proxy(kind)(context, builder)
            pointer.c_addr = builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))
            return pointer._getvalue()

        return kind(types.intp), code

    return intrinsic(function)


advance_at = _function_at(types.FunctionType(_ADVANCE))
"""The function `SimulationCode.advance` at an address."""
