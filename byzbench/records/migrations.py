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

Document = Literal[
    "run",
    "result",
    "metrics",
    "sweep",
    "suite",
    "tuned",
    "submission",
    "cell",
    "ticket",
    "frozen",
    "references",
    "study",
    "audit",
]
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


_METRICS_OF_SCHEMA_4: Mapping[str, str] = {
    "screened": "num_malformed",
    "silent": "num_silent",
    "kept": "num_undefined",
    "large": "large_batch",
    "aggregate_constant": "aggregate_robustness_constant",
    "aggregate_pull": "aggregate_byzantine_pull",
    "agreement_constant": "agreement_robustness_constant",
    "agreement_pull": "agreement_byzantine_pull",
    "exchanges": "num_exchanges",
    "width_before": "inbox_diameter_before",
    "width_after": "inbox_diameter_after",
    "weight_largest": "importance_weight_max",
    "weight_effective": "relative_effective_sample_size",
    "weight_constant": "importance_weight_constant",
    "gradient_norm_largest": "gradient_norm_max",
    "gradient_norm_99": "gradient_norm_p99",
    "steps_planned": "inner_steps_planned",
    "steps_taken": "inner_steps_taken",
}
"""The names of metrics and of their summaries since schema 4, by the earlier names."""


def _renamed(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a dict with the new name of every earlier one, which stays where the dict has both."""
    kept = {name for name in names if names[name] in data}
    return {name if name in kept else names.get(name, name): value for name, value in data.items()}


@step("metrics", 3)
@step("cell", 3)
def _metrics_in_the_words_of_the_field(data: dict[str, Any]) -> dict[str, Any]:
    """Rename the metrics of a line of `metrics.jsonl`, or of a cell of a submission."""
    return _renamed(data, _METRICS_OF_SCHEMA_4) | {"schema": 4}


@step("result", 3)
def _results_in_the_words_of_the_field(data: dict[str, Any]) -> dict[str, Any]:
    """Rename the metrics in a result, and in its summaries of aggregation, assumptions and traffic."""
    data = _metrics_in_the_words_of_the_field(data)
    if isinstance(aggregation := data.get("aggregation"), dict):
        data["aggregation"] = _renamed(aggregation, {"constant": "robustness_constant", "pull": "byzantine_pull"})
    if isinstance(assumptions := data.get("assumptions"), dict):
        data["assumptions"] = _renamed(assumptions, _METRICS_OF_SCHEMA_4)
    if isinstance(traffic := data.get("traffic"), dict):
        data["traffic"] = {
            topic: _renamed(sent, {"most": "max_bytes_per_agent"}) if isinstance(sent, dict) else sent
            for topic, sent in traffic.items()
        }
    return data
