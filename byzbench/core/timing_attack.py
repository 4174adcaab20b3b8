"""Base class of attacks that change when messages arrive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from byzbench.core import Attack, Setting, ThreatModel
from byzbench.core.wrapped_attack import WrappedAttack
from byzbench.errors import Undefined


@dataclass(frozen=True)
class TimingAttack(WrappedAttack):
    """An attack with the messages, hooks and memory of an inner attack, which arrive at other times.

    A subclass defines `timing`, and may define `inner` again with a default. Where messages have no times that it could
    change, it is its inner attack.

    Attributes:
        inner: the attack that crafts messages.

    Example:
        An attack whose agents compute in no time:

        >>> from byzbench.core.timing import Timing
        >>> @dataclass(frozen=True)
        ... class Swift(TimingAttack):
        ...     @property
        ...     def timing(self):
        ...         return replace(self.inner.timing, is_instant=True)
        >>> from byzbench.registry import make
        >>> attack = Swift(make("attack", "zero"))
        >>> attack.timing
        Timing(is_last=False, is_instant=True, copies=1, num_held=0, seconds=inf)
        >>> sorted(attack.threat.surface)
        ['messages', 'network']
    """

    inner: Annotated[Attack, Field(description="the attack that crafts messages")] = field()

    @property
    def threat(self) -> ThreatModel:
        """Return the inner threat model, with power over the network."""
        inner = self.inner.threat
        return replace(inner, surface=inner.surface | {"network"})

    def check(self, setting: Setting) -> None:
        """Reject a wrapped absence of an attack where messages have no times; otherwise check the inner attack."""
        if not (setting.is_asynchronous or self.inner.threat.surface):
            raise Undefined(f"{self._name} changes only times, which needs schedule asynchronous")
        super().check(setting)

    def notes(self, setting: Setting) -> list[str]:
        """Return the remarks of the inner attack, and one where messages have no times."""
        without = f"{self._name} changes nothing without schedule asynchronous: the attack is its inner attack"
        return [*([] if setting.is_asynchronous else [without]), *super().notes(setting)]

    @property
    def _name(self) -> str:
        return type(self).__name__.lower()
