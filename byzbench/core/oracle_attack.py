"""Base classes of adaptive attacks, which evaluate candidates on a rule oracle and send the most damaging one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, Setting, State, ThreatModel

Gain: TypeAlias = Callable[[Tensor], Tensor]
"""float64 [m] factors -> float64 [m] gains; NaN counts as the smallest gain."""

CLIMB = 20
ZOOM = 10
EQUAL = 1e-6


def maximise(gain: Gain, calls: int, both: bool = True) -> tuple[float, float]:
    """Return the best factor found, and its gain, of a function that may have plateaus and jumps.

    The search starts with the one of ByzFL's optimised attacks, which alone reaches very large factors. A geometric
    grid follows. The remaining calls refine the gap around the best factor, some points at a time. Among factors whose
    gains differ only by rounding the smallest is returned, because the choice on a plateau would be arbitrary.

    Args:
        gain: the function.
        calls: the number of evaluations, at least 40.
        both: whether negative factors are searched too.

    Example:
        >>> factor, best = maximise(lambda t: -(t - 3.0).square(), calls=120)
        >>> round(factor, 2)
        3.0
    """
    evaluated = _climb(gain, CLIMB)
    grid = torch.logspace(-2, 2, (calls - CLIMB) // (4 if both else 2), dtype=torch.float64)
    evaluated = _add(evaluated, gain, torch.cat([-grid, grid]) if both else grid)
    if both:
        # Many rules accept vectors up to some distance on either side; the grid alone cannot rank the two limits.
        count = min(ZOOM, (calls - evaluated.shape[1]) // 2)
        evaluated = _add(
            evaluated,
            gain,
            torch.cat([_gap(evaluated, evaluated[0] >= 0, count), _gap(evaluated, evaluated[0] <= 0, count)]),
        )
    while remaining := calls - evaluated.shape[1]:
        evaluated = _add(evaluated, gain, _gap(evaluated, evaluated[0].isfinite(), min(ZOOM, remaining)))
    factors, gains = evaluated
    equal = gains >= gains.amax() - EQUAL * gains.amax().abs()
    best = factors.abs().where(equal, torch.inf).argmin()
    return float(factors[best]), float(gains[best])


def _climb(gain: Gain, calls: int, delta: float = 10.0, ratio: float = 0.8) -> Tensor:
    """Run ByzFL's search, and return all evaluations.

    It moves on from the best factor by a step that doubles while the gain grows, and then shrinks.

    Args:
        gain: the function.
        calls: the number of evaluations.
        delta: the first step.
        ratio: the factor by which the step shrinks.
    """
    evaluated = _add(torch.empty(2, 0, dtype=torch.float64), gain, torch.zeros(1, dtype=torch.float64))
    best_factor, best_gain = evaluated[:, 0].tolist()
    growing = True
    while evaluated.shape[1] < calls:
        evaluated = _add(evaluated, gain, torch.tensor([best_factor + delta], dtype=torch.float64))
        better = float(evaluated[1].amax()) > best_gain
        if better:
            best_factor, best_gain = best_factor + delta, float(evaluated[1].amax())
        growing = growing and better
        delta *= 2 if growing else ratio
    return evaluated


def _add(evaluated: Tensor, gain: Gain, factors: Tensor) -> Tensor:
    """Return the evaluations, float64 [2, m] (factors and gains) sorted by factor, with those of more factors."""
    gains = gain(factors).nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    evaluated = torch.cat([evaluated, torch.stack([factors, gains])], 1)
    return evaluated[:, evaluated[0].argsort(stable=True)]


def _gap(evaluated: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Return `count` factors between the neighbours of the best candidate.

    Args:
        evaluated: [2, m], factors and gains, sorted by factor.
        candidates: [m] bool, the factors of which the best is taken.
        count: the number of factors.
    """
    best = int(evaluated[1].where(candidates, -torch.inf).argmax())
    low, high = evaluated[0, max(best - 1, 0)], evaluated[0, min(best + 1, evaluated.shape[1] - 1)]
    return low + (high - low) * torch.arange(1, count + 1) / (count + 1)


