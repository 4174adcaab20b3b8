from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from byzbench import registry
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import federate, lockstep
from byzbench.rl.advantages import advantages
from byzbench.rl.gradients import (
    LARGEST_LOG_WEIGHT,
    gpomdp,
    gradient_change,
    importance_weights,
    log_likelihood,
    reward_to_go,
    score_gradient,
    step_weights,
    whitened,
)
from byzbench.rl.networks import FeedForward
from byzbench.rl.optimizers import adam, adam_start, learning_rate
from byzbench.rl.policies import CategoricalPolicy
from byzbench.rl.rollouts import Trajectories, rollout
from byzbench.tasks.cartpole import CartPole


@dataclass(frozen=True)
class Chain:
    """A decision process of two states, small enough to be solved. Its observations are one-hot.

    After action a in state s: reward[s, a]; the end with probability end[s, a]; else state 1 with probability
    onward[s, a]. Staying alive pays, so returns go with lengths.
    """

    onward: torch.Tensor
    reward: torch.Tensor
    end: torch.Tensor
    horizon: int = 5
    discount: float = 0.8

    def value(self, policy, theta):
        """The expected discounted return under theta [d] from state 0, in float64, by recursion from the last step."""
        chances = policy.logits(policy.layers(theta.double().unsqueeze(0)), torch.eye(2).double().unsqueeze(0))
        chances = chances.squeeze(0).softmax(-1)
        after = torch.zeros(2).double()
        for _ in range(self.horizon):
            following = (1 - self.onward) * after[0] + self.onward * after[1]
            after = (chances * (self.reward + self.discount * (1 - self.end) * following)).sum(-1)
        return after[0]

    def gradient(self, policy, theta):
        theta = theta.double().requires_grad_()
        return torch.autograd.grad(self.value(policy, theta), theta)[0]


CHAINS = {
    2: Chain(
        onward=torch.tensor([[0.2, 0.7], [0.6, 0.3]]).double(),
        reward=torch.tensor([[1.0, 0.5], [2.0, 1.0]]).double(),
        end=torch.tensor([[0.0, 0.0], [0.6, 0.2]]).double(),
    ),
    3: Chain(
        onward=torch.tensor([[0.2, 0.7, 0.5], [0.6, 0.3, 0.9]]).double(),
        reward=torch.tensor([[1.0, 0.5, 0.0], [2.0, 1.0, 0.5]]).double(),
        end=torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.2, 0.1]]).double(),
    ),
}


class Chains:
    """K*N chains, as an `EnvironmentBatch`. Like real ones they go on after their end, and still pay."""

    def __init__(self, chain, agents, count):
        self.chain, self.agents, self.count = chain, agents, count
        self.paid = []

    def reset(self, generators):
        shape = (self.count, self.chain.horizon, 2)
        self.noise = np.concatenate([rng.random(shape) for rng in generators])
        self.state, self.t = np.zeros(self.agents * self.count, np.int64), 0
        return self.observe()

    def observe(self):
        return np.eye(2, dtype=np.float32)[self.state]

    def step(self, actions):
        moved, ended = self.noise[:, self.t].T
        at = self.state, actions
        self.t += 1
        self.paid.append(self.chain.reward.numpy()[at].astype(np.float32))
        done = ended < self.chain.end.numpy()[at]
        self.state = (moved < self.chain.onward.numpy()[at]).astype(np.int64)
        return self.observe(), self.paid[-1], done, np.full(len(done), self.t == self.chain.horizon)


def generators(count, seed=0):
    return [np.random.default_rng([seed, agent]) for agent in range(count)]


def uniforms(agents, horizon, rows, seed=1):
    draws = [rng.random((rows, horizon), dtype=np.float32).T for rng in generators(agents, seed)]
    return torch.from_numpy(np.stack(draws))


def act(sampler, t, observations):
    return torch.from_numpy(sampler(t, observations.numpy()))


def thetas(policy, count, seed=0):
    return torch.stack([policy.initial(rng) for rng in generators(count, seed)])


def play(chain, policy, theta, rows, seed=0):
    """Episodes of every agent, theta [K, d]; and what the environments paid, to the living and the dead."""
    environments = Chains(chain, len(theta), rows)
    noise = uniforms(len(theta), chain.horizon, rows, seed + 1)
    batch = rollout(policy, theta, environments, generators(len(theta), seed), noise, torch.full((len(theta),), rows))
    paid = torch.from_numpy(np.stack(environments.paid)).view(-1, len(theta), rows).transpose(0, 1)
    return batch, paid


def deviation(estimates, truth):
    """Return by how many standard errors the mean of estimates [M, d] is off, at the worst coordinate."""
    estimates = estimates.double()
    error = estimates.std(0) / math.sqrt(len(estimates))
    return float(((estimates.mean(0) - truth) / error).abs().max())


ACCEPTED, REJECTED = 4.5, 10.0
REPLICATES, EPISODES = 400, 500


