"""The environment of the process that computes: one thread, and only instructions of x86-64-v2.

What no variable can pin, `square_roots` replaces.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]

PINS = {
    "ATEN_CPU_CAPABILITY": "default",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-FMA,-FMA4,-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,"
    "-AVX_Usable,-AVX2_Usable,-FMA_Usable,-FMA4_Usable",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "1",
    "NUMBA_CPU_FEATURES": "",
    "NUMBA_CPU_NAME": "generic",
    "OMP_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def environment() -> dict[str, str]:
    """Return the variables of this process with the pins, which libraries read when they are loaded."""
    from numpy._core._multiarray_umath import __cpu_dispatch__  # type: ignore[import-not-found]

    path = os.pathsep.join(filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **PINS, "NPY_DISABLE_CPU_FEATURES": " ".join(__cpu_dispatch__), "PYTHONPATH": path}


def command(*arguments: str) -> list[str]:
    """Return the command line of the process that computes."""
    return [sys.executable, "-m", "tests.golden.child", *arguments]
