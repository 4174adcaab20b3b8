"""Conformance test of signatures: the methods of a component take the arguments with which byzbench calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from byzbench import core, registry
from byzbench.core import Component

_ON_REQUEST = frozenset({"honest", "judge"})
"""Keywords that a rule receives only if it requires them."""


def is_built_in(cls: type) -> bool:
    """Return whether a class is one of byzbench.

    Example:
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
        if reason := _mismatch(component, method, base_method):
            return f"{name} must take {_expected(component, base_method)}; {reason}"
    return None


def _is_method(name: str, value: object) -> bool:
    return inspect.isfunction(value) and (name == "__call__" or not name.startswith("_"))


def _mismatch(component: Component, method: Callable[..., Any], base_method: Callable[..., Any]) -> str | None:
    """Return why a method cannot be called like that of the base class, or None if it can."""
    positional, keywords, passes_on = _parameters(component, base_method)
    if passes_on:
        kind_call = registry.base_class(component.kind).__call__
        keywords = [*keywords, *(k for k in _parameters(component, kind_call)[1] if k not in keywords)]
    try:
        inspect.signature(method).bind(component, *positional, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error).replace("keyword argument", "keyword")
    return None


def _parameters(component: Component, method: Callable[..., Any]) -> tuple[list[str], list[str], bool]:
    """Return the positional arguments of a method, its keywords, and whether it passes further keywords on."""
    left_out = _ON_REQUEST - (component.required_inputs if isinstance(component, core.Aggregator) else frozenset())
    parameters = list(inspect.signature(method).parameters.values())[1:]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in left_out]
    passes_on = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD], keywords, passes_on


def _expected(component: Component, method: Callable[..., Any]) -> str:
    """Return the arguments of a method as text."""
    positional, keywords, passes_on = _parameters(component, method)
    words = [*positional, *(["*", *keywords] if keywords else [])]
    if passes_on:
        words += [f"**{p.name}" for p in inspect.signature(method).parameters.values() if p.kind is p.VAR_KEYWORD]
    return f"({', '.join(words)})"
