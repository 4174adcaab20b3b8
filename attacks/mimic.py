"""Mimic: copies of the vector of one honest agent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from byzbench.core import AttackContext, ByzantineMessages, MessageAttack, Setting, State, ThreatModel
from byzbench.errors import Undefined

_unit = partial(normalize, dim=0, eps=1e-150)


@dataclass(frozen=True)
class Mimic(MessageAttack):
    """Message attack that sends the vector of one honest agent, whose data then count f + 1 times.

        mu_t = (t mu_{t-1} + (1/h) sum_i x[i]) / (t + 1)                     x [h, d] the honest vectors, t = 0, 1, ...
        z_t = unit(t z_{t-1} + unit(sum_i <x[i] - mu_t, z_{t-1}> (x[i] - mu_t)))
        m = x[j],    j = argmax_i <x[i] - mu_t, z_t>

    Every message is an honest vector, so it is no outlier. z [d] follows the direction of largest honest variance
    (Oja). After `warmup` exchanges of a topic j is fixed.

    Source: Karimireddy, He, Jaggi 2022, arXiv 2006.09365. With `copy` it repeats one agent from the first, as byzfl
    does: weaker, since the agent may be an average one.

    Differs from the source in: the first z is the largest deviation in place of a random vector, and the sum is
    normalised before it enters z, without which gradients much shorter than one would never turn it.

    Memory, for each topic: `<topic>.seen`, `.mean` [d], `.direction` [d], `.target`.

    Example:
        Both Byzantine agents copy honest agent 1:

        >>> import torch
        >>> from byzbench.core import AttackContext
        >>> attack = Mimic(copy=1)
        >>> honest = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
        >>> context = AttackContext(attack.threat, {}, {"honest": honest, "byzantine": torch.zeros(2, 2)})
        >>> attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors
        tensor([[3., 6.],
                [3., 6.]])
    """

    source: ClassVar[str] = "Karimireddy et al. 2022, arXiv 2006.09365"
    warmup: Annotated[int, Field(ge=1, description="exchanges until the copied agent is fixed")] = 10
    copy: Annotated[
        int | None, Field(ge=0, description="index of the honest agent that is copied; None: chosen by the attack")
    ] = None

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: omniscient and colluding."""
        return ThreatModel(knowledge=frozenset({"byzantine", "honest"}))

    def check(self, setting: Setting) -> None:
        """Reject a `copy` that is no honest agent."""
        agents, byzantine = setting.num_agents, setting.num_byzantine
        if self.copy is not None and self.copy >= agents - byzantine:
            raise Undefined(
                f"mimic: copy={self.copy} is no honest agent for K={agents}, f={byzantine}; "
                f"give 0 to {agents - byzantine - 1}"
            )
        super().check(setting)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages: the chosen agent's vector from every Byzantine agent."""
        target = self.copy
        if target is None:
            memory = self._follow(context.honest.double(), context.topic, memory)
            target = int(memory[f"{context.topic}.target"])
        return ByzantineMessages(context.honest[target].expand_as(context.byzantine)), memory

    def _follow(self, x: Tensor, topic: str, memory: State) -> State:
        """Return the state after one step of the direction; unchanged after the warm-up."""
        t = int(memory.get(f"{topic}.seen", torch.tensor(0)))
        if t >= self.warmup:
            return memory
        mean = x.mean(0)
        if t:
            mean = (t * memory[f"{topic}.mean"] + mean) / (t + 1)
        gaps = x - mean
        last_direction = memory[f"{topic}.direction"] if t else gaps[gaps.norm(dim=1).argmax()]
        direction = _unit(t * last_direction + _unit((gaps @ last_direction) @ gaps))
        new_state = {
            "seen": torch.tensor(t + 1),
            "mean": mean,
            "direction": direction,
            "target": (gaps @ direction).argmax(),
        }
        return {**memory, **{f"{topic}.{name}": value for name, value in new_state.items()}}
