"""Machine code and its caches."""

from __future__ import annotations

import math
import multiprocessing
import os
import runpy

import numba
import pytest

from byzbench import compilation
from byzbench.compilation import compiled
from byzbench.errors import UserError

SIGNATURE = numba.float64(numba.float64)


def half(x):
    return x / 2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a folder in which caches are written, beside those of other tests."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    return tmp_path


def call():
    """Compile `half` as a new process does, and return its result for 3 and the number of cache hits."""
    code = compiled(half, SIGNATURE)
    return code(3.0), sum(code.stats.cache_hits.values())


def test_machine_code_is_cached(folder):
    assert call() == (1.5, 0)
    assert call() == (1.5, 1)


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-1],
    "garbage": lambda content: bytes(range(256)) * 4,
    "zeros": lambda content: bytes(len(content)),
    "zeros in the middle": lambda content: content[:300] + bytes(64) + content[364:],
    "one bit": lambda content: content[:-100] + bytes([content[-100] ^ 1]) + content[-99:],
}


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_made_anew(folder, suffix, damage):
    call()
    (path,) = folder.glob(f"**/*.{suffix}")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    assert call() == (1.5, 0)
    assert call() == (1.5, 1)


def test_a_missing_file_of_a_cache_is_made_anew(folder):
    call()
    (path,) = folder.glob("**/*.nbc")
    path.unlink()
    assert call() == (1.5, 0)
    assert call() == (1.5, 1)


def test_a_cache_that_cannot_be_written_is_done_without(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert call() == call() == (1.5, 0)
    assert not [path for path in folder.glob("**/*") if path.is_file()]


def test_a_function_without_a_file_is_compiled_without_a_cache():
    namespace = {}
    exec("def inverse(x):\n    return 1 / x", namespace)
    assert compiled(namespace["inverse"])(0.0) == math.inf


def test_processes_that_compile_at_once_agree(folder):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert [result for result, _ in pool.starmap(call, [()] * 4, chunksize=1)] == [1.5] * 4
    assert call() == (1.5, 1)


def test_a_disabled_compiler_is_named_in_one_line(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    with pytest.raises(UserError, match="NUMBA_DISABLE_JIT is set"):
        runpy.run_path(compilation.__file__)
