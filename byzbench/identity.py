"""Identity of runs by behaviour, not by text.

Two runs are the same if their experiments have one canonical description, and were computed by the same numerical
behaviour: one `ENGINE`, and of every component one `version`. A comment, a rename, a refactor, a new component or a new
metric raises neither, so that finished runs and leaderboard rows outlive them; CONTRIBUTING.md says when a number
rises, and tests/golden/ holds the outputs that decide.

Whoever edits a component's file need not know of versions: `equal_digests.json` lists, for every component of
byzbench, the digests of its code that are known to give the outputs of a version. Any other code is an edit, and
a run that uses it is another run. Of plug-ins nothing is listed, and their digest always counts.
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
from byzbench.contracts import Component
from byzbench.errors import BrokenPlugin, CorruptRecord

ENGINE = 1
"""The version of the numerical behaviour of everything that is no component: learning, federation, geometry, streams,
evaluation. It rises when, and only when, outputs change."""

EQUAL_DIGESTS = "equal_digests.json"


@dataclass(frozen=True)
class ComponentIdentity:
    """One component of a run.

    Attributes:
        version: of its behaviour.
        digest: of its code, without comments and docstrings; empty if its source cannot be read.
        data: of the files that it reads; empty if it reads none.
    """

    version: int
    digest: str
    data: str = ""


@dataclass(frozen=True)
class RunIdentity:
    """What a run must share with another one to be the same.

    Attributes:
        experiment: the hash of its canonical description.
        engine: `ENGINE` of the code that ran.
        components: by kind and the name by which it was first hashed, for example `attack alie`.

    Example:
        >>> then = RunIdentity("0123456789abcdef", 1, {})
        >>> then.difference(RunIdentity("0123456789abcdef", 2, {}))
        ['engine: 1 then, 2 now']
    """

    experiment: str
    engine: int
    components: Mapping[str, ComponentIdentity]

    def difference(self, other: RunIdentity) -> list[str]:
        """Return what keeps a later run from being this one, one plain line each; nothing if they are the same.

        Args:
            other: the later run.
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
        """Return it as data, without the experiment, which stands beside it in a record."""
        return {
            "engine": self.engine,
            "components": {
                name: {"version": part.version, "digest": part.digest, **({"data": part.data} if part.data else {})}
                for name, part in sorted(self.components.items())
            },
        }

    @classmethod
    def from_json(cls, experiment: str, data: Any, where: object) -> RunIdentity:
        """Return the identity that a record holds.

        Args:
            experiment: the hash of the record's experiment.
            data: what `to_json` returned.
            where: the record's path, for the error.

        Raises:
            CorruptRecord: it is no identity; a version is no positive integer.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("components"), Mapping):
            raise CorruptRecord(f"{where}: identity must hold an engine and components")
        engine = checked_version(data.get("engine"), f"{where}: engine", CorruptRecord)
        parts = {}
        for name, part in data["components"].items():
            said = dict(part) if isinstance(part, Mapping) else {}
            version = checked_version(said.get("version"), f"{where}: {name}: version", CorruptRecord)
            digests = [said.get("digest"), said.get("data", "")]
            if not all(isinstance(digest, str) for digest in digests):
                raise CorruptRecord(f"{where}: {name}: digest must be text")
            parts[str(name)] = ComponentIdentity(version, *digests)
        return cls(experiment, engine, parts)


def _component_difference(name: str, then: ComponentIdentity | None, now: ComponentIdentity | None) -> Iterator[str]:
    if now is None:
        yield "part of the run then, not now"
    elif then is None:
        # An axis that came later. Its first version, at the value that the description leaves out, changed nothing.
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
    """Return a version number if it is one: a positive integer, no bool.

    Raises:
        error: one line that starts with `where`.
    """
    if type(value) is not int or value < 1:
        raise error(f"{where} must be a positive integer, got {str(value)[:40]!r}")
    return value


def is_listed(name: str, part: ComponentIdentity) -> bool:
    """Return whether a component's code is known to give the outputs of its version."""
    return part.digest in equal_digests().get(name, {}).get(str(part.version), ())


