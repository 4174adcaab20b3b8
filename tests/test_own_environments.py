"""Attacks on the environments of Byzantine agents, and the rollouts that attacks may read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from torch import Tensor

from byzbench.attacks.dynamics import Dynamics
from byzbench.attacks.fgsm import Fgsm
from byzbench.attacks.v_bsa import VBsa
from byzbench.core import Attack, ByzantineMessages, EnvHooks, MessageAttack, State, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.errors import BrokenPlugin, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.federation.adversary import Adversary, ByzantineEnvHooks
from byzbench.federation.federation import SimulatedFederation
from byzbench.randomness import Streams
from byzbench.registry import make
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import CategoricalPolicy
from byzbench.rl.rollouts import Trajectories


def set_up(attack: Any = "none", **options: Any) -> tuple[SimulatedFederation, Adversary, list[int]]:
    """A federation of 5 agents, 2 of whom lie, before its first round; and who they are."""
    todo = replace(
        Experiment.create("decbyzpg", "none", **{"agents": 5, "byzantine": 2, **options}),
        attack=make("attack", attack),  # type: ignore[arg-type]
    )
    federation, adversary = federate(todo)
    federation.begin(0, 0.0)
    return federation, adversary, list(todo.members.byzantine_ids)


def rng(seed: int = 0) -> np.random.Generator:
    return Streams(seed).generator("attack")


def facts(batch: Trajectories, rows: list[int], steps: int) -> list[Tensor]:
    """All that happened to these agents in their episodes' first steps."""
    mask = batch.mask[rows, :steps]
    parts = [batch.observations[rows, :steps] * mask.unsqueeze(-1), batch.actions[rows, :steps] * mask]
    return [*parts, batch.rewards[rows, :steps], mask, batch.terminated[rows]]


def same(left: Trajectories, right: Trajectories, rows: list[int]) -> bool:
    steps = min(left.mask.shape[1], right.mask.shape[1])
    over = not left.mask[rows, steps:].any() and not right.mask[rows, steps:].any()
    return over and all(map(torch.equal, facts(left, rows, steps), facts(right, rows, steps)))


ENVIRONMENT = ["random_action", "action_flip(q=0.9)", "observation_noise(epsilon=1)", "fgsm(epsilon=1)"]
ENVIRONMENT += ["dynamics(constant=length, factor=0.1)"]


@pytest.mark.parametrize("attack", ENVIRONMENT)
def test_only_byzantine_agents_have_another_environment(attack: str) -> None:
    plain, _, attackers = set_up()
    federation, _, _ = set_up(attack)
    honest = [agent for agent in range(5) if agent not in attackers]
    truth, met = (f.sample(f.theta0, 4) for f in (plain, federation))
    assert same(truth, met, honest)
    assert not any(same(truth, met, [attacker]) for attacker in attackers)
    alone = federation.sample(federation.theta0[:2], 4, agents=[honest[0], attackers[1]])
    assert alone.mask.shape[0] == 2  # blocks of agents, with some of the attackers


def test_physics_are_what_they_were_once_the_attackers_sleep_again() -> None:
    federation, adversary, _ = set_up("dynamics(constant=force_mag, factor=0.1)")
    plain, _, everybody = set_up()
    everybody = list(range(5))
    assert not same(plain.sample(plain.theta0, 3), federation.sample(federation.theta0, 3), everybody)
    adversary._attack = make("attack", "none")  # type: ignore[assignment]
    for f in (plain, federation):
        f.begin(1, 0.1)
    assert same(plain.sample(plain.theta0, 3), federation.sample(federation.theta0, 3), everybody)


