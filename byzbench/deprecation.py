"""Public names that go: they work for one more minor version, with a warning that says what to use."""

from __future__ import annotations

import re

from typing_extensions import deprecated

from byzbench.errors import InvalidParameter


def deprecated_since(version: str, name: str, instead: str) -> deprecated:
    """Return a decorator that marks a public function, method or class as deprecated.

    A call raises a `DeprecationWarning` with one line; type checkers see the mark too. What is deprecated in one minor
    version works in it, and is removed in the next.

    Args:
        version: the minor version that deprecates it, for example "0.2".
        name: what the user wrote, for example "byzbench.load".
        instead: what to write now, for example "byzbench.make".

    Raises:
        InvalidParameter: the version is not of the form "0.2".

    Example:
        >>> @deprecated_since("0.2", "old", "new")
        ... def old() -> int:
        ...     return 1
        >>> old.__deprecated__
        'old is deprecated since byzbench 0.2 and will be removed in 0.3; use new'
    """
    return deprecated(
        f"{name} is deprecated since byzbench {version} and will be removed in {_next(version)}; use {instead}"
    )


def _next(version: str) -> str:
    """Return the minor version after one."""
    if not (found := re.fullmatch(r"(\d+)\.(\d+)", version)):
        raise InvalidParameter(f"a minor version is written like 0.2, got {version!r}")
    return f"{found[1]}.{int(found[2]) + 1}"
