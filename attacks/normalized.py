"""Normalized attack: a search for the direction, and then the length, that turns the aggregate farthest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, Categorical, State
from byzbench.core.oracle_attack import OracleAttack, maximise


@dataclass(frozen=True)
class Normalized(OracleAttack):
    """Adaptive attack that sends one vector, chosen to turn the direction of the aggregate as far as possible.

        a = F(x, own),    D(m) = || unit(a) - unit(F(x, m, ..., m)) ||
        stage 1: g = a + lam ||a|| unit(p),     lam >= 0 of largest D(g)
        stage 2: m = zeta ||a|| unit(g),        zeta >= 0 of largest D(m)

    x [h, d] the honest vectors, own [f, d] those of the Byzantine agents, F the rule, evaluated on a clone. p [d] is
    minus the signs of the honest mean, minus the mean, or minus the standard deviations of the coordinates.

    Source: Fang, Wang, Gong 2025, "Provably robust federated reinforcement learning", WWW.

    Differs from the source in: lam and zeta are in lengths of a, and found by a grid that is refined, half of the
    evaluations for each; the authors' steps (0.83 and 0.03 for CartPole) are absolute numbers, which fit one scale.

    Cost: about 20 ms an exchange against the mean, 38 ms against nnm+trimmed_mean, for 161 calls at K=13, d=386.
    """

    source: ClassVar[str] = "Fang, Wang, Gong 2025, WWW"
    calls: Annotated[
        int,
        Field(
            ge=81,
            le=100_000,
            description="candidates evaluated on the rule oracle (a clone of the rule) in one exchange",
        ),
    ] = 161
    direction: Annotated[
        Literal["sign", "unit", "std"],
        Field(description="the perturbation: signs of the mean, the mean itself, or deviations by coordinate"),
        Categorical("sign", "unit", "std"),
    ] = "sign"

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the vector of both stages from every Byzantine agent."""
        honest = context.honest.double()
        aggregate = context.rule(context.byzantine).double()
        length, honest_direction = aggregate.norm(), normalize(aggregate, dim=0, eps=1e-150)
        directions = {"sign": honest.mean(0).sign(), "unit": honest.mean(0), "std": honest.std(0, correction=0)}
        back = -normalize(directions[self.direction], dim=0, eps=1e-150)

        def direction_change(candidates: Tensor) -> Tensor:
            return (normalize(self.rule_outputs(context, candidates), eps=1e-150) - honest_direction).norm(dim=1)

        calls = (self.calls - 1) // 2
        lam, _ = maximise(lambda t: direction_change(aggregate + length * t.unsqueeze(1) * back), calls, both=False)
        ray = length * normalize(aggregate + lam * length * back, dim=0, eps=1e-150)
        zeta, _ = maximise(lambda t: direction_change(t.unsqueeze(1) * ray), calls, both=False)
        return ByzantineMessages((zeta * ray).to(context.honest.dtype).expand_as(context.byzantine)), memory
