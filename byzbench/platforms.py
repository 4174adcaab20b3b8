"""Operating systems: Linux and macOS."""

from __future__ import annotations

import os
import sys

from byzbench.errors import UserError

_ADDRESS_SPACE = 1_100_000_000
"""The bytes of address space of the smallest run; with less, OpenBLAS waits for memory for ever while it is loaded."""


def check_platform() -> None:
    """Check that byzbench runs on this operating system, with the address space that this process may use.

    Raises:
        UserError: It does not.
    """
    if sys.platform == "win32":
        raise UserError("byzbench runs on Linux and macOS; on Windows, use the Windows Subsystem for Linux (WSL)")
    import resource  # which Windows does not have

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE:
        raise UserError(
            f"byzbench needs an address space of {_ADDRESS_SPACE / 1e9} GB, and this process may use "
            f"{limit / 1e9:.1f} (ulimit -v)"
        )


def num_cores() -> int:
    """Return the number of cores that this process may use; on macOS, which has no such limit, that of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
