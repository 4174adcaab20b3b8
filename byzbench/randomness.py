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
    """The key of a name's streams, as a seed of Philox.

    With the argument `key`, Philox also makes a seed from the operating system's entropy, which takes most of the time.
    """

    def __init__(self, seed: int, name: str) -> None:
        digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
        self._words = np.frombuffer(bytearray(digest), dtype=np.uint64)

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> np.ndarray:
        """Return the two 64-bit words of the key, which Philox asks for."""
        assert (n_words, dtype) == (2, np.uint64)
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
        counter = np.array([0, 0, agent, round], dtype=np.uint64)
        key: Any = self._key(name)
        return np.random.Generator(np.random.Philox(key, counter))

    def key(self, name: str) -> np.ndarray:
        """Return the key of the streams of a name, uint64 [2]."""
        return self._key(name).generate_state(2, np.uint64)

    def _key(self, name: str) -> _Key:
        return _key(0 if name in self.fixed else self.seed, name)
