"""Reading documents that an older byzbench wrote: one function for each step from a schema number to the next.

A document that is read is rewritten in memory, never on disk. What changed in the description of experiments alone is
in `byzbench.canonical.CHANGES`, and applies to every document that holds descriptions; a step here is for what else
changed in the form of one kind of document.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Literal

from byzbench import canonical
from byzbench.errors import CorruptRecord

Document = Literal["run", "sweep", "suite", "tuned", "submission", "ticket", "frozen", "references", "study", "audit"]
Step = Callable[[dict[str, Any]], dict[str, Any]]

STEPS: dict[tuple[Document, int], Step] = {}
"""By kind of document and the schema number from which a step leads to the next. No entry: the form did not change."""


def step(document: Document, schema: int) -> Callable[[Step], Step]:
    """Declare a function as the step of a kind of document from a schema number to the next.

    Args:
        document: the kind.
        schema: what the function takes; it returns a document of `schema + 1`.
    """

    def declare(function: Step) -> Step:
        STEPS[document, schema] = function
        return function

    return declare


def migrate(document: Document, data: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return a document as it would be written today.

    Args:
        document: its kind.
        data: the document as read; it is not changed.
        where: its path, for the error.

    Raises:
        CorruptRecord: its schema number is none, or that of a newer byzbench; or a step does not lead to the next.

    Example:
        >>> migrate("tuned", {"schema": 1, "kind": "attack"}, "tuned.json")["kind"]
        'attack'
    """
    written = canonical.schema_of(data, where)
    found = copy.deepcopy(dict(data))
    for schema in range(written, canonical.SCHEMA):
        lead = STEPS.get((document, schema))
        found = lead(found) if lead else {**found, "schema": schema + 1}
        if (reached := found.get("schema")) != schema + 1:
            raise CorruptRecord(
                f"{where}: the migration of a {document} from schema {schema} leads to {reached!r}, not {schema + 1}"
            )
    return _described(document, found, written)


def _described(document: Document, data: dict[str, Any], written: int) -> dict[str, Any]:
    """Bring the descriptions inside a document up to date."""
    if document == "run" and is_described(data.get("experiment")):
        data["experiment"] = canonical.modern(data["experiment"], written)
    if document == "tuned" and isinstance(data.get("components"), dict) and isinstance(data.get("parameters"), dict):
        tuned = {k: {"name": v, "parameters": data["parameters"].get(k, {})} for k, v in data["components"].items()}
        if is_described(tuned):
            tuned = canonical.modern(tuned, written, whole=False)
            data["components"] = {kind: part["name"] for kind, part in tuned.items()}
            data["parameters"] = {kind: part["parameters"] for kind, part in tuned.items() if part["parameters"]}
    return data


def is_described(value: Any) -> bool:
    """Return whether a value can be walked as a description: components have parameters by name."""
    return isinstance(value, dict) and all(
        isinstance(part.get("name"), str) and isinstance(part.get("parameters"), dict)
        for part in value.values()
        if isinstance(part, dict)
    )


@step("run", 1)
def _runs_without_channels(data: dict[str, Any]) -> dict[str, Any]:
    """Add the axes that runs of schema 1 lack if they are older than channels.

    Their folders keep the names that they have: these hashes were made without the three axes.
    """
    if isinstance(described := data.get("experiment"), dict):
        described.setdefault("channel", {"name": "perfect", "parameters": {"inner": None, "on": "both"}})
        described.setdefault("relay", False)
        described.setdefault("mixing", "metropolis")
    return data | {"schema": 2}


@step("submission", 1)
def _submissions_without_engines(data: dict[str, Any]) -> dict[str, Any]:
    """Keep what is known of the code of submissions that are older than engines. Their seeds followed from its digest.

    They cannot be replayed: neither the engine nor the versions of their components are on record.
    """
    if isinstance(code := data.get("code"), dict):
        kept = {name: value for name, value in code.items() if name not in ("sha256", "harness", "engine")}
        if isinstance(plugins := code.get("plugins"), list):
            kept["plugins"] = [
                {k: v for k, v in plugin.items() if k != "sha256"} if isinstance(plugin, dict) else plugin
                for plugin in plugins
            ]
        data["code"] = kept | {"source": code.get("harness")}
    return data | {"schema": 2, "resolved": {}}
