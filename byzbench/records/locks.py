"""Locks of folders, which exclude other processes: `flock`, or links on file systems without it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from byzbench.errors import Busy

_UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
"""The errors of `flock` on file systems without it, such as some mounts of Lustre and NFS."""

_POLL = 0.5
"""The seconds between two looks at a link that another process owns."""

_PROCESS = uuid.uuid4().hex
"""A name of this process, as a later one may have the same number."""


@contextmanager
def lock_folder(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock a folder for this process; a folder that this process cannot write is locked for reading.

    Args:
        folder: The folder, which exists.
        wait: Whether to wait for another process that holds the lock.

    Raises:
        Busy: Another process holds the lock, and `wait` is False.
        OSError: The folder cannot be locked.
    """
    with ExitStack() as held:
        handle, is_writable = _open(folder / ".lock")
        if handle is not None:
            held.callback(os.close, handle)
            try:
                mode = fcntl.LOCK_EX if is_writable else fcntl.LOCK_SH
                fcntl.flock(handle, mode | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise Busy(f"{folder} is being written by another process") from None
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                if is_writable:
                    held.enter_context(_owned(folder, wait))
        yield


def is_running(pid: int) -> bool:
    """Return whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _open(path: Path) -> tuple[int | None, bool]:
    """Open a file for locking, and return its descriptor, if any, and whether it can be written."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666), True
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    try:
        return os.open(path, os.O_RDONLY), False
    except FileNotFoundError:  # a copy without hidden files, to which this process cannot add any
        return None, False


@contextmanager
def _owned(folder: Path, wait: bool) -> Iterator[None]:
    """Lock a folder by a symbolic link, whose target names the owner and is there as soon as the link is."""
    link, owner = folder / ".owner", f"{socket.gethostname()}:{os.getpid()}:{_PROCESS}"
    while True:
        try:
            link.symlink_to(owner)
            break
        except FileExistsError:
            other = _target(link)
        if _has_ended(other):
            _remove(link, other)
        elif not wait and other:
            host, pid, _ = other.split(":")
            raise Busy(
                f"{folder} is being written by process {pid} of {host}; if that has ended, delete {link}"
            ) from None
        else:
            time.sleep(_POLL)
    try:
        yield
    finally:
        if _target(link) == owner:  # the folder may have been renamed, and another one have its name
            link.unlink(missing_ok=True)


def _target(link: Path) -> str:
    """Return the target of a link; an empty text if there is none."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def _has_ended(owner: str) -> bool:
    """Return whether the owner of a link was a process of this machine that has ended."""
    host, _, process = owner.partition(":")
    pid, _, name = process.partition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    return name != _PROCESS if int(pid) == os.getpid() else not is_running(int(pid))


def _remove(link: Path, owner: str) -> None:
    """Remove the link of a process that has ended, unless another process was faster and owns the link now."""
    aside = link.with_name(f".owner.{os.getpid()}")
    with suppress(FileNotFoundError):
        link.rename(aside)
        if _target(aside) == owner:
            aside.unlink()
        else:
            aside.rename(link)