@pytest.fixture(
    scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)], ids=["two_actions", "three_actions"]
)
def sampled(request):
    """200,000 episodes at one theta, in batches that stand side by side as if each were an agent's."""
    chain, policy = CHAINS[request.param], CategoricalPolicy(FeedForward((2, 3, request.param)))
    theta = 2 * policy.initial(np.random.default_rng(3))
    batch, paid = play(chain, policy, theta.expand(REPLICATES, -1), EPISODES)
    return chain, policy, theta, batch, paid


def test_gpomdp_is_unbiased(sampled):
    chain, policy, theta, batch, _ = sampled
    estimates = gpomdp(policy, theta.expand(REPLICATES, -1), batch, chain.discount)
    assert deviation(estimates, chain.gradient(policy, theta)) < ACCEPTED
    steadier = gpomdp(policy, theta.expand(REPLICATES, -1), batch, chain.discount, baseline=True)
    assert deviation(steadier, chain.gradient(policy, theta)) < ACCEPTED
    assert steadier.var(0).sum() < 0.8 * estimates.var(0).sum()
    paid = batch.rewards * chain.discount ** torch.arange(chain.horizon).view(1, -1, 1)
    value = paid.sum(1).mean(1, keepdim=True)
    assert deviation(value, chain.value(policy, theta)) < ACCEPTED


def test_the_baseline_is_what_other_episodes_have_left():
    policy, batch = CategoricalPolicy(FeedForward((4, 8, 2))), long_batch(agents=1, horizon=3, rows=2)
    batch = replace(batch, mask=torch.tensor([[[True, True], [True, True], [True, False]]]))
    batch = replace(batch, rewards=torch.tensor([[[1.0, 4.0], [2.0, 8.0], [16.0, 0.0]]]))
    theta = thetas(policy, 1)
    # To go: 19, 18, 16 and 12, 8, 0.
    expected = torch.tensor([[[7.0, -7.0], [10.0, -10.0], [16.0, 0.0]]])
    result = gpomdp(policy, theta, batch, 1.0, baseline=True)
    torch.testing.assert_close(result, score_gradient(policy, theta, batch, expected))
    alone = replace(batch, mask=batch.mask & torch.tensor([True, False]), count=torch.tensor([1]))
    alone = replace(alone, rewards=alone.rewards * alone.mask)
    torch.testing.assert_close(gpomdp(policy, theta, alone, 1.0, baseline=True), gpomdp(policy, theta, alone, 1.0))


def test_the_closed_form_is_the_sum_over_all_episodes():
    chain, policy = CHAINS[2], CategoricalPolicy(FeedForward((2, 3, 2)))
    theta = policy.initial(np.random.default_rng(3))
    chances = policy.logits(policy.layers(theta.double()[None]), torch.eye(2).double()[None])[0].softmax(-1)

    def total(state, depth):
        if depth == chain.horizon:
            return 0.0
        value = 0.0
        for action in range(2):
            on, end = float(chain.onward[state, action]), float(chain.end[state, action])
            later = (1 - on) * total(0, depth + 1) + on * total(1, depth + 1)
            pay = chain.discount**depth * float(chain.reward[state, action])
            value += float(chances[state, action]) * (pay + (1 - end) * later)
        return value

    assert float(chain.value(policy, theta)) == pytest.approx(total(0, 0), rel=1e-12)


def from_now(rewards, discount):
    powers = discount ** torch.arange(rewards.shape[1], dtype=torch.float32).view(1, -1, 1)
    return reward_to_go(rewards, discount) / powers


@pytest.mark.slow
def test_the_same_test_rejects_wrong_estimators(sampled):
    chain, policy, theta, batch, paid = sampled
    truth, stacked = chain.gradient(policy, theta), theta.expand(REPLICATES, -1)
    complete = batch.rewards, batch.mask

    def estimate(rewards, mask, go=reward_to_go):
        return score_gradient(policy, stacked, batch, go(rewards, chain.discount) * mask)

    ended = batch.terminated.double()
    wrong = {
        "discounted from each step on": estimate(*complete, from_now),
        "not discounted": estimate(batch.rewards, batch.mask, lambda r, _: reward_to_go(r, 1.0)),
        "rewards from the first step on": estimate(*complete, lambda r, g: reward_to_go(r, g)[:, :1].expand_as(r) / 2),
        "dead steps count": estimate(paid, torch.ones_like(batch.mask)),
        "rewards of dead steps count": estimate(paid, batch.mask),
        "long episodes dropped": gpomdp(policy, stacked, batch, chain.discount, ended / ended.mean()),
    }
    assert deviation(estimate(*complete), truth) < ACCEPTED
    for name, estimates in wrong.items():
        assert deviation(estimates, truth) > REJECTED, name


