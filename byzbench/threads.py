"""Threads of linear algebra: one in runs, as the bits of products and eigenvectors depend on their number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread of torch and of the BLAS of NumPy and SciPy in a block, or in a function that it decorates.

    Example:
        >>> with one_thread():
        ...     num_threads()
        1
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


def num_threads() -> int:
    """Return the largest number of threads of torch and of the BLAS of NumPy and SciPy in this process."""
    return max([torch.get_num_threads(), *(library["num_threads"] for library in _libraries())])


def blas() -> str:
    """Return the BLAS of NumPy and SciPy with their versions and the processors that their kernels are for."""
    libraries = {
        " ".join(str(library[key]) for key in ("internal_api", "version", "architecture") if library.get(key))
        for library in _libraries()
    }
    if not libraries:  # one without a number of threads that can be set, as Apple's Accelerate
        built: Any = np.show_config(mode="dicts")
        libraries = {built["Build Dependencies"]["blas"]["name"]}
    return ", ".join(sorted(libraries))


def _libraries() -> list[dict[str, Any]]:
    return _controller().select(user_api="blas").info()


@cache
def _controller() -> ThreadpoolController:
    # SciPy has a BLAS of its own, which Numba calls; it is limited only if it is loaded before.
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()
