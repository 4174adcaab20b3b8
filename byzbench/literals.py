"""Parameters and their values that are written as text."""

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


def plain_number(value: Any) -> Any:
    """Return a number of NumPy or torch as the equal one of Python; anything else as it is.

    Example:
        >>> import numpy as np
        >>> plain_number(np.arange(5)[3]), plain_number("3")
        (3, '3')
    """
    return value.item() if getattr(value, "ndim", None) == 0 else value


def split_at_commas(text: str) -> list[str]:
    """Split a text at its commas outside of brackets and braces.

    Example:
        >>> split_at_commas("id=A-v0,options={'x': [1, 2], 'y': 3}")
        ['id=A-v0', "options={'x': [1, 2], 'y': 3}"]
    """
    items, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0:
            items.append("")
        else:
            items[-1] += letter
    return items
