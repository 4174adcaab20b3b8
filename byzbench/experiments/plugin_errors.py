"""Errors of plug-ins as one line for the user, which names the component and what is wrong with it."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from types import FrameType

from byzbench import registry
from byzbench.core import Component
from byzbench.errors import BrokenPlugin, ByzbenchError

_explaining: ContextVar[bool] = ContextVar("explaining", default=False)
"""True while an error is being explained, so that the checks for it raise theirs as they are."""


@contextmanager
def translate_plugin_errors(components: Iterable[Component]) -> Iterator[None]:
    """Replace an error that a plug-in causes in a block by a `BrokenPlugin` of one line.

    Errors of byzbench, and errors that no plug-in causes, pass unchanged. Nothing is done unless there is an error.

    Args:
        components: The components that the block calls.

    Raises:
        BrokenPlugin: A method of a plug-in has a wrong signature, returns something of a wrong form, or has an error.
    """
    try:
        yield
    except ByzbenchError:
        raise
    except Exception as error:
        if not _explaining.get() and (line := explain(error, components)):
            raise BrokenPlugin(line) from error
        raise


def explain(error: Exception, components: Iterable[Component]) -> str | None:
    """Return a line on the plug-in that causes an error, or None if none does.

    An error that is raised in the code of a plug-in is a mistake there, and the line names its file and line.
    Otherwise the plug-ins are compared with their interfaces: first the signatures of their methods, then the shapes
    and types of what they return.

    Args:
        error: The error, with its traceback.
        components: The components that may have caused it.
    """
    from byzbench.testing.interfaces import is_built_in, signature_fault
    from byzbench.testing.kits import kit_of

    parts = {id(part): part for component in components for part in _parts(component)}
    plugins = [part for part in parts.values() if not is_built_in(type(part))]
    if not plugins:
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if _owner(frames[-1], plugins) is not None:
        return locate(error, plugins)
    token = _explaining.set(True)
    try:
        for plugin in plugins:
            if fault := signature_fault(plugin):
                return f"{_label(plugin)}: {fault}"
        for plugin in plugins:
            kit = kit_of(plugin.kind)
            try:
                for check in kit.form:
                    check(plugin, kit.cases[0])
            except AssertionError as violation:
                return f"{_label(plugin)}: {violation}"
            except Exception as same_error:
                if _owner([frame for frame, _ in traceback.walk_tb(same_error.__traceback__)][-1], [plugin]):
                    return locate(same_error, [plugin])
    finally:
        _explaining.reset(token)
    return locate(error, plugins)


def locate(error: Exception, plugins: Iterable[Component], label: bool = True) -> str | None:
    """Return an error as one line with the innermost line of a plug-in that led to it; None if no plug-in did.

    Args:
        error: The error, with its traceback.
        plugins: The plug-ins.
        label: Whether the line starts with the kind and the name of the plug-in.
    """
    known = list(plugins)
    frames = list(traceback.walk_tb(error.__traceback__))
    inside = [(frame, line) for frame, line in frames if _owner(frame, known) is not None]
    if not inside:
        return None
    frame, line = inside[-1]
    owner = next((_owner(f, known) for f, _ in reversed(inside) if _is_method_of(f, _owner(f, known))), None)
    message = " ".join(str(error).split())
    text = f"{type(error).__name__}{': ' if message else ''}{message}"
    place = f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"
    return f"{_label(owner or _owner(frame, known))}: {text} ({place})" if label else f"{text} ({place})"


def _parts(component: Component) -> Iterator[Component]:
    """Yield a component and all components that it contains."""
    yield component
    for f in fields(component):
        value = getattr(component, f.name)
        if isinstance(value, Component):
            yield from _parts(value)


def _owner(frame: FrameType, plugins: list[Component]) -> Component | None:
    """Return the plug-in in whose package the code of a frame is, preferably one whose method it is."""
    package = frame.f_globals.get("__name__", "").partition(".")[0]
    owners = [p for p in plugins if any(cls.__module__.partition(".")[0] == package for cls in _own_classes(p))]
    return next((p for p in owners if _is_method_of(frame, p)), owners[0] if owners else None)


def _is_method_of(frame: FrameType, plugin: Component | None) -> bool:
    name = frame.f_code.co_qualname
    return plugin is not None and any(name.startswith(f"{cls.__qualname__}.") for cls in _own_classes(plugin))


def _own_classes(plugin: Component) -> list[type]:
    from byzbench.testing.interfaces import is_built_in

    return [cls for cls in type(plugin).__mro__ if issubclass(cls, Component) and not is_built_in(cls)]


def _label(plugin: Component | None) -> str:
    return "plug-in" if plugin is None else f"{plugin.kind} {registry.name_of(plugin)}"
