"""Environments for attackers refuse experiments in which there is nothing to decide, and name a way out."""

from __future__ import annotations

import numpy as np
import pytest

from byzbench.envs import AttackEnv, FederationEnv
from byzbench.errors import Undefined

TINY = {"env": "cartpole", "policy": "linear", "agents": 7, "byzantine": 2}
ONE_ROUND = "the first round spends 4 trajectories, so that an episode has one round: raise trajectories, now 3, or use"


def play_on(players: FederationEnv) -> None:
    while players.agents:
        players.step({})


def test_an_episode_of_one_round_is_refused() -> None:
    env = AttackEnv(algo="decbyzpg(N=4, B=2)", trajectories=3, **TINY)
    env.reset(seed=0)
    with pytest.raises(Undefined, match=ONE_ROUND):
        env.step(np.zeros(env.action_space.shape, np.float32))  # type: ignore[arg-type]
    players = FederationEnv(algo="decbyzpg(N=4, B=2)", trajectories=3, on="both", **TINY)
    players.reset(seed=0)
    players.step({})  # with on="both" a round has several exchanges
    with pytest.raises(Undefined, match=ONE_ROUND):
        play_on(players)


def test_an_algorithm_without_the_attacked_exchange_names_a_way_out() -> None:
    env = FederationEnv(algo="dec_page_pg(N=4, B=2)", trajectories=12, on="parameters", **TINY)
    with pytest.raises(Undefined) as error:
        env.reset(seed=0)
    assert str(error.value) == (
        "dec_page_pg exchanges nothing with on='parameters' here: use on='gradient' or 'both', or an agreement"
    )
