"""Parsing of untrusted JSON: every error is reported with its path in the document."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from byzbench.errors import UserError

DEPTH = 12
"""Largest depth of nesting; valid documents have less than half of it."""

_MAX_DIGITS = 20
"""Largest number of digits of an integer."""

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that are refused: control characters, direction overrides and other format characters, surrogates,
private and unassigned characters, line and paragraph separators."""

_BLANK = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0, 0xFFFC, 0x1D159))
) | frozenset(map(chr, range(0xE0100, 0xE01F0)))
"""Letters, marks and symbols of other categories that have no ink: fillers, joiners, selectors, the Braille blank."""


@dataclass(frozen=True)
class Finding:
    """A result of a check: an error or a note about one place of a submission.

    Attributes:
        check: The name of the check, one word.
        where: The file and the path inside it, for example `submission.json $.entry.name`.
        what: The description, one line.
        fatal: True for an error, by which the submission is refused; False for a note.

    Example:
        >>> print(Finding("json", "submission.json $.entry", "occurs twice"))
        error: json: submission.json $.entry: occurs twice
    """

    check: str
    where: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.fatal else 'note'}: {self.check}: {self.where}: {self.what}"


class Refused(UserError):
    """The error for a refused document or submission. `findings` has every reason, the message the first three."""

    def __init__(self, findings: list[Finding]) -> None:
        shown = "; ".join(f"{finding.where}: {finding.what}" for finding in findings[:3])
        super().__init__(shown + (f"; and {len(findings) - 3} more" if len(findings) > 3 else ""))
        self.findings = findings


@dataclass(frozen=True)
class _Invalid:
    """A placeholder in a parsed document for a value that is refused."""

    why: str


def parse_document(content: bytes, name: str) -> Any:
    """Parse strict JSON: UTF-8, finite numbers of limited length, no key twice, every text printable and in NFC.

    Args:
        content: The bytes of the document.
        name: The name of the document in findings.

    Raises:
        Refused: The document is not strict JSON; there is a finding for every error.

    Example:
        >>> parse_document(b'{"seed": 3}', "cell")
        {'seed': 3}
        >>> parse_document(b'{"seed": NaN}', "cell")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        byzbench.leaderboard.documents.Refused: error: json: cell $.seed: NaN is not a number
    """
    try:
        text = content.decode("utf-8")
        data = _DECODER.decode(text)
        errors = list(_errors(data, "$", 0, ascii_only=_is_printable_ascii(text) and "\\" not in text))
    except UnicodeDecodeError as error:
        errors = [("$", f"is not UTF-8: byte {error.start}")]
    except json.JSONDecodeError as error:
        errors = [("$", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]
    except RecursionError:
        errors = [("$", f"is nested more than {DEPTH} deep")]
    if errors:
        raise Refused([Finding("json", f"{name} {path}", why) for path, why in errors])
    return data


def text_offence(text: str) -> str | None:
    """Return why a text is refused; None if it is printable and in NFC.

    Example:
        >>> text_offence("Zürich"), text_offence("a\\u202eb")
        (None, 'has the invisible character U+202E RIGHT-TO-LEFT OVERRIDE')
    """
    if _is_printable_ascii(text):
        return None
    invisible = {c for c in text if unicodedata.category(c) in _INVISIBLE or c in _BLANK}
    if invisible:
        return f"has the invisible character {character_name(min(invisible))}"
    if not unicodedata.is_normalized("NFC", text):
        return "is not in the Unicode normal form NFC"
    return None


def character_name(character: str) -> str:
    """Return the code point of a character and its name in Unicode.

    Example:
        >>> character_name("\u3164"), character_name("\x07")
        ('U+3164 HANGUL FILLER', 'U+0007')
    """
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def _is_printable_ascii(text: str) -> bool:
    """Return whether a text needs no further check. It is fast: a board has millions of numbers as texts."""
    return text.isascii() and text.isprintable()


def _errors(data: Any, path: str, depth: int, ascii_only: bool) -> Iterator[tuple[str, str]]:
    """Yield the errors of a parsed document, each as a path and a description.

    Args:
        data: The document, or a part of it.
        path: The path of the part.
        depth: The depth of the part.
        ascii_only: True if the whole document is printable ASCII without escapes, so that no text needs a check.
    """
    if depth > DEPTH:
        yield path, f"is nested more than {DEPTH} deep"
    elif isinstance(data, _Invalid):
        yield path, data.why
    elif isinstance(data, str) and not ascii_only and (why := text_offence(data)):
        yield path, why
    elif isinstance(data, list) and not (ascii_only and {*map(type, data)} <= {str}):
        for index, value in enumerate(data):
            yield from _errors(value, f"{path}[{index}]", depth + 1, ascii_only)
    elif isinstance(data, dict):
        for key, value in data.items():
            if len(key) > 80 or (not ascii_only and text_offence(key)):
                yield path, f"has a key that is not at most 80 visible characters: {key[:40]!a}"
            elif not (ascii_only and depth < DEPTH and isinstance(value, str | int)):
                yield from _errors(value, f"{path}.{key}", depth + 1, ascii_only)


def _parse_constant(name: str) -> _Invalid:
    return _Invalid(f"{name} is not a number")


def _parse_float(text: str) -> float | _Invalid:
    return value if math.isfinite(value := float(text)) else _Invalid(f"{text[:_MAX_DIGITS]} is not a finite number")


def _parse_int(text: str) -> int | _Invalid:
    if len(text) <= _MAX_DIGITS:
        return int(text)
    return _Invalid(f"is an integer of {len(text)} digits; at most {_MAX_DIGITS} are allowed")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key, value in pairs:
        data[key] = _Invalid("occurs twice") if key in data else value
    return data


_DECODER = json.JSONDecoder(
    parse_constant=_parse_constant, parse_float=_parse_float, parse_int=_parse_int, object_pairs_hook=_object
)
