"""Every error that byzbench raises on purpose.

ByzbenchError                 one line for the user; the command line exits with `exit_code`
├── UserError                 exit 2: what was asked for cannot be done as asked
│   ├── UnknownName           no component of that kind has that name
│   ├── InvalidParameter      a parameter that does not exist, or a value outside its bounds
│   ├── Undefined             a rule that is not defined for this (n, f), or parts that do not fit together
│   ├── CorruptRecord         a run folder that cannot be trusted
│   ├── Busy                  a run folder that another process is writing
│   └── BrokenPlugin          a plug-in that cannot be imported or does not keep its contract
├── StorageError              exit 1: the disk refused; what was written before is intact and can be resumed
└── UndeclaredKnowledge       exit 2: an attack looked at what its threat does not declare

And warnings, which stop nothing:

InexactSearch                 an exact search was given too little effort; the best that it saw is used
ArchivedRun                   a stored run was computed by another behaviour; it was moved, and runs again
OtherLibraries                a stored run is used that other libraries, or another processor, computed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ByzbenchError(Exception):
    """The root of the tree."""

    exit_code = 2


class UserError(ByzbenchError):
    """A request that cannot be carried out as it stands."""


class UnknownName(UserError):
    """No component of that kind has that name."""


class InvalidParameter(UserError):
    """A parameter that does not exist, or a value outside its bounds."""


class Undefined(UserError):
    """A rule that is not defined for this (n, f), or parts that do not fit together."""


class CorruptRecord(UserError):
    """A run folder that cannot be trusted."""


class Busy(UserError):
    """A run folder that another process is writing."""


class BrokenPlugin(UserError):
    """A plug-in that cannot be imported or does not keep its contract."""


class StorageError(ByzbenchError):
    """The disk refused; what was written before is intact, and the same command resumes it."""

    exit_code = 1


class UndeclaredKnowledge(ByzbenchError, AttributeError):
    """An attack looked at what its threat does not declare."""


class InexactSearch(UserWarning):
    """An exact search was given too little effort; the best that it saw is used."""


class ArchivedRun(UserWarning):
    """A stored run was computed by another behaviour than is here; it was moved, and runs again."""


class OtherLibraries(UserWarning):
    """A stored run is used that was computed, or begun, with other libraries or on another processor."""


def suggest(name: str, allowed: Iterable[str]) -> str:
    """`Did you mean 'a', 'b'? ` with up to three near names, or nothing. Near: by spelling or as a substring."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=3)
    near += [n for n in names if n not in near and name and (name in n or n in name)]
    return f"Did you mean {', '.join(map(repr, near[:3]))}? " if near else ""
