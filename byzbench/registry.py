"""Registry of components by name: built-in files and plug-ins of other distributions, listed without importing them.

A component is written `alie`, `alie(z=1.5)` or in short `alie:z=1.5`. Components are nested as in
`sleeper(alie(z=1.5), after=200)`. `bucketing(s=2)+rfa` is short for `bucketing(rfa, s=2)`, and
`gymnasium:A-v1(steps=9)` for `gymnasium("A-v1", steps=9)`. The name of a built-in component is the stem of its file.
The name of a plug-in is that of its entry point, which belongs to the group `byzbench.attacks`, or that of another
kind, and points at the class.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import re
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import EntryPoint, distributions, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from byzbench.axes import AXES
from byzbench.canonical import current_parameter
from byzbench.errors import BrokenPlugin, InvalidParameter, RenamedParameter, UnknownName, UserError, suggest
from byzbench.literals import UNREADABLE, literal, split_at_commas

if TYPE_CHECKING:
    from byzbench.core import (
        Aggregator,
        Agreement,
        Algorithm,
        Attack,
        Channel,
        Coin,
        Component,
        Placement,
        PolicyFamily,
        Scenario,
        Schedule,
        Task,
        Topology,
    )

KINDS = {axis.key: axis.package for axis in AXES if axis.is_kind}
"""The package of each kind below `byzbench`."""

FLAGS = {axis.key: axis.name for axis in AXES if axis.is_kind}
"""The name of each kind as an axis, which users type."""


@dataclass(frozen=True)
class StandIns:
    """Classes that take the place of all plug-ins, which are then not imported.

    Attributes:
        classes: The classes by kind and name.
        folder: The folder in which the distributions of the plug-ins are; None: this environment.
        extended: By class, the components of byzbench that the plug-in may extend.
    """

    classes: Mapping[tuple[str, str], type[Component]]
    folder: Path | None
    extended: Mapping[type, tuple[type[Component], ...]]


_TEXT_AND_PARAMETERS = r"\s*(\w+[-./:][-./:\w]*)\s*\((\s*\w+\s*=.*)\)\s*"
"""A text that is no name, and parameters in brackets; a name with brackets would be a component inside another."""

_ALIASES = {word: kind for kind in KINDS for word in (kind, KINDS[kind], FLAGS[kind])}
_registered: dict[type, str] = {}
_stand_ins: StandIns | None = None


@dataclass(frozen=True)
class Origin:
    """Origin of a component: its module, its distribution, and the name of its class if an entry point states it."""

    kind: str
    name: str
    module: str
    attribute: str | None
    distribution: str


@dataclass(frozen=True)
class Spec:
    """Written form of a component: its name, its positional arguments, and its parameters."""

    name: str
    inner: tuple[Any, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


def kind_of(word: str) -> str:
    """Return the kind that a word means, for example `attack`, `attacks`, `algo` or `env`.

    Raises:
        UnknownName: The word is not the name of a kind.

    Example:
        >>> kind_of("env")
        'task'
    """
    if not isinstance(word, str) or word not in _ALIASES:
        raise UnknownName(f"unknown kind {word!r}. {suggest(str(word), _ALIASES)}Kinds: {', '.join(KINDS)}.")
    return _ALIASES[word]


@cache
def origins(kind: str) -> dict[str, Origin]:
    """Return the origin of every component of a kind, sorted by name, without importing any.

    A plug-in whose name is taken by a built-in component or an earlier plug-in is ignored with a warning.

    Example:
        >>> origins("aggregator")["krum"].module
        'byzbench.aggregators.krum'
    """
    import byzbench

    package = f"byzbench.{KINDS[kind_of(kind)]}"
    spec = importlib.util.find_spec(package)
    by_name = {}
    for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
        if not module.name.startswith("_"):
            origin = Origin(kind, module.name, f"{package}.{module.name}", None, f"byzbench {byzbench.__version__}")
            by_name[module.name] = origin
    for point in plugin_entry_points(package):
        if _stand_ins and (kind, point.name) not in _stand_ins.classes:
            continue
        distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
        if not point.name.isidentifier():
            warnings.warn(f"{kind} {point.name!r} of {distribution} is ignored: a name is one word", stacklevel=2)
        elif point.name in by_name:
            taken = by_name[point.name].distribution
            warnings.warn(f"{kind} {point.name!r} of {distribution} is ignored: {taken} has that name", stacklevel=2)
        else:
            by_name[point.name] = Origin(kind, point.name, point.module, point.attr or None, distribution)
    return dict(sorted(by_name.items()))


@contextmanager
def using_stand_ins(stand_ins: StandIns) -> Iterator[None]:
    """Replace all plug-ins by other classes in a block; a plug-in without one is unknown there."""
    global _stand_ins
    before = _stand_ins
    _stand_ins = stand_ins
    origins.cache_clear()
    try:
        yield
    finally:
        _stand_ins = before
        origins.cache_clear()


def extended_by_stand_in(cls: type) -> tuple[type[Component], ...]:
    """Return the components of byzbench that the plug-in behind a class may extend."""
    return _stand_ins.extended.get(cls, ()) if _stand_ins else ()


def plugin_entry_points(package: str) -> list[EntryPoint]:
    """Return the entry points of a package of components, for example of `byzbench.attacks`, in other distributions."""
    if _stand_ins is None or _stand_ins.folder is None:
        return list(entry_points(group=package))
    found = distributions(path=[str(_stand_ins.folder)])
    return [point for distribution in found for point in distribution.entry_points if point.group == package]


def plugin_spec(top: str) -> ModuleSpec | None:
    """Return the specification of a top-level module of a plug-in without importing it; None if there is none."""
    if _stand_ins is None or _stand_ins.folder is None:
        return importlib.util.find_spec(top)
    return PathFinder.find_spec(top, [str(_stand_ins.folder)])


def source_file(module: str) -> Path | None:
    """Return the file of a module without executing any of its code; None if there is none."""
    top, *rest = module.split(".")
    if module.startswith("byzbench."):
        package = importlib.util.find_spec(".".join(module.split(".")[:2]))
        rest = module.split(".")[2:]
    else:
        package = plugin_spec(top)
    if package is None:
        return None
    if not rest:
        return Path(package.origin) if package.origin else None
    for folder in package.submodule_search_locations or []:
        stem = Path(folder, *rest)
        for path in (stem.with_suffix(".py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def find_origin(kind: str, name: str) -> Origin:
    """Return the origin of a component without importing it.

    Args:
        kind: A kind, in any form that `kind_of` takes.
        name: The name of the component.

    Raises:
        UnknownName: There is no such component.

    Example:
        >>> find_origin("env", "cartpole").module
        'byzbench.tasks.cartpole'
    """
    kind = kind_of(kind)
    known = origins(kind)
    if name not in known:
        raise UnknownName(
            f"unknown {kind} {name!r}. {suggest(name, known)}Run `byzbench list {KINDS[kind]}` for all {len(known)}."
        )
    return known[name]


def find(kind: str, name: str) -> type[Component]:
    """Import the module of a component and return its class.

    Args:
        kind: A kind, in any form that `kind_of` takes.
        name: The name of the component.

    Raises:
        UnknownName: There is no such component.
        BrokenPlugin: It cannot be imported, or does not implement its interface.

    Example:
        >>> find("aggregator", "krum").__name__
        'Krum'
    """
    origin = find_origin(kind, name)
    is_plugin = not origin.module.startswith("byzbench.")
    cls = _stand_ins.classes[origin.kind, name] if _stand_ins and is_plugin else _import(origin)
    _registered[cls] = name
    return cls


@cache
def _import(origin: Origin) -> type[Component]:
    base = base_class(origin.kind)
    where = f"{origin.kind} {origin.name!r} of {origin.distribution}"
    try:
        module = importlib.import_module(origin.module)
    except (Exception, SystemExit) as error:
        text = str(error).splitlines()
        reason = f"{type(error).__name__}: {text[0] if text else ''}"
        raise BrokenPlugin(f"{where} cannot be imported: {reason}") from error
    if origin.attribute:
        candidate = getattr(module, origin.attribute, None)
    else:
        classes = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        candidate = next((c for c in classes if issubclass(c, base) and not c.__name__.startswith("_")), None)
    if not (isinstance(candidate, type) and issubclass(candidate, base) and "__dataclass_fields__" in vars(candidate)):
        raise BrokenPlugin(f"{where}: {origin.module} has no dataclass derived from {base.__name__}")
    if inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))
        raise BrokenPlugin(f"{where}: {candidate.__name__} does not define {missing}")
    return candidate


def base_class(kind: str) -> type[Component]:
    """Import the base class of a kind.

    Example:
        >>> base_class("attack").__name__
        'Attack'
    """
    module, _, name = next(axis.base for axis in AXES if axis.key == kind).rpartition(".")
    base: type[Component] = getattr(importlib.import_module(module), name)
    return base


def parse_spec(text: str) -> Spec:
    """Parse the written form of a component.

    Raises:
        UserError: The text does not have that form.

    Example:
        >>> parse_spec("alie(z=1.5)") == parse_spec("alie:z=1.5")
        True
        >>> parse_spec("bucketing(s=2)+rfa")
        Spec(name='bucketing', inner=(Spec(name='rfa', inner=(), parameters={}),), parameters={'s': 2})
    """
    if short := re.fullmatch(r"\s*(\w+)\s*:(.*)", text, re.DOTALL):
        name, rest = short.groups()
        if text_first := re.fullmatch(_TEXT_AND_PARAMETERS, rest, re.DOTALL):
            rest = ",".join(text_first.groups())
        pairs = [item.strip().partition("=") for item in split_at_commas(rest) if item.strip()]
        inner = tuple(literal(key) for key, sign, _ in pairs if not sign)
        return Spec(name, inner, _once((key.strip(), literal(value)) for key, sign, value in pairs if sign))
    try:
        spec = _spec_of(ast.parse(text.strip(), mode="eval").body)
    except UNREADABLE:
        spec = None
    if not isinstance(spec, Spec):
        raise UserError(f"cannot read {text!r}: write name, name(key=value, ...), name:key=value or outer+inner")
    return spec


def _spec_of(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return Spec(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and all(k.arg for k in node.keywords):
        parameters = _once((k.arg, _spec_of(k.value)) for k in node.keywords if k.arg)
        return Spec(node.func.id, tuple(_spec_of(a) for a in node.args), parameters)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Add):
            # Python parses a+b+c as (a+b)+c; here it means a(b(c)).
            return _spec_of(ast.BinOp(node.left.left, ast.Add(), ast.BinOp(node.left.right, ast.Add(), node.right)))
        outer, inner = _spec_of(node.left), _spec_of(node.right)
        if not (isinstance(outer, Spec) and isinstance(inner, Spec)):
            raise ValueError("only components can be added")
        return Spec(outer.name, (*outer.inner, inner), outer.parameters)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        return ast.unparse(node).replace(" ", "")  # a text such as n-f, which is a value of some parameters
    return ast.literal_eval(node)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise InvalidParameter(f"{key} is given twice")
        values[key] = value
    return values


def current_names(kind: str, name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a component by their names of today, with a warning for each earlier name.

    Args:
        kind: The kind of the component.
        name: The name of the component.
        parameters: The parameters as written.

    Raises:
        InvalidParameter: A parameter is written under two names.

    Example:
        >>> current_names("attack", "alie", {"z": 1.5})
        {'z': 1.5}
    """
    renamed: dict[str, Any] = {}
    for written, value in parameters.items():
        current = current_parameter(kind, name, written)
        if current in renamed or (current != written and current in parameters):
            raise InvalidParameter(f"{written} is an earlier name of {current}, which is given too")
        if current != written:
            warnings.warn(RenamedParameter(f"{kind} {name!r}: {written} is now called {current}"), stacklevel=1)
        renamed[current] = value
    return renamed


