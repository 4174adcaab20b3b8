"""An attack that is steered by a few numbers an exchange."""

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
    """A message attack in three steps: what it observes, what it chooses, and what liars say by that choice.

        o = observe(view, memory)    in [-1, 1]^n
        a = choose(o, memory)        in [-1, 1]^m
        speech = say(view, a, memory)

    In the attacker's seat (`byzbench.envs.AttackerSeat`) a learner chooses in place of `choose`; the other two are the
    same code there and here. It must see `colluders`: there is one choice for all liars.

    Class attributes:
        observation_size: n.
        action_size: m.
    """

    observation_size: ClassVar[int]
    action_size: ClassVar[int]

    @abstractmethod
    def observe(self, view: View, memory: State) -> Tensor:
        """float32 [n] in [-1, 1]."""

    @abstractmethod
    def choose(self, observation: Tensor, memory: State) -> Tensor:
        """float32 [m] in [-1, 1]."""

    @abstractmethod
    def say(self, view: View, action: Tensor, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """See `speak`."""

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """What follows from what it observes."""
        return self.say(view, self.choose(self.observe(view, memory), memory), memory, rng)
