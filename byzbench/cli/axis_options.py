"""Command-line options of the axes of an experiment, derived from `byzbench.axes`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from inspect import Parameter
from typing import Annotated, Any, Literal

import typer

from byzbench.axes import AXES, Axis, option, without_aliases
from byzbench.cli import options
from byzbench.cli.completion import complete_component

Point = dict[str, Any]
"""The values of axes that the user gives, by the name of the axis."""

Form = Literal["value", "list", "filter"]
"""What an option takes: one value, several values, or the value by which runs are filtered."""


def takes_axes(
    form: Form = "value",
    *,
    without: Collection[str] = (),
    defaults: Mapping[str, Any] | None = None,
    texts: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every axis; the command gets the values that the user gives as `point`.

    The options take the place of the parameter `point`. An axis that the user does not give, and that has no default
    here, is not in `point`. Aliases of an axis are hidden options.

    Args:
        form: What the options take.
        without: The axes that the command sets itself.
        defaults: Default values of the command, by axis.
        texts: Help texts that replace those of `byzbench.axes`, by axis.

    Example:
        >>> @takes_axes(without=["seed"], defaults={"agents": 5})
        ... def command(point: Point) -> None:
        ...     print(point)
        >>> command(algorithm="byzpg")
        {'agents': 5, 'algo': 'byzpg'}
    """
    defaults, texts = defaults or {}, texts or {}
    axes = [axis for axis in AXES if axis.name not in without and (axis.is_recorded or form != "filter")]
    parameters_of_axes = [
        _parameter(axis, word, form, _help(axis, form, defaults, texts))
        for axis in axes
        for word in (axis.name, *axis.aliases)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters = [
            parameter.replace(kind=Parameter.KEYWORD_ONLY)
            for own in inspect.signature(command, eval_str=True).parameters.values()
            for parameter in (parameters_of_axes if own.name == "point" else [own])
        ]

        @functools.wraps(command)
        def with_point(**values: Any) -> None:
            words = {parameter.name: values.pop(parameter.name, None) for parameter in parameters_of_axes}
            given = without_aliases({word: value for word, value in words.items() if value is not None})
            point = {axis.name: _value(axis, given[axis.name], form) for axis in axes if axis.name in given}
            command(point={**defaults, **point}, **values)

        with_point.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_point.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_point

    return decorate


def _parameter(axis: Axis, word: str, form: Form, text: str) -> Parameter:
    """Return the parameter of a command whose option sets an axis.

    Args:
        axis: The axis.
        word: The name of the axis, or an alias.
        form: What the option takes.
        text: The help text.
    """
    flags = [f"{option(word)}/--no-{word}"] if axis.type is bool else [option(word)]
    if word == axis.name and axis.letter:
        flags.append(f"-{axis.letter}")
    value_type: Any = list[str] if form == "list" and axis.type is not bool else axis.type
    complete = complete_component(axis.key) if axis.is_kind else None
    option_of_axis = typer.Option(*flags, help=text, hidden=word != axis.name, autocompletion=complete)
    annotation = Annotated[value_type | None, option_of_axis]
    return Parameter(word, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _help(axis: Axis, form: Form, defaults: Mapping[str, Any], texts: Mapping[str, str]) -> str:
    """Return the help text of an axis' option."""
    if form == "filter":
        return f"Only runs with this value of {axis.name}."
    return texts.get(axis.name, f"{axis.help}; default: {defaults.get(axis.name, axis.default_text)}.")


def _value(axis: Axis, given: Any, form: Form) -> Any:
    """Return the value of an option; of the form `list`, a list whose texts may have been separated by commas."""
    if form != "list":
        return given
    if axis.type is bool:
        return [given]
    return options.numbers(axis.flag, given) if axis.type is int else options.components(given)
