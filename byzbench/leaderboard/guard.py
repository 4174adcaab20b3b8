"""The diff guard: a branch may add submissions and suites, and may not change those of its base."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from byzbench.errors import InvalidParameter
from byzbench.leaderboard.documents import Finding

_CHANGES = {
    "M": "is changed",
    "D": "is removed",
    "R": "is renamed",
    "T": "has another file type",
    "C": "is copied",
}
"""Descriptions of the status letters of `git diff --name-status`."""


def guard(submissions: Path, base: str) -> Iterator[Finding]:
    """Yield a finding for each change of a submission or suite that the base of a branch has.

    The working tree is compared with the merge base, so that later commits on `base` do not count as changes.

    Args:
        submissions: The folder of submissions in the checkout; the folder of suites is beside it.
        base: The commit or branch that the branch will be merged into.

    Raises:
        InvalidParameter: The folder is not in a git checkout, or the commit does not exist.
    """
    root = Path(_git(submissions, "rev-parse", "--show-toplevel").strip())
    home = submissions.resolve().parent.relative_to(root.resolve()).as_posix()
    if base.startswith("-"):
        raise InvalidParameter(f"{base!r} is not the name of a commit")
    merge_base = _git(root, "merge-base", base, "HEAD").strip()
    files = _git(root, "ls-tree", "-r", "-z", "--name-only", merge_base, "--", f"{home}/submissions").split("\0")
    existing = {PurePosixPath(name).parent.as_posix() for name in files if name}
    changed = _git(root, "diff", "--no-renames", "--name-status", "-z", merge_base, "--", home).split("\0")
    for status, name in zip(changed[::2], changed[1::2], strict=False):
        escaped = ascii(name)[1:-1]
        if status != "A" and f"{home}/submissions/" in name:
            what = f"{_CHANGES[status[0]]}; a submission is never edited: add one that supersedes it"
            yield Finding("overwritten", escaped, what)
        elif status == "A" and PurePosixPath(name).parent.as_posix() in existing:
            yield Finding("overwritten", escaped, "is added to an existing submission")
        elif status != "A" and f"{home}/suites/" in name:
            yield Finding("frozen", escaped, f"{_CHANGES[status[0]]}; a suite is frozen: add another one")


def head_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that holds a folder; None without a checkout."""
    try:
        return _git(folder, "rev-parse", "HEAD").strip()
    except InvalidParameter:
        return None


def _git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, and return its standard output."""
    try:
        process = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise InvalidParameter("the diff guard needs git") from None
    except subprocess.SubprocessError as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise InvalidParameter(f"git {arguments[0]} in {folder}: {lines[-1] if lines else error}") from None
    return process.stdout