@pytest.mark.slow
def test_importance_weighted_gradients_are_unbiased_at_the_other_policy(sampled):
    chain, policy, theta, batch, _ = sampled
    old = theta + 0.4 * policy.initial(np.random.default_rng(8))
    truth = chain.gradient(policy, old)
    here, there = theta.expand(REPLICATES, -1), old.expand(REPLICATES, -1)
    weights = importance_weights(policy, there, here, batch)
    assert weights.std() > 0.05
    assert deviation(weights.mean(1, keepdim=True), 1.0) < ACCEPTED
    assert deviation(gpomdp(policy, there, batch, chain.discount, weights), truth) < ACCEPTED
    assert deviation(gpomdp(policy, there, batch, chain.discount, weights, baseline=True), truth) < ACCEPTED
    wrong = {
        "no weights": gpomdp(policy, there, batch, chain.discount),
        "inverse weights": gpomdp(policy, there, batch, chain.discount, 1 / weights),
        "scores at the wrong policy": gpomdp(policy, here, batch, chain.discount, weights),
    }
    for name, estimates in wrong.items():
        assert deviation(estimates, truth) > REJECTED, name


def long_batch(agents=2, horizon=500, rows=3, seed=5):
    rng = np.random.default_rng(seed)
    return Trajectories(
        observations=torch.from_numpy(rng.standard_normal((agents, horizon, rows, 4)).astype(np.float32)),
        actions=torch.from_numpy(rng.integers(2, size=(agents, horizon, rows))),
        rewards=torch.ones(agents, horizon, rows),
        mask=torch.ones(agents, horizon, rows, dtype=torch.bool),
        terminated=torch.ones(agents, rows, dtype=torch.bool),
        count=torch.full((agents,), rows),
        final_observations=torch.zeros(agents, rows, 4),
    )


def test_importance_weights_survive_500_steps():
    policy, batch = CategoricalPolicy(FeedForward((4, 8, 2))), long_batch()
    theta = 0.2 * thetas(policy, 2)
    observations, actions = batch.observations.flatten(1, 2), batch.actions.flatten(1, 2)

    def chances(theta):
        x = observations.to(theta.dtype)
        return policy.log_probabilities(policy.layers(theta), x, actions).view(batch.mask.shape).exp()

    assert (chances(theta) - 0.5).abs().max() < 0.2
    assert not chances(theta).prod(1).any()
    assert torch.equal(importance_weights(policy, theta, theta, batch), torch.ones(2, 3).double())

    other = theta + 0.05 * thetas(policy, 2, seed=4)
    weights = importance_weights(policy, other, theta, batch)
    direct = (chances(other.double()).log() - chances(theta.double()).log()).sum(1)
    assert direct.abs().max() > 0.5
    torch.testing.assert_close(weights.log(), direct, rtol=0, atol=1e-4)

    half = replace(batch, mask=batch.mask & (torch.arange(500) < 250).view(1, -1, 1))
    short = (chances(other.double()).log() - chances(theta.double()).log())[:, :250].sum(1)
    torch.testing.assert_close(importance_weights(policy, other, theta, half).log(), short, rtol=0, atol=1e-4)


def test_importance_weights_of_policies_that_have_nothing_in_common_are_finite():
    policy, batch = CategoricalPolicy(FeedForward((4, 8, 2))), long_batch()
    weights = importance_weights(policy, 50 * thetas(policy, 2), -50 * thetas(policy, 2), batch)
    bounds = torch.tensor([-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT]).double().exp()
    assert ((weights >= bounds[0]) & (weights <= bounds[1])).all()
    assert weights.float().isfinite().all()
    assert gpomdp(policy, thetas(policy, 2), batch, 0.999, weights).isfinite().all()


def small(algo, agents, aggregator=None, **parameters):
    parameters = {"N": 6, "B": 3, "optimizer": "sgd", "lr": 0.05, **parameters}
    if algo in ("dec_pg", "fed_pg"):
        del parameters["B"]
    return Experiment.create(
        algo,
        agents=agents,
        byzantine=0,
        preset="paper",
        aggregator=aggregator,
        agreement="none",
        seed=3,
        parameters={"algorithm": parameters},
    )


def advance(experiment, fed, state, round):
    fed.begin(round, 0.0)
    return lockstep(experiment.algorithm.round(fed, state))[0]


@pytest.mark.parametrize("algo, agents", [("page_pg", 1), ("decbyzpg", 1), ("decbyzpg", 4)])
def test_with_only_large_batches_page_is_plain_policy_gradient(algo, agents):
    experiment = small(algo, agents, "mean", p=1.0, reference="local")
    fed, _ = federate(experiment)
    twin, _ = federate(experiment)
    state, theta = experiment.algorithm.start(fed), twin.theta0
    for round in range(3):
        state = advance(experiment, fed, state, round)
        twin.begin(round, 0.0)
        gradient = gpomdp(twin.policy, theta, twin.sample(theta, 6), twin.discount)
        assert torch.equal(state["reference"], gradient)
        theta = theta + 0.05 * gradient.mean(0)
        torch.testing.assert_close(state["theta"], theta, rtol=1e-6, atol=1e-7)
        theta = state["theta"]
    assert not torch.equal(theta, twin.theta0)


