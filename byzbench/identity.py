"""Identity of runs by numerical behaviour instead of source text.

Two runs are the same if their experiments have the same canonical description and were computed by the same numerical
behaviour: the same `ENGINE`, and the same `version` of every component. A comment, a rename, a refactoring, a new
component or a new metric raises neither number, so that finished runs and leaderboard rows stay valid. CONTRIBUTING.md
states when a number is raised. The expected outputs in tests/golden/ decide it.

`equal_digests.json` lists, for every version of every component of byzbench, the digests of code that is known to give
the outputs of that version. Code with any other digest counts as edited, and its runs differ from earlier ones.
Plug-ins are not listed; a change of their digest always counts as an edit.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from byzbench import registry
from byzbench.canonical import first_name
from byzbench.core import Component
from byzbench.errors import BrokenPlugin, CorruptRecord

ENGINE = 2
"""The version of the numerical behaviour outside of component files: base classes, learning, federation, geometry,
streams, evaluation. It is raised when, and only when, outputs change."""

EQUAL_DIGESTS = "equal_digests.json"


@dataclass(frozen=True)
class ComponentIdentity:
    """Identity of one component of a run.

    Attributes:
        version: The version of its behaviour.
        digest: The digest of its code without comments and docstrings; empty if its source cannot be read.
        data: The digest of the files that it reads; empty if it reads none.
    """

    version: int
    digest: str
    data: str = ""


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run. Two runs with the same identity have the same results.

    Attributes:
        experiment: The hash of its canonical description.
        engine: The value of `ENGINE` in the code that ran.
        components: The identity of each component, by its kind and first name, for example `attack alie`.

    Example:
        >>> then = RunIdentity("0123456789abcdef", 1, {})
        >>> then.difference(RunIdentity("0123456789abcdef", 2, {}))
        ['engine: 1 then, 2 now']
    """

    experiment: str
    engine: int
    components: Mapping[str, ComponentIdentity]

    def difference(self, other: RunIdentity) -> list[str]:
        """Return the differences to a later run, one line each; an empty list if both are the same.

        Args:
            other: The identity of the later run.
        """
        lines = []
        if self.experiment != other.experiment:
            lines.append(f"experiment: {self.experiment} then, {other.experiment} now")
        if self.engine != other.engine:
            lines.append(f"engine: {self.engine} then, {other.engine} now")
        for name in sorted(self.components.keys() | other.components.keys()):
            then, now = self.components.get(name), other.components.get(name)
            lines += [f"{name}: {line}" for line in _component_difference(name, then, now)]
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return the identity as JSON data, without the hash of the experiment, which a record holds elsewhere."""
        return {
            "engine": self.engine,
            "components": {
                name: {"version": part.version, "digest": part.digest, **({"data": part.data} if part.data else {})}
                for name, part in sorted(self.components.items())
            },
        }

    @classmethod
    def from_json(cls, experiment: str, data: Any, where: object) -> RunIdentity:
        """Return the identity in a record.

        Args:
            experiment: The hash of the record's experiment.
            data: The JSON data, as `to_json` returns it.
            where: The path of the record, for error messages.

        Raises:
            CorruptRecord: The data do not have the form of an identity, or a version is not a positive integer.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("components"), Mapping):
            raise CorruptRecord(f"{where}: identity must hold an engine and components")
        engine = checked_version(data.get("engine"), f"{where}: engine", CorruptRecord)
        parts = {}
        for name, part in data["components"].items():
            entry = dict(part) if isinstance(part, Mapping) else {}
            version = checked_version(entry.get("version"), f"{where}: {name}: version", CorruptRecord)
            digests = [entry.get("digest"), entry.get("data", "")]
            if not all(isinstance(digest, str) for digest in digests):
                raise CorruptRecord(f"{where}: {name}: digest must be text")
            parts[str(name)] = ComponentIdentity(version, *digests)
        return cls(experiment, engine, parts)


def _component_difference(name: str, then: ComponentIdentity | None, now: ComponentIdentity | None) -> Iterator[str]:
    if now is None:
        yield "part of the run then, not now"
    elif then is None:
        # The component belongs to an axis that was added later. Version 1 at the neutral value changes no output.
        if now.version != 1:
            yield f"not part of the run then, version {now.version} now"
        elif not is_listed(name, now):
            yield "not part of the run then, and its code was edited"
    elif then.version != now.version:
        yield f"version {then.version} then, {now.version} now"
    elif not now.digest:
        yield "its source cannot be read, so nothing says that it is the same"
    elif then.digest != now.digest and not (is_listed(name, then) and is_listed(name, now)):
        yield "its code was edited"
    elif then.data != now.data:
        yield "a file that it reads was changed"


