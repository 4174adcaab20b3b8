"""No attack: the Byzantine agents follow the protocol."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.contracts import Attack, Threat


@dataclass(frozen=True)
class NoAttack(Attack):
    """Absence of an attack: the Byzantine agents follow the protocol, as the reference for every attack."""

    @property
    def threat(self) -> Threat:
        """Return the threat model: no knowledge and no surface."""
        return Threat(surface=frozenset())