@pytest.mark.parametrize("constant", ["gravity", "masscart", "masspole", "length", "force_mag"])
def test_a_changed_constant_is_gymnasiums(constant: str) -> None:
    """Rows that are changed among others go the way of Gymnasium's environment with that constant."""
    task: Any = make("task", "cartpole")
    ours, theirs = task.make(2, 3), CartPoleVectorEnv(3)
    task.scale_dynamics(ours, {constant: np.array([1.0, 1.7])})
    vars(theirs)[constant] = 1.7 * getattr(theirs, constant)
    theirs.total_mass, theirs.polemass_length = theirs.masspole + theirs.masscart, theirs.masspole * theirs.length
    ours.reset([np.random.default_rng(seed) for seed in (0, 1)])
    theirs.reset(seed=0)
    theirs.state = ours.states[3:].T.copy()
    for step in range(6):  # no pole has fallen yet
        actions = np.arange(6) % 2 if step % 2 else np.ones(6, np.int64)
        np.testing.assert_allclose(ours.step(actions)[0][3:], theirs.step(actions[3:])[0], rtol=1e-6)
    untouched = task.make(1, 3)
    task.scale_dynamics(ours, {})
    first, again = np.random.default_rng(5), np.random.default_rng(5)
    assert np.array_equal(ours.reset([first, first])[:3], untouched.reset([again]))
    for _ in range(6):
        assert np.array_equal(ours.step(np.ones(6, np.int64))[0][:3], untouched.step(np.ones(3, np.int64))[0])


def test_a_lander_falls_faster_where_it_weighs_more() -> None:
    pytest.importorskip("Box2D")
    task: Any = make("task", "lunarlander")
    landers = task.make(2, 2)
    fallen = []
    for factors in ({}, {"gravity": np.array([1.0, 1.1])}, {}):
        task.scale_dynamics(landers, factors)
        landers.reset([np.random.default_rng(0), np.random.default_rng(0)])
        for _ in range(20):
            observed = landers.step(np.zeros(4, np.int64))[0]
        fallen.append(observed[:, 3])
    assert np.array_equal(fallen[0], fallen[2])
    assert np.array_equal(fallen[0][:2], fallen[1][:2])
    assert (fallen[1][2:] < fallen[0][2:]).all()


def test_constants_that_a_task_does_not_offer() -> None:
    for constant, env, message in (
        ("wind", "cartpole", "give constant=gravity or masscart or"),
        ("gravity", "acrobot", "it offers none"),
    ):
        with pytest.raises(Undefined, match=message) as error:
            set_up(Dynamics(constant=constant), env=env)
        assert "\n" not in str(error.value)


@dataclass(frozen=True)
class HookedEnvironment(Attack):
    hooks: Any = None

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        return self.hooks, memory


def test_what_a_tap_may_not_do_ends_the_run_in_one_line() -> None:
    for hooks, message in (
        (EnvHooks(action=lambda t, actions: actions[..., :1]), r"shape \[2, 1\] in place of \[2, 3\]"),
        (EnvHooks(dynamics={"wind": np.ones(2)}), "'wind', which this task does not offer"),
    ):
        federation, _, _ = set_up(HookedEnvironment(hooks))
        with pytest.raises(BrokenPlugin, match=message):
            federation.sample(federation.theta0, 3)


@pytest.mark.parametrize("agents", [[0, 1, 2, 3, 4, 5], [3, 1], [4, 0, 3], [5, 2]])
def test_a_hand_reaches_its_own_rows(agents: list[int]) -> None:
    attackers = [1, 4, 3]
    recorded = []

    def negative(t: int, x: np.ndarray) -> np.ndarray:
        recorded.append(x.copy())
        return -x - 1

    tap = ByzantineEnvHooks(EnvHooks(observation=negative, action=negative, reward=torch.neg), agents, attackers)
    byzantine_rows = [row for row, agent in enumerate(agents) if agent in attackers]
    if not byzantine_rows:
        assert tap.observe is tap.act is None
        return
    for hand, shape in ((tap.observe, (2, 4)), (tap.act, (2,)), (tap.act, (2,))):
        assert hand is not None
        x = np.arange(len(agents) * int(np.prod(shape)), dtype=np.float32).reshape(len(agents), *shape) + 1
        expected = x.copy()
        expected[byzantine_rows] = -x[byzantine_rows] - 1
        rows = {agent: x[row].copy() for row, agent in enumerate(agents)}
        hand(0, x)
        assert np.array_equal(x, expected)
        for index, attacker in enumerate(attackers):
            assert np.array_equal(recorded[-1][index], rows.get(attacker, np.zeros(shape)))
    rewards = torch.ones(len(agents), 5, 2)
    assert tap.rewards(rewards)[byzantine_rows].eq(-1).all()
    assert int((tap.rewards(rewards) < 0).sum()) == 10 * len(byzantine_rows)
    assert rewards.eq(1).all()


