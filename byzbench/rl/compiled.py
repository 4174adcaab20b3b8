"""Functions as machine code, which Numba compiles once and caches on disk.

Each file has a cache of its own, which changes of another file do not make stale. So the functions of a simulation are
passed as addresses. The arithmetic is executed as written, without reordering or fusing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from byzbench.compilation import compiled, on_first_call
from byzbench.errors import BrokenPlugin

_compiled_functions: list[Any] = []
"""The compiled functions whose addresses are in use; references to them keep the code in memory."""

_ROW, _ROWS, _OBSERVATION = types.float64[::1], types.float64[:, ::1], types.float32[::1]
_STEP = types.Tuple((types.float64, types.boolean))(_ROW, _ROW, _ROW)
_SHOW = types.void(_ROW, _OBSERVATION)


@cache
def address_of_step(step: Callable[..., Any]) -> int:
    """Compile the `step` of a `Simulation`, and return its address, as the kernels take it.

    Raises:
        BrokenPlugin: Numba cannot compile the function.
    """
    return _address(step, _STEP)


@cache
def address_of_show(show: Callable[..., Any]) -> int:
    """Compile the `show` of a `Simulation`, and return its address, as the kernels take it.

    Raises:
        BrokenPlugin: Numba cannot compile the function.
    """
    return _address(show, _SHOW)


def _address(function: Callable[..., Any], signature: Any) -> int:
    try:
        code = cast(Any, compiled(function, signature, addressed=True))
    except NumbaError as error:
        reason = next((line for line in str(error).splitlines()[1:] if line), str(error))
        raise BrokenPlugin(f"{function.__module__}.{function.__qualname__} cannot be compiled: {reason}") from None
    _compiled_functions.append(code)
    result = code.overloads[signature.args]
    return cast(int, result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


def _at(kind: Any) -> Any:
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


step_at, show_at = _at(types.FunctionType(_STEP)), _at(types.FunctionType(_SHOW))


@on_first_call(
    types.void(
        *(types.intp, types.intp, _ROWS, _ROWS, _ROWS),
        *(types.float32[:, ::1], types.float32[::1], types.boolean[::1]),
    )
)
def advance(
    step_address: int,
    show_address: int,
    states: np.ndarray,
    constants: np.ndarray,
    actions: np.ndarray,
    observations: np.ndarray,
    rewards: np.ndarray,
    terminated: np.ndarray,
) -> None:
    """Advance every row by one step.

    Args:
        step_address: The address of the simulation's `step`.
        show_address: The address of the simulation's `show`.
        states: The states, [rows, s]; they change in place.
        constants: The physical constants, [rows, c].
        actions: The actions, [rows, a].
        observations: The result, [rows, o], which is filled in, as are the following.
        rewards: The result, [rows].
        terminated: The result, [rows].
    """
    step, show = step_at(step_address), show_at(show_address)
    for row in range(len(states)):
        rewards[row], terminated[row] = step(states[row], actions[row], constants[row])
        show(states[row], observations[row])


@on_first_call(types.void(types.intp, _ROWS, types.float32[:, ::1]))
def present(show_address: int, states: np.ndarray, observations: np.ndarray) -> None:
    """Write the observations of all states into `observations` [rows, o]."""
    show = show_at(show_address)
    for row in range(len(states)):
        show(states[row], observations[row])
