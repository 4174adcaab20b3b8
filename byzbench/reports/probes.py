"""Probes of an aggregation rule: randomness, state between calls, and dependence on the scale of its inputs.

Each of these properties can hide a weakness from an attack. A rule declares them, and a probe also tests them on random
vectors.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor

from byzbench.core import Aggregator
from byzbench.testing.rules import context_of
from byzbench.threads import one_thread

DIMENSION = 20
GENERATORS = 8
SCALES = (1e-3, 1e3)
TOLERANCE = 1e-4
"""Relative tolerance: an iterative rule may stop before the last digits agree."""


def draws(rule: Aggregator, n: int, f: int) -> str | None:
    """Return why a rule is random, or None.

    A rule is random if it declares so, or if two generators give different values.
    """
    if rule.traits.random:
        return "declares that it is random"
    x = _inputs(n)
    values = [_value(rule, x, f, seed) for seed in range(GENERATORS)]
    return None if all(torch.equal(v, values[0]) for v in values) else "gave different values for the same inputs"


def remembers(rule: Aggregator, n: int, f: int) -> str | None:
    """Return why a rule is stateful, or None.

    A rule is stateful if it declares so, or if a call with other inputs changes the value of a repeated call.
    """
    if rule.traits.stateful:
        return "declares that it keeps a state between rounds"
    x, copied = _inputs(n), deepcopy(rule)
    first = _value(copied, x, f)
    _value(copied, 2 - 3 * x, f)
    again = _value(copied, x, f)
    return None if torch.equal(first, again) else "gave different values for the same inputs, state and generator"


def depends_on_scale(rule: Aggregator, n: int, f: int) -> str | None:
    """Return why a rule is not scale equivariant, or None.

    A rule is not if it declares so, or if F(s x) differs from s F(x).
    """
    if not rule.traits.scale_equivariant:
        return "declares parameters in the units of its inputs"
    x = _inputs(n)
    value = _value(rule, x, f)
    for s in SCALES:
        gap = float((_value(rule, s * x, f) / s - value).abs().max())
        if not gap <= TOLERANCE * float(x.abs().max()):
            return f"F({s:g} x) / {s:g} differs from F(x) by {gap:.2g}, for inputs of size 1"
    return None


def _inputs(n: int) -> Tensor:
    """Return Gaussian vectors, float64 [n, d], with mean 1 in each coordinate."""
    rng = np.random.default_rng(n)
    return 1 + torch.from_numpy(rng.standard_normal((n, DIMENSION)))


def _value(rule: Aggregator, x: Tensor, f: int, seed: int = 0) -> Tensor:
    """Return the aggregate of an honest receiver, whose own vector is the last, without a state from earlier rounds."""
    n = len(x)
    bound, weights = torch.tensor(f), torch.full((n,), 1 / n, dtype=torch.float64)
    context = context_of(rule, x, bound, weights=weights, rng=np.random.default_rng(seed))
    with one_thread():
        return rule.aggregate(x, bound, context).value
