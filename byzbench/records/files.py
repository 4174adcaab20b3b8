"""Reading of untrusted files: regular files of a bounded size, with strict JSON; and atomic writing."""

from __future__ import annotations

import codecs
import errno
import json
import math
import os
import stat
from pathlib import Path
from typing import Any

from byzbench.errors import CorruptRecord, ExhaustedResources, StorageError, UserError, exhaustion

LIMIT = 256 * 2**20
"""The largest size of a file in bytes; a log of a million rounds is about as large."""


FILES = (
    "result.json",
    "failure.json",
    "checkpoint.safetensors",
    "trace.jsonl",
    "metrics.jsonl",
    "timing.jsonl",
    "experiment.json",
)
"""The files of a run, in the order in which they are removed; they are written and copied in the reverse order."""

REMEDY = "move the folder away, or start over with --on-existing rerun"
"""The last part of messages about corrupt records."""


def read_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """Read a regular file, without following a symbolic link.

    Args:
        path: The file.
        limit: The largest allowed size in bytes.

    Raises:
        FileNotFoundError: The file does not exist.
        CorruptRecord: It is no regular file, is too large, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if line := exhaustion(error):
            raise ExhaustedResources(line) from None
        reason = "is a symbolic link" if os.path.islink(path) else f"cannot be read: {error.strerror}"
        raise CorruptRecord(f"{path} {reason}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise CorruptRecord(f"{path} is not a regular file")
        if status.st_size > limit:
            raise CorruptRecord(f"{path} is larger than {limit:,} bytes")
        with open(handle, "rb", buffering=0, closefd=False) as file:
            return file.readall()
    finally:
        os.close(handle)


def read_named_file(path: Path, limit: int = LIMIT) -> bytes:
    """Read a file that the user names: through symbolic links, and without a byte-order mark at its start.

    Args:
        path: The file.
        limit: The largest allowed size in bytes.

    Raises:
        FileNotFoundError: The file does not exist.
        CorruptRecord: It is no regular file, is too large, or cannot be read.
    """
    return read_bytes(Path(os.path.realpath(path)), limit).removeprefix(codecs.BOM_UTF8)


def require_writable(path: Path) -> None:
    """Raise UserError if a file cannot be written, before the work whose result it will hold."""
    folder = path.parent
    if path.is_dir():
        reason = errno.EISDIR
    elif not folder.is_dir():
        reason = errno.ENOTDIR if folder.exists() else errno.ENOENT
    elif not os.access(path if path.exists() else folder, os.W_OK):
        reason = errno.EACCES
    else:
        return
    raise UserError(f"cannot write {path}: {os.strerror(reason)}")


def write_file(path: Path, text: str) -> None:
    """Write a text to a file that is complete or as before; what is no regular file, as a pipe, is written directly.

    Raises:
        StorageError: The file cannot be written.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.exists() and not target.is_file():
            target.write_text(text, encoding="utf-8")
            return
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from None


def parse_json(text: bytes | str) -> Any:
    """Parse strict JSON: numbers must be finite and of at most 20 digits.

    Raises:
        ValueError: The text is not strict JSON.

    Example:
        >>> parse_json('{"seed": 0}')
        {'seed': 0}
        >>> parse_json("[NaN]")
        Traceback (most recent call last):
        ...
        ValueError: NaN
    """
    try:
        return _STRICT.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_object(text: bytes | str, path: Path, remedy: str = "") -> dict[str, Any]:
    """Parse a strict JSON object.

    Args:
        text: The text.
        path: The path of the file, for the message.
        remedy: What the user can do about it, for the message.

    Raises:
        CorruptRecord: The text is no JSON object.
    """
    try:
        data = parse_json(text)
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
