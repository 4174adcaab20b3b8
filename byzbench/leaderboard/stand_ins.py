"""Stand-ins of plug-ins, with which a verifier compares an entry without importing code that the entry brings.

Code that is imported can do anything to the process that imports it, also write its verdict. A stand-in is a class with
the name, the parameters and the version that the entry records for a component, and with the digest of the files of its
distribution, which are read and not executed. Experiments of stand-ins have the hashes of those of the plug-ins. They
cannot be run in this process: `byzbench.leaderboard.sandbox` runs them in another one.

What only the code of a plug-in tells is not checked here: in which settings it is defined, and that an algorithm uses a
server only in that division. Where it is not as recorded, its runs fail.
"""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, make_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from byzbench import identity, registry
from byzbench.core import Communication, Component
from byzbench.errors import InvalidParameter
from byzbench.leaderboard.documents import Finding, Refused
from byzbench.leaderboard.entries import Entry
from byzbench.leaderboard.schema import Plugin
from byzbench.leaderboard.suites import suite, suites


@contextmanager
def plugins_stood_in(entry: Entry, folder: Path | None = None) -> Iterator[None]:
    """Replace all plug-ins of this process by the stand-ins of those of an entry, in a block.

    Args:
        entry: The entry.
        folder: The folder that has the distributions of its plug-ins; None: this environment.

    Raises:
        Refused: A parameter of a plug-in has a name that no component can have.
    """
    submission = entry.submission
    plugins = [plugin for plugin in submission.code.plugins if plugin.kind in registry.KINDS]
    classes = {(p.kind, p.name): _stand_in(p, entry) for p in plugins}
    recorded = [name.partition(" ")[::2] for name in submission.code.components]
    extended = {
        cls: tuple(registry.find(k, name) for k, name in recorded if k == kind and _is_built_in(kind, name))
        for (kind, _), cls in classes.items()
    }
    if plugins:
        identity.forget_code()
    with registry.using_stand_ins(registry.StandIns(classes, folder, extended)):
        for plugin in plugins:  # the digest of a class is that of the distribution of its module
            origin = registry.origins(plugin.kind).get(plugin.name)
            if origin is not None:
                classes[plugin.kind, plugin.name].__module__ = origin.module
        try:
            yield
        finally:
            if plugins:
                identity.forget_code()


def missing_plugins(entry: Entry) -> Iterator[str]:
    """Yield a line for each plug-in of an entry that is not installed; to be called among its stand-ins."""
    for plugin in entry.submission.code.plugins:
        if plugin.kind not in registry.KINDS:
            yield f"{plugin.kind!r} is not a kind of component"
        elif (origin := registry.origins(plugin.kind).get(plugin.name)) is None:
            yield f"{plugin.kind} {plugin.name!r} of {plugin.distribution} {plugin.version} is not here; see --wheels"
        elif origin.module.startswith("byzbench."):
            yield f"{plugin.kind} {plugin.name!r} is a component of byzbench"
        elif origin.distribution != (recorded := f"{plugin.distribution} {plugin.version}"):
            yield f"{plugin.kind} {plugin.name!r} is of {origin.distribution}, not of {recorded}"


def plugin_folders() -> tuple[Path, ...]:
    """Return the folders that have the modules of the plug-ins of an entry; to be called among its stand-ins."""
    names = [origin for kind in registry.KINDS for origin in registry.origins(kind).values()]
    tops = {origin.module.partition(".")[0] for origin in names} - {"byzbench"}
    files = [registry.source_file(top) for top in sorted(tops)]
    return tuple(file.parent.parent if file.name == "__init__.py" else file.parent for file in files if file)


def _is_built_in(kind: str, name: str) -> bool:
    origin = registry.origins(kind).get(name)
    return origin is not None and origin.module.startswith("byzbench.")


def _stand_in(plugin: Plugin, entry: Entry) -> type[Component]:
    """Return the stand-in of a plug-in."""
    base = registry.base_class(plugin.kind)
    kinds = {p.name: p.kind for p in entry.submission.code.plugins}
    described = [
        dict(part["parameters"]) for part in _components(entry.submission.resolved) if part["name"] == plugin.name
    ]
    fields = []
    for name in dict.fromkeys(name for parameters in described for name in parameters):
        if hasattr(base, name) or name.startswith("_") or keyword.iskeyword(name):
            what = f"no parameter of {plugin.kind} {plugin.name!r} can be called {name!r}"
            raise Refused([Finding("plug-in", "submission.json $.resolved", what)])
        values = [parameters[name] for parameters in described if name in parameters]
        nested = next((value for value in values if isinstance(value, Mapping)), None)
        hint: Any = Any
        if nested is not None:
            hint = registry.base_class(kinds.get(nested["name"]) or _kind_of(nested["name"], plugin.kind)) | None
        elif isinstance(values[0], list):
            hint = tuple[Any, ...]
        fields.append((name, hint, field(default_factory=partial(_built, values[0], hint))))
    recorded = entry.submission.code.components.get(f"{plugin.kind} {plugin.name}")
    members: dict[str, Any] = {
        "__doc__": f"Stand-in of {plugin.kind} {plugin.name!r} of {plugin.distribution} {plugin.version}.",
        "version": recorded.version if recorded else 1,
        **dict.fromkeys(getattr(base, "__abstractmethods__", ()), _cannot_run),
    }
    if plugin.kind == "algorithm":
        name = entry.submission.suite
        is_server = name in suites() and entry.division(suite(name)) == "server"
        members["communication"] = Communication.SERVER if is_server else Communication.DECENTRALIZED
    return make_dataclass(f"StandIn_{plugin.name}", fields, bases=(base,), namespace=members, frozen=True)


def _built(value: Any, hint: Any) -> Any:
    """Return the value of a field from its description."""
    if isinstance(value, Mapping):
        return registry.from_description(hint.__args__[0].kind, value)
    return tuple(value) if isinstance(value, list) else value


def _kind_of(name: str, preferred: str) -> str:
    """Return the kind of a component inside a plug-in: that of the plug-in, where several have the name."""
    kinds = [preferred, *(kind for kind in registry.KINDS if kind != preferred)]
    return next((kind for kind in kinds if name in registry.origins(kind)), preferred)


def _components(described: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every described component in a resolved method, nested ones included."""
    stack = [described]
    while stack:
        part = stack.pop()
        if isinstance(part, Mapping):
            stack += part.values()
            if isinstance(part.get("name"), str) and isinstance(part.get("parameters"), Mapping):
                yield part


def _cannot_run(*_: Any, **__: Any) -> Any:
    raise InvalidParameter("a stand-in of a plug-in cannot be run")
