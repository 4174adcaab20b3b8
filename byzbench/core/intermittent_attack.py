"""Base class of attacks that wrap another attack and apply it in some rounds only."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field

from byzbench.core import Attack, AttackContext, ByzantineMessages, EnvHooks, State, ThreatModel
from byzbench.core.threat_model import Knowledge
from byzbench.core.wrapped_attack import WrappedAttack, honest_messages

_INNER = "inner."

InnerAttack: TypeAlias = Annotated[Attack, Field(description="the attack that is applied at times")]
"""Type of the field that holds the wrapped attack."""


def wrapper_state(memory: State) -> State:
    """Return the wrapper's part of the state."""
    return {name: part for name, part in memory.items() if not name.startswith(_INNER)}


def inner_state(memory: State) -> State:
    """Return the inner attack's part of the state, under the inner attack's own keys."""
    return {name.removeprefix(_INNER): part for name, part in memory.items() if name.startswith(_INNER)}


def merge_states(wrapper: State, inner: State) -> State:
    """Return one flat state from both parts; the inner part may be nested itself.

    Example:
        >>> state = merge_states({"round": torch.tensor(3)}, {"mean": torch.tensor(0.5)})
        >>> state
        {'round': tensor(3), 'inner.mean': tensor(0.5000)}
        >>> wrapper_state(state), inner_state(state)
        ({'round': tensor(3)}, {'mean': tensor(0.5000)})
    """
    return {**wrapper, **{_INNER + name: part for name, part in inner.items()}}


@dataclass(frozen=True)
class IntermittentAttack(WrappedAttack):
    """An attack that is active at times, and otherwise follows the protocol: honest vectors and no hooks.

    Memory: its own state, and under `inner.` that of the inner attack, which changes only while it is active.

    A subclass defines `is_active`. It declares in `needs` the knowledge that `is_active` reads, and may define `inner`
    again with a default.

    Attributes:
        inner: the attack that is applied at times.

    Example:
        An attack in every tenth round, written `periodic(alie(z=1.5), period=10)`:

        >>> @dataclass(frozen=True)
        ... class Periodic(IntermittentAttack):
        ...     period: int = 10
        ...
        ...     def is_active(self, context, memory, rng):
        ...         return context.round % self.period == 0, memory
        >>> from byzbench.registry import make
        >>> attack = Periodic(make("attack", "zero"), period=2)
        >>> for number in (2, 3):
        ...     context = AttackContext(attack.threat, {"round": number}, {"own": torch.tensor([[5.0]])})
        ...     print(attack.craft_messages(context, {}, np.random.default_rng(0))[0].vectors.item())
        0.0
        5.0
    """

    needs: ClassVar[frozenset[Knowledge]] = frozenset()
    inner: InnerAttack

    @property
    def threat(self) -> ThreatModel:
        """Return the inner threat model, with the own vector, which is sent while the attack is inactive."""
        inner = self.inner.threat
        own: frozenset[Knowledge] = frozenset({"own"} if "messages" in inner.surface else ())
        return replace(inner, knowledge=inner.knowledge | self.needs | own)

    def start(self, context: AttackContext) -> State:
        """Return the inner attack's initial state."""
        return merge_states({}, self.inner.start(context))

    @abstractmethod
    def is_active(self, context: AttackContext, memory: State, rng: np.random.Generator) -> tuple[bool, State]:
        """Return whether the attack is active now, and the wrapper's new state."""

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of the inner attack, or return the honest vectors."""
        active, wrapper = self.is_active(context, wrapper_state(memory), rng)
        if active:
            messages, inner = self.inner.craft_messages(context, inner_state(memory), rng)
            return messages, merge_states(wrapper, inner)
        return honest_messages(context, self.threat), merge_states(wrapper, inner_state(memory))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return the inner attack's hooks, or none."""
        active, wrapper = self.is_active(context, wrapper_state(memory), rng)
        hooks, inner = (
            self.inner.hook_environment(context, inner_state(memory), rng)
            if active
            else (EnvHooks(), inner_state(memory))
        )
        return hooks, merge_states(wrapper, inner)