def with_parameters(kind: str, spec: str | Spec, parameters: Mapping[str, Any]) -> Spec:
    """Return the written form of a component with further parameters, which replace its own.

    Args:
        kind: The kind of the component.
        spec: The written form.
        parameters: The further parameters.

    Example:
        >>> with_parameters("attack", "alie(z=1.5)", {"z": 2.0})
        Spec(name='alie', inner=(), parameters={'z': 2.0})
    """
    parsed = _parsed(kind, spec)
    own, further = (current_names(kind, parsed.name, values) for values in (parsed.parameters, parameters))
    return Spec(parsed.name, parsed.inner, own | further)


def _parsed(kind: str, spec: str | Spec) -> Spec:
    """Return the parts of a written form."""
    if not isinstance(spec, str | Spec):
        raise InvalidParameter(f"{kind_of(kind)} takes the name of a component or a component, got {spec!r}")
    return parse_spec(spec) if isinstance(spec, str) else spec


@overload
def make(kind: Literal["algo", "algorithm"], name: str | Spec | Component, **parameters: Any) -> Algorithm: ...
@overload
def make(kind: Literal["attack"], name: str | Spec | Component, **parameters: Any) -> Attack: ...
@overload
def make(kind: Literal["topology"], name: str | Spec | Component, **parameters: Any) -> Topology: ...
@overload
def make(kind: Literal["env", "task"], name: str | Spec | Component, **parameters: Any) -> Task: ...
@overload
def make(kind: Literal["policy"], name: str | Spec | Component, **parameters: Any) -> PolicyFamily: ...
@overload
def make(kind: Literal["scenario"], name: str | Spec | Component, **parameters: Any) -> Scenario: ...
@overload
def make(kind: Literal["aggregator"], name: str | Spec | Component, **parameters: Any) -> Aggregator: ...
@overload
def make(kind: Literal["agreement"], name: str | Spec | Component, **parameters: Any) -> Agreement: ...
@overload
def make(kind: Literal["placement"], name: str | Spec | Component, **parameters: Any) -> Placement: ...
@overload
def make(kind: Literal["channel"], name: str | Spec | Component, **parameters: Any) -> Channel: ...
@overload
def make(kind: Literal["coin"], name: str | Spec | Component, **parameters: Any) -> Coin: ...
@overload
def make(kind: Literal["schedule"], name: str | Spec | Component, **parameters: Any) -> Schedule: ...
@overload
def make(kind: str, name: str | Spec | Component, **parameters: Any) -> Component: ...
def make(kind: str, name: str | Spec | Component, **parameters: Any) -> Component:
    """Build a component and validate its parameters.

    Args:
        kind: A kind, for example "attack", "aggregator", "algo" or "env", in any form that `kind_of` takes.
        name: The name of the component, or its written form; an instance is returned as it is.
        **parameters: Its parameters, which replace those of the written form.

    Returns:
        The component. Type checkers know its base class by the kind.

    Raises:
        UnknownName: There is no such component.
        InvalidParameter: There is no such parameter, or a value is outside its bounds.
        BrokenPlugin: The component cannot be imported.

    Example:
        >>> make("attack", "alie", z=1.5).z
        1.5
    """
    from byzbench.core import Component

    if isinstance(name, Component):
        if name.kind != kind_of(kind):
            raise InvalidParameter(f"{type(name).__name__} is of kind {name.kind}, not {kind_of(kind)}")
        if parameters:
            raise InvalidParameter(f"{name_of(name)} is built already: give its name with the parameters")
        return name
    parsed = with_parameters(kind_of(kind), name, parameters)
    cls = find(kind, parsed.name)
    try:
        return cls(**_values(cls, parsed))
    except InvalidParameter as error:
        message = str(error).removeprefix(f"{cls.__name__}: ")
        raise InvalidParameter(f"{kind_of(kind)} {parsed.name!r}: {message}") from None


