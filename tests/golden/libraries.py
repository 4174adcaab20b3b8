"""The libraries with which outputs were computed."""

from __future__ import annotations

import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version

NAMES = (
    "box2d",
    "envpool",
    "gymnasium",
    "mpe2",
    "mujoco",
    "networkx",
    "numba",
    "numpy",
    "pettingzoo",
    "scipy",
    "torch",
)


@cache
def libraries() -> dict[str, str]:
    """Return the versions of all libraries that can change an output."""
    results = {"libc": " ".join(platform.libc_ver()), "python": ".".join(map(str, sys.version_info[:2]))}
    for name in NAMES:
        try:
            results[name] = version(name)
        except PackageNotFoundError:
            results[name] = "none"
    return results
