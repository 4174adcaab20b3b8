"""Reading files that anybody may have written: strict JSON, of a bounded size, from where they say they are."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from byzbench.errors import CorruptRecord

LIMIT = 256 * 2**20
"""Bytes; a log of a million rounds is about this long."""


FILES = (
    "result.json",
    "failure.json",
    "checkpoint.safetensors",
    "trace.jsonl",
    "metrics.jsonl",
    "timing.jsonl",
    "experiment.json",
)
"""What makes up a run, in the order in which it is forgotten; read backwards, in which it is written and travels."""


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a regular file; a symbolic link is not followed.

    Raises:
        FileNotFoundError: there is none.
        CorruptRecord: it is something else, or too large, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        said = "is a symbolic link" if path.is_symlink() else f"cannot be read: {error.strerror}"
        raise CorruptRecord(f"{path} {said}") from None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise CorruptRecord(f"{path} is not a regular file")
        if about.st_size > limit:
            raise CorruptRecord(f"{path} is larger than {limit:,} bytes")
        with open(handle, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    finally:
        os.close(handle)


def parse(text: bytes | str) -> Any:
    """Strict JSON: every number is finite and of a sane length.

    Raises:
        ValueError: it is not.
    """
    try:
        return _STRICT.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_object(text: bytes | str, path: Path, remedy: str = "") -> dict[str, Any]:
    """A JSON object.

    Raises:
        CorruptRecord: it is none; the line names `path`.
    """
    try:
        data = parse(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise CorruptRecord(f"{path} is not a JSON object{remedy and '; ' + remedy}")
    return data


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _short(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 20 digits")
    return int(text)


_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_short)