@cache
def equal_digests() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return the digests that are known to be equal, by component and version."""
    data = json.loads(files("byzbench").joinpath(EQUAL_DIGESTS).read_text(encoding="utf-8"))
    return {name: {number: tuple(same) for number, same in versions.items()} for name, versions in data.items()}


def parts(owner: Any) -> Iterator[Component]:
    """Yield every component in the fields of a dataclass, nested ones included."""
    stack = [value for f in fields(owner) if isinstance(value := getattr(owner, f.name), Component)]
    while stack:
        part = stack.pop()
        yield part
        stack += [value for f in fields(part) if isinstance(value := getattr(part, f.name), Component)]


def component_name(part: Component | type[Component]) -> str:
    """Return the key of a component in an identity, for example `attack alie`."""
    return f"{part.kind} {first_name(part.kind, registry.name_of(part))}"


def identity_of(experiment: Any) -> RunIdentity:
    """Return the identity of a run of an experiment by the code that is here.

    A plug-in that extends a component of byzbench has that one's version in its identity too.

    Raises:
        BrokenPlugin: a component's version is no positive integer.
    """
    owners: dict[type[Component], list[Component]] = {}
    for part in parts(experiment):
        for cls in _component_bases(type(part)):
            owners.setdefault(cls, []).append(part)
    found = {}
    for cls, owned in owners.items():
        name = component_name(cls)
        version = checked_version(cls.version, f"{name}: version", BrokenPlugin)
        files_read = {path for part in owned if type(part) is cls for path in part.data}
        data = _hash(*(path.read_bytes() for path in sorted(files_read))) if files_read else ""
        found[name] = ComponentIdentity(version, code_digest(cls), data)
    return RunIdentity(experiment.hash, ENGINE, found)


def _component_bases(cls: type[Component]) -> Iterator[type[Component]]:
    """Yield a component's class and, of a plug-in, the components of byzbench that it extends."""
    yield cls
    if not cls.__module__.startswith("byzbench."):
        for base in cls.__mro__[1:]:
            package, _, name = base.__module__.rpartition(".")
            if package.removeprefix("byzbench.") in registry.KINDS.values() and not name.startswith("_"):
                yield base


@cache
def code_digest(cls: type) -> str:
    """Return the digest of the code that defines a class: 16 hexadecimal digits, empty if it cannot be read.

    It covers the module of the class, those of its bases, and what these import of the same collection, private helpers
    included: for byzbench the packages of components, for a plug-in its own top-level package. What byzbench itself
    computes is `ENGINE`'s business. Comments, docstrings and blank lines do not count.
    """
    modules = code_modules(cls)
    return _hash(*(f"{name} {digest}".encode() for name, digest in sorted(modules.items()))) if modules else ""


@cache
def code_modules(cls: type) -> Mapping[str, str]:
    """Return the digest of each module that `code_digest` covers; nothing if the class's own cannot be read."""
    modules: dict[str, str] = {}
    seen: set[str] = set()
    queue = [base.__module__ for base in cls.__mro__ if base is cls or _counts(base.__module__, cls.__module__)]
    while queue:
        module = queue.pop()
        if module in seen:
            continue
        seen.add(module)
        if (read := _read(module)) is None:
            if module == cls.__module__:
                return {}
            continue
        modules[module] = read[0]
        queue += [name for name in read[1] if _counts(name, cls.__module__)]
    return modules


def _counts(module: str, owner: str) -> bool:
    """Return whether a module belongs to the same collection as the module of a component."""
    if owner.startswith("byzbench."):
        return any(module.startswith(f"byzbench.{package}.") for package in registry.KINDS.values())
    return module.partition(".")[0] == owner.partition(".")[0]


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]] | None:
    """Return the digest of a module's own code and the modules that it imports; None if it has no file."""
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
    """Return the file of a module, without importing it."""
    loaded = getattr(sys.modules.get(module), "__file__", None)
    path = Path(loaded) if loaded else registry.source_file(module)
    return path if path is not None and path.is_file() else None


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the modules that a module may import, and names that may be modules; not those for type checkers."""
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
    """Return a syntax tree as text, the same under every version of Python: no docstrings, no empty fields."""
    if isinstance(node, ast.JoinedStr):  # Python 3.12 alone ends some with an empty text
        node = ast.JoinedStr([v for v in node.values if not (isinstance(v, ast.Constant) and v.value == "")])
    if isinstance(node, ast.AST):
        named = ((name, value) for name, value in ast.iter_fields(node) if name not in ("ctx", "kind", "type_comment"))
        inside = [f"{name}={_dump(value)}" for name, value in named if value is not None and value != []]
        return f"{type(node).__name__}({','.join(inside)})"
    if isinstance(node, list):
        return f"[{','.join(_dump(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """Return whether a statement is a text that stands alone, wherever it does."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _hash(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(f"{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
