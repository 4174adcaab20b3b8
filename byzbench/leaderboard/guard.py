"""The diff guard: what a branch may do to submissions and suites that are already there. Nothing, but add to them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from byzbench.errors import InvalidParameter
from byzbench.leaderboard.documents import Finding

_WORDS = {"M": "is changed", "D": "is removed", "R": "is renamed", "T": "is of another kind", "C": "is copied"}


def guard(submissions: Path, base: str) -> Iterator[Finding]:
    """What a branch, with its working tree, changes of the submissions and suites that stand where it left `base`.

    It is held against the merge base: what has landed on `base` since is not this branch's doing.

    Raises:
        InvalidParameter: this is no checkout, or it has no such commit.
    """
    root = Path(_git(submissions, "rev-parse", "--show-toplevel").strip())
    home = submissions.resolve().parent.relative_to(root.resolve()).as_posix()
    if base.startswith("-"):
        raise InvalidParameter(f"{base!r} is no commit")
    start = _git(root, "merge-base", base, "HEAD").strip()
    there = _git(root, "ls-tree", "-r", "-z", "--name-only", start, "--", f"{home}/submissions").split("\0")
    taken = {PurePosixPath(name).parent.as_posix() for name in there if name}
    changed = _git(root, "diff", "--no-renames", "--name-status", "-z", start, "--", home).split("\0")
    for letter, name in zip(changed[::2], changed[1::2], strict=False):
        shown = ascii(name)[1:-1]
        inside = PurePosixPath(name)
        if letter != "A" and f"{home}/submissions/" in name:
            what = f"{_WORDS[letter[0]]}; a submission is never edited: add one that supersedes it"
            yield Finding("overwritten", shown, what)
        elif letter == "A" and inside.parent.as_posix() in taken:
            yield Finding("overwritten", shown, "is added to a submission that was there")
        elif letter != "A" and f"{home}/suites/" in name:
            yield Finding("frozen", shown, f"{_WORDS[letter[0]]}; a suite is frozen: add another one")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=60
        )
    except FileNotFoundError:
        raise InvalidParameter("the diff guard needs git") from None
    except subprocess.SubprocessError as error:
        said = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise InvalidParameter(f"git {words[0]} in {folder}: {said[-1] if said else error}") from None
    return done.stdout
