"""No attack: the Byzantine agents follow the protocol."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.core import Attack, ThreatModel


@dataclass(frozen=True)
class NoAttack(Attack):
    """Absence of an attack: the Byzantine agents follow the protocol, as the reference for every attack."""

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: no knowledge and no surface."""
        return ThreatModel(surface=frozenset())
