"""Stores at fsspec URLs, mirrored in a local folder.

Runs are always written to local folders, as logs are appended to, truncated and locked. A store at an fsspec URL is
therefore mirrored in a folder of the user's cache, where interrupted runs can be resumed. Finished runs are downloaded
before a sweep, and finished or failed runs are uploaded after it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from byzbench.errors import CorruptRecord, StorageError, UserError
from byzbench.records.files import FILES, LIMIT
from byzbench.records.seals import check_contents

OUTAGE = 3
"""The number of failed uploads in a row after which a store counts as one that cannot be reached."""

_ENDS = ("result.json", "failure.json")
"""The files that end a run, written last, by priority."""


class LocalStore:
    """A store in a local folder, without any transfers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def pull(self, hashes: Iterable[str] | None = None) -> list[str]:
        """Download finished runs: those of the given hashes, or all.

        Returns:
            A line for each run that is damaged, and was not downloaded.
        """
        return []

    def push(self, folder: Path) -> None:
        """Upload a run that is finished or failed, unless the store has it; if it cannot be reached, by `flush`."""

    def flush(self) -> None:
        """Upload the runs that `push` could not."""

    def push_file(self, path: Path) -> None:
        """Upload a file of the store."""


class RemoteStore(LocalStore):
    """A store at an fsspec URL, with a local folder in the user's cache."""

    def __init__(self, url: str) -> None:
        import fsspec

        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        super().__init__(cache / "byzbench" / hashlib.sha256(url.encode()).hexdigest()[:16])
        self._url = url
        try:
            self._remote, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UserError(f"cannot open the store {url}: {' '.join(str(error).split())}") from None
        self._waiting: list[Path] = []

    def pull(self, hashes: Iterable[str] | None = None) -> list[str]:
        """Download finished runs: those of the given hashes, or all.

        Returns:
            A line for each run that is damaged, and was not downloaded.
        """
        problems = []
        with self._storage_errors():
            remote = {Path(path).name for path in self._list()}
            for name in sorted(remote if hashes is None else remote & set(hashes)):
                if len(name) == 16 and not (self.path / name / "result.json").exists():
                    try:
                        self._pull(name)
                    except CorruptRecord as error:
                        problems.append(str(error))
        return problems

    def _list(self) -> list[str]:
        return self._remote.ls(self._root, detail=False) if self._remote.exists(self._root) else []

    def _pull(self, name: str) -> None:
        sizes = {Path(f["name"]).name: f["size"] or 0 for f in self._remote.ls(f"{self._root}/{name}", detail=True)}
        if not sizes.keys() & set(_ENDS):
            return
        contents = {
            file: self._remote.cat_file(f"{self._root}/{name}/{file}")
            for file in reversed(FILES)
            if file in sizes and sizes[file] <= LIMIT
        }
        check_contents(f"{self._url}/{name}", contents)
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in contents.items():
            _write(folder / file, content)

    def push(self, folder: Path) -> None:
        """Upload a run that is finished or failed, unless the store has it; if it cannot be reached, by `flush`.

        Raises:
            CorruptRecord: A file of a finished run is damaged.
        """
        try:
            self._push(folder)
        except StorageError:
            self._waiting.append(folder)

    def flush(self) -> None:
        """Upload the runs that `push` could not, unless `OUTAGE` of them in a row fail again.

        Raises:
            StorageError: Runs are left that could not be uploaded.
            CorruptRecord: A file of a finished run is damaged.
        """
        waiting, self._waiting = self._waiting, []
        failures, problem = 0, ""
        for folder in waiting:
            if failures == OUTAGE:
                self._waiting.append(folder)
                continue
            try:
                self._push(folder)
                failures = 0
            except StorageError as error:
                failures, problem = failures + 1, str(error)
                self._waiting.append(folder)
        if left := len(self._waiting):
            raise StorageError(f"{left} run{'s' * (left > 1)} not uploaded: {problem}")

    def _push(self, folder: Path) -> None:
        contents = {name: (folder / name).read_bytes() for name in reversed(FILES) if (folder / name).is_file()}
        ends = [name for name in _ENDS if name in contents]
        if not ends:
            return
        check_contents(str(folder), contents)
        root = f"{self._root}/{folder.name}"
        with self._storage_errors():
            stored = {name: self._remote.cat_file(f"{root}/{name}") for name in _ENDS if self._exists(f"{root}/{name}")}
            if stored.get(ends[0]) == contents[ends[0]] or ("result.json" in stored and ends[0] != "result.json"):
                return  # the store has this run, or one that another machine has finished
            present = self._remote.ls(root, detail=False) if self._exists(root) else []
            for name in [name for name in FILES if name in {Path(path).name for path in present}]:
                # A run that is uploaded in part is not taken for whole, and no file is written through a link.
                self._remote.rm_file(f"{root}/{name}")
            self._remote.makedirs(root, exist_ok=True)
            for name, content in contents.items():
                self._remote.pipe_file(f"{root}/{name}", content)

    def _exists(self, path: str) -> bool:
        """Return whether the store has a file; unlike that of fsspec, the method does not take an outage for a no."""
        try:
            self._remote.info(path)
        except FileNotFoundError:
            return False
        return True

    def push_file(self, path: Path) -> None:
        """Upload a file of the store."""
        with self._storage_errors():
            self._remote.makedirs(self._root, exist_ok=True)
            self._remote.pipe_file(f"{self._root}/{path.name}", path.read_bytes())

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # every back end raises its own types of errors
            reason = " ".join(str(error).split())
            raise StorageError(f"the store {self._url} cannot be reached: {type(error).__name__}: {reason}") from None


def _write(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


@contextmanager
def open_store(out: str | Path) -> Iterator[LocalStore]:
    """Open a store by its folder or its URL."""
    text = str(out)
    yield RemoteStore(text) if "://" in text else LocalStore(Path(text))
