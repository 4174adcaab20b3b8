"""Random streams keyed by (seed, name, round, agent).

Every random number of an experiment is drawn from one of these streams. Two experiments with the same seed therefore
share every stream with the same key: another attack leaves the initial policy, the coin, the environments and the
actions unchanged.

Philox is counter-based: a key and a counter determine the stream. The key is a hash of (seed, name). The upper two
64-bit words of the counter are the round and the agent, which leaves 2^128 blocks for each stream, so that no two
streams overlap.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence


class _Key(ISeedSequence):
    """The key of a stream, in the form in which a bit generator takes it without drawing a seed of its own."""

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._words = np.frombuffer(digest, dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """Return the two words of a Philox key."""
        return self._words


_key = cache(_Key)


@dataclass(frozen=True)
class Streams:
    """Random streams of one experiment.

    Names in use: init, coin, environment, action, evaluation, attack, graph, placement, aggregator.

    Attributes:
        seed: The seed of the experiment.
        fixed: Names of streams that use seed 0 instead of `seed`.

    Example:
        >>> draws = [Streams(seed).generator("init").integers(10**6) for seed in (0, 0, 1)]
        >>> bool(draws[0] == draws[1]), bool(draws[0] == draws[2])
        (True, False)
    """

    seed: int
    fixed: frozenset[str] = frozenset()

    def generator(self, name: str, round: int = 0, agent: int = 0) -> np.random.Generator:
        """Return a generator at the beginning of the stream of a name, a round and an agent."""
        key: Any = _key(0 if name in self.fixed else self.seed, name)  # NumPy's stubs know no such sequences
        bits = np.random.Philox(key)
        bits.advance((round << 192) + (agent << 128))
        return np.random.Generator(bits)
