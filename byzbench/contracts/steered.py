"""Attacks that are controlled by a few numbers in each exchange."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from byzbench.contracts.adversary import MessageAttack, Speech
from byzbench.contracts.component import State

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class SteeredAttack(MessageAttack):
    """A message attack in three steps: an observation, an action, and the messages that the action determines.

        o = observe(view, memory)    in [-1, 1]^n
        a = choose(o, memory)        in [-1, 1]^m
        messages = say(view, a, memory)

    In the environment `byzbench.envs.AttackerSeat` an external learner replaces `choose`; `observe` and `say` are the
    same code as in a run. The threat model must include `colluders`, because one action covers all Byzantine agents.

    Class attributes:
        observation_size: n.
        action_size: m.
    """

    observation_size: ClassVar[int]
    action_size: ClassVar[int]

    @abstractmethod
    def observe(self, view: View, memory: State) -> Tensor:
        """Return the observation, float32 [n] in [-1, 1]."""

    @abstractmethod
    def choose(self, observation: Tensor, memory: State) -> Tensor:
        """Return the action, float32 [m] in [-1, 1]."""

    @abstractmethod
    def say(self, view: View, action: Tensor, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages of an action.

        Args:
            view: the declared knowledge about this exchange.
            action: float32 [m] in [-1, 1].
            memory: the state that the last call returned.
            rng: the random stream of this exchange.

        Returns:
            The messages, and the new state.
        """

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """Craft the messages of the action that `choose` takes at the current observation."""
        return self.say(view, self.choose(self.observe(view, memory), memory), memory, rng)
