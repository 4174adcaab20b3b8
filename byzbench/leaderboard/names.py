"""Names and links of submissions: what could be mistaken for another name, or lead to the reader's own machine.

Scripts and look-alike characters are those of Unicode Technical Standard 39, from the package confusable-homoglyphs.
Characters without any ink are refused in every text (`byzbench.leaderboard.documents.text_offence`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import groupby
from urllib.parse import urlsplit

from byzbench.leaderboard.documents import character_name

MARKS = 2
"""Largest number of combining marks on one letter of a name."""

_EAST_ASIAN = ({"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "HANGUL"}, {"HAN", "BOPOMOFO"})
"""Sets of scripts that are written together in one word."""

_NO_SCRIPT = ("COMMON", "INHERITED")
"""Scripts of characters that are written in words of every script."""

_RESERVED = frozenset(
    [
        *("localhost", "local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "arpa"),
        *("test", "invalid", "example", "onion", "alt"),
    ]
)
"""Top-level domains of addresses that are not on the public internet (RFC 6761, RFC 7686, RFC 8375, RFC 9476)."""

_HOST = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_ADDRESS_IN_HOST = re.compile(r"(^|[.-])\d{1,3}([.-])\d{1,3}\2\d{1,3}\2\d{1,3}([.-])")


def name_offence(text: str) -> str | None:
    """Return why a name is refused, with the character; None if it is not.

    Refused are blanks other than the ordinary one, names without a letter or digit, variation selectors, piles of
    combining marks, styled variants of ASCII letters, and words with letters of more than one script. A word of another
    script beside Latin ones is refused if all its letters look like Latin ones. A single small Greek letter is a word.

    Example:
        >>> name_offence("Zürich"), name_offence("β-Krum"), name_offence("Анна Роса")
        (None, None, None)
        >>> name_offence("Dec\\u0412yzPG")
        'has U+0412 CYRILLIC CAPITAL LETTER VE in a word of LATIN letters'
    """
    if text.isascii():
        return None if any(map(str.isalnum, text)) else "has no letter and no digit"
    marks = ""
    for character in text:
        category = unicodedata.category(character)
        if category == "Zs" and character != " ":
            return f"has the blank {character_name(character)}; write an ordinary one"
        if "VARIATION SELECTOR" in unicodedata.name(character, ""):
            return f"has the invisible character {character_name(character)}"
        plain = unicodedata.normalize("NFKC", character)
        if (category[0] == "L" or category == "Nl") and (
            (plain != character and plain.isascii()) or "SMALL CAPITAL" in unicodedata.name(character, "")
        ):
            return f"has {character_name(character)}, a variant of an ordinary letter"
        if category not in ("Mn", "Me"):
            marks = character
        elif category == "Me" or not marks or marks == " " or character in marks or len(marks) > MARKS:
            return f"has the combining mark {character_name(character)} where no language has one"
        else:
            marks += character
    if not any(map(str.isalnum, text)):
        return "has no letter and no digit"
    return _script_offence(text)


def _script_offence(text: str) -> str | None:
    """Return which character of a name is of another script than those around it; None if there is none."""
    from confusable_homoglyphs.categories import alias  # it reads its tables, which names of ASCII do not need
    from confusable_homoglyphs.confusables import is_confusable

    words = ["".join(word) for is_word, word in groupby(text, _is_word_character) if is_word]
    has_latin = any(alias(character) == "LATIN" for character in text)
    for word in words:
        letters = {character: script for character in word if (script := alias(character)) not in _NO_SCRIPT}
        scripts = set(letters.values())
        if len(scripts) > 1 and not any(scripts <= together for together in _EAST_ASIAN):
            first = next(iter(letters.values()))
            odd = next(character for character, script in letters.items() if script != first)
            if letters[odd] == "LATIN":
                odd, first = next(iter(letters)), "LATIN"
            return f"has {character_name(odd)} in a word of {first} letters"
        is_symbol = len(word) == 1 and scripts == {"GREEK"} and word.islower()
        foreign = has_latin and letters and "LATIN" not in scripts and not is_symbol
        if foreign and all(is_confusable(letter, preferred_aliases=["latin"]) for letter in letters):
            return f"has {character_name(next(iter(letters)))} in a word that looks like one of LATIN letters"
    return None


def _is_word_character(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def look_alike(one: str, other: str) -> bool:
    """Return whether two names look the same, apart from blanks and from capital letters.

    Example:
        >>> look_alike("ClippedGossip 1", "CIippedgossip l"), look_alike("BRIDGE", "BRIDGE, tuned")
        (True, False)
    """
    return not _skeletons(one).isdisjoint(_skeletons(other))


@cache
def _skeletons(text: str) -> frozenset[str]:
    """Return the skeletons of a name: as written, and in small letters."""
    return frozenset(_skeleton(variant) for variant in (text, text.casefold()))


def _skeleton(text: str) -> str:
    """Return a text with every character replaced by the first one of those that look like it, and without blanks."""
    prototypes = _prototypes()
    for _ in range(2):  # a prototype may be of several characters, for example rn of m
        text = "".join(prototypes.get(character, character) for character in unicodedata.normalize("NFD", text))
    return "".join(unicodedata.normalize("NFD", text).casefold().split())


@cache
def _prototypes() -> dict[str, str]:
    """Return, for every character that looks like another one, the prototype of all that look like it."""
    from confusable_homoglyphs.confusables import confusables_data

    parents: dict[str, str] = {}

    def prototype(text: str) -> str:
        while parents.get(text, text) != text:
            text = parents[text]
        return text

    for character, others in confusables_data.items():
        for other in others:
            ends = (prototype(_without_marks(text)) for text in (character, other["c"]))
            first, second = sorted(ends, key=lambda text: (-len(text), text))
            parents[second] = first
    return {text: prototype(text) for text in parents if len(text) == 1}


def _without_marks(text: str) -> str:
    """Return a text of the table without the direction marks that it has around letters from right to left."""
    return text.replace("\u200e", "")


def link_offence(text: str) -> str | None:
    """Return why a link is refused; None if it is an https link to a host on the public internet.

    The host must be a name: addresses are refused in every notation, and so are names that are reserved for one's own
    machine or network, and names in which an address is written.

    Example:
        >>> link_offence("https://arxiv.org/abs/2401.00001")
        >>> link_offence("https://127.0.0.1/"), link_offence("https://0x7f.1/")
        ('the host 127.0.0.1 is not a public domain name', 'the host 0x7f.1 is not a public domain name')
    """
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
    except ValueError:
        return "a link has a host in brackets that is not closed"
    if parts.scheme != "https" or not host:
        return "a link starts with https:// and a host"
    if "@" in parts.netloc:
        return "a link has no user name in it"
    if parts.netloc.lower() != host:
        return "a link has no port in it"
    labels = host.split(".")
    is_public = _HOST.fullmatch(host) and len(host) <= 253 and labels[-1] not in _RESERVED
    if not is_public or _ADDRESS_IN_HOST.search(host):
        return f"the host {host} is not a public domain name"
    if any(label.startswith("xn--") for label in labels):
        return f"the host {host} has a label in Punycode, which hides its letters"
    return None
