"""Make HTML: every text that is not `Markup` is escaped, and links lead to pages of the site or to https addresses.

No other module of the site writes a `<`, so that no text of a submission can become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TypeAlias
from urllib.parse import urlsplit

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
"""Content security policy: no inline script, no inline style, nothing from another origin."""

_VOID = {"meta", "link", "input", "br"}
_ATTRIBUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")


class Markup(str):
    """HTML that the functions of this module made."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
Value: TypeAlias = "str | int | float | bool | None"


def text(child: Child) -> str:
    """Return a child as HTML: None is empty, an iterable its items one after the other, all else is escaped."""
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, str | int | float):
        return escape(str(child))
    return "".join([text(one) for one in child])


def join(*children: Child) -> Markup:
    """Return children without an element around them."""
    return Markup(text(children))


def el(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """Return an element.

    Args:
        name: of the element.
        children: its content.
        attributes: `class_` is written class, `data_v` data-v; True is an attribute without a value, None is left out.

    Raises:
        ValueError: an address is neither one of the site's pages nor https, or an attribute could run a script.
    """
    written = "".join([_attribute(k, v) for k, v in attributes.items() if v is not None and v is not False])
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{text(children)}</{name}>")


def _attribute(key: str, value: Value) -> str:
    name = _named(key)
    if value is True:
        return f" {name}"
    if name in ("href", "src") and not _harmless(str(value)):
        raise ValueError(f"{value!r} is no address to link to")
    return f' {name}="{escape(str(value))}"'


@cache
def _named(key: str) -> str:
    name = key.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.fullmatch(name) or name.startswith("on") or name == "style":
        raise ValueError(f"{name} is no attribute for a page of ours")
    return name


def _harmless(address: str) -> bool:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return parts.scheme == "https" and bool(parts.hostname)
    return re.fullmatch(r"[A-Za-z0-9_./#-]*", address) is not None and not address.startswith("/")


def outward(address: str, *children: Child) -> Markup:
    """Return a link to another site if its address is https; else the children alone."""
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        return join(*children)
    return el("a", *children, href=address, rel="noopener nofollow")


def page(title: str, *content: Child, depth: int = 0, where: Child = None, foot: Child = None) -> bytes:
    """Return a complete page.

    Args:
        title: of the window.
        content: of the main part.
        depth: number of folders between the site's root and the page.
        where: the title in the navigation, below the first page.
        foot: the footer.
    """
    up = "../" * depth
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        el("link", rel="stylesheet", href=f"{up}site.css"),
        el("script", src=f"{up}site.js", defer=True),
    )
    here = el("a", "byzbench leaderboards", href=f"{up}index.html")
    guide = el("a", "How to read them", href=f"{up}reading.html")
    body = el(
        "body",
        el("a", "Skip to the content", class_="skip", href="#content"),
        el("header", el("nav", here, el("span", " / ", where) if where else None, aria_label="Where you are"), guide),
        el("main", *content, id="content", tabindex="-1"),
        el("footer", foot),
    )
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'.encode()