def checked_version(value: Any, where: str, error: type[Exception]) -> int:
    """Return a version number if it is a positive integer.

    Args:
        value: The number.
        where: The place of the number, for the error message.
        error: The type of error to raise.

    Raises:
        error: The value is not a positive integer, or is a bool. The message is one line that begins with `where`.
    """
    if type(value) is not int or value < 1:
        raise error(f"{where} must be a positive integer, got {str(value)[:40]!r}")
    return value


def is_listed(name: str, part: ComponentIdentity) -> bool:
    """Return whether `equal_digests.json` lists the digest of a component's code for its version."""
    return part.digest in equal_digests().get(name, {}).get(str(part.version), ())


@cache
def equal_digests() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return the contents of `equal_digests.json`: the digests of each component, by version."""
    data = json.loads(files("byzbench").joinpath(EQUAL_DIGESTS).read_text(encoding="utf-8"))
    return {name: {number: tuple(same) for number, same in versions.items()} for name, versions in data.items()}


def parts(owner: Any) -> Iterator[Component]:
    """Yield every component in the fields of a dataclass instance, nested ones included."""
    stack = [value for f in fields(owner) if isinstance(value := getattr(owner, f.name), Component)]
    while stack:
        part = stack.pop()
        yield part
        stack += [value for f in fields(part) if isinstance(value := getattr(part, f.name), Component)]


def component_name(part: Component | type[Component]) -> str:
    """Return the key of a component in an identity, for example `attack alie`."""
    return f"{part.kind} {first_name(part.kind, registry.name_of(part))}"


def identity_of(experiment: Any) -> RunIdentity:
    """Return the identity that a run of an experiment has with the installed code.

    A plug-in that extends a component of byzbench adds the identity of that component too.

    Args:
        experiment: The experiment.

    Raises:
        BrokenPlugin: The version of a component is not a positive integer.
    """
    owners: dict[type[Component], list[Component]] = {}
    for part in parts(experiment):
        for cls in _component_bases(type(part)):
            owners.setdefault(cls, []).append(part)
    components = {}
    for cls, instances in owners.items():
        name = component_name(cls)
        version = checked_version(cls.version, f"{name}: version", BrokenPlugin)
        files_read = {path for part in instances if type(part) is cls for path in part.data}
        data = _hash(*(path.read_bytes() for path in sorted(files_read))) if files_read else ""
        components[name] = ComponentIdentity(version, code_digest(cls), data)
    return RunIdentity(experiment.hash, ENGINE, components)


def _component_bases(cls: type[Component]) -> Iterator[type[Component]]:
    """Yield the class of a component and, for a plug-in, the components of byzbench that it extends."""
    yield cls
    yield from registry.extended_by_stand_in(cls)
    if not cls.__module__.startswith("byzbench."):
        for base in cls.__mro__[1:]:
            package, _, name = base.__module__.rpartition(".")
            if package.removeprefix("byzbench.") in registry.KINDS.values() and not name.startswith("_"):
                yield base


@cache
def code_digest(cls: type) -> str:
    """Return the digest of the code that defines a class: 16 hexadecimal digits, empty if it cannot be read.

    It covers the module of the class, the modules of its bases, and all modules that these import from the same
    collection, private helpers included. The collection of a component of byzbench is the packages of components, that
    of a plug-in the top-level packages and modules of its distribution. Of a plug-in, it covers all modules of the
    collection, also those that are imported by a computed name, and in namespace packages. The other code of byzbench
    is covered by `ENGINE`: also the base classes that components share, such as
    `byzbench.core.gossip.GossipAlgorithm`. Comments, docstrings and blank lines do not change the digest.
    """
    modules = code_modules(cls)
    return _hash(*(f"{name} {digest}".encode() for name, digest in sorted(modules.items()))) if modules else ""


@cache
def code_modules(cls: type) -> Mapping[str, str]:
    """Return the digest of each module that `code_digest` covers; empty if the module of the class cannot be read."""
    modules: dict[str, str] = {}
    visited: set[str] = set()
    queue = [
        base.__module__ for base in cls.__mro__ if base is cls or _same_collection(base.__module__, cls.__module__)
    ]
    if not cls.__module__.startswith("byzbench."):
        queue += _plugin_modules(cls.__module__)
    while queue:
        module = queue.pop()
        if module in visited:
            continue
        visited.add(module)
        if (contents := _read(module)) is None:
            if module == cls.__module__:
                return {}
            continue
        modules[module] = contents[0]
        queue += [name for name in contents[1] if _same_collection(name, cls.__module__)]
    return modules


def _same_collection(module: str, owner: str) -> bool:
    """Return whether a module belongs to the same collection as the module of a component."""
    if owner.startswith("byzbench."):
        return any(module.startswith(f"byzbench.{package}.") for package in registry.KINDS.values())
    return module.partition(".")[0] in _plugin_packages(owner.partition(".")[0])


@cache
def _plugin_packages(top: str) -> frozenset[str]:
    """Return the top-level packages and modules of the distribution of a plug-in.

    Args:
        top: The top-level package or module that an entry point of the distribution names.
    """
    names = {top}
    points = [p for package in registry.KINDS.values() for p in registry.plugin_entry_points(f"byzbench.{package}")]
    for distribution in [point.dist for point in points if point.dist and point.module.partition(".")[0] == top]:
        listed = (distribution.read_text("top_level.txt") or "").split()
        names.update(name for name in listed if name.isidentifier())  # a dotted name would import its package
        files = (file for file in distribution.files or () if file.suffix == ".py")
        names.update(name for file in files if (name := file.parts[0].removesuffix(".py")).isidentifier())
    return frozenset(names)


def _plugin_modules(owner: str) -> Iterator[str]:
    """Yield the names of all modules of the distribution of a plug-in.

    A namespace package may hold other distributions. There, the modules are those beside and below the plug-in.

    Args:
        owner: The module that defines the plug-in.
    """
    for top in sorted(_plugin_packages(owner.partition(".")[0])):
        try:
            spec = registry.plugin_spec(top)
        except (ImportError, ValueError):  # a module that was made at runtime has no specification
            continue
        if spec is None:
            continue
        yield top
        is_namespace = spec.origin is None and owner.startswith(f"{top}.")
        parts = owner.split(".")[1:2] if is_namespace and owner.count(".") > 1 else []
        for location in spec.submodule_search_locations or []:
            folder = Path(location, *parts)
            for path in sorted(folder.rglob("*.py")):
                names = [top, *parts, *path.relative_to(folder).with_suffix("").parts]
                if all(map(str.isidentifier, names)):
                    yield ".".join(names[:-1] if names[-1] == "__init__" else names)


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the digest of the code of a module, and the modules that it imports; None if it has no file."""
    path = _file(module)
    if path is None:
        return None
    content = path.read_bytes()
    if path.suffix != ".py":
        return _hash(content), ()
    tree = ast.parse(content)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return _hash(_dump(tree).encode()), tuple(dict.fromkeys(_imports(tree, package)))


def _file(module: str) -> Path | None:
    """Return the file of a module without importing the module."""
    try:
        path = registry.source_file(module)
    except (ImportError, ValueError):  # a module that was made at runtime has no specification
        path = None
    if path is None and (loaded := getattr(sys.modules.get(module), "__file__", None)):
        path = Path(loaded)
    return path if path is not None and path.is_file() else None


def forget_code() -> None:
    """Read the code of components anew the next time that a digest is needed."""
    for cached in (code_digest, code_modules, _plugin_packages, _read):
        cached.cache_clear()


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the modules, and the names that may be modules, that a module imports outside of TYPE_CHECKING blocks."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)
        else:
            yield from _imports(node, package)


def _dump(node: Any) -> str:
    """Return a syntax tree without docstrings and empty fields as text, the same under every version of Python."""
    if isinstance(node, ast.JoinedStr):  # only Python 3.12 ends some of them with an empty text
        node = ast.JoinedStr([v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")])
    if isinstance(node, ast.AST):
        present = (
            (name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_comment")
        )
        field_texts = [f"{name}={_dump(value)}" for name, value in present if value is not None and value != []]
        return f"{type(node).__name__}({','.join(field_texts)})"
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """Return whether a statement consists of a string literal only."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(f"{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
