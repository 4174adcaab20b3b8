"""Conformance tests of coins: one function for each property.

    for check in CHECKS:
        check(coin, CoinCase(seed=0))

A check raises `AssertionError` with one line that describes the failure. That a coin is common, or biased, is declared
by no attribute and is not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Coin


@dataclass(frozen=True)
class CoinCase:
    """Input of a check: a uniform draw for several numbers of agents.

    Attributes:
        seed: The seed of the draws.
        sizes: The numbers of agents.
    """

    seed: int = 0
    sizes: tuple[int, ...] = (1, 2, 5, 13)

    def rng(self) -> np.random.Generator:
        """Return a new generator with the seed of the case."""
        return np.random.default_rng(self.seed)


Check: TypeAlias = Callable[[Coin, CoinCase], None]
CASES = tuple(CoinCase(seed) for seed in range(8))


def uniform(rng: np.random.Generator) -> float:
    """Draw a number from [0, 1)."""
    return float(rng.random())


def every_agent_obtains_a_number(coin: Coin, case: CoinCase) -> None:
    """Check that a draw gives one finite number for each agent, float64 [K]."""
    for agents in case.sizes:
        values = coin(uniform, agents, case.rng())
        assert isinstance(values, Tensor), f"__call__ returned a {type(values).__name__}, not a tensor"
        text = f"__call__ returned {values.dtype} of shape {list(values.shape)}, expected float64 [{agents}]"
        assert values.shape == (agents,), text
        assert values.dtype == torch.float64, text
        assert values.isfinite().all(), "a value is not finite"


def same_generator_gives_same_values(coin: Coin, case: CoinCase) -> None:
    """Check that two draws with equal generators give the same values."""
    for agents in case.sizes:
        first, second = (coin(uniform, agents, case.rng()) for _ in range(2))
        assert torch.equal(first, second), "two equal draws differ: it draws from another generator than `rng`"


def first_draw_is_that_of_a_shared_coin(coin: Coin, case: CoinCase) -> None:
    """Check that it draws the value before anything else, so that runs with different coins use the same draws."""
    expected = uniform(case.rng())
    drawn: list[float] = []

    def draw(rng: np.random.Generator) -> float:
        drawn.append(uniform(rng))
        return drawn[-1]

    coin(draw, 5, case.rng())
    assert drawn, "it never calls `draw`"
    assert drawn[0] == expected, "it takes numbers from `rng` before the first call of `draw`"


def cost_is_a_list_of_messages(coin: Coin, case: CoinCase) -> None:
    """Check that the cost of a draw is pairs (number of messages, bytes of each), integers of at least 0."""
    for agents in case.sizes:
        for pair in coin.cost(agents):
            valid = len(pair) == 2 and all(isinstance(number, int) and number >= 0 for number in pair)
            assert valid, f"cost({agents}) contains {pair!r}, not (number of messages, bytes)"


CHECKS: tuple[Check, ...] = (
    every_agent_obtains_a_number,
    same_generator_gives_same_values,
    first_draw_is_that_of_a_shared_coin,
    cost_is_a_list_of_messages,
)
FORM: tuple[Check, ...] = (every_agent_obtains_a_number,)
"""The checks of shapes and types, without which the others cannot run."""
