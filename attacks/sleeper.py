"""Sleeper: an inner attack that starts after a number of honest rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.core import AttackContext, FloatRange, State
from byzbench.core.intermittent_attack import InnerAttack, IntermittentAttack


@dataclass(frozen=True)
class Sleeper(IntermittentAttack):
    """Wrapper that applies the inner attack after a number of honest rounds: `sleeper(alie(z=1.5), after=200)`.

        active in round t = 0, 1, ... if t >= after

    It targets rules that trust agents with an honest history, and learners whose late steps are too small to recover.
    Until then the inner attack keeps its initial state.

    Source: common practice; in federated reinforcement learning nobody seems to have named it.

    Example:
        The agent sends its honest vector until round 199, and zero from round 200 on:

        >>> import torch
        >>> from byzbench.attacks.zero import Zero
        >>> from byzbench.core import AttackContext
        >>> attack = Sleeper(Zero(), after=200)
        >>> for number in (199, 200):
        ...     context = AttackContext(attack.threat, {"round": number}, {"own": torch.tensor([[5.0]])})
        ...     print(attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors.item())
        5.0
        0.0
    """

    source: ClassVar[str] = "common practice"
    inner: InnerAttack = field(default_factory=lambda: Alie(z=1.5))
    after: Annotated[int, Field(ge=0, description="number of honest rounds before the attack"), FloatRange(0, 500)] = (
        200
    )

    def is_active(self, context: AttackContext, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Return whether the round has been reached."""
        return context.round >= self.after, {}
