"""Uniform numbers of many seeded generators, as machine code.

Gymnasium and PettingZoo make a generator of NumPy for each seed, of which a simulation takes a few numbers to start an
episode. In Python this takes as long as a hundred steps. These functions compute the same numbers: NumPy's SeedSequence
makes the state of its PCG64 of a seed, and neither changes between versions of NumPy (NEP 19).
"""

from __future__ import annotations

import numpy as np
from numba import types

from byzbench.compilation import compiled, on_first_call

_LOW_BITS = np.uint64(0xFFFFFFFF)
_POOL_KEY, _POOL_FACTOR = np.uint64(0x43B0D7E5), np.uint64(0x931E8875)
_WORD_KEY, _WORD_FACTOR = np.uint64(0x8B51F9DD), np.uint64(0x58F38DED)
_MIX_LEFT, _MIX_RIGHT = np.uint64(0xCA01F9DD), np.uint64(0x4973F715)
_STEP_HIGH, _STEP_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_0, _1, _11, _16, _32, _58, _63, _64 = (np.uint64(number) for number in (0, 1, 11, 16, 32, 58, 63, 64))
"""All numbers are uint64: of another integer with one, Numba makes a float."""


@compiled
def _hash(value: np.uint64, key: np.uint64, factor: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the hash of 32 bits, and the next key."""
    next_key = key * factor & _LOW_BITS
    product = (value ^ key) * next_key & _LOW_BITS
    return product ^ product >> _16, next_key


@compiled
def _expand_seed(seed: int, words: np.ndarray) -> None:
    """Write `SeedSequence(seed).generate_state(4, np.uint64)` into words [4], for a seed below 2^32."""
    pool, key = np.zeros(4, np.uint64), _POOL_KEY
    pool[0] = seed
    for i in range(4):
        pool[i], key = _hash(pool[i], key, _POOL_FACTOR)
    for source in range(4):
        for target in range(4):
            if source != target:
                value, key = _hash(pool[source], key, _POOL_FACTOR)
                mixed = pool[target] * _MIX_LEFT - value * _MIX_RIGHT & _LOW_BITS
                pool[target] = mixed ^ mixed >> _16
    key = _WORD_KEY
    for word in range(4):
        low, key = _hash(pool[2 * word % 4], key, _WORD_FACTOR)
        high, key = _hash(pool[2 * word % 4 + 1], key, _WORD_FACTOR)
        words[word] = high << _32 | low


@compiled
def _advance_state(state: np.ndarray, increment: np.ndarray) -> None:
    """Advance the state of PCG64 to state * step + increment, numbers of 128 bits as (high, low)."""
    high, low = state[0], state[1]
    # The high half of low * _STEP_LOW, by products of 32 bits.
    a, b, c, d = low >> _32, low & _LOW_BITS, _STEP_LOW >> _32, _STEP_LOW & _LOW_BITS
    middle = a * d + (b * d >> _32)
    product_high = a * c + (middle >> _32) + (b * c + (middle & _LOW_BITS) >> _32)
    state[1] = low * _STEP_LOW + increment[1]
    carry = _1 if state[1] < increment[1] else _0
    state[0] = high * _STEP_LOW + low * _STEP_HIGH + product_high + increment[0] + carry


@on_first_call(types.void(types.int64[::1], types.float64[:, ::1]))
def fill_uniforms(seeds: np.ndarray, out: np.ndarray) -> None:
    """Fill out [N, n] with `np.random.default_rng(seed).random(n)` for each of the seeds [N], which are below 2^32."""
    words, state, increment = np.empty(4, np.uint64), np.empty(2, np.uint64), np.empty(2, np.uint64)
    for row in range(len(seeds)):
        _expand_seed(seeds[row], words)
        increment[0], increment[1] = words[2] << _1 | words[3] >> _63, words[3] << _1 | _1
        # The state starts as the increment plus the seed's number, and is advanced once.
        state[1] = increment[1] + words[1]
        state[0] = increment[0] + words[0] + (_1 if state[1] < words[1] else _0)
        _advance_state(state, increment)
        for i in range(out.shape[1]):
            _advance_state(state, increment)
            bits, turns = state[0] ^ state[1], state[0] >> _58
            rotated = bits >> turns | bits << (_64 - turns & _63)
            out[row, i] = (rotated >> _11) * 2.0**-53