# The policy.


def shifted(attack: Fgsm, policy: CategoricalPolicy, theta: Tensor, observed: Tensor) -> Tensor:
    """Observations [f, N, o] as the attackers see them, inside a rollout's inference mode."""
    facts = {"round": 0, "agents": 5, "byzantine": len(theta), "task": None, "episodes": observed.shape[1]}
    context = AttackContext(attack.threat, facts, {"policy": policy, "theta": theta})
    tap = attack.hook_environment(context, {}, rng())[0].observation
    assert tap is not None
    with torch.inference_mode():
        return torch.from_numpy(tap(0, observed.clone().numpy()))


def likeliest(policy: CategoricalPolicy, theta: Tensor, observed: Tensor, perturbed: Tensor) -> tuple[Tensor, Tensor]:
    """The log-probability of the action that is likeliest at `seen`, there and at `told`: [f, N] each."""
    layers = policy.layers(theta)
    best = policy.logits(layers, observed).argmax(-1)
    return policy.log_probabilities(layers, observed, best), policy.log_probabilities(layers, perturbed, best)


def test_fgsm_is_the_worst_corner_for_a_linear_policy_of_two_actions() -> None:
    policy = CategoricalPolicy(FeedForward((3, 2)))
    theta = torch.from_numpy(rng().standard_normal((2, policy.dimension))).float()
    observed = torch.from_numpy(rng(1).standard_normal((2, 5, 3))).float()
    perturbed = shifted(Fgsm(epsilon=0.3), policy, theta, observed)
    _, reached = likeliest(policy, theta, observed, perturbed)
    corners = [observed + 0.3 * torch.tensor(signs) for signs in product((-1.0, 1.0), repeat=3)]
    worst = torch.stack([likeliest(policy, theta, observed, corner)[1] for corner in corners]).amin(0)
    torch.testing.assert_close(reached, worst)


def test_fgsm_keeps_to_its_box_and_does_more_than_noise_of_its_size() -> None:
    policy, noise = CategoricalPolicy(FeedForward((4, 16, 16, 3))), np.random.default_rng(0)
    theta = 2 * torch.stack([policy.initial(noise) for _ in range(3)])
    observed = torch.from_numpy(noise.standard_normal((3, 200, 4))).float()
    perturbed = shifted(Fgsm(epsilon=0.25), policy, theta, observed)
    torch.testing.assert_close((perturbed - observed).abs(), torch.full_like(observed, 0.25))
    before, after = likeliest(policy, theta, observed, perturbed)
    random = observed + 0.25 * torch.from_numpy(noise.choice([-1.0, 1.0], observed.shape)).float()
    noisy = likeliest(policy, theta, observed, random)[1]
    assert (after < before).float().mean() > 0.99
    assert float((before - after).mean()) > 2 * float((before - noisy).abs().mean())


def test_fgsm_needs_a_likeliest_action_with_a_slope() -> None:
    with pytest.raises(Undefined, match="choose one each step") as error:
        set_up("fgsm", env="pendulum")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("attack", ["random_action", "action_flip(q=1)"])
