"""Building and writing of the site. The same submissions give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from byzbench.errors import StorageError, UserError
from byzbench.leaderboard.schema import encode_document as part_bytes
from byzbench.leaderboard.schema import sha256_of
from byzbench.leaderboard.site.board_pages import board_page, title
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.leaderboard.site.component_pages import attack_page, topology_page
from byzbench.leaderboard.site.data import board_csv, board_json
from byzbench.leaderboard.site.entry_pages import entry_page
from byzbench.leaderboard.site.html import page
from byzbench.leaderboard.site.index_page import index_page
from byzbench.leaderboard.site.reading import reading_page
from byzbench.reports.markup import Child, el

FOLDERS = ("attacks", "boards", "entries", "topologies")
"""The folders of pages."""


def site(collection: Collection, docs: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield the path and the content of every file of the site.

    Pages have no date; they have a digest of the submissions and audits that they show.

    Args:
        collection: The content of the site.
        docs: The address of the documentation, see `page`.
    """
    source = sha256_of(*(bytes.fromhex(e.digest) for e in collection.entries), part_bytes(collection.audit))
    count = len(collection.entries)
    foot = el("p", f"Made from {count} submission{'s' * (count != 1)}, of the digest ", el("code", source[:16]), ".")

    def full_page(name: str, *content: Child, where: Child = None) -> bytes:
        return page(f"{name} · byzbench leaderboards", *content, depth=where is not None, where=where, foot=foot, docs=docs)

    own, common = files("byzbench.leaderboard.site"), files("byzbench.reports")
    sheets = [*(common.joinpath(name) for name in ("palette.css", "page.css")), own.joinpath("site.css")]
    yield "site.css", b"".join(sheet.read_bytes() for sheet in sheets)
    yield "site.js", own.joinpath("site.js").read_bytes()
    yield "board.csv", board_csv(collection)
    yield "board.json", board_json(collection)
    yield "index.html", full_page("Boards", index_page(collection))
    yield "reading.html", full_page("How to read the boards", reading_page())
    for board in collection.boards:
        yield board_path(board), full_page(title(board), board_page(board, collection), where=title(board))
    for entry in collection.entries:
        name = entry.submission.entry.name
        yield entry_path(entry), full_page(name, entry_page(entry, collection), where=name)
    for name in collection.attacks:
        yield attack_path(name), full_page(f"Attack {name}", attack_page(name, collection), where=f"attack {name}")
    for name in collection.topologies:
        yield topology_path(name), full_page(f"Graph {name}", topology_page(name, collection), where=f"graph {name}")


def site_differences(contents: Mapping[str, bytes], out: Path) -> list[str]:
    """Return the paths at which a folder differs from the site, sorted.

    Args:
        contents: The files of the site by path.
        out: The folder.

    Returns:
        The paths of files that are changed or missing, and of pages that the site does not have.
    """
    existing = {path: (out / path).read_bytes() for path in {*contents, *_pages(out)} if (out / path).is_file()}
    return sorted(path for path in {*contents, *existing} if contents.get(path) != existing.get(path))


def write_site(contents: Mapping[str, bytes], out: Path) -> None:
    """Write the site into a folder that is new, is empty, or has an earlier site.

    Args:
        contents: The files of the site by path.
        out: The folder.

    Raises:
        UserError: The folder is not empty and has no site.
        StorageError: A file cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "board.json").is_file())):
            raise UserError(f"{out} exists and holds no site; name another folder with --out")
        for path in (path for path in _pages(out) if path not in contents):
            (out / path).unlink()
        for path, content in contents.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}") from None


def _pages(out: Path) -> list[str]:
    """Return the paths of the pages in the folders of a site."""
    return [path.relative_to(out).as_posix() for name in FOLDERS for path in (out / name).glob("*.html")]
