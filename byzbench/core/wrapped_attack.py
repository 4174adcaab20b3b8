"""Base class of attacks that change how another attack acts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from byzbench.core import Attack, AttackContext, ByzantineMessages, EnvHooks, Setting, State, ThreatModel
from byzbench.core.messages import validate_messages
from byzbench.core.timing import Timing


def honest_messages(context: AttackContext, threat: ThreatModel) -> ByzantineMessages:
    """Return the honest vectors of the Byzantine agents, on every edge if the threat model equivocates."""
    return ByzantineMessages(context.own[torch.as_tensor(context.edges)[:, 0]] if threat.equivocates else context.own)


def with_form_of(
    threat: ThreatModel, messages: ByzantineMessages, inner: ThreatModel, context: AttackContext
) -> ByzantineMessages:
    """Return the messages of an inner attack as tensors, on every edge if the outer threat model equivocates.

    Args:
        threat: the outer threat model, which sees `own`.
        messages: the messages of the inner attack, which may be anything; malformed ones become NaN.
        inner: the threat model of the inner attack.
        context: the context of the call.

    Example:
        >>> outer = ThreatModel(frozenset({"own"}), equivocates=True)
        >>> facts = {"own": torch.zeros(2, 1), "edges": torch.tensor([[0, 7], [0, 8], [1, 8]]).numpy()}
        >>> context = AttackContext(outer, {"num_parameters": 1}, facts)
        >>> messages = ByzantineMessages([torch.ones(1), None])
        >>> with_form_of(outer, messages, ThreatModel(), context)
        ByzantineMessages(vectors=tensor([[1.],
                [1.],
                [0.]]), silent=tensor([False, False,  True]))
    """
    count = len(context.edges) if inner.equivocates else len(context.own)
    checked = validate_messages(messages, count, context.num_parameters)
    vectors = checked.vectors.to(context.own.dtype).masked_fill(checked.malformed.unsqueeze(1), torch.nan)
    if threat.equivocates and not inner.equivocates:
        senders = torch.as_tensor(context.edges)[:, 0]
        return ByzantineMessages(vectors[senders], checked.silent[senders])
    return ByzantineMessages(vectors, checked.silent)


@dataclass(frozen=True)
class WrappedAttack(Attack):
    """An attack that does what an inner attack does, on the same topics and with the same requirements.

    A subclass defines `inner` as a field with a description, its own `threat`, and what it changes.

    Attributes:
        inner: the wrapped attack.
    """

    inner: Attack

    @property
    def timing(self) -> Timing:
        """Return the inner attack's timing."""
        return self.inner.timing

    def check(self, setting: Setting) -> None:
        """Check the inner attack."""
        self.inner.check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack."""
        return self.inner.notes(setting)

    def targets(self, topic: str) -> bool:
        """Return whether the inner attack crafts the messages of the topic."""
        return self.inner.targets(topic)

    def start(self, context: AttackContext) -> State:
        """Return the inner attack's initial state."""
        return self.inner.start(context)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        """Craft the messages of the inner attack."""
        return self.inner.craft_messages(context, memory, rng)

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return the inner attack's hooks."""
        return self.inner.hook_environment(context, memory, rng)
