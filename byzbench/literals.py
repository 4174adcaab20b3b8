"""Values of parameters that are written as text."""

from __future__ import annotations

import ast
from typing import Any

UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""Exceptions of `ast` for a text that is not a Python literal, or is nested too deeply."""


def literal(text: str) -> Any:
    """Return the value of a written parameter: that of a Python literal, or else the text itself.

    Example:
        >>> literal("1e-3"), literal("[1, 2]"), literal("fixed")
        (0.001, [1, 2], 'fixed')
    """
    try:
        return ast.literal_eval(text.strip())
    except UNREADABLE:
        return text.strip()
