"""The federation as a game: PettingZoo's own checks, and what players' words do."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from byzbench import run
from byzbench.envs import FederationEnv
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PettingZoo's tests import a game of its own in a way that it has deprecated
    from pettingzoo.test import parallel_api_test, parallel_seed_test

TINY: dict[str, Any] = {"algo": "decbyzpg(N=4, B=2, p=0.5)", "agents": 9, "byzantine": 2, "trajectories": 10}


def play(env, seed, say):
    """An episode: observations, rewards, the last infos."""
    observed, _ = env.reset(seed=seed)
    observations, rewards, infos = [observed], [], {}
    while env.agents:
        observed, paid, ended, cut, infos = env.step({agent: say(agent, observed[agent]) for agent in env.agents})
        assert not any(ended.values())
        assert all(cut.values()) == (not env.agents)
        observations.append(observed)
        rewards.append(paid)
    return observations, rewards, infos


@pytest.mark.parametrize("options", [{}, {"algo": "byzpg(N=4, B=2, p=0.5)"}, {"on": "both", "agreement": "mda"}])
def test_pettingzoos_own_checks(options):
    parallel_api_test(FederationEnv(**{**TINY, **options}), num_cycles=40)


def test_pettingzoos_own_check_of_seeds():
    parallel_seed_test(lambda: FederationEnv(**TINY), num_cycles=12)


@pytest.mark.parametrize("attack, say", [("none", lambda agent, own: own), ("sign_flip", lambda agent, own: -own)])
def test_players_can_do_what_an_attack_does(attack, say, tmp_path):
    """With the same messages, the training is the same to the last number."""
    *_, infos = play(FederationEnv(**TINY), 3, say)
    result = run(Experiment.create(**TINY, attack=attack, seed=3, parameters={}), out=tmp_path)
    info = infos["attacker_0"]
    last = {key: value for key, value in result.evaluation.items() if key != "evaluation_auc"}  # it is of a whole run
    assert {key: info[key] for key in last} == last
    assert info["trajectories"] == result.trajectories


def test_rewards_are_minus_the_honest_return_and_the_same_for_all():
    observations, rewards, infos = play(FederationEnv(**TINY), 0, lambda agent, own: own)
    assert all(len(set(paid.values())) == 1 for paid in rewards)
    assert rewards[-1]["attacker_0"] == pytest.approx(-(infos["attacker_1"]["evaluation"] - 22.3) / (475 - 22.3))
    assert len(observations) == len(rewards) + 1


@pytest.mark.parametrize("word", [None, np.full(386, np.nan, np.float32), np.zeros(3, np.float32), "hello"])
def test_silence_and_rubbish_expose_their_sender_and_nobody_else(word):
    say = lambda agent, own: word if agent == "attacker_1" else own  # noqa: E731
    _, rewards, infos = play(FederationEnv(**TINY), 0, say)
    counted = "num_silent" if word is None else "num_malformed"
    assert infos["attacker_0"][counted] == len(rewards) * 7 + len(rewards)
    assert np.isfinite([paid["attacker_0"] for paid in rewards]).all()


def test_what_makes_no_sense_is_one_line():
    with pytest.raises(InvalidParameter, match="the players replace the attack"):
        FederationEnv(**TINY, attack="alie")
    with pytest.raises(InvalidParameter, match=r"call reset\(\)"):
        FederationEnv(**TINY).step({})
