"""Components by name: built-in files and plug-ins from other distributions, found without importing any of them.

A component is written `alie`, `alie(z=1.5)`, in short `alie:z=1.5`; nested, `sleeper(alie(z=1.5), after=200)`; and
`bucketing(s=2)+rfa` puts the right one inside the left one. The name of a built-in is its file's stem. A plug-in names
itself: an entry point in the group `byzbench.attacks` (or any other zoo's) that points at the class.
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
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byzbench.errors import BrokenPlugin, InvalidParameter, UnknownName, UserError, suggest

if TYPE_CHECKING:
    from byzbench.contracts import Component

KINDS = {
    "algorithm": "algorithms",
    "attack": "attacks",
    "topology": "topologies",
    "task": "tasks",
    "aggregator": "aggregators",
    "agreement": "agreements",
    "placement": "placements",
    "channel": "channels",
    "coin": "coins",
}
FLAGS = {kind: {"algorithm": "algo", "task": "env"}.get(kind, kind) for kind in KINDS}
_ALIASES = {alias: kind for kind in KINDS for alias in (kind, KINDS[kind], FLAGS[kind])}
_registered: dict[type, str] = {}

_UNREADABLE = (SyntaxError, ValueError, TypeError, MemoryError, RecursionError)
"""What `ast` raises at a text that is no Python literal, or is nested too deeply to be read as one."""


@dataclass(frozen=True)
class Origin:
    """Where a component comes from: its module, its distribution, and its class if an entry point names it."""

    kind: str
    name: str
    module: str
    attribute: str | None
    distribution: str


@dataclass(frozen=True)
class Spec:
    """A component as written: a name, what stands inside it, and its parameters."""

    name: str
    inner: tuple[Any, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)


def kind_of(word: str) -> str:
    """The kind that a user's word means: `attack`, `attacks`, `algo`, `env`, ..."""
    if word not in _ALIASES:
        raise UnknownName(f"unknown kind {word!r}. {suggest(word, _ALIASES)}Kinds: {', '.join(KINDS)}.")
    return _ALIASES[word]


@cache
def origins(kind: str) -> dict[str, Origin]:
    """Every component of a kind by name, sorted. Imports nothing; of two that share a name the built-in stays."""
    import byzbench

    package = f"byzbench.{KINDS[kind_of(kind)]}"
    spec = importlib.util.find_spec(package)
    found = {}
    for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else []):
        if not module.name.startswith("_"):
            origin = Origin(kind, module.name, f"{package}.{module.name}", None, f"byzbench {byzbench.__version__}")
            found[module.name] = origin
    for point in entry_points(group=package):
        where = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"
        if not point.name.isidentifier():
            warnings.warn(f"{kind} {point.name!r} of {where} is ignored: a name is one word", stacklevel=2)
        elif point.name in found:
            taken = found[point.name].distribution
            warnings.warn(f"{kind} {point.name!r} of {where} is ignored: {taken} has that name", stacklevel=2)
        else:
            found[point.name] = Origin(kind, point.name, point.module, point.attr or None, where)
    return dict(sorted(found.items()))


def summary(origin: Origin) -> str:
    """The first line of the component's docstring, read from its source without importing it."""
    path = source_file(origin.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return "(its source cannot be read)"
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]
    named = [c for c in classes if c.name == origin.attribute] or classes[-1:]
    documented: list[ast.ClassDef | ast.Module] = [*named, tree]
    text = next((d for node in documented if (d := ast.get_docstring(node))), "")
    return text.split("\n")[0]


def source_file(module: str) -> Path | None:
    """The file of a module. Only the first package of its dotted name is looked up, so nothing of it is executed."""
    top, *rest = module.split(".")
    if module.startswith("byzbench."):
        package = importlib.util.find_spec(".".join(module.split(".")[:2]))
        rest = module.split(".")[2:]
    else:
        package = importlib.util.find_spec(top)
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


def find(kind: str, name: str) -> type[Component]:
    """The class of a component; imports its module and no other."""
    kind = kind_of(kind)
    zoo = origins(kind)
    if name not in zoo:
        raise UnknownName(
            f"unknown {kind} {name!r}. {suggest(name, zoo)}Run `byzbench list {KINDS[kind]}` for all {len(zoo)}."
        )
    cls = _import(zoo[name])
    _registered[cls] = name
    return cls


@cache
def _import(origin: Origin) -> type[Component]:
    from byzbench import contracts

    base: type[Component] = getattr(contracts, origin.kind.capitalize())
    where = f"{origin.kind} {origin.name!r} of {origin.distribution}"
    try:
        module = importlib.import_module(origin.module)
    except (Exception, SystemExit) as error:
        text = str(error).splitlines()
        said = f"{type(error).__name__}: {text[0] if text else ''}"
        raise BrokenPlugin(f"{where} cannot be imported: {said}") from error
    if origin.attribute:
        candidate = getattr(module, origin.attribute, None)
    else:
        here = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
        candidate = next((c for c in here if issubclass(c, base) and not c.__name__.startswith("_")), None)
    if not (isinstance(candidate, type) and issubclass(candidate, base) and "__dataclass_fields__" in vars(candidate)):
        raise BrokenPlugin(f"{where}: {origin.module} has no dataclass derived from {base.__name__}")
    if inspect.isabstract(candidate):
        missing = ", ".join(sorted(candidate.__abstractmethods__))
        raise BrokenPlugin(f"{where}: {candidate.__name__} does not define {missing}")
    return candidate


