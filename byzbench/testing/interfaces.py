"""Conformance test of signatures: the methods of a component take the arguments with which byzbench calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from byzbench.core import Component


def is_built_in(cls: type) -> bool:
    """Return whether a class is one of byzbench.

    Example:
        >>> from byzbench import core
        >>> is_built_in(core.Attack), is_built_in(int)
        (True, False)
    """
    return cls.__module__.partition(".")[0] == "byzbench"


def takes_the_arguments_of_its_kind(component: Component, case: object = None) -> None:
    """Check that every method takes the arguments with which it is called, and is `async` where its kind says so."""
    fault = signature_fault(component)
    assert fault is None, fault


def signature_fault(component: Component) -> str | None:
    """Compare the methods of a plug-in with those of its base classes in byzbench.

    The names of positional arguments are free, as they are passed by position.

    Args:
        component: The component.

    Returns:
        A line on the first method that cannot be called as its kind is called, or None.

    Example:
        >>> from dataclasses import dataclass
        >>> from byzbench import core
        >>> @dataclass(frozen=True)
        ... class Lattice(core.Topology):
        ...     def __call__(self, agents):
        ...         ...
        >>> Lattice.__module__ = "my_package"
        >>> signature_fault(Lattice())
        '__call__ must take (agents, round, rng); too many positional arguments'
    """
    cls = type(component)
    bases = [base for base in cls.__mro__ if is_built_in(base)]
    names = {name: None for base in bases for name, value in vars(base).items() if _is_method(name, value)}
    for name in names:
        base_method = next(vars(base)[name] for base in bases if name in vars(base))
        method = inspect.getattr_static(cls, name)
        if method is base_method or not inspect.isfunction(base_method):
            continue
        if not inspect.isfunction(method):
            return f"{name} must be a method"
        if inspect.iscoroutinefunction(method) != inspect.iscoroutinefunction(base_method):
            how = "" if inspect.iscoroutinefunction(base_method) else "not "
            return f"{name} must {how}be declared with `async def`"
        positional, keywords = _parameters(base_method)
        try:
            inspect.signature(method).bind(component, *positional, **dict.fromkeys(keywords))
        except TypeError as error:
            expected = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
            return f"{name} must take ({expected}); {str(error).replace('keyword argument', 'keyword')}"
    return None


def _is_method(name: str, value: object) -> bool:
    return inspect.isfunction(value) and (name == "__call__" or not name.startswith("_"))


def _parameters(method: Callable[..., Any]) -> tuple[list[str], list[str]]:
    """Return the positional arguments of a method without the first, and its keywords."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD], keywords