def _values(cls: type[Component], parsed: Spec) -> dict[str, Any]:
    """Return the keyword arguments of a class for a written form, with nested components built.

    Raises:
        InvalidParameter: A parameter is unknown, given twice or missing, or its value has the wrong form.
    """
    from byzbench.core import Component

    nested, allowed = nested_kinds(cls), [f.name for f in fields(cls)]
    values = current_names(cls.kind, parsed.name, parsed.parameters)
    slots = positional(cls)
    if len(parsed.inner) > len(slots):
        raise InvalidParameter(f"at most {len(slots)} of its parameters can be given without a name")
    for slot, value in zip(slots, parsed.inner, strict=False):
        if slot in values:
            raise InvalidParameter(f"{slot} is given twice")
        values[slot] = value
    for key, value in values.items():
        if key not in allowed:
            listed = f"Its parameters: {', '.join(allowed)}." if allowed else "It has none."
            raise InvalidParameter(f"no parameter {key!r}. {suggest(str(key), allowed)}{listed}")
        if key in nested and isinstance(value, str | Spec):
            values[key] = make(nested[key], value)
        elif key in nested and isinstance(value, Mapping) and value.keys() == {"name", "parameters"}:
            values[key] = from_description(nested[key], value)
        elif key in nested and not isinstance(value, Component | None):
            raise InvalidParameter(f"{key} takes the name of a component, got {value!r}")
        elif isinstance(value, Spec):
            if value.inner or value.parameters:
                raise InvalidParameter(f"{key} takes a value, not a component")
            values[key] = value.name
    required = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in required if name not in values]:
        raise InvalidParameter(f"a value is needed for {', '.join(missing)}")
    return values


