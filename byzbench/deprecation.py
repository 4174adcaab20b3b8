"""Deprecation of public names: a deprecated name works for one more minor version and warns with its replacement."""

from __future__ import annotations

import re

from typing_extensions import deprecated

from byzbench.errors import InvalidParameter


def deprecated_since(version: str, name: str, instead: str) -> deprecated:
    """Return a decorator that marks a public function, method or class as deprecated.

    A call issues a `DeprecationWarning` of one line, and type checkers report it too. A name that is deprecated in one
    minor version is removed in the next.

    Args:
        version: The minor version that deprecates the name, for example "0.2".
        name: The deprecated name, for example "byzbench.load".
        instead: The name to use now, for example "byzbench.make".

    Returns:
        The decorator.

    Raises:
        InvalidParameter: The version is not of the form "0.2".

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
    if not (match := re.fullmatch(r"(\d+)\.(\d+)", version)):
        raise InvalidParameter(f"a minor version is written like 0.2, got {version!r}")
    return f"{match[1]}.{int(match[2]) + 1}"
