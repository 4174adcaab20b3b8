"""Errors of plug-ins as one line for the user, which names the component and what is wrong with it."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields
from types import FrameType
from typing import Any

from byzbench import registry
from byzbench.core import Component, Task
from byzbench.errors import (
    BrokenPlugin,
    Busy,
    ByzbenchError,
    CorruptRecord,
    ExhaustedResources,
    StorageError,
    error_text,
    exhaustion,
)
from byzbench.experiments.termination import is_terminated
from byzbench.rl.checked_environments import CheckedEnvironments

_explaining: ContextVar[bool] = ContextVar("explaining", default=False)
"""True while an error is being explained, so that the checks for it raise theirs as they are."""


@contextmanager
def translate_plugin_errors(components: Iterable[Component]) -> Iterator[None]:
    """Replace an error that a plug-in causes in a block by a `BrokenPlugin` of one line.

    `SystemExit`, and a `KeyboardInterrupt` that is not the user's, are errors of a component. Errors of byzbench, and
    other errors that no plug-in causes, pass unchanged. Nothing is done unless there is an error.

    Args:
        components: The components that the block calls. The block writes no records.

    Raises:
        BrokenPlugin: A method of a plug-in has a wrong signature, returns something of a wrong form, or has an error.
        ExhaustedResources: This machine has no memory, file descriptors or processes left.
    """
    with recorded_interrupts() as interrupted:
        try:
            yield
        except BaseException as error:
            # Only records raise these, upon which a sweep does not record a failure.
            of_records = isinstance(error, Busy | StorageError | CorruptRecord)
            ours = isinstance(error, ByzbenchError) and not of_records
            if ours or _explaining.get() or (isinstance(error, KeyboardInterrupt) and interrupted()):
                raise
            if isinstance(error.__cause__, StopIteration):  # Python replaces it by an error of the coroutine
                error = error.__cause__
            if line := explain(error, components):
                raise BrokenPlugin(line) from error
            if line := exhaustion(error):
                raise ExhaustedResources(line) from error
            if isinstance(error, Exception):
                raise
            raise BrokenPlugin(f"a component ended the run: {error_text(error)}") from error


@contextmanager
def recorded_interrupts() -> Iterator[Callable[[], bool]]:
    """Record in a block whether the user interrupts it, as plug-ins can raise `KeyboardInterrupt` themselves.

    Yields:
        A function that returns whether the process has received SIGINT or SIGTERM.
    """
    before, received = signal.getsignal(signal.SIGINT), False

    def record(number: int, frame: FrameType | None) -> Any:
        nonlocal received
        received = True
        return before(number, frame) if callable(before) else None

    # Only the main thread receives signals, and a worker process ignores this one.
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield is_terminated
        return
    signal.signal(signal.SIGINT, record)
    try:
        yield lambda: received or is_terminated()
    finally:
        signal.signal(signal.SIGINT, before)


def explain(error: BaseException, components: Iterable[Component]) -> str | None:
    """Return a line on the plug-in that causes an error, or None if none does.

    An error that is raised in the code of a plug-in is a mistake there, and the line names its file and line.
    Otherwise the plug-ins are compared with their interfaces: first the signatures of their methods, then the shapes
    and types of what they return; if no check fails, the line names all plug-ins. An error in an environment of
    Gymnasium or PettingZoo is one of its task.

    Args:
        error: The error, with its traceback.
        components: The components that may have caused it.
    """
    from byzbench.testing.interfaces import is_built_in, signature_fault
    from byzbench.testing.kits import kit_of

    parts = {id(part): part for component in components for part in _parts(component)}
    plugins = [part for part in parts.values() if not is_built_in(type(part))]
    if environment := _locate_environment(error, parts.values()):
        return environment
    if not plugins:
        return None
    if _owner(_innermost(error)[0], plugins) is not None:
        return locate(error, plugins)
    if not isinstance(error, Exception):
        return locate(error, plugins)  # the checks below would raise it again
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
                if _owner(_innermost(same_error)[0], [plugin]):
                    return locate(same_error, [plugin])
    finally:
        _explaining.reset(token)
    if line := locate(error, plugins):
        return line
    # No check finds what is wrong with what it returned.
    return f"with {', '.join(map(_label, plugins))}: {error_text(error)} ({_place(*_innermost(error))})"


def _locate_environment(error: BaseException, components: Iterable[Component]) -> str | None:
    """Return an error as one line if it was raised by an environment, else None."""
    tasks = [component for component in components if isinstance(component, Task)]
    frames = list(traceback.walk_tb(error.__traceback__))
    if not tasks or not any(isinstance(frame.f_locals.get("self"), CheckedEnvironments) for frame, _ in frames):
        return None
    return f"env {registry.written_form(tasks[0])}: {error_text(error)} ({_place(*frames[-1])})"


def _innermost(error: BaseException) -> tuple[FrameType, int]:
    return list(traceback.walk_tb(error.__traceback__))[-1]


def _place(frame: FrameType, line: int) -> str:
    return f"{frame.f_code.co_filename}, line {line}, in {frame.f_code.co_name}"


def locate(error: BaseException, plugins: Iterable[Component], label: bool = True) -> str | None:
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
    text = f"{error_text(error)} ({_place(frame, line)})"
    return f"{_label(owner or _owner(frame, known))}: {text}" if label else text


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