def positional(cls: type[Component]) -> list[str]:
    """Return the fields that may be written without their names, in order: those of components, if there are any."""
    return list(nested_kinds(cls)) or [f.name for f in fields(cls) if not f.kw_only]


@cache
def nested_kinds(cls: type[Component]) -> dict[str, str]:
    """Return the kind of each field whose value is a component."""
    from byzbench.core import Component

    hints = typing.get_type_hints(cls)
    kinds = {}
    for f in fields(cls):
        options = typing.get_args(hints[f.name]) if _is_union(hints[f.name]) else (hints[f.name],)
        for option in options:
            if isinstance(option, type) and issubclass(option, Component):
                kinds[f.name] = option.kind
    return kinds


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def name_of(component: Component | type[Component]) -> str:
    """Return the name of a component: that of its entry point, or the stem of its file."""
    cls = component if isinstance(component, type) else type(component)
    return _registered.get(cls) or cls.__module__.rpartition(".")[2]


def written_form(component: Component) -> str:
    """Return a component as a user writes it, without the parameters that have their default.

    Example:
        >>> written_form(make("aggregator", "nnm+trimmed_mean"))
        'nnm+trimmed_mean'
        >>> written_form(make("attack", "sleeper(alie(z=1.5), after=7)"))
        'sleeper(after=7)+alie(z=1.5)'
    """
    from byzbench.core import Component

    def text(value: Any) -> str:
        if isinstance(value, Component):
            return written_form(value)
        return repr(list(value) if isinstance(value, tuple) else value)

    values = {f.name: getattr(component, f.name) for f in fields(component)}
    changed = {f.name: values[f.name] for f in fields(component) if values[f.name] != f.default}
    first = next(iter(nested_kinds(type(component))), None)
    inner = changed.pop(first, None) if first else None
    parameters = ", ".join(f"{name}={text(value)}" for name, value in changed.items())
    head = name_of(component) + (f"({parameters})" if parameters else "")
    return f"{head}+{text(inner)}" if inner is not None else head


def describe(component: Component) -> dict[str, Any]:
    """Return a component as JSON data: its name and every parameter, defaults included.

    Example:
        >>> describe(make("aggregator", "krum"))["name"]
        'krum'
    """
    parameters = {f.name: plain(getattr(component, f.name)) for f in fields(component)}
    return {"name": name_of(component), "parameters": parameters}


def plain(value: Any) -> Any:
    """Return the value of a parameter as JSON data; a component as `describe` does.

    Example:
        >>> plain((64, 64))
        [64, 64]
    """
    from byzbench.core import Component

    if isinstance(value, Component):
        return describe(value)
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def from_description(kind: str, data: Mapping[str, Any]) -> Component:
    """Build a component from the data that `describe` returns."""
    return make(kind, Spec(data["name"], (), dict(data["parameters"])))
