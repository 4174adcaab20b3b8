"""`AttackEnv`: Gymnasium's own checks, the same bytes as the attack, and errors on bad input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from safetensors.torch import load_file, save_file
from torch import nn

import byzbench
from byzbench.attacks.alie import Alie
from byzbench.attacks.learned import Learned
from byzbench.core import ByzantineMessages
from byzbench.envs import AttackEnv
from byzbench.envs.session import FederationSession, MessageRequest
from byzbench.errors import BrokenPlugin, InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training
from byzbench.identity import identity_of

SMALL = "(N=4, B=2, p=0.5)"
TINY: dict[str, Any] = {"algo": f"decbyzpg{SMALL}", "agents": 5, "byzantine": 1, "trajectories": 16}
MINUS_MEAN = np.array([0, 1, 0, 0, 0], np.float32)


def episode(env: AttackEnv, seed: int, policy: Any) -> tuple[list[Any], list[float], list[dict[str, Any]]]:
    """Observations, rewards and infos."""
    observations, rewards, infos = [env.reset(seed=seed)[0]], [], []
    while True:
        observation, reward, terminated, truncated, info = env.step(policy(observations[-1]))
        assert not terminated
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
        if truncated:
            return observations, rewards, infos


def wild(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return lambda _: rng.uniform(-3, 3, 5).astype(np.float32)


def test_gymnasium_finds_nothing_wrong_with_it() -> None:
    env = gymnasium.make("byzbench.envs:byzbench/AttackEnv-v0", **TINY)
    check_env(env.unwrapped)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"agents": 7, "byzantine": 2, "topology": "ring"},
        {"algo": f"byzpg{SMALL}"},
        {"attack": "learned(on=both)", "agreement": "gossip+trimmed_mean"},
    ],
    ids=str,
)
def test_the_environment_and_the_attack_give_the_same_bytes(options: dict[str, Any], tmp_path: Path) -> None:
    """A policy in the environment gives the bytes of the run with that attack."""
    todo = {**TINY, "attack": "learned", **options}
    attack = byzbench.make("attack", "learned")
    memory, env = attack.start(None), AttackEnv(**todo)
    observations, _, infos = episode(env, 3, lambda o: attack.act(torch.from_numpy(o), memory).numpy())
    result = byzbench.run(**todo, seed=3, out=tmp_path)
    lines = [json.loads(line) for line in (Path(str(result.run)) / "metrics.jsonl").read_text().splitlines()]
    rounds = {info["round"]: info for info in infos if info}
    assert len(lines) > 3
    assert {line["round"] for line in lines} == set(rounds)
    for line in lines:
        record = rounds[line["round"]]
        assert {k: line[k] for k in record} == record  # what a run adds when it evaluates, it adds to the line alone
    assert "evaluation_greedy_worst" in infos[-1]
    assert np.ptp(observations, axis=0).max() > 0.1


def test_the_policies_at_the_end_are_those_of_the_run(tmp_path: Path) -> None:
    attack = Learned()
    memory, session = attack.start(None), FederationSession(Experiment.create(**TINY, attack=ExternalPolicy()))
    request = session.advance()
    while request is not None:
        request = session.advance(attack.act(request, memory))
    result = byzbench.run(**TINY, attack=attack, out=tmp_path)
    saved = load_file(Path(str(result.run)) / "checkpoint.safetensors")
    assert torch.equal(saved["state/theta"], session.training.state["theta"])


@dataclass(frozen=True)
class ExternalPolicy(Learned):
    """The attack, asked from outside."""

    async def craft_messages_async(self, context, memory, rng):
        return self.craft_action(context, await MessageRequest(self.observe(context, memory)), memory, rng)


def test_a_seed_is_an_episode() -> None:
    one, other = AttackEnv(**TINY), AttackEnv(**TINY)
    first, again, third = episode(one, 1, wild(0)), episode(other, 1, wild(0)), episode(one, 2, wild(0))
    assert all(map(np.array_equal, first[0], again[0]))
    assert first[1:] == again[1:]
    assert first[1] != third[1]
    assert one.reset()[1] != one.reset()[1]


def test_two_environments_are_independent() -> None:
    alone = [episode(AttackEnv(**TINY), seed, lambda _: MINUS_MEAN)[1] for seed in (4, 5)]
    environments = [AttackEnv(**TINY), AttackEnv(**TINY)]
    for environment, seed in zip(environments, (4, 5), strict=True):
        environment.reset(seed=seed)
    together: list[list[float]] = [[], []]
    over = [False, False]
    while not all(over):
        for i, environment in enumerate(environments):
            if not over[i]:
                _, reward, _, over[i], _ = environment.step(MINUS_MEAN)
                together[i].append(reward)
    assert together == alone


def test_observations_are_in_their_space_under_any_actions() -> None:
    env = AttackEnv(**TINY, coin="split")
    for seed in range(3):
        observations, rewards, _ = episode(env, seed, wild(seed))
        assert all(env.observation_space.contains(o) for o in observations)
        assert np.abs(rewards).max() <= 1


def test_the_reward_is_minus_the_return_that_follows() -> None:
    """An info tells of the round of the lie; the reward is of the one after."""
    _, rewards, infos = episode(AttackEnv(**TINY), 0, wild(1))
    reference = Experiment.create(**TINY).task.reference
    following = np.array([*(info["return"] for info in infos[1:]), infos[-1]["evaluation"]])
    share = (following - reference["random"]) / (reference["solved"] - reference["random"])
    assert rewards == pytest.approx(-share)
    assert np.ptp(share) > 0.01


def test_a_return_that_is_not_finite_is_all_that_attackers_can_want(monkeypatch: pytest.MonkeyPatch) -> None:
    env = AttackEnv(**TINY)
    env.reset(seed=0)
    monkeypatch.setattr(Training, "returned", float("nan"))
    assert env.step(MINUS_MEAN)[1] == 1


def view(honest: torch.Tensor, history: torch.Tensor | None = None, round: int = 0) -> Any:
    f = 2
    return SimpleNamespace(
        round=round,
        topic="gradient",
        num_agents=len(honest) + f,
        num_byzantine=f,
        coin=torch.ones(f),
        honest=honest,
        byzantine=honest[:f],
        history=history,
    )


def cloud(scale: float = 1.0) -> torch.Tensor:
    return scale * torch.from_numpy(np.random.default_rng(3).standard_normal((6, 9)) + 0.7).float()


def crafted(action: list[float], history: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
    """Return the offset of the message from the honest mean, in units of the spread."""
    honest = cloud(scale)
    messages, _ = Learned().craft_action(view(honest, history), torch.tensor(action), {}, np.random.default_rng(0))
    assert torch.equal(messages.vectors[0], messages.vectors[1])
    return (messages.vectors[0] - honest.mean(0)) / (honest - honest.mean(0)).square().sum(1).mean().sqrt()


def test_an_action_is_a_length_and_a_direction() -> None:
    honest = cloud()
    mean, deviation = honest.mean(0), honest.std(0, correction=0)
    last = torch.arange(9.0).expand(2, 9)
    for strength, length in ((-1.0, 10**-1.5), (0.0, 1.0), (1.0, 10**1.5)):
        assert crafted([strength, 0.3, -0.2, 0.9, 0]).norm() == pytest.approx(length, rel=1e-5)
    for action, way in (
        ([0, 1, 0, 0, 0], -mean),
        ([0, -0.1, 0, 0, 0], mean),
        ([0, 0, 1, 0, 0], -mean.sign() * deviation),
        ([0, 0, 0, 0, 1], last[0] - mean),
    ):
        assert torch.cosine_similarity(crafted(action, last), way, dim=0) == pytest.approx(1, abs=1e-5)
    assert float(crafted([0, 0, 0, 1, 0]) @ mean) == pytest.approx(0, abs=1e-5)
    assert torch.allclose(crafted([0.2, 0.5, 0.1, 0.3, 0]), crafted([0.2, 0.5, 0.1, 0.3, 0], scale=1e3), atol=1e-5)


def test_observations_hold_the_share_of_the_message_in_the_aggregate() -> None:
    attack, action, rng = Learned(), torch.tensor([0.2, 1, 0, 0, 0]), np.random.default_rng(0)
    _, memory = attack.craft_action(view(cloud()), action, {}, rng)
    mean, push = cloud().mean(0).double(), memory["gradient.push"]
    for share in (0.0, 0.25, -0.1):
        taken = (mean + share * push).expand(2, -1)
        observations = attack.observe(view(cloud(), taken, round=1), memory)
        assert observations[6:].tolist() == pytest.approx([share, share * 10**0.3 / 2], abs=1e-5)
        for scale in (1e-3, 1e3):
            _, longer = attack.craft_action(view(cloud(scale)), action, {}, rng)
            again = attack.observe(view(cloud(scale), scale * taken, round=1), longer)
            assert torch.allclose(again, observations, atol=1e-5)


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"attack": "alie:z=1.5"}, InvalidParameter, "attack 'alie' cannot be controlled"),
        ({"byzantine": 0}, Undefined, "no agent receives Byzantine messages"),
        ({"algo": "solo"}, Undefined, "no agent receives Byzantine messages"),
        ({"agents": 2, "byzantine": 1}, Undefined, "and so no spread"),
        ({"attack": "learned(policy=nowhere)"}, InvalidParameter, "nowhere is no policy: FileNotFoundError"),
    ],
    ids=str,
)
def test_options_that_are_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        AttackEnv(**{**TINY, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("action", [np.zeros(4), np.full(5, np.nan), np.array([0, 0, 0, 0, np.inf]), 1.0], ids=str)
def test_an_action_is_five_finite_numbers(action: Any) -> None:
    env = AttackEnv(**TINY)
    env.reset(seed=0)
    with pytest.raises(InvalidParameter, match=r"an action must be an array of \(5,\) finite numbers"):
        env.step(action)
    env.step(MINUS_MEAN)


def test_a_step_needs_an_episode() -> None:
    env = AttackEnv(**TINY)
    with pytest.raises(ResetNeeded):
        env.step(MINUS_MEAN)
    episode(env, 0, lambda _: MINUS_MEAN)
    with pytest.raises(ResetNeeded):
        env.step(MINUS_MEAN)


def test_an_external_policy_in_a_plain_run_is_an_error(tmp_path: Path) -> None:
    """Nobody is there to answer."""
    with pytest.raises(BrokenPlugin, match="waited for something"):
        byzbench.run(**TINY, attack=ExternalPolicy(), out=tmp_path)


def test_a_round_waits_for_external_decisions_only() -> None:
    class Nobody:
        def __await__(self):
            yield "who?"

    @dataclass(frozen=True)
    class Waits(Alie):
        async def craft_messages_async(self, context, memory, rng):
            return ByzantineMessages(await Nobody()), memory

    with pytest.raises(BrokenPlugin, match="neither the federation nor an external decision"):
        FederationSession(Experiment.create(**TINY, attack=Waits(z=1.5))).advance()


def test_a_policy_is_a_sequential_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 5), nn.Tanh())
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    attack = Learned(policy=str(tmp_path / "mine.safetensors"))
    observations = torch.linspace(-1, 1, 8)
    assert torch.allclose(attack.act(observations, attack.start(None)), network(observations), atol=1e-6)
    before = identity_of(Experiment.create(**TINY, attack=attack))
    assert not before.difference(identity_of(Experiment.create(**TINY, attack=attack)))
    with torch.no_grad():
        network[0].bias += 1
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    after = identity_of(Experiment.create(**TINY, attack=attack))
    assert before.difference(after) == ["attack learned: a file that it reads was changed"]


@pytest.mark.parametrize(
    "tensors, message",
    [
        ({}, "from 8 numbers to 5"),
        ({"0.weight": torch.zeros(5, 8)}, "KeyError"),
        ({"0.weight": torch.zeros(5, 7), "0.bias": torch.zeros(5)}, "from 8 numbers to 5"),
        ({"0.weight": torch.zeros(4, 8), "0.bias": torch.zeros(4)}, "from 8 numbers to 5"),
        ({"0.weight": torch.zeros(5, 8), "0.bias": torch.zeros(5), "0.scale": torch.zeros(1)}, r"\['0.scale'\]"),
        ({"weight": torch.zeros(5, 8)}, "ValueError"),
        ({"0.weight": torch.full((5, 8), torch.nan), "0.bias": torch.zeros(5)}, "finite"),
        (b"garbage", "SafetensorError"),
    ],
    ids=str,
)
def test_a_file_that_is_no_policy(tensors: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    if isinstance(tensors, bytes):
        path.write_bytes(tensors)
    else:
        save_file(tensors, path)
    with pytest.raises(InvalidParameter, match=message) as caught:
        Learned(policy=str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"algo": "decbyzpg"}, {"algo": "dec_page_pg", "aggregator": "trimmed_mean"}], ids=str
)
def test_the_shipped_policy_does_more_harm_than_a_random_one(options: dict[str, Any]) -> None:
    """On seeds of which its training had none, paired; benchmarks/attacker.py measures it elsewhere."""
    algo = f"{options['algo']}(N=8, B=4, p=0.3, lr=0.01, lr_schedule=linear, baseline=none)"
    env = AttackEnv(**{**options, "algo": algo, "agents": 7, "byzantine": 2, "trajectories": 120})
    attack = Learned()
    memory, gaps = attack.start(None), []
    for seed in range(100, 116):
        by_policy = episode(env, seed, lambda o: attack.act(torch.from_numpy(o), memory).numpy())
        at_random = episode(env, seed, wild(seed))
        gaps.append(np.mean(by_policy[1]) - np.mean(at_random[1]))
    assert np.mean(gaps) > 2 * np.std(gaps, ddof=1) / np.sqrt(len(gaps))
