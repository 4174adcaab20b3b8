"""Submissions that nobody should send: each is refused with a path, or is text that a page must show as text.

`REFUSED` maps what is done to a good submission's folder to where the finding must point; `HARMLESS` are texts that
are well-formed, and stand in a good submission's fields for the site to escape.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from byzbench.canonical import SCHEMA

Attack = Callable[[Path], None]

XSS = "<script>alert(1)</script>"
HARMLESS = {
    "a script": XSS,
    "an image": '"><img src=x onerror=alert(1)>',
    "a handler": "' onmouseover='alert(1)",
    "a closed script": "</script><svg onload=alert(1)>",
    "a template": "{{ 7 * 7 }}{% raw %}${7*7}",
    "a formula": '=HYPERLINK("https://example.org","x")',
    "a command": "+cmd|' /C calc'!A0",
    "at": "@SUM(1+1)",
    "markdown": "[x](javascript:alert(1)) ![y](https://example.org/z.png)",
    "entities": "&lt;script&gt;&#x6a;avascript:",
}


def document(folder: Path, *path: str | int, value: Any) -> None:
    """Set a value of submission.json."""
    file = folder / "submission.json"
    data = json.loads(file.read_text())
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    file.write_text(json.dumps(data))


def raw(folder: Path, old: str, new: str) -> None:
    """Replace a text of submission.json, as no JSON writer would."""
    file = folder / "submission.json"
    text = file.read_text()
    assert old in text
    file.write_bytes(text.replace(old, new, 1).encode("utf-8", "surrogatepass"))


def line(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]] | bytes) -> None:
    """Edit or replace the first line of cells.jsonl, with a digest that fits."""
    file = folder / "cells.jsonl"
    first, rest = file.read_bytes().split(b"\n", 1)
    new = edit if isinstance(edit, bytes) else json.dumps(edit(json.loads(first))).encode()
    file.write_bytes(new + b"\n" + rest)
    document(folder, "cells_sha256", value=hashlib.sha256(file.read_bytes()).hexdigest())


def field(*path: str | int, value: Any) -> Attack:
    return lambda folder: document(folder, *path, value=value)


def cell(**values: Any) -> Attack:
    return lambda folder: line(folder, lambda one: one | {k.rstrip("_"): v for k, v in values.items()})


def parameter(**values: Any) -> Attack:
    """Set parameters of the rule of the first stratum."""
    return field("resolved", "cartpole-complete-f2", "aggregator", "parameters", value=values)


def version(**values: Any) -> Attack:
    """Set what is on record of a component."""
    return field("code", "components", value={"attack alie": {"version": 1, "digest": "0" * 16, **values}})


def text(old: str, new: str) -> Attack:
    return lambda folder: raw(folder, old, new)


def link(name: str, target: str) -> Attack:
    def do(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return do


def large(name: str, size: int) -> Attack:
    return lambda folder: os.truncate(folder / name, size)


def extra(name: str, content: bytes = b"x") -> Attack:
    return lambda folder: (folder / name).write_bytes(content) and None


def folder_for(name: str) -> Attack:
    def do(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return do


def fifo(folder: Path) -> None:
    (folder / "NOTES.md").unlink(missing_ok=True)
    os.mkfifo(folder / "NOTES.md")


TOP, FIRST = "submission.json $", "cells.jsonl:1 $"
NAME, PAPER = f"{TOP}.entry.name", f"{TOP}.entry.paper"

INVISIBLE = {
    "a Hangul filler": ("\u3164", "U+3164 HANGUL FILLER"),
    "a halfwidth Hangul filler": ("Dec\uffa0ByzPG", "U+FFA0 HALFWIDTH HANGUL FILLER"),
    "a choseong filler": ("a\u115fb", "U+115F HANGUL CHOSEONG FILLER"),
    "a Braille blank": ("\u2800\u2800", "U+2800 BRAILLE PATTERN BLANK"),
    "a combining grapheme joiner": ("Dec\u034fByzPG", "U+034F COMBINING GRAPHEME JOINER"),
    "a zero-width joiner": ("Dec\u200dByzPG", "U+200D ZERO WIDTH JOINER"),
    "a zero-width non-joiner": ("Dec\u200cByzPG", "U+200C ZERO WIDTH NON-JOINER"),
    "a word joiner": ("Dec\u2060ByzPG", "U+2060 WORD JOINER"),
    "a soft hyphen": ("Dec\u00adByzPG", "U+00AD SOFT HYPHEN"),
    "a variation selector": ("Krum\ufe0f", "U+FE0F VARIATION SELECTOR-16"),
    "a supplementary selector": ("Krum\U000e0100", "U+E0100 VARIATION SELECTOR-17"),
    "a tag letter": ("Krum\U000e0041", "U+E0041 TAG LATIN CAPITAL LETTER A"),
    "a Mongolian separator": ("Krum\u180e", "U+180E MONGOLIAN VOWEL SEPARATOR"),
    "a Khmer inherent vowel": ("Krum\u17b5", "U+17B5 KHMER VOWEL INHERENT AA"),
    "an object replacement": ("Krum\ufffc", "U+FFFC OBJECT REPLACEMENT CHARACTER"),
    "a right-to-left mark": ("Krum\u200f!", "U+200F RIGHT-TO-LEFT MARK"),
    "an Arabic letter mark": ("Krum\u061c!", "U+061C ARABIC LETTER MARK"),
    "a pop of an embedding": ("Krum\u202c", "U+202C POP DIRECTIONAL FORMATTING"),
}
"""Names with a character that cannot be seen, and how it is named."""

MISLEADING = {
    "a no-break space": ("Dec\u00a0ByzPG", "U+00A0 NO-BREAK SPACE"),
    "an ideographic space": ("Dec\u3000ByzPG", "U+3000 IDEOGRAPHIC SPACE"),
    "seventy combining marks": ("K" + "\u0334" * 70, "U+0334 COMBINING TILDE OVERLAY"),
    "three combining marks": ("Kq\u0334\u0323\u0307", "U+0307 COMBINING DOT ABOVE"),
    "a mark on a blank": ("Krum \u0336", "U+0336 COMBINING LONG STROKE OVERLAY"),
    "a mark on nothing": ("\u0338Krum", "U+0338 COMBINING LONG SOLIDUS OVERLAY"),
    "an enclosing mark": ("K\u20ddrum", "U+20DD COMBINING ENCLOSING CIRCLE"),
    "a Cyrillic letter": ("DecВyzPG", "U+0412 CYRILLIC CAPITAL LETTER VE"),
    "a Cyrillic first letter": ("Кrum", "U+041A CYRILLIC CAPITAL LETTER KA"),
    "a Greek letter": ("ΒRIDGE", "U+0392 GREEK CAPITAL LETTER BETA"),
    "an Armenian letter": ("BRIDGE sօlo", "U+0585 ARMENIAN SMALL LETTER OH"),
    "a Cherokee letter": ("ᏴRIDGE", "U+13F4 CHEROKEE LETTER YV"),
    "a Cyrillic word": ("ОСА tuned", "U+041E CYRILLIC CAPITAL LETTER O"),
    "a single Cyrillic letter": ("Krum а", "U+0430 CYRILLIC SMALL LETTER A"),
    "a bold letter": ("𝐊rum", "U+1D40A MATHEMATICAL BOLD CAPITAL K"),
    "a fullwidth letter": ("Ｋrum", "U+FF2B FULLWIDTH LATIN CAPITAL LETTER K"),
    "a small capital": ("Kʀum", "U+0280 LATIN LETTER SMALL CAPITAL R"),
    "a ligature": ("ﬁlter", "U+FB01 LATIN SMALL LIGATURE FI"),
    "a Roman numeral": ("Solo Ⅰ", "U+2160 ROMAN NUMERAL ONE"),
    "no letter": ("— …", "no letter and no digit"),
}
"""Names that look like other ones, or hide what is around them, and how the character is named."""

HOSTS = [
    "localhost",
    "localhost.",
    "localhost.localdomain",
    "a.localhost",
    "printer.local",
    "db.internal",
    "router.lan",
    "nas.home.arpa",
    "x.test",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "017700000001",
    "0177.0.0.1",
    "127.0.0.1.",
    "127.0.0.0x1",
    "0.0.0.0",
    "10.0.0.8",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "8.8.8.8",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2001:4860:4860::8888]",
    "[fe80::1%25eth0]",
    "127.0.0.1.nip.io",
    "10-0-0-8.sslip.io",
    "app.10.0.0.8.nip.io",
    "user@arxiv.org",
    "user:pass@arxiv.org",
    "@arxiv.org",
    ":@arxiv.org",
    "arxiv.org@127.0.0.1",
    "arxiv.org:443",
    "arxiv.org:22",
    "arxiv.org:",
    "arxiv",
    "arxiv.org.",
    ".arxiv.org",
    "arxiv..org",
    "-a.org",
    "a-.org",
    "a_b.org",
    "%6cocalhost",
    "127%2e0.0.1",
    "xn--rxiv-53d.org",
    "a.xn--p1ai",
    "arxiv.o",
    "1.2",
    "intranet",
    "[::1",
    "::1",
]
"""Hosts of links that are refused: the reader's machine and network, addresses in every notation, users, ports."""
AXIS = f"{TOP}.resolved.cartpole-complete-f2.aggregator"

