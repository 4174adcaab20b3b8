"""The files that the traces command writes: `expected.json`, and two of byzbench: equal digests and the catalogue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from byzbench.catalogue import Catalogue
from byzbench.errors import CorruptRecord
from tests.golden.pinned import CHECKOUT

EXPECTED = Path(__file__).with_name("expected.json")
EQUAL_DIGESTS = CHECKOUT / "byzbench" / "equal_digests.json"
CATALOGUE = CHECKOUT / "byzbench" / "catalogue.json"

SECTIONS: Mapping[str, type] = {
    "base": dict,  # the description that all others are written as differences from
    "entries": dict,  # by name: inputs and outputs of every case
    "history": dict,  # by component and version: an output before and after it was raised to that version
    "libraries": dict,  # versions with which the outputs were computed
    "modules": dict,  # digest of every module of components, as of these outputs
    "processors": list,  # types of processors on which the outputs were found exact
    "versions": dict,  # of every component and of the engine, as of these outputs
}


def empty() -> dict[str, Any]:
    """Return a golden file without entries."""
    return {name: kind() for name, kind in SECTIONS.items()}


def read() -> dict[str, Any]:
    """Return the golden file; an empty one where there is none.

    Raises:
        CorruptRecord: it is no golden file.
    """
    try:
        data = json.loads(EXPECTED.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return empty()
    except ValueError as error:
        raise CorruptRecord(f"{EXPECTED.name} is no JSON: {error}") from None
    for name, kind in SECTIONS.items():
        if not isinstance(data, dict) or not isinstance(data.get(name), kind):
            raise CorruptRecord(f"{EXPECTED.name} lacks {name!r}: restore it from the last commit")
    return data


def write(data: Mapping[str, Any]) -> None:
    """Write the golden file, an entry a line."""
    sections = [f"{json.dumps(name)}: {_lines(data[name])}" for name in sorted(data)]
    _replace(EXPECTED, "{\n" + ",\n".join(sections) + "\n}\n")


def _lines(section: Any) -> str:
    if not isinstance(section, dict):
        return json.dumps(section)
    items = [f" {json.dumps(name)}: {_compact(section[name])}" for name in sorted(section)]
    return "{\n" + ",\n".join(items) + "\n}" if items else "{}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def read_equal_digests() -> dict[str, dict[str, list[str]]]:
    """Return the digests that are listed as equal, by component and version."""
    return json.loads(EQUAL_DIGESTS.read_text(encoding="utf-8")) if EQUAL_DIGESTS.exists() else {}


def write_equal_digests(digests: Mapping[str, Mapping[str, list[str]]]) -> None:
    """Write the digests that are known to be equal."""
    _replace(EQUAL_DIGESTS, json.dumps(digests, indent=1, sort_keys=True) + "\n")


def write_catalogue(catalogue: Catalogue) -> None:
    """Write the descriptions of components."""
    _replace(CATALOGUE, json.dumps(catalogue, indent=1, allow_nan=False) + "\n")


def _replace(path: Path, text: str) -> None:
    """Write a whole file or none."""
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    draft = path.with_suffix(".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