def outputs(output, coin="shared", draws=()):
    """Return the outputs of DecByzPG and its iterates after five rounds, with the first ones: float32 [6, 4, d] each.

    Args:
        output: the algorithm's parameter.
        coin: the coin of the experiment.
        draws: the draw of each round's output, instead of the coin's.
    """
    experiment = small("decbyzpg", 4, "mean", N=1, p=1.0, output=output)
    fed, _ = federate(replace(experiment, coin=registry.make("coin", coin)))
    if draws:

        async def common(name, draw):
            return torch.full((4,), draws[fed.round] if name == "output" else 1.0, dtype=torch.float64)

        fed.common = common
    state = experiment.algorithm.start(fed)
    states = [state, *(state := advance(experiment, fed, state, round) for round in range(5))]
    return torch.stack([s["theta"] for s in states]), torch.stack([s.get("iterate", s["theta"]) for s in states])


def test_a_uniform_output_is_replaced_with_probability_one_by_the_number_of_iterates():
    last, _ = outputs("last")
    output, iterates = outputs("uniform", draws=(0.99, 0.51, 0.33, 0.26, 0.19))
    assert torch.equal(iterates, last)
    assert torch.equal(output[1:], last[[0, 0, 2, 2, 4]])
    output, _ = outputs("uniform", draws=(0.99, 0.49, 0.34, 0.24, 0.21))
    assert torch.equal(output[1:], last[[0, 1, 1, 3, 3]])


@pytest.mark.parametrize("coin", ["shared", "split"])
def test_the_common_coin_draws_the_output(coin):
    output, iterates = outputs("uniform", coin)
    equal = (output == output[:, :1]).all(2).all(1)
    assert bool(equal.all()) == (coin == "shared")
    for round in range(1, 6):
        assert all(any(torch.equal(output[round, k], iterates[s, k]) for s in range(round)) for k in range(4))


@pytest.mark.parametrize("reference", ["aggregated", "local"])
def test_small_batches_correct_the_reference(reference):
    experiment = small("decbyzpg", 4, "mean", p=1e-9, reference=reference)
    fed, _ = federate(experiment)
    twin, _ = federate(experiment)
    first = advance(experiment, fed, experiment.algorithm.start(fed), 0)
    own = gpomdp(twin.policy, twin.theta0, twin.sample(twin.theta0, 6), twin.discount)
    known = own.mean(0).expand_as(own) if reference == "aggregated" else own
    torch.testing.assert_close(first["reference"], known, rtol=1e-6, atol=1e-6)
    assert torch.equal(first["previous"], twin.theta0)

    state = first
    for round in (1, 2):
        theta, previous, before = state["theta"], state["previous"], state["reference"]
        state = advance(experiment, fed, state, round)
        twin.begin(round, 0.0)
        batch = twin.sample(theta, 3)
        weights = importance_weights(twin.policy, previous, theta, batch)
        new = gpomdp(twin.policy, theta, batch, twin.discount)
        estimate = before + new - gpomdp(twin.policy, previous, batch, twin.discount, weights)
        known = estimate.mean(0).expand_as(estimate) if reference == "aggregated" else estimate
        torch.testing.assert_close(state["reference"], known, rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(state["theta"], theta + 0.05 * estimate.mean(0), rtol=1e-6, atol=1e-6)
        assert torch.equal(state["previous"], theta)
        assert (before - new).abs().max() > 0.1
        assert (known - before).abs().max() > 0.1


@pytest.mark.parametrize("sizes", [(4, 16, 16, 2), (8, 64, 64, 4)])
def test_stacked_gradients_are_those_of_each_agent_alone(sizes):
    policy, rng = CategoricalPolicy(FeedForward(sizes)), np.random.default_rng(2)
    shape, count = (5, 128, 6), torch.tensor([6, 1, 3, 6, 2])
    mask = torch.from_numpy(rng.random(shape) < 0.8) & (torch.arange(6) < count.view(5, 1, 1))
    batch = Trajectories(
        observations=torch.from_numpy(rng.standard_normal((*shape, sizes[0])).astype(np.float32)),
        actions=torch.from_numpy(rng.integers(sizes[-1], size=shape)),
        rewards=torch.from_numpy(rng.random(shape).astype(np.float32)) * mask,
        mask=mask,
        terminated=torch.ones(5, 6, dtype=torch.bool),
        count=count,
        final_observations=torch.zeros(5, 6, sizes[0]),
    )
    theta, old = thetas(policy, 5), thetas(policy, 5, seed=9)
    weights = importance_weights(policy, old, theta, batch)
    stacked = gpomdp(policy, theta, batch, 0.99, weights)
    for k in range(5):
        here = slice(k, k + 1)
        alone = importance_weights(policy, old[here], theta[here], batch.agent(k))
        # To the bit: a batched product treats each row alike, however many there are.
        assert torch.equal(alone, weights[here])
        assert torch.equal(gpomdp(policy, theta[here], batch.agent(k), 0.99, alone), stacked[here])

    # Padding is no episode: without it the gradient is the same, up to the order of sums.
    cut = Trajectories(
        *(value[2:3, :, :3] for value in (batch.observations, batch.actions, batch.rewards, batch.mask)),
        terminated=batch.terminated[2:3, :3],
        count=count[2:3],
        final_observations=batch.final_observations[2:3, :3],
    )
    unpadded = gpomdp(policy, theta[2:3], cut, 0.99, weights[2:3, :3])
    torch.testing.assert_close(unpadded, stacked[2:3], rtol=1e-4, atol=1e-3)
    assert stacked[2].abs().max() > 1


def test_stacked_episodes_are_those_of_each_agent_alone():
    task, policy = CartPole(), CategoricalPolicy(FeedForward((4, 16, 16, 2)))
    theta, noise, count = thetas(policy, 4), uniforms(4, task.horizon, 5), torch.tensor([5, 2, 4, 1])
    stacked = rollout(policy, theta, task.make(4, 5), generators(4), noise, count)
    assert stacked.mask[:, 0].sum(1).tolist() == count.tolist()
    for k in range(4):
        here = slice(k, k + 1)
        alone = rollout(policy, theta[here], task.make(1, 5), generators(4)[here], noise[here], count[here])
        steps = alone.mask.shape[1]
        for name in ("actions", "rewards", "mask", "observations"):
            one, many = getattr(alone, name), getattr(stacked, name)[here, :steps]
            lives = alone.mask if one.ndim == 3 else alone.mask.unsqueeze(-1)
            # To the bit, as for gradients.
            assert torch.equal(one * lives, many * lives), name
        assert not stacked.mask[k, steps:].any()
        assert torch.equal(alone.terminated, stacked.terminated[here])


def test_adam_is_torchs():
    rng = np.random.default_rng(0)
    theta = torch.from_numpy(rng.standard_normal((3, 40)).astype(np.float32))
    parameter = theta.clone().requires_grad_()
    theirs, state = torch.optim.Adam([parameter], lr=0.01, maximize=True), adam_start(theta)
    start = theta.clone()
    for _ in range(20):
        direction = torch.from_numpy(rng.standard_normal((3, 40)).astype(np.float32))
        theta, state = adam(theta, direction, state, 0.01)
        parameter.grad = direction.clone()
        theirs.step()
    torch.testing.assert_close(theta, parameter.detach(), rtol=0, atol=5e-6)
    assert (theta - start).abs().max() > 0.05


@pytest.mark.parametrize(
    "optimizer, scales", [("sgd", [1.0, 1.0, 1.0]), ("normalized", [0.2, 2.0, 1.0]), ("clipped", [0.4, 1.0, 1.0])]
)
def test_steps_of_an_optimizer_have_its_length(optimizer, scales):
    """The directions have the lengths 5, 0.5 and 0; `clipped` has max_norm=2."""
    experiment = small("dec_pg", 3, optimizer=optimizer, **({"max_norm": 2.0} if optimizer == "clipped" else {}))
    fed, _ = federate(experiment)
    state = experiment.algorithm.start(fed)
    direction = torch.zeros_like(state["theta"])
    direction[0, :2], direction[1, :2] = torch.tensor([3.0, -4.0]), torch.tensor([0.3, -0.4])
    fed.begin(0, 0.0)
    moved = experiment.algorithm.ascend(fed, direction, state)["theta"] - state["theta"]
    expected = 0.05 * direction * torch.tensor(scales).unsqueeze(1)
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-6)
    assert (moved[2] == 0).all()


