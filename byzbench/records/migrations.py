"""Migration of documents that an older byzbench wrote: one function for each step from a schema number to the next.

A document is migrated in memory, never on disk. Changes in the description of experiments are listed in
`byzbench.canonical.CHANGES`, and apply to every document that holds descriptions. A step in this module is for any
other change in the form of one kind of document.
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
"""The steps by kind of document and the schema number that they take. Without an entry the form did not change."""


def step(document: Document, schema: int) -> Callable[[Step], Step]:
    """Declare a function as the step of a kind of document from a schema number to the next.

    Args:
        document: The kind of document.
        schema: The schema number that the function takes; it returns a document of `schema + 1`.
    """

    def declare(function: Step) -> Step:
        STEPS[document, schema] = function
        return function

    return declare


def migrate(document: Document, data: Mapping[str, Any], where: object) -> dict[str, Any]:
    """Return a document as it would be written today.

    Args:
        document: The kind of document.
        data: The document as read; it is not changed.
        where: The path of the document, for the message.

    Raises:
        CorruptRecord: The schema number is invalid or that of a newer byzbench, or a step returns a wrong number.

    Example:
        >>> migrate("tuned", {"schema": 1, "kind": "attack"}, "tuned.json")["kind"]
        'attack'
    """
    original_schema = canonical.schema_of(data, where)
    migrated = copy.deepcopy(dict(data))
    for schema in range(original_schema, canonical.SCHEMA):
        function = STEPS.get((document, schema))
        migrated = function(migrated) if function else {**migrated, "schema": schema + 1}
        if (reached := migrated.get("schema")) != schema + 1:
            raise CorruptRecord(
                f"{where}: the migration of a {document} from schema {schema} leads to {reached!r}, not {schema + 1}"
            )
    return _migrate_descriptions(document, migrated, original_schema)


def _migrate_descriptions(document: Document, data: dict[str, Any], original_schema: int) -> dict[str, Any]:
    """Apply `canonical.CHANGES` to the descriptions of experiments inside a document."""
    if document == "run" and is_described(data.get("experiment")):
        data["experiment"] = canonical.to_current(data["experiment"], original_schema)
    if document == "tuned" and isinstance(data.get("components"), dict) and isinstance(data.get("parameters"), dict):
        tuned = {k: {"name": v, "parameters": data["parameters"].get(k, {})} for k, v in data["components"].items()}
        if is_described(tuned):
            tuned = canonical.to_current(tuned, original_schema, whole=False)
            data["components"] = {kind: component["name"] for kind, component in tuned.items()}
            data["parameters"] = {kind: c["parameters"] for kind, c in tuned.items() if c["parameters"]}
    return data


def is_described(value: Any) -> bool:
    """Return whether a value has the form of a description: components are objects with a name and parameters."""
    return isinstance(value, dict) and all(
        isinstance(component.get("name"), str) and isinstance(component.get("parameters"), dict)
        for component in value.values()
        if isinstance(component, dict)
    )


@step("run", 1)
def _runs_without_channels(data: dict[str, Any]) -> dict[str, Any]:
    """Add the axes that runs of schema 1 lack if they are older than channels.

    Their folders are not renamed, although their hashes were computed without the three axes.
    """
    if isinstance(described := data.get("experiment"), dict):
        described.setdefault("channel", {"name": "perfect", "parameters": {"inner": None, "on": "both"}})
        described.setdefault("relay", False)
        described.setdefault("mixing", "metropolis")
    return data | {"schema": 2}


@step("submission", 1)
def _submissions_without_engines(data: dict[str, Any]) -> dict[str, Any]:
    """Convert the record of the code of submissions that are older than engines; their seeds followed from its digest.

    They cannot be replayed, as neither the engine nor the versions of their components are recorded.
    """
    if isinstance(code := data.get("code"), dict):
        new_code = {name: value for name, value in code.items() if name not in ("sha256", "harness", "engine")}
        if isinstance(plugins := code.get("plugins"), list):
            new_code["plugins"] = [
                {k: v for k, v in plugin.items() if k != "sha256"} if isinstance(plugin, dict) else plugin
                for plugin in plugins
            ]
        data["code"] = new_code | {"source": code.get("harness")}
    return data | {"schema": 2, "resolved": {}}
