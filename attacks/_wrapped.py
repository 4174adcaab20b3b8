"""What attacks that hold another attack have in common: whether it strikes, and whose memory is whose."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.attacks.alie import Alie
from byzbench.contracts import Attack, Speech, State, Taps, Threat
from byzbench.contracts.adversary import Knowledge

if TYPE_CHECKING:
    from byzbench.federation.view import View

_INNER = "inner."


def own_part(memory: State) -> State:
    """The wrapper's memory."""
    return {name: part for name, part in memory.items() if not name.startswith(_INNER)}


def inner_part(memory: State) -> State:
    """The inner attack's memory, as it knows it."""
    return {name.removeprefix(_INNER): part for name, part in memory.items() if name.startswith(_INNER)}


def joined(own: State, inner: State) -> State:
    """One flat memory of both, which may be nested in its turn."""
    return {**own, **{_INNER + name: part for name, part in inner.items()}}


@dataclass(frozen=True)
class Sometimes(Attack):
    """An attack that strikes at times, and otherwise follows the protocol: it says what it computed, and taps nothing.

    Memory: its own; and under `inner.` that of the inner attack, which knows only the times when it strikes.
    """

    needs: ClassVar[frozenset[Knowledge]] = frozenset()
    inner: Annotated[Attack, Field(description="the attack that strikes")] = field(default_factory=lambda: Alie(z=1.5))

    @property
    def threat(self) -> Threat:
        """The inner attack's, with the own vector to be honest with."""
        inner = self.inner.threat
        honest: frozenset[Knowledge] = frozenset({"own"} if "messages" in inner.surface else ())
        return replace(inner, sees=inner.sees | self.needs | honest)

    def check(self, agents: int, byzantine: int) -> str | None:
        """The inner attack's."""
        return self.inner.check(agents, byzantine)

    def speaks(self, topic: str) -> bool:
        """Where the inner attack does."""
        return self.inner.speaks(topic)

    def start(self, view: View) -> State:
        """The inner attack's memory."""
        return joined({}, self.inner.start(view))

    @abstractmethod
    def strikes(self, view: View, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Whether it does now; and its own memory."""

    def speak(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        """The inner attack's speech, or the truth."""
        now, mine = self.strikes(view, own_part(memory), rng)
        if now:
            speech, kept = self.inner.speak(view, inner_part(memory), rng)
            return speech, joined(mine, kept)
        truth = view.own
        if self.threat.equivocates:
            truth = truth[torch.as_tensor(view.edges)[:, 0]]
        return Speech(truth), joined(mine, inner_part(memory))

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """The inner attack's taps, or none."""
        now, mine = self.strikes(view, own_part(memory), rng)
        taps, kept = self.inner.tap(view, inner_part(memory), rng) if now else (Taps(), inner_part(memory))
        return taps, joined(mine, kept)
