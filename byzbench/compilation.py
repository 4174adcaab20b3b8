"""Compilation of functions by Numba: import modules that compile where they are used, as loading Numba takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from numba import config, njit
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile

from byzbench.errors import UserError

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise UserError("NUMBA_DISABLE_JIT is set, but byzbench needs Numba's compiler; unset it")

F = TypeVar("F", bound=Callable[..., Any])

_compilation = event.TimingListener()
event.register("numba:compile", _compilation)


def seconds_compiled() -> float:
    """Return the seconds that this process has spent on compilation."""
    return float(_compilation.duration) if _compilation.done else 0.0


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

    Args:
        function: The function.
        options: The options of the compiler.
        parts: The functions of other files in its closure, whose machine code becomes part of its own.

    Raises:
        RuntimeError: There is no writable folder for it, or a part has no file.
    """

    def __init__(
        self, function: Callable[..., Any], options: Mapping[str, Any], parts: Sequence[Callable[..., Any]]
    ) -> None:
        super().__init__(function)
        self._options = sorted(options.items())
        self._parts, stamp, base = parts, self._impl.locator.get_source_stamp(), self._impl.filename_base
        if parts:
            # Each set of parts has files of its own: files are stale as soon as the source of one part changes.
            sources = [FunctionCache(part)._impl for part in parts]
            stamp = (stamp, *(source.locator.get_source_stamp() for source in sources))
            base += "-" + sha256("/".join(source.filename_base for source in sources).encode()).hexdigest()[:16]
        self._cache_file = _CheckedFiles(self._cache_path, base, stamp)

    def _index_key(self, signature: Any, codegen: Any) -> Any:
        options = str(self._options)
        if not self._parts:
            return *super()._index_key(signature, codegen), options
        # Numba's own key has the compiled functions of the closure, which differ between processes.
        code = b"".join(part.__code__.co_code for part in (self._py_func, *self._parts))
        return signature, codegen.magic_tuple(), sha256(code).hexdigest(), options

    def save_overload(self, signature: Any, data: Any) -> None:
        with suppress(OSError):  # such as that of a full disk
            super().save_overload(signature, data)


def compiled(
    function: F,
    signature: Any = None,
    *,
    counted: bool = True,
    addressed: bool = False,
    parts: Sequence[Callable[..., Any]] = (),
) -> F:
    """Compile a function, when it is first called or for a signature, and keep the machine code on disk.

    The arithmetic is executed as written, without reordering or fusing. Division by zero gives an infinity. Nothing is
    kept where there is no writable folder for it.

    Args:
        function: The function.
        signature: The types of its arguments; None for those of the first call.
        counted: Whether references to arrays are counted. A function without counts cannot make arrays.
        addressed: Whether a function of C is made, too, whose address can be passed.
        parts: The Python functions of other files whose machine code is in its closure.
    """
    options: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": not addressed}
    if not counted:
        options["_nrt"] = False
    if signature is None:  # part of another function: passing the many numbers of an array takes longer than using it
        options["forceinline"] = True
    code: Any = njit(**options)(function)
    with suppress(RuntimeError):
        code._cache = _Cache(function, options, parts)
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
