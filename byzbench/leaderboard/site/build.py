"""Building the site: every file of it as bytes, the same from the same submissions, and writing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from byzbench.errors import StorageError, UserError
from byzbench.leaderboard.schema import digest
from byzbench.leaderboard.schema import write as part_bytes
from byzbench.leaderboard.site.board_pages import board_page, index_page, title
from byzbench.leaderboard.site.collection import Collection, attack_path, board_path, entry_path, topology_path
from byzbench.leaderboard.site.component_pages import attack_page, topology_page
from byzbench.leaderboard.site.data import board_csv, board_json
from byzbench.leaderboard.site.entry_pages import entry_page
from byzbench.leaderboard.site.html import Child, el, page
from byzbench.leaderboard.site.reading import reading_page

FOLDERS = ("attacks", "boards", "entries", "topologies")
_STATIC = ("site.css", "site.js")


def site(all_of_them: Collection) -> Iterator[tuple[str, bytes]]:
    """Every file of the site by its path. There is no clock in it: what it was made from is named by a digest."""
    made = digest(*(bytes.fromhex(e.digest) for e in all_of_them.entries), part_bytes(all_of_them.audit))
    count = len(all_of_them.entries)
    foot = el("p", f"Made from {count} submission{'s' * (count != 1)}, of the digest ", el("code", made[:16]), ".")

    def whole(name: str, *content: Child, where: Child = None) -> bytes:
        return page(f"{name} · byzbench leaderboards", *content, depth=where is not None, where=where, foot=foot)

    for name in _STATIC:
        yield name, files("byzbench.leaderboard.site").joinpath(name).read_bytes()
    yield "board.csv", board_csv(all_of_them)
    yield "board.json", board_json(all_of_them)
    yield "index.html", whole("Boards", index_page(all_of_them))
    yield "reading.html", whole("How to read the boards", reading_page())
    for board in all_of_them.boards:
        yield board_path(board), whole(title(board), board_page(board, all_of_them), where=title(board))
    for entry in all_of_them.entries:
        name = entry.submission.entry.name
        yield entry_path(entry), whole(name, entry_page(entry, all_of_them), where=name)
    for name in all_of_them.attacks:
        yield attack_path(name), whole(f"Attack {name}", attack_page(name, all_of_them), where=f"attack {name}")
    for name in all_of_them.topologies:
        yield topology_path(name), whole(f"Graph {name}", topology_page(name, all_of_them), where=f"graph {name}")


def differences(found: Mapping[str, bytes], out: Path) -> list[str]:
    """Paths whose files in a folder are not those of the site: changed, missing, or left from an earlier one."""
    there = {path: (out / path).read_bytes() for path in {*found, *_pages(out)} if (out / path).is_file()}
    return sorted(path for path in {*found, *there} if found.get(path) != there.get(path))


def write(found: Mapping[str, bytes], out: Path) -> None:
    """Write the site into a folder: a new one, an empty one, or one that holds an earlier site.

    Raises:
        UserError: the folder holds something else.
        StorageError: it cannot be written.
    """
    try:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "board.json").is_file())):
            raise UserError(f"{out} is there and holds no site; name another folder with --out")
        for path in (path for path in _pages(out) if path not in found):
            (out / path).unlink()
        for path, content in found.items():
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            (out / path).write_bytes(content)
    except OSError as error:
        raise StorageError(f"cannot write {out}: {error.strerror}") from None


def _pages(out: Path) -> list[str]:
    """The pages that a site has in its folders."""
    return [path.relative_to(out).as_posix() for name in FOLDERS for path in (out / name).glob("*.html")]
