"""Seals: digests that bind the files of a run to each other, so that damage is noticed where a file is read.

`result.json` holds the sha256 of `experiment.json`, `metrics.jsonl` and `timing.jsonl` as `digests`, that of
`trace.jsonl` as `trace`, and its own as `seal`. A checkpoint holds its own sha256, and those of `experiment.json` and
of the logs as far as it goes. A file cannot contain its own digest, so `seal` is the sha256 of the file in which
`BLANK` stands in the place of the digest.

A seal protects against damage and mix-ups. It does not protect against a forger, who can compute it again; that is what
replays are for. Results and checkpoints of earlier versions have no seal, and are read as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

from byzbench.canonical import digest_of, hash_of
from byzbench.errors import CorruptRecord
from byzbench.records.files import REMEDY, parse_object
from byzbench.records.migrations import migrate

BLANK = "0" * 64
"""The placeholder of a seal."""


def file_digest(content: bytes) -> str:
    """Return the sha256 of a file in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def stamp(content: bytes) -> bytes:
    """Replace the first placeholder in a file by the seal of the file.

    Example:
        >>> stamped = stamp(b'{"seal": "' + BLANK.encode() + b'"}')
        >>> is_intact(stamped, stamped[10:74].decode()), is_intact(stamped + b" ", stamped[10:74].decode())
        (True, False)
    """
    return content.replace(BLANK.encode(), file_digest(content).encode(), 1)


def is_intact(content: Any, seal: object) -> bool:
    """Return whether a file has a seal, whose first occurrence is that in the place of the placeholder.

    Args:
        content: The file as bytes or a memory map.
        seal: The seal that the file holds.
    """
    if not (isinstance(seal, str) and re.fullmatch("[0-9a-f]{64}", seal)):
        return False
    start = content.find(seal.encode())
    with memoryview(content) as view:
        digest = hashlib.sha256(view[:start])
        digest.update(BLANK.encode())
        digest.update(view[start + len(BLANK) :])
    return digest.hexdigest() == seal


def log_digests(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the sha256 of each log that a result holds; none for the results of earlier versions without seals."""
    digests = {name: _digests(result).get(name) for name in ("metrics.jsonl", "timing.jsonl")}
    return {name: digest for name, digest in {**digests, "trace.jsonl": result.get("trace")}.items() if digest}


def check_file(path: object, content: bytes | None, digest: object) -> None:
    """Check a file against the sha256 that the result of its run holds.

    Args:
        path: The path, for messages.
        content: The content; None if the file does not exist.
        digest: The expected sha256.

    Raises:
        CorruptRecord: The file is missing or has another digest.
    """
    if content is None:
        raise CorruptRecord(f"{path} is missing; {REMEDY}")
    if file_digest(content) != digest:
        raise CorruptRecord(f"{path} has changed since it was written: its sha256 is not the recorded one; {REMEDY}")


def check_result(
    folder: object, content: bytes, result: Mapping[str, Any], experiment: bytes | None, names: Iterable[str]
) -> None:
    """Check that `result.json` is as it was written, and belongs to the `experiment.json` beside it.

    Args:
        folder: The path of the run folder, for messages.
        content: The content of `result.json`.
        result: The same as an object, before any migration.
        experiment: The content of `experiment.json`; None if the file does not exist.
        names: The names that the folder of the run may have; later ones are used only if the first ones differ.

    Raises:
        CorruptRecord: A file is damaged or of another run; the message names it.
    """
    is_sealed, run = bool(result.get("seal") or result.get("digests")), result.get("run")
    if is_sealed and not is_intact(content, result.get("seal")):
        raise CorruptRecord(
            f"{folder}/result.json has changed since it was written: its sha256 is not the recorded one; {REMEDY}"
        )
    if isinstance(run, str) and not any(PurePath(run).name == name for name in names):
        raise CorruptRecord(f"{folder}/result.json is the result of another run, {PurePath(run).name}; {REMEDY}")
    if is_sealed:
        check_file(f"{folder}/experiment.json", experiment, _digests(result).get("experiment.json"))


def check_contents(folder: str, contents: Mapping[str, bytes]) -> None:
    """Check the files of a run folder that was read as a whole, if its run is finished.

    Args:
        folder: The path or URL of the folder.
        contents: The contents of the files by name.

    Raises:
        CorruptRecord: A file is damaged, missing or of another run; the message names it.
    """
    if "result.json" not in contents:
        return
    result = parse_object(contents["result.json"], Path(folder, "result.json"))
    experiment = contents.get("experiment.json")
    names = run_names(folder, experiment)
    check_result(folder, contents["result.json"], result, experiment, names)
    for name, digest in log_digests(result).items():
        check_file(f"{folder}/{name}", contents.get(name), digest)


def run_names(folder: str | Path, experiment: bytes | None) -> Iterator[str]:
    """Yield the names that the folder of a run may have: its own, today's hash of the experiment, and that at the time.

    Args:
        folder: The path or URL of the folder.
        experiment: The content of `experiment.json`; None if the file does not exist.
    """
    yield PurePath(folder).name
    if experiment is None:
        return
    path = Path(folder, "experiment.json")
    recorded = parse_object(experiment, path)
    with suppress(KeyError, TypeError, AttributeError):  # the file does not describe an experiment
        yield hash_of(migrate("run", recorded, path)["experiment"])
        yield digest_of(recorded["experiment"])


def _digests(result: Mapping[str, Any]) -> Mapping[str, Any]:
    digests = result.get("digests")
    return digests if isinstance(digests, dict) else {}