@dataclass(frozen=True)
class OracleAttack(MessageAttack):
    """A message attack that evaluates candidates on a rule oracle, a clone of the rule, before it sends one.

    A subclass defines `craft_messages`, which uses `rule_outputs`. `maximise` searches for the best factor of a
    direction. `LineSearchAttack` sends the point of given lines that moves the rule farthest.

    Example:
        The honest mean or its opposite, whichever moves the rule farther from the mean:

        >>> @dataclass(frozen=True)
        ... class Opposite(OracleAttack):
        ...     def craft_messages(self, context, memory, rng):
        ...         mean = context.honest.double().mean(0)
        ...         candidates = torch.stack([mean, -mean])
        ...         damage = (self.rule_outputs(context, candidates) - mean).norm(dim=1)
        ...         message = candidates[damage.argmax()].to(context.honest.dtype)
        ...         return ByzantineMessages(message.expand_as(context.byzantine)), memory
        >>> Opposite(calls=50).threat.query_budget
        50
    """

    calls: Annotated[
        int,
        Field(
            ge=40,
            le=100_000,
            description="candidates evaluated on the rule oracle (a clone of the rule) in one exchange",
        ),
    ] = 120

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding, with a rule oracle."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest", "rule"}), query_budget=self.calls)

    def rule_outputs(self, context: AttackContext, candidates: Tensor) -> Tensor:
        """Return the output of the rule for each of m candidates, float64 [m, d].

        Args:
            context: the declared knowledge about this exchange.
            candidates: [m, d]; all Byzantine agents would send the same row.
        """
        messages = candidates.to(context.honest.dtype).unsqueeze(1).expand(-1, context.num_byzantine, -1)
        return context.rule(messages).double()


@dataclass(frozen=True)
class LineSearchAttack(OracleAttack):
    """An attack in which all Byzantine agents send the point of given lines that moves the rule farthest.

    The damage of a point is the distance of the rule's output from the honest mean. A subclass defines `lines`.

    Example:
        Points on the line through the origin and the honest mean:

        >>> @dataclass(frozen=True)
        ... class ScaledMean(LineSearchAttack):
        ...     def lines(self, honest):
        ...         mean = honest.mean(0)
        ...         return [(torch.zeros_like(mean), mean)]
        >>> [(origin, direction)] = ScaledMean().lines(torch.tensor([[1.0], [3.0]]))
        >>> origin, direction
        (tensor([0.]), tensor([2.]))
    """

    def check(self, setting: Setting) -> None:
        """Reject a single honest vector, which has no spread."""
        setting.check_honest_spread(type(self).__name__, " to search along")
        super().check(setting)

    @abstractmethod
    def lines(self, honest: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return an origin and a direction [d] of each line to search, for honest vectors float64 [h, d]."""

    def damage(self, context: AttackContext, candidates: Tensor) -> Tensor:
        """Return the distance of the rule's output from the honest mean for each of m candidates [m, d]: [m]."""
        return (self.rule_outputs(context, candidates) - context.honest.double().mean(0)).norm(dim=1)

    def most_damaging(self, context: AttackContext, calls: int) -> tuple[float, Tensor]:
        """Return the largest damage that is found with `calls` evaluations, and its point [d]."""
        best_points, lines = [], self.lines(context.honest.double())
        for origin, direction in lines:

            def gain(factors: Tensor, origin: Tensor = origin, direction: Tensor = direction) -> Tensor:
                return self.damage(context, origin + factors.unsqueeze(1) * direction)

            factor, damage = maximise(gain, calls // len(lines))
            best_points.append((damage, origin + factor * direction))
        return max(best_points, key=lambda pair: pair[0])

    def search(self, context: AttackContext, rng: np.random.Generator) -> Tensor:
        """Return the crafted vector, [d]."""
        return self.most_damaging(context, self.calls)[1]

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: one vector from every Byzantine agent."""
        return ByzantineMessages(
            self.search(context, rng).to(context.honest.dtype).expand_as(context.byzantine)
        ), memory
