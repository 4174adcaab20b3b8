"""Functions as machine code, which Numba compiles once and caches on disk.

Each file has a cache of its own, which changes of another file do not make stale. So the functions of a simulation are
passed as addresses. The arithmetic is executed as written, without reordering or fusing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np
from numba import config, njit, types
from numba.core import cgutils
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.errors import NumbaError
from numba.extending import intrinsic

from byzbench.errors import BrokenPlugin, UserError

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise UserError("NUMBA_DISABLE_JIT is set, but byzbench needs Numba's compiler; unset it")

F = TypeVar("F", bound=Callable[..., Any])

_compiled_functions: list[Any] = []
"""The compiled functions whose addresses are in use; references to them keep the code in memory."""

_ROW, _ROWS, _OBSERVATION = types.float64[::1], types.float64[:, ::1], types.float32[::1]
_STEP = types.Tuple((types.float64, types.boolean))(_ROW, _ROW, _ROW)
_SHOW = types.void(_ROW, _OBSERVATION)


class _CheckedFiles(IndexDataCacheFile):
    """Cache files that end with the digest of what precedes it, so that damaged ones are written anew."""

    def _load_index(self) -> Any:
        return super()._load_index() if _is_intact(self._index_path) else {}

    def _load_data(self, name: str) -> Any:
        if not _is_intact(path := self._data_path(name)):
            raise FileNotFoundError(path)  # for which Numba compiles anew
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[BinaryIO]:
        yield (content := BytesIO())
        with super()._open_for_write(path) as file:
            file.write(content.getvalue() + sha256(content.getvalue()).digest())


def _is_intact(path: str) -> bool:
    try:
        content = Path(path).read_bytes()
    except OSError:
        return False
    return sha256(content[:-32]).digest() == content[-32:]


class _Cache(FunctionCache):
    """The cache of a function's machine code, in checked files.

    Raises:
        RuntimeError: There is no writable folder for it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _CheckedFiles(self._cache_path, self._impl.filename_base, stamp)

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # such as that of a full disk
            super().save_overload(signature, data)


def compiled(function: F, signature: Any = None, *, counted: bool = True, addressed: bool = False) -> F:
    """Return a function as machine code, which is cached on disk where there is a writable folder for it.

    Args:
        function: The function, in the part of Python and NumPy that Numba compiles.
        signature: Its types; None: those of its first call.
        counted: Whether references to arrays are counted. A function without counts cannot make arrays.
        addressed: Whether a function of C is made, too, whose address can be passed.
    """
    # The NumPy error model: division by zero gives an infinity instead of an exception.
    options: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": not addressed}
    code: Any = njit(**options if counted else options | {"_nrt": False})(function)
    with suppress(RuntimeError):
        code._cache = _Cache(function)
    if signature is not None:
        code.compile(signature)
        code.disable_compile()
    return cast(F, code)


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
