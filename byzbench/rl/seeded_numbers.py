"""Uniform numbers of many seeded generators, as machine code.

Gymnasium and PettingZoo make a generator of NumPy for each seed, of which a simulation takes a few numbers to start an
episode. In Python this takes as long as a hundred steps, and so do the generators of many agents' noise. These
functions compute the same numbers: NumPy's SeedSequence, PCG64 and Philox do not change between its versions (NEP 19).
"""

from __future__ import annotations

import numpy as np
from numba import types

from byzbench.compilation import compiled, on_first_call

_LOW_BITS = np.uint64(0xFFFFFFFF)
_POOL_KEY, _POOL_FACTOR = np.uint64(0x43B0D7E5), np.uint64(0x931E8875)
_WORD_KEY, _WORD_FACTOR = np.uint64(0x8B51F9DD), np.uint64(0x58F38DED)
_MIX_LEFT, _MIX_RIGHT = np.uint64(0xCA01F9DD), np.uint64(0x4973F715)
_FIRST_FACTOR, _SECOND_FACTOR = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_FIRST_KEY, _SECOND_KEY = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_STEP_HIGH, _STEP_LOW = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
_0, _1, _8, _11, _16, _32, _58, _63, _64 = (np.uint64(number) for number in (0, 1, 8, 11, 16, 32, 58, 63, 64))
"""All numbers are uint64: of another integer with one, Numba makes a float."""


@compiled
def _high_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """Return the high half of the product of two numbers, by products of 32 bits."""
    a_high, a_low, b_high, b_low = a >> _32, a & _LOW_BITS, b >> _32, b & _LOW_BITS
    middle = a_low * b_high + (a_low * b_low >> _32)
    return a_high * b_high + (middle >> _32) + (a_high * b_low + (middle & _LOW_BITS) >> _32)


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
    state[1] = low * _STEP_LOW + increment[1]
    carry = _1 if state[1] < increment[1] else _0
    state[0] = high * _STEP_LOW + low * _STEP_HIGH + _high_product(low, _STEP_LOW) + increment[0] + carry


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


@on_first_call(types.void(types.uint64[::1], types.uint64, types.uint64[::1], types.float32[:, ::1]))
def fill_stream_uniforms(key: np.ndarray, round: np.uint64, agents: np.ndarray, out: np.ndarray) -> None:
    """Fill out [K, n] with `Streams.generator(name, round, agent).random(n, np.float32)` for each of the agents [K].

    A block of Philox is a hash of a counter, which gives 8 numbers: the low halves of its words before the high ones.

    Args:
        key: The key of the name's streams, uint64 [2].
        round: The round.
        agents: The agents, uint64 [K].
        out: The numbers, float32 [K, n].
    """
    for k in range(len(agents)):
        for block in range((out.shape[1] + 7) // 8):
            # NumPy counts before it hashes, so the first block has number 1.
            a, b, c, d = np.uint64(block + 1), _0, agents[k], round
            first, second = key[0], key[1]
            for turn in range(10):
                if turn:
                    first, second = first + _FIRST_KEY, second + _SECOND_KEY
                high, low = _high_product(_FIRST_FACTOR, a), _FIRST_FACTOR * a
                other_high, other_low = _high_product(_SECOND_FACTOR, c), _SECOND_FACTOR * c
                a, b, c, d = other_high ^ b ^ first, other_low, high ^ d ^ second, low
            for i, word in enumerate((a, b, c, d)):
                at = 8 * block + 2 * i
                if at < out.shape[1]:
                    out[k, at] = np.float32((word & _LOW_BITS) >> _8) * np.float32(2.0**-24)
                if at + 1 < out.shape[1]:
                    out[k, at + 1] = np.float32(word >> _32 >> _8) * np.float32(2.0**-24)
