"""The perfect channel: every message arrives, whole and at once."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.contracts import Channel


@dataclass(frozen=True)
class Perfect(Channel):
    """Every message arrives in its round as it was sent; d numbers cost 4 d bytes.

    What theorems about federations without delays assume.
    """
