"""Normalisation of observations, which agents agree on before training."""

from __future__ import annotations

import torch

from byzbench.core import Communication
from byzbench.federation.federation import SimulatedFederation
from byzbench.rl.scales import scales_of


async def settle(fed: SimulatedFederation, communication: Communication, episodes: int) -> None:
    """Fit the mean and standard deviation of every observation coordinate once, before training.

    Each agent measures them on episodes of the common initial policy, which are charged to it. The statistics are
    exchanged as gradients are: by the same aggregation rule, under the same attack, and between peers with the same
    agreement after it. Agents that do not communicate use their own statistics. If the rule of a server is undefined,
    the agents use mean 0 and deviation 1.

    Args:
        fed: the federation, in its first round; its `scenarios.scales` are set.
        communication: the agents with which an agent exchanges messages.
        episodes: the number of episodes that each agent measures on.
    """
    assert fed.scenarios.scales is not None
    statistics = scales_of(fed.sample(fed.theta0, episodes))
    if communication == Communication.SERVER:
        value, _ = fed.aggregate(await fed.gather("statistics", statistics), {})
        statistics = await fed.broadcast("statistics", value.nan_to_num(0.0))
    elif communication == Communication.DECENTRALIZED:
        value, _ = fed.aggregate(await fed.exchange("statistics", statistics), {})
        statistics, _ = await fed.agree(value, {})
    fed.scenarios.scales = torch.cat([statistics, statistics[:1]]).cpu()
    fed.reset_statistics()