REFUSED: dict[str, tuple[Attack, str]] = {
    # texts
    "right-to-left override in a name": (field("entry", "name", value="abc\u202egnp.exe"), NAME),
    "left-to-right isolate in an author": (field("entry", "authors", value=["a\u2066b"]), f"{TOP}.entry.authors[0]"),
    "zero-width space in a name": (field("entry", "name", value="Dec\u200bByzPG"), NAME),
    "byte order mark in a name": (field("entry", "name", value="\ufeffDecByzPG"), NAME),
    "NUL in a name": (field("entry", "name", value="a\x00b"), NAME),
    "escape sequence in a name": (field("entry", "name", value="\x1b[31mred"), NAME),
    "line break in a name": (field("entry", "name", value="a\nb"), NAME),
    "line separator in a name": (field("entry", "name", value="a\u2028b"), NAME),
    "half a surrogate in a name": (text('"Entry good"', '"\\ud800"'), NAME),
    "a name not in NFC": (field("entry", "name", value="e\u0301"), NAME),
    "private letters in a name": (field("entry", "name", value="\ue000"), NAME),
    "a name of 81 letters": (field("entry", "name", value="x" * 81), NAME),
    "an empty name": (field("entry", "name", value=""), NAME),
    "a name of blanks": (field("entry", "name", value="   "), NAME),
    "a name that is a list": (field("entry", "name", value=["x"]), NAME),
    "a name that is a number": (field("entry", "name", value=1), NAME),
    **{
        f"{how} in a name": (field("entry", "name", value=name), NAME)
        for how, (name, _) in {**INVISIBLE, **MISLEADING}.items()
    },
    "a twin for an author": (field("entry", "authors", value=["A. Authоr"]), f"{TOP}.entry.authors[0]"),
    "a filler in a conflict": (field("entry", "conflicts", value="none\u3164"), f"{TOP}.entry.conflicts"),
    "a filler in the notes": (extra("NOTES.md", "x\u2800".encode()), "NOTES.md:1"),
    "no authors": (field("entry", "authors", value=[]), f"{TOP}.entry.authors"),
    "21 authors": (field("entry", "authors", value=["x"] * 21), f"{TOP}.entry.authors"),
    "a script for a licence": (field("entry", "license", value=XSS), f"{TOP}.entry.license"),
    "a control letter in the notes": (extra("NOTES.md", b"a\x1b]0;b"), "NOTES.md:1"),
    "an override in the notes": (extra("NOTES.md", "x\n\u202ey".encode()), "NOTES.md:2"),
    "notes that are not UTF-8": (extra("NOTES.md", b"\xff\xfe"), "NOTES.md"),
    # links
    "a javascript link": (field("entry", "paper", value="javascript:alert(1)"), f"{TOP}.entry.paper"),
    "a data link": (field("entry", "paper", value="data:text/html,x"), f"{TOP}.entry.paper"),
    "a link without encryption": (field("entry", "paper", value="http://example.org/x"), f"{TOP}.entry.paper"),
    "a link with a user": (field("entry", "paper", value="https://arxiv.org@evil.example/"), f"{TOP}.entry.paper"),
    **{f"a link to {host}": (field("entry", "paper", value=f"https://{host}/x"), PAPER) for host in HOSTS},
    "a link with a quote": (field("entry", "paper", value='https://e.org/"x'), f"{TOP}.entry.paper"),
    "a link with a tab": (field("entry", "paper", value="java\tscript:alert(1)"), f"{TOP}.entry.paper"),
    "a link without a host": (field("entry", "paper", value="https:///x"), f"{TOP}.entry.paper"),
    "a link of other letters": (field("entry", "paper", value="https://аrxiv.org/x"), f"{TOP}.entry.paper"),
    # paths
    "a slug that goes up": (field("entry", "slug", value="../../etc"), f"{TOP}.entry.slug"),
    "an absolute slug": (field("entry", "slug", value="/etc/passwd"), f"{TOP}.entry.slug"),
    "a slug with a line break": (field("entry", "slug", value="good\n"), f"{TOP}.entry.slug"),
    "a slug of another folder": (field("entry", "slug", value="other"), f"{TOP}.entry.slug"),
    "a suite that is a path": (field("suite", value="../submissions/x"), f"{TOP}.suite"),
    "an entry aimed at a path": (field("method", "against", value="../x"), f"{TOP}.method.against"),
    "a symbolic link for the cells": (link("cells.jsonl", "/etc/passwd"), "cells.jsonl"),
    "a symbolic link for the notes": (link("NOTES.md", "/dev/zero"), "NOTES.md"),
    "a symbolic link to itself": (link("NOTES.md", "NOTES.md"), "NOTES.md"),
    "a folder for the cells": (folder_for("cells.jsonl"), "cells.jsonl"),
    "a pipe for the notes": (fifo, "NOTES.md"),
    "a fourth file": (extra("weights.pkl"), "'weights.pkl'"),
    "a page": (extra("index.html", XSS.encode()), "'index.html'"),
    "a hidden file": (extra(".gitattributes"), "'.gitattributes'"),
    "a file name with a control letter": (extra("a\x1b[2Jb"), "'a\\x1b[2Jb'"),
    # code that a description would name
    "a task of a module": (field("method", "algo", value="gymnasium:evil:E-v0"), f"{TOP}.method.algo"),
    "a policy from a path": (
        field("method", "aggregator", value="learned(policy='/tmp/x')"),
        f"{TOP}.method.aggregator",
    ),
    "a graph from a path": (field("method", "agreement", value="from_file(path=a/b)"), f"{TOP}.method.agreement"),
    "Python for a method": (field("method", "algo", value="__import__('os').system('x')"), f"{TOP}.method.algo"),
    "a method that nobody gave": (field("method", "topology", value="complete"), f"{TOP}.method.topology"),
    "a script for a version": (field("environment", "cpu", value=XSS), f"{TOP}.environment.cpu"),
    "a script for a library": (
        field("environment", "versions", value={XSS: "1"}),
        f"{TOP}.environment.versions.{XSS}",
    ),
    # descriptions of methods
    "a path for a value": (parameter(rule="/etc/passwd"), AXIS),
    "a module for a value": (parameter(rule="gymnasium:evil"), AXIS),
    "a script for a value": (parameter(rule=XSS), AXIS),
    "a value of 161 letters": (parameter(rule="x" * 161), AXIS),
    "a list of a path": (parameter(rule=["/tmp/x"]), AXIS),
    "a list of lists": (parameter(rule=[[1]]), AXIS),
    "a list of 65 numbers": (parameter(rule=[1] * 65), AXIS),
    "sixty parameters": (parameter(**{f"p{i}": 1 for i in range(60)}), AXIS),
    "a parameter that is no name": (parameter(**{"__class__.x": 1}), AXIS),
    "a component inside that is none": (parameter(rule={"name": "krum"}), AXIS),
    "a component inside with a path": (parameter(rule={"name": "../krum", "parameters": {}}), AXIS),
    "a component inside with more": (parameter(rule={"name": "krum", "parameters": {}, "code": "x"}), AXIS),
    "a component that is a text": (field("resolved", "s", value={"algorithm": "krum"}), f"{TOP}.resolved.s.algorithm"),
    "an axis that is a path": (field("resolved", "s", value={"../x": {}}), f"{TOP}.resolved.s.../x"),
    "a stratum that is a path": (field("resolved", "../x", value={}), f"{TOP}.resolved.../x"),
    "101 strata": (field("resolved", value={f"s{i}": {} for i in range(101)}), f"{TOP}.resolved"),
    "21 axes": (
        field("resolved", "s", value={f"axis{'x' * i}": {"name": "x", "parameters": {}} for i in range(21)}),
        f"{TOP}.resolved.s",
    ),
    "an engine of zero": (field("code", "engine", value=0), f"{TOP}.code.engine"),
    "an engine that is a text": (field("code", "engine", value="1"), f"{TOP}.code.engine"),
    "no engine": (field("code", "engine", value=None), TOP),
    "a version of zero": (version(version=0), f"{TOP}.code.components.attack alie.version"),
    "true for a version": (version(version=True), f"{TOP}.code.components.attack alie.version"),
    "a script for a digest": (version(digest=XSS), f"{TOP}.code.components.attack alie.digest"),
    "a component that is a path": (
        field("code", "components", value={"attack /tmp/x": {"version": 1, "digest": ""}}),
        f"{TOP}.code.components.attack /tmp/x",
    ),
    # JSON
    "NaN": (text(f'"schema": {SCHEMA}', '"schema": NaN'), f"{TOP}.schema"),
    "Infinity": (text(f'"schema": {SCHEMA}', '"schema": -Infinity'), f"{TOP}.schema"),
    "a number too large for a float": (text(f'"schema": {SCHEMA}', '"schema": 1e999'), f"{TOP}.schema"),
    "an integer of 5,000 digits": (text(f'"schema": {SCHEMA}', f'"schema": {"1" * 5000}'), f"{TOP}.schema"),
    "true for one": (text(f'"schema": {SCHEMA}', '"schema": true'), f"{TOP}.schema"),
    "a newer schema": (field("schema", value=999), f"{TOP}.schema"),
    "a schema of zero": (field("schema", value=0), f"{TOP}.schema"),
    "a schema that is a list": (field("schema", value=[1]), f"{TOP}.schema"),
    "no schema": (text(f'"schema": {SCHEMA},', ""), f"{TOP}.schema"),
    "an old schema with new keys": (field("schema", value=1), f"{TOP}.code.source"),
    "a key twice": (text('"track":', '"track": "attack", "track":'), f"{TOP}.track"),
    "an unknown key": (field("score", value=1.0), f"{TOP}.score"),
    "an unknown key inside": (field("entry", "verified", value=True), f"{TOP}.entry.verified"),
    "a key with a control letter": (field("entry", "a\x07", value=1), f"{TOP}.entry"),
    "a key of a megabyte": (field("entry", "k" * 15_000, value=1), f"{TOP}.entry"),
    "a prototype": (field("__proto__", value={}), f"{TOP}.__proto__"),
    "a hundred thousand brackets": (extra("submission.json", b"[" * 19_000), TOP),
    "thirteen levels": (extra("submission.json", b'{"a":' * 13 + b"1" + b"}" * 13), f"{TOP}{'.a' * 13}"),
    "a list for a document": (extra("submission.json", b"[]"), TOP),
    "no JSON": (extra("submission.json", b"schema: 1"), TOP),
    "an empty document": (extra("submission.json", b""), TOP),
    "UTF-16": (extra("submission.json", '{"schema": 1}'.encode("utf-16")), TOP),
    "50 MB of submission": (large("submission.json", 50 * 2**20), "submission.json"),
    "50 MB of cells": (large("cells.jsonl", 50 * 2**20), "cells.jsonl"),
    "a digest in capitals": (field("cells_sha256", value="A" * 64), f"{TOP}.cells_sha256"),
    "a track of one's own": (field("track", value="winner"), f"{TOP}.track"),
    "two threads": (field("environment", "threads", value=2), f"{TOP}.environment.threads"),
    "eleven plug-ins": (field("code", "plugins", value=[{}] * 11), f"{TOP}.code.plugins[0].kind"),
    # cells
    "a return that is a number": (cell(return_=187.25), f"{FIRST}.return"),
    "a return that is NaN": (cell(return_="nan"), f"{FIRST}.return"),
    "a return that is written otherwise": (cell(return_="187.250"), f"{FIRST}.return"),
    "a return that overflows": (cell(return_="1e999"), f"{FIRST}.return"),
    "a formula for a return": (cell(return_="=1+1"), f"{FIRST}.return"),
    "a curve of 65 points": (cell(curve=["1.0"] * 65), f"{FIRST}.curve"),
    "a script for a reason": (cell(reason="x\u202e"), f"{FIRST}.reason"),
    "a negative seed": (cell(seed=-1), f"{FIRST}.seed"),
    "a seed that is a text": (cell(seed="0"), f"{FIRST}.seed"),
    "true for a seed": (cell(seed=True), f"{FIRST}.seed"),
    "a cell of another suite's": (cell(stratum="../x"), f"{FIRST}.stratum"),
    "an attack with a path": (cell(attack="learned(policy=/x)"), f"{FIRST}.attack"),
    "a score in a cell": (cell(score=1), f"{FIRST}.score"),
    "a key twice in a cell": (lambda folder: line(folder, b'{"cell": "1", "cell": "2"}'), f"{FIRST}.cell"),
    "an empty line": (lambda folder: line(folder, b""), FIRST),
    "NaN in a cell": (lambda folder: line(folder, b'{"seed": NaN}'), f"{FIRST}.seed"),
}
