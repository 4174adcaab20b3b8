"""What a federation settles before it learns: in which units its agents see."""

from __future__ import annotations

from typing import Literal

import torch

from byzbench.federation.federation import Federation
from byzbench.learning.scales import scales_of


async def settle(fed: Federation, needs: Literal["peers", "server", "solo", "nobody"], episodes: int) -> None:
    """Agree on the mean and the deviation of every coordinate of an observation, once and for all.

    Each agent measures them on episodes of the common first policy, which are charged, and they go the way of a
    gradient: the same rule, the same lies, and among peers the same agreement after it. Agents who hear nobody keep
    their own. Where a server's rule is undefined, everybody sees as before.

    Args:
        fed: in its first round.
        needs: how its agents hear each other; see `Algorithm`.
        episodes: of each agent.
    """
    assert fed.worlds.scales is not None
    mine = scales_of(fed.sample(fed.theta0, episodes))
    if needs == "server":
        value, _ = fed.aggregate(await fed.gather("statistics", mine), {})
        mine = await fed.broadcast("statistics", value.nan_to_num(0.0))
    elif needs == "peers":
        value, _ = fed.aggregate(await fed.exchange("statistics", mine), {})
        mine, _ = await fed.agree(value, {})
    fed.worlds.scales = torch.cat([mine, mine[:1]]).cpu()
    fed.ledger.turn()