@pytest.mark.parametrize("pair", [("decbyzpg", "dec_pg", 4), ("byzpg", "fed_pg", 4)])
def test_methods_without_variance_reduction_are_page_with_large_batches(pair):
    *names, agents = pair
    ends = []
    for algo in names:
        experiment = small(algo, agents, "rfa", optimizer="adam", **({"p": 1.0} if "byz" in algo else {}))
        fed, _ = federate(experiment)
        state = experiment.algorithm.start(fed)
        for round in range(3):
            state = advance(experiment, fed, state, round)
        ends.append(state["theta"])
    assert torch.equal(*ends)
    assert not torch.equal(ends[0], fed.theta0)


def test_large_importance_weights_are_clipped():
    """Only weights above `max_weight` are changed, so a bound above all of them changes nothing."""
    ends = {}
    for bound in (None, 1.0, 1e9):
        experiment = small("page_pg", 1, p=1e-9, max_weight=bound)
        fed, _ = federate(experiment)
        state = experiment.algorithm.start(fed)
        for round in range(3):
            state = advance(experiment, fed, state, round)
        ends[bound] = state["theta"]
    assert torch.equal(ends[None], ends[1e9])
    assert not torch.equal(ends[None], ends[1.0])


def test_schedules():
    assert learning_rate(0.1, "constant", 7, 0.9) == 0.1
    assert learning_rate(0.1, "linear", 7, 0.25) == pytest.approx(0.075)
    assert learning_rate(0.1, "linear", 7, 1.1) == 0.0
    assert learning_rate(0.1, "inverse_sqrt", 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(0.1, "inverse_sqrt", 3, 0.9) == pytest.approx(0.05)


def test_log_probabilities_are_those_of_torchs_layers():
    policy = CategoricalPolicy(FeedForward((4, 5, 6, 3)))
    theta = thetas(policy, 2)
    observations, actions = long_batch(horizon=10).observations.flatten(1, 2), torch.arange(30).expand(2, -1) % 3
    result = policy.log_probabilities(policy.layers(theta), observations, actions)
    for k in range(2):
        network = torch.nn.Sequential(
            torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)
        )
        parts = theta[k].split([20, 5, 30, 6, 18, 3])
        with torch.no_grad():
            for layer, (weight, bias) in zip(network[::2], zip(parts[::2], parts[1::2], strict=True), strict=True):
                layer.weight.copy_(weight.view(layer.in_features, layer.out_features).T)
                layer.bias.copy_(bias)
            expected = torch.distributions.Categorical(logits=network(observations[k])).log_prob(actions[k])
        torch.testing.assert_close(result[k], expected)


