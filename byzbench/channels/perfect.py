"""The perfect channel: every message arrives unchanged in its round."""

from __future__ import annotations

from dataclasses import dataclass

from byzbench.core import Channel


@dataclass(frozen=True)
class Perfect(Channel):
    """A channel in which every message arrives in its round as it was sent; d numbers cost 4 d bytes.

    Theorems about federations without delays assume this channel.
    """
