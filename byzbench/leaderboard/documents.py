"""JSON from strangers: everything that is wrong with a text is said with the path where it stands."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from byzbench.errors import UserError

DEPTH = 12
"""No document of ours is nested half as deeply."""

_DIGITS = 20
_REFUSED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories that are not text: controls, direction overrides and other invisible letters, half surrogates,
private and unassigned letters, line separators."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, or worth knowing: the check that says so, where, and what.

    Attributes:
        check: one word that a filter can use.
        where: the file, and a path inside it: `submission.json $.entry.name`.
        what: one line.
        fatal: a submission with such a finding is refused.
    """

    check: str
    where: str
    what: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'error' if self.fatal else 'note'}: {self.check}: {self.where}: {self.what}"


class Refused(UserError):
    """A document or a submission that is not taken, with every reason."""

    def __init__(self, findings: list[Finding]) -> None:
        shown = "; ".join(map(str, findings[:3]))
        super().__init__(shown + (f"; and {len(findings) - 3} more" if len(findings) > 3 else ""))
        self.findings = findings


@dataclass(frozen=True)
class _Bad:
    """Stands in the parsed document where something was that JSON does not have, or we do not take."""

    why: str


def parse(content: bytes, name: str) -> Any:
    """Strict JSON: UTF-8, every number finite and of a sane length, no key twice, every text printable and NFC.

    Raises:
        Refused: with a finding for every offence; `name` is what the document is called in it.
    """
    try:
        text = content.decode("utf-8")
        data = _DECODER.decode(text)
        offences = list(_offences(data, "$", 0, plain=_plain(text) and "\\" not in text))
    except UnicodeDecodeError as error:
        offences = [("$", f"is not UTF-8: byte {error.start}")]
    except json.JSONDecodeError as error:
        offences = [("$", f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}")]
    except RecursionError:
        offences = [("$", f"is nested more than {DEPTH} deep")]
    if offences:
        raise Refused([Finding("json", f"{name} {path}", why) for path, why in offences])
    return data


def text_offence(text: str) -> str | None:
    """Why a text is not shown to anybody; None if it is fine."""
    if _plain(text):
        return None
    found = {c for c in text if unicodedata.category(c) in _REFUSED}
    if found:
        return f"has the letter U+{ord(min(found)):04X}, which cannot be seen"
    if not unicodedata.is_normalized("NFC", text):
        return "is not in Unicode's normal form NFC"
    return None


def _plain(text: str) -> bool:
    """Whether a text is fine at a glance. Nearly all are, and the curves of a board are millions."""
    return text.isascii() and text.isprintable()


def _offences(data: Any, path: str, depth: int, plain: bool) -> Iterator[tuple[str, str]]:
    """What is wrong with a parsed document, and where; `plain` says that no text in it can be."""
    if depth > DEPTH:
        yield path, f"is nested more than {DEPTH} deep"
    elif isinstance(data, _Bad):
        yield path, data.why
    elif isinstance(data, str) and not plain and (why := text_offence(data)):
        yield path, why
    elif isinstance(data, list) and not (plain and {*map(type, data)} <= {str}):
        for index, value in enumerate(data):
            yield from _offences(value, f"{path}[{index}]", depth + 1, plain)
    elif isinstance(data, dict):
        for key, value in data.items():
            if len(key) > 80 or (not plain and text_offence(key)):
                yield path, f"has a key that is no name: {key[:40]!a}"
            elif not (plain and depth < DEPTH and isinstance(value, str | int)):
                yield from _offences(value, f"{path}.{key}", depth + 1, plain)


def _constant(word: str) -> _Bad:
    return _Bad(f"{word} is not a number")


def _real(text: str) -> float | _Bad:
    return value if math.isfinite(value := float(text)) else _Bad(f"{text[:_DIGITS]} is not a finite number")


def _whole(text: str) -> int | _Bad:
    return int(text) if len(text) <= _DIGITS else _Bad(f"a number of {len(text)} digits")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = _Bad("is given twice") if key in found else value
    return found


_DECODER = json.JSONDecoder(parse_constant=_constant, parse_float=_real, parse_int=_whole, object_pairs_hook=_object)