def test_the_initial_policy_is_uniform_within_its_bounds():
    policy = CategoricalPolicy(FeedForward((4, 16, 2)))
    many = torch.stack([policy.initial(rng) for rng in generators(200)])
    assert many.shape[1] == policy.dimension == 4 * 16 + 16 + 16 * 2 + 2
    for part, bound in zip(many.split([64, 16, 32, 2], 1), (0.5, 0.25, 0.25, 2**-0.5), strict=True):
        assert bound * 0.95 < part.abs().max() <= bound
        assert part.double().var().item() == pytest.approx(bound**2 / 3, rel=0.15)


def test_two_actions_are_drawn_as_by_the_inverse_cdf():
    policy = CategoricalPolicy(FeedForward((4, 16, 2)))
    theta, noise = 3 * thetas(policy, 3), uniforms(3, 4, 2000)
    noise[:, :, 0], noise[:, :, 1] = 0.0, 1 - 2.0**-24
    observations = long_batch(3, 4, 2000).observations
    sampler = policy.sampler(theta, noise.clone())
    for t in range(4):
        chances = policy.logits(policy.layers(theta), observations[:, t]).softmax(-1)
        assert torch.equal(act(sampler, t, observations[:, t]), (noise[:, t] > chances[..., 0]).long())


@pytest.mark.parametrize("actions", [2, 3, 5])
def test_actions_come_as_often_as_the_policy_says(actions):
    policy, draws = CategoricalPolicy(FeedForward((4, 8, actions))), 100_000
    theta, observation = 2 * thetas(policy, 2), torch.tensor([0.5, -1.0, 2.0, 0.1])
    observations = observation.expand(2, draws, 4)
    drawn = act(policy.sampler(theta, uniforms(2, 1, draws)), 0, observations)
    chances = policy.logits(policy.layers(theta), observations[:, :1]).softmax(-1).squeeze(1).double()
    shares = torch.stack([(drawn == a).double().mean(1) for a in range(actions)], 1)
    assert ((shares - chances).abs() < 4.5 * (chances * (1 - chances) / draws).sqrt()).all()


class Script:
    """Episodes whose lengths and ends are given: row i ends after lengths[i] steps; each step pays its number."""

    def __init__(self, lengths, cut):
        self.lengths, self.cut = np.array(lengths), np.array(cut)

    def reset(self, generators):
        self.t = 0
        return np.zeros((len(self.lengths), 1), np.float32)

    def step(self, actions):
        self.t += 1
        over = self.t >= self.lengths
        observations = np.full((len(over), 1), self.t, np.float32)
        return observations, np.full(len(over), self.t, np.float32), over & ~self.cut, over & self.cut


def scripted(lengths, cut, count, horizon):
    policy, agents = CategoricalPolicy(FeedForward((1, 2))), len(count)
    rows = len(lengths) // agents
    noise = uniforms(agents, horizon, rows)
    count = torch.tensor(count)
    return rollout(policy, thetas(policy, agents), Script(lengths, cut), generators(agents), noise, count)


def test_episodes_are_whole_and_counted():
    lengths, cut = [3, 1, 5, 2, 4, 4], [False, True, False, False, True, False]
    batch = scripted(lengths, cut, count=[3, 2], horizon=200)
    assert batch.mask.shape == (2, 5, 3)
    assert batch.mask.sum(1).tolist() == [[3, 1, 5], [2, 4, 0]]
    assert (batch.mask[:, 1:] <= batch.mask[:, :-1]).all()
    assert batch.terminated.tolist() == [[True, False, True], [True, False, False]]
    assert batch.count.tolist() == [3, 2]
    assert batch.steps.tolist() == [9, 6]
    assert batch.returns.tolist() == [(6 + 1 + 15) / 3, (3 + 10) / 2]
    assert torch.equal(batch.rewards, (torch.arange(5) + 1).view(1, -1, 1) * batch.mask)
    assert torch.equal(batch.observations.squeeze(-1) * batch.mask, torch.arange(5).view(1, -1, 1) * batch.mask)


def test_the_horizon_truncates_what_goes_on():
    batch = scripted([1000, 70, 100, 30], [False] * 4, count=[2, 2], horizon=100)
    assert batch.mask.shape == (2, 100, 2)
    assert batch.steps.tolist() == [170, 130]
    assert batch.terminated.tolist() == [[False, True], [True, True]]
    assert batch.returns[0] == (5050 + 70 * 71 / 2) / 2


