"""Wheels of plug-ins, unpacked into a folder of their own without running any of their code.

A wheel is a ZIP archive. What an installer does for it (scripts, data outside of packages, `.pth` files that run at the
start of Python) is refused, and so are modules that would hide others.
"""

from __future__ import annotations

import ast
import re
import stat
import sys
import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from byzbench.leaderboard.documents import Finding
from byzbench.leaderboard.schema import Plugin

SIZE = 64 * 2**20
"""The largest size of all unpacked files, in bytes."""

FILES = 2000
"""The largest number of files."""


class _RefusedWheel(Exception):
    """A wheel that is refused; the text is the reason."""


def unpack_wheels(wheels: Path, plugins: Sequence[Plugin], out: Path) -> list[Finding]:
    """Unpack the wheels of the plug-ins of an entry.

    Args:
        wheels: The folder of the wheels.
        plugins: The plug-ins of the entry, whose distributions the folder has to hold, and no others.
        out: An empty folder.

    Returns:
        The findings; where there is one, nothing of the folder may be used.
    """
    wanted = {f"{_normal(plugin.distribution)} {plugin.version}" for plugin in plugins}
    size = files = 0
    for wheel in sorted(wheels.iterdir()):
        where = f"--wheels {ascii(wheel.name)[1:-1]}"
        try:
            more_size, more_files = _unpack(wheel, out, SIZE - size, FILES - files)
        except _RefusedWheel as error:
            return [Finding("wheel", where, str(error))]
        except Exception as error:  # a damaged archive can fail in many ways
            return [_unreadable(where, error)]
        size, files = size + more_size, files + more_files
    for path in (out, *out.rglob("*")):
        path.chmod(0o755)  # the user of the sandbox reads them
    try:
        found = set(_distributions(out))
    except Exception as error:  # metadata and modules can be written in many wrong ways
        return [
            Finding("wheel", "--wheels", f"cannot be read: {ascii(str(error))[1:-1][:200] or type(error).__name__}")
        ]
    if found != wanted:
        listed = ", ".join(sorted(found)) or "nothing"
        return [Finding("wheel", "--wheels", f"holds {listed}, and the entry needs {', '.join(sorted(wanted))}")]
    return list(_hiding(out, wanted))


def _unreadable(where: str, error: Exception) -> Finding:
    reason = ascii(str(error))[1:-1][:200] or type(error).__name__
    return Finding("wheel", where, f"cannot be read: {reason}")


def _distributions(folder: Path) -> Iterator[str]:
    """Yield the name and the version of each distribution, after reading all that the verifier reads of it."""
    for found in distributions(path=[str(folder)]):
        yield f"{_normal(found.name)} {found.version}"
        _ = found.files, list(found.entry_points)
    for path in folder.rglob("*.py"):
        ast.dump(ast.parse(path.read_bytes()))


def _unpack(wheel: Path, out: Path, size: int, files: int) -> tuple[int, int]:
    """Unpack a wheel, and return the size and the number of its files."""
    if wheel.suffix != ".whl" or wheel.is_symlink() or not wheel.is_file():
        raise _RefusedWheel("is not a wheel")
    if wheel.stat().st_size > size:
        raise _RefusedWheel(f"is larger than {size} bytes")
    with zipfile.ZipFile(wheel) as archive:
        members = archive.infolist()
        if len(members) > files:
            raise _RefusedWheel(f"has more than {files} files")
        if (total := sum(member.file_size for member in members)) > size:
            raise _RefusedWheel(f"has files of {total} bytes; at most {size} are allowed")
        for member in members:
            path = PurePosixPath(member.filename)
            name = ascii(member.filename)[1:-1][:100]
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.filename.startswith("/") or "\\" in member.filename or ".." in path.parts or not path.parts:
                raise _RefusedWheel(f"has a file outside of its folder: {name}")
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _RefusedWheel(f"has a file of another type: {name}")
            if path.parts[0].endswith(".data"):
                raise _RefusedWheel(f"has a file that an installer would move: {name}")
            if path.suffix == ".pth":
                raise _RefusedWheel(f"has a file that runs at the start of Python: {name}")
            if member.is_dir():
                continue
            target = out / path
            if target.exists():
                raise _RefusedWheel(f"has a file twice, or one of another wheel: {name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))  # at most `file_size` bytes, else an error
    return total, len(members)


def _hiding(out: Path, wanted: set[str]) -> Iterator[Finding]:
    """Yield a finding for each module or distribution that has the name of one of this environment."""
    for name in sorted(name.rpartition(" ")[0] for name in wanted):
        try:
            distribution(name)
        except PackageNotFoundError:
            continue
        yield Finding("wheel", "--wheels", f"{name} is a distribution of this environment")
    for path in sorted(out.iterdir()):
        module = path.name.partition(".")[0]
        if path.suffix in (".dist-info", ".egg-info"):
            continue
        if module in sys.stdlib_module_names or module in ("sitecustomize", "usercustomize") or _is_here(module):
            yield Finding("wheel", "--wheels", f"{ascii(path.name)[1:-1]} has the name of a module of this environment")


def _is_here(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _normal(name: str) -> str:
    """Return the normal form of the name of a distribution, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
