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