def test_a_batch_is_as_long_as_its_longest_episode():
    assert scripted([3, 65], [False] * 2, [2], 500).mask.shape[1] == 65
    assert scripted([600, 2], [False] * 2, [2], 500).mask.shape[1] == 500


BALANCE = torch.tensor([[0.0, 10.0, 0.0, 50.0, 0.0, 500.0, 0.0, 500.0, 0.0, 0.0]])
"""Parameters of a linear policy that pushes the cart to where the pole leans or falls."""


def test_cartpole_ends_by_itself_or_at_its_horizon():
    task, policy = CartPole(), CategoricalPolicy(FeedForward((4, 2)))
    right = torch.tensor([[0.0] * 9 + [100.0]])
    batch = rollout(
        policy,
        torch.cat([BALANCE, right]),
        task.make(2, 4),
        generators(2),
        uniforms(2, task.horizon, 4),
        torch.tensor([4, 4]),
    )
    assert batch.returns[0] == task.horizon
    assert not batch.terminated[0].any()
    assert batch.terminated[1].all()
    assert 5 < batch.returns[1] < 15
    assert torch.equal(batch.returns * 4, batch.steps.double())


def test_first_episodes_do_not_depend_on_how_many_follow():
    task, policy = CartPole(), CategoricalPolicy(FeedForward((4, 16, 16, 2)))
    few, many = task.make(2, 3).reset(generators(2)), task.make(2, 7).reset(generators(2))
    assert np.array_equal(few.reshape(2, 3, 4), many.reshape(2, 7, 4)[:, :3])
    assert not np.array_equal(few[:3], few[3:])
    assert np.abs(many).max() <= 0.05

    theta, noise = thetas(policy, 2), uniforms(2, task.horizon, 7)
    short = rollout(policy, theta, task.make(2, 3), generators(2), noise[..., :3], torch.tensor([3, 3]))
    long = rollout(policy, theta, task.make(2, 7), generators(2), noise, torch.tensor([7, 7]))
    assert torch.equal(short.mask.sum(1), long.mask[..., :3].sum(1))
    assert torch.equal(short.returns, long.rewards[..., :3].sum((1, 2), dtype=torch.float64) / 3)


def test_environments_keep_nothing_of_the_last_round():
    task, policy = CartPole(), CategoricalPolicy(FeedForward((4, 2)))
    count, noise, used = torch.tensor([5, 5]), uniforms(2, task.horizon, 5), task.make(2, 5)
    long = rollout(policy, BALANCE.expand(2, -1), used, generators(2, seed=4), noise, count)
    assert (long.returns == task.horizon).all()
    again, fresh = (
        rollout(policy, thetas(policy, 2), environments, generators(2), noise, count)
        for environments in (used, task.make(2, 5))
    )
    assert torch.equal(again.mask, fresh.mask)
    assert torch.equal(again.actions * again.mask, fresh.actions * fresh.mask)
    assert torch.equal(again.terminated, fresh.terminated)


def test_taps_change_what_is_seen_and_done():
    class Backwards:
        def observe(self, t, observations):
            observations[1] = 7.0

        def act(self, t, actions):
            actions[1] = 1 - actions[1]

    policy = CategoricalPolicy(FeedForward((1, 2)))
    theta, noise, count = thetas(policy, 2), uniforms(2, 10, 2), torch.tensor([2, 2])
    plain = rollout(policy, theta, Script([10] * 4, [False] * 4), generators(2), noise, count)
    tapped = rollout(policy, theta, Script([10] * 4, [False] * 4), generators(2), noise, count, Backwards())
    assert torch.equal(plain.actions[0], tapped.actions[0])
    assert (tapped.observations[1] == 7.0).all()
    sampler = policy.sampler(theta[1:], noise[1:])
    expected = torch.stack([1 - act(sampler, t, torch.full((1, 2, 1), 7.0)) for t in range(10)], 1)
    assert torch.equal(tapped.actions[1:], expected)


def test_log_likelihood_sums_in_float64():
    policy = CategoricalPolicy(FeedForward((4, 8, 2)))
    batch, theta = long_batch(), thetas(policy, 2)
    observations = batch.observations.flatten(1, 2).double()
    layers = policy.layers(theta.double())
    direct = policy.log_probabilities(layers, observations, batch.actions.flatten(1, 2)).view(batch.mask.shape).sum(1)
    torch.testing.assert_close(log_likelihood(policy, theta, batch), direct, rtol=1e-7, atol=0)


