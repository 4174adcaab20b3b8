"""Attacks that are controlled by a few numbers in each exchange."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from byzbench.core.adversary import ByzantineMessages, MessageAttack
from byzbench.core.component import State

if TYPE_CHECKING:
    from byzbench.core.context import AttackContext


@dataclass(frozen=True)
class SteeredAttack(MessageAttack):
    """A message attack in three steps: an observation, an action, and the messages that the action determines.

        o = observe(context, memory)    in [-1, 1]^n
        a = act(o, memory)              in [-1, 1]^m
        messages = craft_action(context, a, memory)

    In the environment `byzbench.envs.AttackEnv` an external learner replaces `act`; `observe` and `craft_action` are
    the same code as in a run. The threat model must include `byzantine`, because one action covers all Byzantine
    agents.

    Class attributes:
        observation_size: n.
        action_size: m.
    """

    observation_size: ClassVar[int]
    action_size: ClassVar[int]

    @abstractmethod
    def observe(self, context: AttackContext, memory: State) -> Tensor:
        """Return the observation, float32 [n] in [-1, 1]."""

    @abstractmethod
    def act(self, observation: Tensor, memory: State) -> Tensor:
        """Return the action, float32 [m] in [-1, 1]."""

    @abstractmethod
    def craft_action(
        self, context: AttackContext, action: Tensor, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of an action.

        Args:
            context: the declared knowledge about this exchange.
            action: float32 [m] in [-1, 1].
            memory: the state that the last call returned.
            rng: the random stream of this exchange.

        Returns:
            The messages, and the new state.
        """

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of the action that `choose` takes at the current observation."""
        return self.craft_action(context, self.act(self.observe(context, memory), memory), memory, rng)