def test_continuous_actions(attack: str) -> None:
    plain, _, attackers = set_up(env="pendulum")
    federation, _, _ = set_up(attack, env="pendulum")
    truth, met = (f.sample(f.theta0, 2) for f in (plain, federation))
    honest = [agent for agent in range(5) if agent not in attackers]
    # To rounding: without hooks the policies act in a kernel.
    torch.testing.assert_close(truth.actions[honest], met.actions[honest], rtol=1e-4, atol=1e-4)
    if attack == "random_action":
        assert met.actions[attackers].abs().max() <= 1
        assert abs(float(met.actions[attackers].mean())) < 0.1
        assert float(met.actions[attackers].std()) == pytest.approx(3**-0.5, rel=0.1)
    else:
        torch.testing.assert_close(met.actions[attackers, 0], -truth.actions[attackers, 0], rtol=1e-4, atol=1e-4)


# Experience.


@dataclass(frozen=True)
class Looks(MessageAttack):
    """Says the truth, and calls a function with its view."""

    act: Any = None
    sees: frozenset[Any] = frozenset({"own", "policy", "rollouts"})

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(self.sees)

    def craft_messages(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        self.act(context)
        return ByzantineMessages(context.own), memory


def gossiped(act: Callable[[AttackContext], None], *more: str) -> tuple[SimulatedFederation, list[int]]:
    federation, _, attackers = set_up(Looks(act=act, sees=frozenset({"own", "policy", "rollouts", *more})))
    return federation, attackers


@pytest.mark.parametrize("together", [False, True])
def test_attackers_remember_this_rounds_episodes_and_the_policy_that_played_them(together: bool) -> None:
    observed: list[tuple[Tensor | None, list[Trajectories | None]]] = []
    federation, attackers = gossiped(
        lambda context: observed.append((context.theta, list(context.rollouts))), *(["byzantine"] if together else [])
    )
    x = torch.zeros(5, federation.theta0.shape[1])
    lockstep(federation.exchange("gradient", x))
    assert {(theta, *rollout) for theta, rollout in observed} == {(None, *[None] * (2 if together else 1))}
    theta = torch.arange(5.0).unsqueeze(1) + federation.theta0
    for agents in (None, [0, 1, 2], [3, 4]):
        observed.clear()
        batch = federation.sample(theta if agents is None else theta[agents], 2, agents=agents)
        if agents is None:
            whole = batch
    lockstep(federation.exchange("gradient", x))
    played = torch.cat([part for part, _ in observed if part is not None])
    assert torch.equal(played, theta[attackers])
    rollout = [one for _, several in observed for one in several]
    for attacker, one in zip(attackers, rollout, strict=True):
        assert one is not None
        assert one.mask.shape[0] == 1
        # The last time it played; the streams of each time are others.
        assert not same(one, part_of(whole, attacker), [0])
    federation.begin(1, 0.1)
    observed.clear()
    lockstep(federation.exchange("gradient", x))
    assert all(theta is None and rollout[0] is None for theta, rollout in observed)


def part_of(batch: Trajectories, row: int) -> Trajectories:
    return Trajectories(**{name: value[row : row + 1] for name, value in vars(batch).items()})


def test_what_is_remembered_is_a_copy_of_what_was_met() -> None:
    looks: list[Trajectories] = []

    def vandalise(context: AttackContext) -> None:
        (rollout,) = context.rollouts
        assert rollout is not None
        looks.append(replace(rollout, observations=rollout.observations.clone()))
        rollout.observations.zero_()
        assert context.theta is not None
        context.theta.zero_()

    federation, attackers = gossiped(vandalise)
    batch = federation.sample(federation.theta0, 2)
    before = batch.observations.clone()
    for _ in range(2):
        lockstep(federation.exchange("gradient", federation.theta0))
    assert torch.equal(batch.observations, before)
    for look, attacker in zip(looks, [*attackers, *attackers], strict=True):
        assert same(look, part_of(batch, attacker), [0])


def crafted(attack: VBsa, own: Tensor, memory: State, rollout: Any, policy: Any, theta: Tensor) -> tuple[Tensor, State]:
    facts = {"round": 0, "num_agents": 5, "num_byzantine": len(own), "task": None, "topic": "gradient"}
    context = AttackContext(
        attack.threat, facts, {"byzantine": own, "rollouts": rollout, "policy": policy, "theta": theta}
    )
    messages, memory = attack.craft_messages(context, memory, rng())
    return torch.as_tensor(messages.vectors), memory


def test_v_bsa_pushes_what_is_undecided_and_stays_within_the_usual() -> None:
    federation, _, _ = set_up()
    policy, theta = federation.policy, 3 * federation.theta0[:2]
    assert isinstance(policy, CategoricalPolicy)
    batch = federation.sample(theta, 4, agents=[0, 1])
    rollout = [part_of(batch, row) for row in range(2)]
    noise = np.random.default_rng(0)
    usual = torch.from_numpy(noise.standard_normal((6, 2, policy.dimension)))
    attack = VBsa(width=0.5, scale=20)
    memory: State = {}
    for own in usual:
        message, memory = crafted(attack, own, memory, rollout, policy, theta)
    mean, variance = usual[0], torch.zeros_like(usual[0])
    for own in usual[1:]:
        mean, variance = mean + 0.1 * (own - mean), 0.9 * (variance + 0.1 * (own - mean).square())
    torch.testing.assert_close(memory["mean"], mean)
    torch.testing.assert_close(memory["variance"], variance)
    assert ((message - mean).abs() <= 0.5 * variance.sqrt() + 1e-12).all()
    # With room enough, what is left is the direction of the push, at the honest length.
    free, _ = crafted(replace(attack, width=1e9, scale=1e6), usual[5], memory, rollout, policy, theta)
    torch.testing.assert_close(free.norm(dim=1), usual[5].norm(dim=1))
    secrets = {"byzantine": usual[5], "rollouts": rollout, "policy": policy, "theta": theta}
    lengths = attack._pushes(AttackContext(attack.threat, {}, secrets)).norm(dim=1)
    for row in range(2):
        way = torch.from_numpy(noise.standard_normal(policy.dimension))
        states = rollout[row].observations[rollout[row].mask].unsqueeze(0).double()

        def chance(step: float, row: int = row, way: Tensor = way, states: Tensor = states) -> Tensor:
            at = theta[row].double() + step * way
            return policy.logits(policy.layers(at.unsqueeze(0)), states).log_softmax(-1)[0]

        odds = chance(0.0)
        entropy = -(odds.exp() * odds).sum(-1) / np.log(2)
        undecided = entropy > 0.9
        assert 0 < int(undecided.sum()) < len(undecided)
        slope = (chance(1e-5) - chance(-1e-5))[undecided, 0].mean() / 2e-5
        push = free[row] / free[row].norm()
        assert float(push @ way) * float(lengths[row]) == pytest.approx(float(slope), rel=1e-3, abs=1e-5)


def test_v_bsa_is_honest_where_all_is_decided_or_nothing_was_lived() -> None:
    federation, _, _ = set_up()
    policy, own = federation.policy, torch.from_numpy(rng().standard_normal((1, federation.theta0.shape[1])))
    sure = federation.theta0[:1].clone()
    sure[:, -2] += 100  # the bias of the first action
    batch = federation.sample(sure, 2, agents=[0])
    memory = {"mean": 0 * own, "variance": 0 * own}
    for rollout, theta in (([part_of(batch, 0)], sure), ([None], sure)):
        assert torch.equal(crafted(VBsa(), own, memory, rollout, policy, theta)[0], own)


def test_v_bsa_needs_a_choice_of_actions() -> None:
    for attack, env, message in (("v_bsa", "pendulum", "choose one"), ("v_bsa(action=2)", "cartpole", "give 0 to 1")):
        with pytest.raises(Undefined, match=message) as error:
            set_up(attack, env=env)
        assert "\n" not in str(error.value)