def test_whitened_gradients_by_hand():
    """Rewards 1, 2, 4 at a discount of a half: to go are 3, 4, 4; whitened -2/sqrt(3), 1/sqrt(3), 1/sqrt(3)."""
    policy, batch = CategoricalPolicy(FeedForward((4, 2))), long_batch(1, 5, 2)
    rewards, mask = torch.zeros(1, 5, 2), torch.zeros(1, 5, 2, dtype=torch.bool)
    rewards[0, :3, 0], mask[0, :3, 0] = torch.tensor([1.0, 2.0, 4.0]), True
    mask[0, :1, 1], rewards[0, 0, 1] = True, 9.0  # an episode of one step has no spread, and says nothing
    batch = replace(batch, rewards=rewards, mask=mask, count=torch.tensor([2]))
    theta = thetas(policy, 1)
    expected = torch.zeros(1, 5, 2)
    expected[0, :3, 0] = torch.tensor([-2.0, 1.0, 1.0]) / 3**0.5 / 3
    torch.testing.assert_close(whitened(policy, theta, batch, 0.5), score_gradient(policy, theta, batch, expected))
    tenfold = replace(batch, rewards=10 * rewards)
    torch.testing.assert_close(whitened(policy, theta, tenfold, 0.5), whitened(policy, theta, batch, 0.5))


def test_whitened_gradients_pooled_over_steps_by_loops():
    """Two agents with episodes of their own number and length: one mean over all steps of the agent's batch."""
    policy, batch, discount = CategoricalPolicy(FeedForward((4, 2))), long_batch(2, 7, 3), 0.8
    lengths = torch.tensor([[7, 2, 4], [3, 5, 0]])
    mask = torch.arange(7).view(1, 7, 1) < lengths.unsqueeze(1)
    rewards = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(3)) * mask
    batch = replace(batch, rewards=rewards, mask=mask, count=torch.tensor([3, 2]))
    theta, weights = thetas(policy, 2), torch.rand(2, 7, 3, generator=torch.Generator().manual_seed(4))
    for agent in range(2):
        parameters = theta[agent : agent + 1].clone().requires_grad_()
        objective = torch.zeros(())
        for episode, length in enumerate(lengths[agent].tolist()):
            if not length:
                continue
            seen = rewards[agent, :length, episode]
            to_go = torch.stack([sum(discount ** (j - h) * seen[j] for j in range(h, length)) for h in range(length)])
            advantage = (to_go - to_go.mean()) / to_go.std()
            taken = batch.actions[agent : agent + 1, :length, episode]
            log_probs = policy.log_probabilities(
                policy.layers(parameters), batch.observations[agent : agent + 1, :length, episode], taken
            )
            objective = objective + (log_probs[0] * advantage * weights[agent, :length, episode]).sum()
        (expected,) = torch.autograd.grad(objective / lengths[agent].sum(), parameters)
        found = whitened(policy, theta, batch, discount, weights, pool="steps")[agent]
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(found, whitened(policy, theta, batch, discount, weights)[agent], rtol=0.1)


def test_weights_of_steps_multiply_to_those_of_episodes():
    policy, batch = CategoricalPolicy(FeedForward((4, 8, 2))), long_batch(2, 6, 3)
    here, there = thetas(policy, 2), thetas(policy, 2, seed=4)
    steps = step_weights(policy, there, here, batch)
    product = steps.double().prod(1)
    torch.testing.assert_close(product, importance_weights(policy, there, here, batch), rtol=1e-5, atol=0)


def test_advantages_by_hand_and_with_a_perfect_critic():
    """Two episodes of three steps and one, the first truncated; gamma 1/2, lambda 1/2."""
    batch = long_batch(1, 3, 2)
    mask = torch.tensor([[[True, True], [True, False], [True, False]]])
    batch = replace(batch, rewards=torch.tensor([[[1.0, 4.0], [2.0, 0.0], [3.0, 0.0]]]), mask=mask)
    batch = replace(batch, terminated=torch.tensor([[False, True]]), count=torch.tensor([2]))
    values = torch.tensor([[[2.0, 1.0], [4.0, 0.0], [6.0, 0.0]]])
    result = advantages(batch, values, torch.tensor([[8.0, 100.0]]), 0.5, 0.5)
    # delta: 1 + 2 - 2, 2 + 3 - 4, 3 + 4 - 6; each then gets a quarter of the next one's advantage.
    torch.testing.assert_close(result, torch.tensor([[[1.3125, 3.0], [1.25, 0.0], [1.0, 0.0]]]))
    perfect = torch.tensor([[[1 + 1 + 0.75 + 1.0, 4.0], [2 + 1.5 + 2.0, 0.0], [3 + 4.0, 0.0]]])
    assert advantages(batch, perfect, torch.tensor([[8.0, 100.0]]), 0.5, 0.9).abs().max() == 0


@pytest.mark.slow
def test_the_change_of_a_gradient_is_unbiased():
    """From 2,000 episodes at points between two policies, each with a point of its own."""
    chain, policy = CHAINS[2], CategoricalPolicy(FeedForward((2, 3, 2)))
    old = 2 * policy.initial(np.random.default_rng(3))
    new = old + 1.5 * policy.initial(np.random.default_rng(8))
    q = torch.from_numpy(np.random.default_rng(4).random((500, 1))).float()
    between, way = q * new + (1 - q) * old, (new - old).expand(500, -1)
    batch, _ = play(chain, policy, between, 4)
    result = gradient_change(policy, between, batch, chain.discount, way)
    truth = chain.gradient(policy, new) - chain.gradient(policy, old)
    assert deviation(result, truth) < ACCEPTED
    assert float(truth.norm()) > 5 * float((result.std(0) / 500**0.5).max())
