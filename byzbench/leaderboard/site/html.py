"""The frame of a page of the site: its head, navigation and footer."""

from __future__ import annotations

from byzbench.reports.markup import Child, document, el

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
"""Content security policy: no inline scripts, no inline styles, nothing from another origin."""


def page(
    title: str, *content: Child, depth: int = 0, where: Child = None, foot: Child = None, docs: str | None = None
) -> bytes:
    """Return a complete page.

    Args:
        title: The title of the window.
        content: The content of the main part.
        depth: Number of folders between the root of the site and the page.
        where: The title in the navigation, after the link to the first page.
        foot: The content of the footer.
        docs: The address of the documentation, https or relative to the first page; None for no link to it.
    """
    up = "../" * depth
    head = [
        el("link", rel="stylesheet", href=f"{up}site.css"),
        el("script", src=f"{up}site.js", defer=True),
    ]
    library = el("strong", "byzbench")
    if docs is not None:
        library = el("a", library, href=docs if docs.startswith("https:") else f"{up}{docs}")
    home = el("a", "leaderboards", href=f"{up}index.html")
    guide = el("a", "How to read them", href=f"{up}reading.html")
    path = el("nav", library, " / ", home, el("span", " / ", where) if where else None, aria_label="Breadcrumb")
    body = [
        el("a", "Skip to the content", class_="skip", href="#content"),
        el("header", el("div", path, guide, class_="bar")),
        el("main", *content, id="content", tabindex="-1"),
        el("footer", foot),
    ]
    return document(title, POLICY, head, *body).encode()
