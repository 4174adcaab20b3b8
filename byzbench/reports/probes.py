"""What a rule is like, seen from outside: whether it draws, remembers, or depends on the length of its inputs.

A rule says these things of itself; an attack that finds nothing may have met one that does not say them. Each is tried
on made-up vectors, besides what the rule declares.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.contracts import Aggregator
from byzbench.experiments.runner import one_thread
from byzbench.testing.rules import judge

DIMENSION = 20
GENERATORS = 8
SCALES = (1e-3, 1e3)
TOLERANCE = 1e-4
"""Of the length of the inputs: a rule may iterate, and stop before the last digits agree."""


def draws(rule: Aggregator, n: int, f: int) -> str | None:
    """Why the rule is random, or None: it says so, or two generators give two values."""
    if rule.random:
        return "says that it draws"
    x = _inputs(n)
    values = [_value(rule, x, f, seed) for seed in range(GENERATORS)]
    return None if all(torch.equal(v, values[0]) for v in values) else "gave different values for the same inputs"


def remembers(rule: Aggregator, n: int, f: int) -> str | None:
    """Why the rule has a memory, or None: it says so, or a call in between changes what another one gives."""
    if rule.stateful:
        return "says that it keeps a state between rounds"
    x, mine = _inputs(n), deepcopy(rule)
    first = _value(mine, x, f)
    _value(mine, 2 - 3 * x, f)
    again = _value(mine, x, f)
    return None if torch.equal(first, again) else "gave different values for the same inputs, state and generator"


def depends_on_scale(rule: Aggregator, n: int, f: int) -> str | None:
    """Why the rule knows how long vectors are, or None: it says so, or F(s x) is not s F(x)."""
    if not rule.scale_equivariant:
        return "says that it has parameters in the units of its inputs"
    x = _inputs(n)
    value = _value(rule, x, f)
    for s in SCALES:
        gap = float((_value(rule, s * x, f) / s - value).abs().max())
        if not gap <= TOLERANCE * float(x.abs().max()):
            return f"gave another value for inputs {s:g} times as long, by {gap:.2g} where inputs are about 1"
    return None


def _inputs(n: int) -> Tensor:
    """Gaussian vectors, float64 [n, d], that do not lie around the origin."""
    rng = np.random.default_rng(n)
    return 1 + torch.from_numpy(rng.standard_normal((n, DIMENSION)))


def _value(rule: Aggregator, x: Tensor, f: int, seed: int = 0) -> Tensor:
    """The value at an honest receiver, whose own vector is the last, without a state."""
    n = len(x)
    asked: dict[str, Any] = {"honest": torch.arange(n) >= f, "judge": judge}
    with one_thread():
        value, _, _ = rule(
            x,
            f,
            own=torch.tensor(n - 1),
            weights=torch.full((n,), 1 / n, dtype=torch.float64),
            rng=np.random.default_rng(seed),
            **{name: asked[name] for name in rule.asks},
        )
    return value
