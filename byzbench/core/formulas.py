"""Formulas of rules in (n, f), which refuse numbers that count nothing."""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from byzbench.errors import InvalidParameter

FORMULAS = ("defined", "guarantee", "kappa", "contraction", "contracts", "contraction_factor")
"""The methods of rules and agreements that are formulas."""

_Formula = TypeVar("_Formula", bound=Callable[..., Any])


def formula(method: _Formula) -> _Formula:
    """Let a method of (n, f) refuse an n that is no integer of at least 1, and an f that is none of at least 0.

    Example:
        >>> from byzbench.registry import make
        >>> make("aggregator", "krum").guarantee(n=9, f=-1)
        Traceback (most recent call last):
        byzbench.errors.InvalidParameter: Krum: f must be an integer of at least 0, not -1
    """

    @wraps(method)
    def checked(self: object, n: int, f: int) -> Any:
        # The federation calls formulas for every inbox with integers, so these have a short path.
        if type(n) is not int or n < 1:
            n = check_count(type(self).__name__, "n", n, 1)
        if type(f) is not int or f < 0:
            f = check_count(type(self).__name__, "f", f, 0)
        return method(self, n, f)

    return checked  # type: ignore[return-value]


def check_formulas(cls: type) -> None:
    """Make a `formula` of every method of `FORMULAS` that a class defines."""
    for name in FORMULAS:
        method = vars(cls).get(name)
        if inspect.isfunction(method):
            setattr(cls, name, formula(method))


def check_count(owner: str, name: str, value: Any, least: int) -> Any:
    """Check that a value is an integer, or an array or tensor of integers, of at least `least`.

    Args:
        owner: the name of the rule, for the message.
        name: the name of the value, for the message.
        value: the value.
        least: the smallest number that is allowed.

    Returns:
        The value; an integer of NumPy as one of Python.

    Raises:
        InvalidParameter: it is not.
    """
    if isinstance(value, np.integer):
        value = int(value)
    if isinstance(value, Tensor):
        valid = is_integral(value) and bool((value >= least).all())
    elif isinstance(value, np.ndarray):
        valid = value.dtype.kind in "iu" and bool((value >= least).all())
    else:
        valid = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not valid:
        raise InvalidParameter(f"{owner}: {name} must be an integer of at least {least}, not {reprlib.repr(value)}")
    return value


def is_integral(value: Tensor) -> bool:
    """Return whether the dtype of a tensor is one of integers; booleans are not."""
    return not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)