def parse(text: str) -> Spec:
    """Read a component as users write it.

    Raises:
        UserError: the text is not of that form.
    """
    if short := re.fullmatch(r"\s*(\w+)\s*:(.*)", text, re.DOTALL):
        name, rest = short.groups()
        items = re.split(r",(?![^\[(]*[\])])", rest)  # at commas that no bracket holds
        pairs = [item.strip().partition("=") for item in items if item.strip()]
        inner = tuple(literal(key) for key, sign, _ in pairs if not sign)
        return Spec(name, inner, _once((key.strip(), literal(value)) for key, sign, value in pairs if sign))
    try:
        found = _read(ast.parse(text.strip(), mode="eval").body)
    except _UNREADABLE:
        found = None
    if not isinstance(found, Spec):
        raise UserError(f"cannot read {text!r}: write name, name(key=value, ...), name:key=value or outer+inner")
    return found


def _read(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return Spec(node.id)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and all(k.arg for k in node.keywords):
        parameters = _once((k.arg, _read(k.value)) for k in node.keywords if k.arg)
        return Spec(node.func.id, tuple(_read(a) for a in node.args), parameters)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        if isinstance(node.left, ast.BinOp) and isinstance(node.left.op, ast.Add):
            # Python reads a+b+c as (a+b)+c; here a holds b, and b holds c.
            return _read(ast.BinOp(node.left.left, ast.Add(), ast.BinOp(node.left.right, ast.Add(), node.right)))
        outer, inner = _read(node.left), _read(node.right)
        if not (isinstance(outer, Spec) and isinstance(inner, Spec)):
            raise ValueError("only components can be added")
        return Spec(outer.name, (*outer.inner, inner), outer.parameters)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        return ast.unparse(node).replace(" ", "")  # a word such as n-f, which some rules take
    return ast.literal_eval(node)


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidParameter(f"{key} is given twice")
        found[key] = value
    return found


def literal(text: str) -> Any:
    """A value as users write it: a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except _UNREADABLE:
        return text.strip()


def with_parameters(spec: str | Spec, parameters: dict[str, Any]) -> Spec:
    """The component with further parameters, which win over its own."""
    read = parse(spec) if isinstance(spec, str) else spec
    return Spec(read.name, read.inner, {**read.parameters, **parameters})


def build(kind: str, spec: str | Spec | Component) -> Component:
    """The component that a spec means, validated.

    Raises:
        UnknownName: no such component.
        InvalidParameter: no such parameter, or a value outside its bounds.
        BrokenPlugin: it cannot be imported.
    """
    from byzbench.contracts import Component

    if isinstance(spec, Component):
        if spec.kind != kind_of(kind):
            raise InvalidParameter(f"{type(spec).__name__} is of kind {spec.kind}, not {kind_of(kind)}")
        return spec
    read = parse(spec) if isinstance(spec, str) else spec
    cls = find(kind, read.name)
    try:
        return cls(**_values(cls, read))
    except InvalidParameter as error:
        said = str(error).removeprefix(f"{cls.__name__}: ")
        raise InvalidParameter(f"{kind_of(kind)} {read.name!r}: {said}") from None


def _values(cls: type[Component], read: Spec) -> dict[str, Any]:
    """The arguments that a spec means for a class: unnamed ones named, components built, nothing unknown or missing."""
    from byzbench.contracts import Component

    nested, allowed, values = nested_kinds(cls), [f.name for f in fields(cls)], dict(read.parameters)
    slots = positional(cls)
    if len(read.inner) > len(slots):
        raise InvalidParameter(f"at most {len(slots)} of its parameters can be given without a name")
    for slot, value in zip(slots, read.inner, strict=False):
        if slot in values:
            raise InvalidParameter(f"{slot} is given twice")
        values[slot] = value
    for key, value in values.items():
        if key not in allowed:
            listed = f"Its parameters: {', '.join(allowed)}." if allowed else "It has none."
            raise InvalidParameter(f"no parameter {key!r}. {suggest(key, allowed)}{listed}")
        if key in nested and isinstance(value, str | Spec):
            values[key] = build(nested[key], value)
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
    """Return the fields that may be written without their names, in order: those that hold components, if any do."""
    return list(nested_kinds(cls)) or [f.name for f in fields(cls) if not f.kw_only]


@cache
def nested_kinds(cls: type[Component]) -> dict[str, str]:
    """Return the fields that hold a component, each with its kind."""
    from byzbench.contracts import Component

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


def load(kind: str, name: str, **parameters: Any) -> Any:
    """One component, ready to use: `load("aggregator", "krum")(x, f)`.

    Raises:
        UnknownName, InvalidParameter, BrokenPlugin: see `build`.
    """
    return build(kind, with_parameters(name, parameters))


def name_of(component: Component | type[Component]) -> str:
    """The name that a component is registered under: a plug-in's own, or its file's stem."""
    cls = component if isinstance(component, type) else type(component)
    return _registered.get(cls) or cls.__module__.rpartition(".")[2]


def describe(component: Component) -> dict[str, Any]:
    """The component as data, as JSON has it: its name and every parameter, defaults included."""
    from byzbench.contracts import Component

    def plain(value: Any) -> Any:
        if isinstance(value, Component):
            return describe(value)
        return list(value) if isinstance(value, tuple) else value

    parameters = {f.name: plain(getattr(component, f.name)) for f in fields(component)}
    return {"name": name_of(component), "parameters": parameters}


def from_description(kind: str, data: dict[str, Any]) -> Component:
    """The inverse of `describe`."""

    def spec(entry: dict[str, Any]) -> Spec:
        nested = {k: spec(v) if isinstance(v, dict) else v for k, v in entry["parameters"].items()}
        return Spec(entry["name"], (), nested)

    return build(kind, spec(data))
