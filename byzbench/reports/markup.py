"""HTML elements: every text that is not `Markup` is escaped, and links are to neighbouring pages or to https addresses.

No other module writes a `<`, so that a text of a record or a submission cannot become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TypeAlias
from urllib.parse import urlsplit

_VOID = {"meta", "link", "input", "br", "img"}
"""Elements without a closing tag."""

_ATTRIBUTE = re.compile(r"[a-zA-Z][a-zA-Z0-9:-]*")
_PICTURE = re.compile(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]*")


class Markup(str):
    """HTML from the functions of this module, which is not escaped again."""

    __slots__ = ()


Child: TypeAlias = "str | int | float | Iterable[Child] | None"
Value: TypeAlias = "str | int | float | bool | None"


def text(child: Child) -> str:
    """Return a child as HTML: None is empty, items of an iterable are joined, texts and numbers are escaped.

    Example:
        >>> text(["a < b", None, 3])
        'a &lt; b3'
    """
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, str | int | float):
        return escape(str(child))
    return "".join([text(item) for item in child])


def join(*children: Child) -> Markup:
    """Return children without an element around them."""
    return Markup(text(children))


def el(name: str, /, *children: Child, **attributes: Value) -> Markup:
    """Return an element.

    Args:
        name: The name of the element.
        children: Its content.
        attributes: Its attributes; `class_` is written class, and `data_v` is written data-v. True is an attribute
            without a value; None and False are left out.

    Raises:
        ValueError: An address is neither a neighbouring page nor https, or an attribute could run a script.

    Example:
        >>> el("a", "R & D", href="index.html", class_="mark")
        '<a href="index.html" class="mark">R &amp; D</a>'
    """
    written = "".join([_attribute(k, v) for k, v in attributes.items() if v is not None and v is not False])
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{text(children)}</{name}>")


def _attribute(key: str, value: Value) -> str:
    name = _attribute_name(key)
    if value is True:
        return f" {name}"
    if name in ("href", "src") and not (_is_allowed(str(value)) or (name == "src" and _PICTURE.fullmatch(str(value)))):
        raise ValueError(f"{value!r} is not an allowed address: a neighbouring page or https")
    return f' {name}="{escape(str(value))}"'


@cache
def _attribute_name(key: str) -> str:
    name = key.rstrip("_").replace("_", "-")
    if not _ATTRIBUTE.fullmatch(name) or name.startswith("on") or name == "style":
        raise ValueError(f"{name} is not an allowed attribute: scripts and styles are not allowed in pages")
    return name


def _is_allowed(address: str) -> bool:
    """Return whether an address is https, or a relative path without special characters."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return parts.scheme == "https" and bool(parts.hostname)
    return re.fullmatch(r"[A-Za-z0-9_./#-]*", address) is not None and not address.startswith("/")


def document(title: str, policy: str, head: Child, *content: Child) -> str:
    """Return a complete page, in the colours that its reader prefers.

    Args:
        title: The title of the window.
        policy: The content security policy.
        head: What the head has besides: the style and the scripts.
        content: The content of the body.

    Example:
        >>> document("A", "default-src 'none'", None, "a < b").endswith("<body>a &lt; b</body></html>\\n")
        True
    """
    whole = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", title),
        head,
    )
    return f'<!doctype html>\n<html lang="en">{whole}{el("body", *content)}</html>\n'


def outward(address: str, *children: Child) -> Markup:
    """Return a link to another site; only the children if the address is not https."""
    parts = urlsplit(address)
    if parts.scheme != "https" or not parts.hostname:
        return join(*children)
    return el("a", *children, href=address, rel="noopener nofollow")
