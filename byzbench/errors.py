"""Errors and warnings of byzbench.

ByzbenchError                 one line for the user; the command line exits with `exit_code`
├── UserError                 exit 2: the request cannot be carried out
│   ├── UnknownName           no component of that kind has that name
│   ├── InvalidParameter      the parameter does not exist, or the value is outside its bounds
│   ├── Undefined             the rule is not defined for this (n, f), or components do not fit together
│   ├── CorruptRecord         the files of a run are damaged or inconsistent
│   ├── Busy                  another process is writing the run folder
│   ├── ExhaustedResources    this machine has no memory, file descriptors or processes left; a later call resumes
│   └── BrokenPlugin          the plug-in cannot be imported or does not implement its interface
│       └── BrokenEnvironment an environment returns what learning cannot use, or does not depend on its seed alone
├── StorageError              exit 1: a file could not be written; earlier files are intact and can be resumed
├── UnfinishedRun             exit 1: the process of a run was killed after a time limit, or died; a later call resumes
└── UndeclaredKnowledge       exit 2: an attack read data that its threat model does not declare

The warnings are:

InexactSearch                 a search stopped at its budget; the best value so far is used
ArchivedRun                   a stored run that is damaged or of another behaviour is archived, and runs again
OtherLibraries                a stored run is reused that other library versions or another processor computed
RepairedStudy                 the journal of a study was cut, and its incomplete last line is removed
RenamedParameter              a parameter is written by an earlier name, which still works
"""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any


class ByzbenchError(Exception):
    """Base class of all errors of byzbench."""

    exit_code = 2


class UserError(ByzbenchError):
    """Error for a request that cannot be carried out."""


class UnknownName(UserError):
    """Error for a name that no component of the kind has."""


class InvalidParameter(UserError):
    """Error for a parameter that does not exist, or a value outside its bounds."""


class Undefined(UserError):
    """Error for a rule that is not defined for this (n, f), or for components that do not fit together."""


class CorruptRecord(UserError):
    """Error for damaged or inconsistent files of a run."""


class Busy(UserError):
    """Error for a run folder that another process is writing."""


class ExhaustedResources(UserError):
    """Error for memory, file descriptors or processes that this machine has no more of. A later call resumes."""


class BrokenPlugin(UserError):
    """Error for a plug-in that cannot be imported or does not implement its interface."""


class BrokenEnvironment(BrokenPlugin):
    """Error for an environment that returns what learning cannot use, or that does not depend on its seed alone."""


class StorageError(ByzbenchError):
    """Error for a file that cannot be written. Earlier files are intact, and the same command resumes."""

    exit_code = 1


class UnfinishedRun(ByzbenchError):
    """Error for a run whose process was killed after a time limit, or died. A later call resumes it."""

    exit_code = 1


class UndeclaredKnowledge(ByzbenchError, AttributeError):
    """Error for an attack that reads data which its threat model does not declare."""


class InexactSearch(UserWarning):
    """Warning that an exact search stopped at its budget, and that its best value so far is used."""


class ArchivedRun(UserWarning):
    """Warning that a stored run is damaged or of another version of the behaviour, is archived, and runs again."""


class OtherLibraries(UserWarning):
    """Warning that a stored run is reused that other library versions or another processor computed or began."""


class RepairedStudy(UserWarning):
    """Warning that the journal of a study was cut, and that its incomplete last line is removed."""


class RenamedParameter(UserWarning):
    """Warning that a parameter is written by an earlier name, which still works."""


def error_text(error: BaseException) -> str:
    """Return an error as one short line: its type and its message, without characters that cannot be printed.

    The error may be one of a plug-in, whose message cannot be trusted either.

    Example:
        >>> error_text(RuntimeError("it\\nbroke")), error_text(SystemExit())
        ('RuntimeError: it broke', 'SystemExit')
    """
    try:
        message = " ".join(str(error)[:5000].split())
    except BaseException:
        message = ""
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return printable if len(printable) <= 500 else f"{printable[:497]}..."


def exhaustion(error: BaseException) -> str:
    """Return in one line what this machine has no more of, if that is the cause of an error; else an empty text.

    Example:
        >>> exhaustion(MemoryError("Unable to allocate 29.8 GiB"))
        'out of memory: Unable to allocate 29.8 GiB'
        >>> exhaustion(OSError(errno.EMFILE, "Too many open files", "runs"))
        "out of file descriptors, see ulimit -n: [Errno 24] Too many open files: 'runs'"
        >>> exhaustion(ValueError("a mistake"))
        ''
    """
    message, number = error_text(error).partition(": ")[2], getattr(error, "errno", None)
    if (
        isinstance(error, MemoryError)
        or number == errno.ENOMEM
        or _NO_MEMORY.search(f"{type(error).__name__}: {message}")
    ):
        return f"out of memory: {message}" if message else "out of memory"
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in message:
        return f"out of file descriptors, see ulimit -n: {message}"
    if number == errno.EAGAIN or message == "can't start new thread":
        return f"out of processes and threads, see ulimit -u: {message}"
    return ""


_NO_MEMORY = re.compile(
    r"OutOfMemoryError|allocate memory|not enough memory|failed to map segment|bad_alloc", re.IGNORECASE
)
"""What torch and the loader of libraries say, whose errors have no type of their own."""


def validation_text(error: Mapping[str, Any], keys: Iterable[str] = ()) -> str:
    """Return what is wrong with a value that pydantic refuses, as the end of a sentence.

    Args:
        error: An entry of `pydantic.ValidationError.errors()`.
        keys: The allowed keys of a document, for the message on another key.

    Example:
        >>> validation_text({"type": "greater_than", "msg": "Input should be greater than 0"})
        'must be greater than 0'
        >>> validation_text({"type": "extra_forbidden", "loc": ("sedes",)}, ["agents", "seeds"])
        "is not a key. Did you mean 'seeds'? Keys: agents, seeds."
    """
    if error["type"] == "extra_forbidden":
        known = sorted(keys)
        hint = f". {suggest(str(error['loc'][-1]), known)}Keys: {', '.join(known)}." if known else ""
        return f"is not a key{hint}"
    if error["type"] == "missing":
        return "is required"
    return without_pydantic(error["msg"])


def without_pydantic(message: str) -> str:
    """Return a message without the forms of pydantic.

    Example:
        >>> without_pydantic("Invalid value for 'what': Value error, 'mean' is not one of 'aggregators'.")
        "Invalid value for 'what': 'mean' is not one of 'aggregators'."
        >>> without_pydantic("Invalid value for '--trials': Input should be greater than or equal to 1")
        "Invalid value for '--trials': must be greater than or equal to 1"
    """
    return re.sub(
        r"(^|: )(?:Value error, |Assertion failed, )", r"\1", re.sub(r"(^|: )\w+ should ", r"\1must ", message)
    )


def suggest(name: str, allowed: Iterable[str]) -> str:
    """Return a question with up to three similar names, or an empty text.

    A name is similar by its spelling, or if one of both is a substring of the other.

    Args:
        name: The unknown name.
        allowed: The names that exist.

    Returns:
        The question with a trailing space.

    Example:
        >>> suggest("alei", ["alie", "ipm"])
        "Did you mean 'alie'? "
        >>> suggest("", ["alie"])
        ''
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=3)
    near += [n for n in names if n not in near and name and (name in n or n in name)]
    return f"Did you mean {', '.join(map(repr, near[:3]))}? " if near else ""
