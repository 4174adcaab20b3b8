"""Base class of attacks that change how another attack acts."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.core import Attack, Setting


@dataclass(frozen=True)
class WrappedAttack(Attack):
    """An attack on the same topics, and with the same requirements, as an inner attack.

    A subclass defines `inner` as a field with a description, its own `threat`, and `craft_messages` or
    `hook_environment`.

    Attributes:
        inner: the wrapped attack.
    """

    inner: Attack

    def check(self, setting: Setting) -> None:
        """Check the inner attack."""
        self.inner.check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack."""
        return self.inner.notes(setting)

    def targets(self, topic: str) -> bool:
        """Return whether the inner attack crafts the messages of the topic."""
        return self.inner.targets(topic)
