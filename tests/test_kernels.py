"""Compiled kernels: they agree with torch and NumPy, and their rows are independent."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch

from byzbench.rl import gradients, kernels, ppo
from byzbench.rl.forms import LANES, form_of
from byzbench.rl.gradients import (
    differentiated_scores,
    importance_weights,
    log_likelihood,
    score_gradient,
    step_log_probabilities,
    step_weights,
)
from byzbench.rl.kernels import FEW
from byzbench.rl.networks import FeedForward, LookupTable
from byzbench.rl.optimizers import adam_start
from byzbench.rl.policies import CategoricalPolicy, GaussianPolicy
from byzbench.rl.rollouts import Trajectories, rollout
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.rl.teams import Team

INF = math.inf


def gaussian(network, squashed=False, low=-2.0, high=1.0):
    bounds = ((bound,) * network.num_outputs for bound in (low, high))
    return GaussianPolicy(network, squashed, *bounds)


POLICIES = {
    "categorical without hidden layers": CategoricalPolicy(FeedForward((4, 3))),
    "categorical, tanh": CategoricalPolicy(FeedForward((3, 17, 2))),
    "categorical, relu": CategoricalPolicy(FeedForward((1, 33, 5, 7), "relu")),
    "categorical, one unit": CategoricalPolicy(FeedForward((4, 5, 1, 17, 3))),
    "categorical, squashed": CategoricalPolicy(FeedForward((5, 17, 7)), True),
    "categorical, indexed": CategoricalPolicy(FeedForward((7, 5, 3), indexed=True)),
    "categorical, indexed, without hidden layers": CategoricalPolicy(FeedForward((7, 2), "relu", True)),
    "table of unit vectors": CategoricalPolicy(LookupTable(7, 3)),
    "table of indices, squashed": CategoricalPolicy(LookupTable(7, 2, indexed=True), True),
    "gaussian without hidden layers": gaussian(FeedForward((4, 3))),
    "gaussian, tanh, unbounded": gaussian(FeedForward((3, 33, 1)), low=-INF, high=INF),
    "gaussian, relu, half-bounded": gaussian(FeedForward((2, 17, 5, 17, 3), "relu"), low=-1.0, high=INF),
    "gaussian, squashed": gaussian(FeedForward((3, 5, 17, 3)), True),
    "gaussian, squashed, half-bounded": gaussian(FeedForward((3, 5, 1)), True, low=-INF, high=1.0),
    "gaussian, indexed": gaussian(FeedForward((7, 5, 3), indexed=True)),
    "gaussian table": gaussian(LookupTable(7, 1)),
    "team of one": Team(CategoricalPolicy(FeedForward((4, 5, 3))), 1),
    "team of two": Team(CategoricalPolicy(FeedForward((3, 17, 7), "relu"), True), 2),
    "team of three": Team(CategoricalPolicy(FeedForward((7, 5, 2), indexed=True)), 3),
    "team of tables": Team(CategoricalPolicy(LookupTable(7, 3)), 2),
    "gaussian team of one": Team(gaussian(FeedForward((4, 5, 1))), 1),
    "gaussian team of two": Team(gaussian(FeedForward((2, 17, 3)), True), 2),
    "gaussian team of three": Team(gaussian(FeedForward((1, 5, 3), "relu"), low=-INF, high=INF), 3),
}


@pytest.fixture(params=POLICIES)
def policy(request):
    policy = POLICIES[request.param]
    assert form_of(policy) is not None, "otherwise torch is compared to itself"
    return policy


def player_of(policy):
    return policy.player if isinstance(policy, Team) else policy


def thetas(policy, count, seed=0):
    """Draw parameters, of which a few have a log std that is clamped: float32 [count, d]."""
    rng = np.random.default_rng([seed, policy.dimension])
    theta = rng.standard_normal((count, policy.dimension)).astype(np.float32)
    player = player_of(policy)
    if isinstance(player, GaussianPolicy):
        outputs = player.network.num_outputs
        theta[:, -outputs:] = rng.choice([-0.7, 0.0, 0.4, 2.5, -5.5], (count, outputs), p=[0.3, 0.3, 0.3, 0.05, 0.05])
    return torch.from_numpy(theta)


def observations_of(policy, shape, rng):
    network, players = player_of(policy).network, getattr(policy, "players", 1)
    if not (isinstance(network, LookupTable) or network.indexed):
        return rng.standard_normal((*shape, policy.observation_size)).astype(np.float32)
    states = rng.integers(7, size=(*shape, players))
    indexed = network.observation_size == 1
    return states.astype(np.float32) if indexed else np.eye(7, dtype=np.float32)[states].reshape(*shape, -1)


def batch_of(policy, lengths, seed=0):
    """Draw a batch whose episode n of agent k has lengths[k][n] steps; masked steps hold zeros."""
    rng = np.random.default_rng(seed)
    rows = max(1, *(len(own) for own in lengths))
    ends = np.array([[*own, *[0] * (rows - len(own))] for own in lengths])
    mask = np.arange(max(1, ends.max()))[:, None] < ends[:, None]
    observations, player = observations_of(policy, mask.shape, rng), player_of(policy)
    shape = (*mask.shape, *policy.action_shape)
    if isinstance(player, GaussianPolicy):
        actions = rng.standard_normal(shape).astype(np.float32)
    else:
        actions = rng.integers(player.network.num_outputs, size=shape)
    arrays = {
        "observations": observations * mask[..., None],
        "actions": actions * mask.reshape(*mask.shape, *[1] * len(policy.action_shape)),
        "rewards": rng.standard_normal(mask.shape).astype(np.float32) * mask,
        "mask": mask,
        "terminated": np.ones(ends.shape, bool),
        "count": np.array([len(own) for own in lengths]),
        "final_observations": np.zeros((*ends.shape, policy.observation_size), np.float32),
    }
    return Trajectories(**{name: torch.from_numpy(array) for name, array in arrays.items()})


RAGGED = [[5, 1, 12], [], [1], [40, 33, 20, 40, 39, 7, 38, 40, 22, 31]]
"""The lengths of episodes: of agents without one, with a single step, and with several blocks of a kernel."""


def in_float64(batch):
    """Return the batch in the precision in which torch's results are the reference."""
    values = {name: value.double() if value.is_floating_point() else value for name, value in vars(batch).items()}
    return Trajectories(**values)


def reference_log_probabilities(policy, theta, batch):
    """Return log pi(a | s) of every step in float64 by torch, zero where masked: [K, T, N]."""
    flat = (value.flatten(1, 2) for value in (in_float64(batch).observations, in_float64(batch).actions))
    return policy.log_probabilities(policy.layers(theta.double()), *flat).view(batch.mask.shape) * batch.mask


def assert_close(result, reference):
    """Compare to a relative 1e-5 of the largest number of each row."""
    scale = reference.flatten(1).abs().amax(1).clamp(min=1e-6)
    error = (result - reference).flatten(1).abs().amax(1) / scale
    assert float(error.max()) < 1e-5, error


@pytest.mark.parametrize("seed", range(3))
def test_score_gradients_are_those_of_automatic_differentiation(policy, seed):
    theta, batch = thetas(policy, len(RAGGED), seed), batch_of(policy, RAGGED, seed)
    result = score_gradient(policy, theta, batch, batch.rewards) * batch.count.clamp(min=1).unsqueeze(1)
    reference = differentiated_scores(policy, theta.double(), in_float64(batch), batch.rewards.double())
    assert_close(result, reference)
    assert not result[1].any()
    assert result[[0, 2, 3]].any(1).all()


@pytest.mark.parametrize("seed", range(2))
def test_log_probabilities_are_those_of_torch(policy, seed):
    theta, batch = thetas(policy, len(RAGGED), seed), batch_of(policy, RAGGED, seed)
    reference = reference_log_probabilities(policy, theta, batch)
    assert_close(step_log_probabilities(policy, theta, batch), reference)
    assert_close(log_likelihood(policy, theta, batch), reference.sum(1))


def test_importance_weights_are_those_of_torch(policy):
    theta, batch = 0.3 * thetas(policy, len(RAGGED)), batch_of(policy, RAGGED)
    if isinstance(player_of(policy), GaussianPolicy):
        theta[:, -player_of(policy).network.num_outputs :] = 0.0
    other = theta + 0.02 * torch.randn(theta.shape, generator=torch.Generator().manual_seed(0))
    log_probs, others = (reference_log_probabilities(policy, parameters, batch) for parameters in (theta, other))
    ratio = others - log_probs
    assert ratio.abs().max() > 0.01
    assert_close(step_weights(policy, other, theta, batch), ratio.exp() * batch.mask)
    assert_close(importance_weights(policy, other, theta, batch), ratio.sum(1).exp())


def test_logits_far_apart_have_finite_log_probabilities():
    policy = CategoricalPolicy(FeedForward((1, 3)))
    theta = torch.tensor([[0.0, 0.0, 0.0, 200.0, 0.0, -200.0]])
    batch = replace(batch_of(policy, [[1, 1, 1]]), actions=torch.tensor([[[0, 1, 2]]]))
    torch.testing.assert_close(step_log_probabilities(policy, theta, batch), torch.tensor([[[0.0, -200.0, -400.0]]]))
    gradient = score_gradient(policy, theta, batch, torch.ones(1, 1, 3))
    torch.testing.assert_close(gradient[:, 3:], torch.tensor([[-2.0, 1.0, 1.0]]) / 3)


def results(policy, theta, batch):
    """Return all that kernels compute from a batch: gradients [K, d] and log-probabilities [K, T, N]."""
    return score_gradient(policy, theta, batch, batch.rewards), step_log_probabilities(policy, theta, batch)


def test_agents_are_independent_and_padding_changes_nothing(policy):
    theta, batch = thetas(policy, len(RAGGED)), batch_of(policy, RAGGED)
    batch.observations[~batch.mask] = math.nan
    gradients, log_probs = results(policy, theta, batch)
    for k, lengths in enumerate(RAGGED):
        steps, rows = max([1, *lengths]), max(1, len(lengths))
        alone = batch.agent(k)
        names = ("observations", "actions", "rewards", "mask")
        unpadded = replace(alone, **{name: getattr(alone, name)[:, :steps, :rows] for name in names})
        for own in (alone, unpadded):
            gradient, own_log_probs = results(policy, theta[k : k + 1], own)
            assert torch.equal(gradient[0], gradients[k])
            assert torch.equal(own_log_probs[0], log_probs[k, : own.mask.shape[1], : own.mask.shape[2]])


def test_gradients_come_with_log_probabilities(policy):
    theta, batch = thetas(policy, len(RAGGED)), batch_of(policy, RAGGED)
    expected = step_log_probabilities(policy, theta, batch)
    log_probs, differentiated = torch.zeros(2, *expected.shape)
    gradient = score_gradient(policy, theta, batch, batch.rewards, log_probs)
    assert torch.equal(gradient, score_gradient(policy, theta, batch, batch.rewards))
    assert torch.equal(log_probs, expected)
    differentiated_scores(policy, theta, batch, batch.rewards, differentiated)
    assert_close(differentiated, expected)


NETWORKS = ["categorical, relu", "gaussian, tanh, unbounded", "team of two", "gaussian, squashed"]


@pytest.mark.parametrize("name", NETWORKS)
def test_numbers_that_are_not_finite_stay_in_their_row(name):
    policy = POLICIES[name]
    theta, batch = thetas(policy, 5), batch_of(policy, [[3], [40] * 7, [3], [40], [3]])
    expected = score_gradient(policy, theta, batch, batch.rewards)
    assert expected.isfinite().all()
    theta[1, 0], theta[3, -1] = math.nan, math.inf
    gradients = score_gradient(policy, theta, batch, batch.rewards)
    assert gradients[[1, 3]].isnan().all()
    assert torch.equal(gradients[::2], expected[::2])
    batch.observations[1], batch.rewards[3] = math.inf, math.nan
    assert torch.equal(score_gradient(policy, theta, batch, batch.rewards)[::2], expected[::2])


@pytest.mark.parametrize("state, action", [(7.0, 0), (-1.0, 0), (math.nan, 0), (0.0, 2), (0.0, -1)])
def test_an_index_outside_of_the_policy_is_an_error(state, action):
    """Kernels would write outside of their arrays."""
    policy = CategoricalPolicy(LookupTable(7, 2, indexed=True))
    theta, batch = thetas(policy, 1), batch_of(policy, [[3]])
    batch.observations[0, 1], batch.actions[0, 1] = state, action
    with pytest.raises(IndexError, match="a trajectory has the"):
        score_gradient(policy, theta, batch, batch.rewards)
    with pytest.raises(IndexError, match="a trajectory has the"):
        step_log_probabilities(policy, theta, batch)


def _start(rng, count):
    """Draw states: three numbers, an index from 0 to 6, and the largest number of steps that are left."""
    return np.floor(rng.random((count, 5)) * [2e3, 2e3, 2e3, 7, 60]) * [1e-3, 1e-3, 1e-3, 1, 1] - [1, 1, 1, 0, -1]


def _step(state, action, constants):
    push = 0.0
    for i in range(len(action)):
        push += constants[0] * action[i] / (i + 1)
    state[0], state[1] = 0.8 * state[0] + 0.1 * math.sin(push), 0.7 * state[1] - 0.2 * state[0]
    state[2] = 0.9 * state[2] + 0.1 * math.cos(push + state[1])
    state[3] = (3 * state[3] + 1) % 7
    state[4] -= 1
    return state[0] + push, state[4] <= 0 or state[0] > 0.9


def _show_numbers(state, out):
    for i in range(len(out)):
        out[i] = state[i % 3] * (1 + i)


def _show_indices(state, out):
    for i in range(len(out)):
        out[i] = (state[3] + i) % 7


def _show_units(state, out):
    for i in range(len(out)):
        out[i] = 1.0 if (state[3] + i // 7) % 7 == i % 7 else 0.0


COUNT = torch.tensor([3, 0, LANES, 40])
HORIZON = 30


def environments_of(policy, agents, rows, horizon=HORIZON):
    network = player_of(policy).network
    show = _show_numbers
    if isinstance(network, LookupTable) or network.indexed:
        show = _show_indices if network.observation_size == 1 else _show_units
    sizes = {"size": policy.observation_size, "action_size": math.prod(policy.action_shape)}
    simulation = Simulation(_start, _step, show, constants={"force": 0.5}, **sizes)
    environments = Simulated(simulation, agents, rows, horizon)
    environments.scale_dynamics({"force": np.linspace(1, 2, agents)})
    return environments


def noise_of(policy, agents, horizon, rows):
    noise = np.empty((agents, rows, horizon, *policy.action_shape), np.float32)
    for k, out in enumerate(noise):
        policy.sample_noise(np.random.default_rng([7, k]), out)
    return torch.from_numpy(noise).transpose(1, 2)


def play(policy, theta, noise, count, **options):
    agents, horizon, rows = noise.shape[:3]
    starts = [np.random.default_rng([5, k]) for k in range(agents)]
    return rollout(policy, theta, environments_of(policy, agents, rows, horizon), starts, noise, count, **options)


STEP_BY_STEP = SimpleNamespace(observe=lambda t, observations: None, act=None)
"""Hooks that change nothing, with which `rollout` calls the sampler of the policy at every step."""


@pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
def test_rollouts_are_those_step_by_step(policy, greedy):
    theta, noise = 0.5 * thetas(policy, len(COUNT)), noise_of(policy, len(COUNT), HORIZON, 40)
    batch = play(policy, theta, noise, COUNT, greedy=greedy)
    reference = play(policy, theta, noise, COUNT, greedy=greedy, hooks=STEP_BY_STEP)
    for name in ("mask", "terminated", "count"):
        assert torch.equal(getattr(batch, name), getattr(reference, name)), name
    assert batch.mask[3].sum() > 256
    assert batch.terminated[3].any()
    assert not batch.terminated[3].all()
    valid = batch.mask
    for name in ("observations", "actions", "rewards"):
        ours, theirs = getattr(batch, name), getattr(reference, name)
        torch.testing.assert_close(ours[valid], theirs[valid], rtol=1e-5, atol=1e-4)
        assert not ours[~valid].any(), name
    torch.testing.assert_close(batch.final_observations, reference.final_observations, rtol=1e-5, atol=1e-4)


def test_few_episodes_are_the_first_of_many(policy):
    theta, noise = 0.5 * thetas(policy, 1), noise_of(policy, 1, HORIZON, 40)
    many = play(policy, theta, noise, torch.tensor([40]))
    for count in (1, FEW, FEW + 1):
        few = play(policy, theta, noise, torch.tensor([count]))
        steps = few.mask.shape[1]
        for name in ("observations", "actions", "rewards", "mask"):
            ours, theirs = getattr(few, name)[:, :, :count], getattr(many, name)[:, :steps, :count]
            assert torch.equal(ours, theirs), name


def test_rollouts_are_independent_and_padding_changes_nothing(policy):
    theta, noise = 0.5 * thetas(policy, len(COUNT)), noise_of(policy, len(COUNT), HORIZON, 40)
    batch = play(policy, theta, noise, COUNT)
    for k, count in enumerate(COUNT.tolist()):
        rows, agent = max(count, 1), slice(k, k + 1)
        alone = environments_of(policy, 1, rows)
        alone.scale_dynamics({"force": np.linspace(1, 2, len(COUNT))[agent]})
        starts = [np.random.default_rng([5, k])]
        own = rollout(policy, theta[agent], alone, starts, noise[agent, :, :rows], COUNT[agent])
        steps = own.mask.shape[1]
        for name in ("observations", "actions", "rewards", "mask"):
            assert torch.equal(getattr(own, name)[0], getattr(batch, name)[k, :steps, :rows]), name
        assert not batch.mask[k, steps:].any()
        for name in ("terminated", "final_observations"):
            assert torch.equal(getattr(own, name)[0], getattr(batch, name)[k, :rows]), name


@pytest.mark.parametrize("greedy", [False, True], ids=["sampled", "greedy"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_actions_of_any_parameters_are_valid(policy, value, greedy):
    player, theta = player_of(policy), thetas(policy, 2)
    theta[0] = value
    noise = noise_of(policy, 2, 4, 3)
    batch = play(policy, theta, noise, torch.tensor([3, 3]), greedy=greedy)
    if isinstance(player, CategoricalPolicy):
        assert batch.actions.min() >= 0
        assert batch.actions.max() < player.network.num_outputs
    alone = play(policy, theta, noise, torch.tensor([0, 3]), greedy=greedy)
    assert torch.equal(batch.actions[1], alone.actions[1])


FUNCTIONS = {
    "exp": (kernels.exp, np.exp, np.concatenate([np.linspace(-87, 88, 100_001), [0.0, 1e-30, -1e-8]])),
    "log": (kernels.log, np.log, np.concatenate([np.geomspace(1.2e-38, 3.4e38, 100_001), np.linspace(0.9, 1.1, 999)])),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_exponentials_and_logarithms_are_those_of_numpy(name):
    function, reference, x = FUNCTIONS[name]
    result = x.astype(np.float32)
    expected = reference(result.astype(float))
    numba.njit(lambda x: function(x, len(x)))(result)
    scale = expected if name == "exp" else np.maximum(1, np.abs(expected))
    assert np.abs((result - expected) / scale).max() < 2e-7


def test_exponentials_of_small_numbers_and_of_nan_are_positive_and_small():
    x = np.array([-87.5, -1e30, -math.inf, math.nan], np.float32)
    numba.njit(lambda x: kernels.exp(x, len(x)))(x)
    assert np.allclose(x, math.exp(-87), rtol=1e-6, atol=0)


def test_hyperbolic_tangents_are_those_of_numpy():
    special = [0.0, 1e-30, -1e-8, 9.0, -9.0, 1e30, math.inf, -math.inf]
    x = np.concatenate([np.linspace(-12, 12, 6250 * LANES - len(special)), special]).astype(np.float32)
    result = x.copy()
    numba.njit(lambda x: kernels.tanh(x, 0, len(x) // LANES, False))(result)
    assert np.abs(result - np.tanh(x.astype(float))).max() < 3e-7
    assert np.abs(result).max() <= 1
    narrow = x.copy()
    numba.njit(lambda x: kernels.tanh(x, 0, len(x) // LANES, True))(narrow)
    assert np.array_equal(narrow.reshape(-1, LANES)[:, :FEW], result.reshape(-1, LANES)[:, :FEW])
    assert np.array_equal(narrow.reshape(-1, LANES)[:, FEW:], x.reshape(-1, LANES)[:, FEW:])


PPO = [
    "categorical, relu",
    "categorical, squashed",
    "categorical, indexed",
    "table of unit vectors",
    "gaussian, tanh, unbounded",
    "gaussian, squashed",
    "team of two",
    "gaussian team of two",
]


def updates(policy, w, batch, **options):
    """Return the parameters after a local update, and Adam's first moments."""
    parameters = {"epochs": 1, "minibatch_size": 1000, "clip": 0.2, "discount": 0.99, "gae_lambda": 0.95}
    parameters |= {"return_scale": 3.0, "vf_coef": 0.5, "ent_coef": 0.02, "max_grad_norm": 0.5}
    local = ppo.LocalPpo(policy, **parameters | options)
    after, moments = local.update(w, batch, adam_start(w), 1e-3, range(len(w)))
    return after, moments["m"]


def ppo_case(name, lengths=RAGGED):
    policy = POLICIES[name]
    critic, count = policy.critic(), len(lengths)
    rng = np.random.default_rng(3)
    phi = torch.from_numpy(rng.standard_normal((count, critic.dimension)).astype(np.float32))
    theta = thetas(policy, count)
    if isinstance(player := player_of(policy), GaussianPolicy):
        # The ratio of two densities with a small standard deviation has hardly a correct digit in float32.
        theta[:, -player.network.num_outputs :] = torch.tensor([-0.7, 0.4, 2.5, 0.0])[:, None]
    return policy, torch.cat([theta, phi], 1), batch_of(policy, lengths)


@pytest.mark.parametrize("options", [{}, {"epochs": 3, "minibatch_size": 50}], ids=["one step", "many"])
@pytest.mark.parametrize("name", PPO)
def test_local_updates_are_those_of_automatic_differentiation(name, options, monkeypatch):
    policy, w, batch = ppo_case(name)
    after, moments = updates(policy, w, batch, **options)
    for module in (ppo, gradients):
        monkeypatch.setattr(module, "form_of", lambda policy: None)
    reference, reference_moments = updates(policy, w, batch, **options)
    assert float((reference - w).abs().max()) > 5e-4, "nothing moves"
    torch.testing.assert_close(moments, reference_moments, rtol=1e-3, atol=2e-6)
    # Adam divides a gradient by its size, so the sign of one that is almost zero decides a whole step.
    assert float(((after - reference).abs() > 1e-4).float().mean()) < 0.02


def test_local_updates_of_agents_are_independent():
    policy, w, batch = ppo_case("categorical, relu")
    after, _ = updates(policy, w, batch, epochs=2, minibatch_size=50)
    assert torch.equal(after[1], w[1]), "an agent without a step does not move"
    alone = ppo.LocalPpo(policy, 2, 50, 0.2, 0.99, 0.95, 3.0, 0.5, 0.02, 0.5)
    for k in range(len(w)):
        one, _ = alone.update(w[k : k + 1], batch.agent(k), adam_start(w[k : k + 1]), 1e-3, [k])
        assert torch.equal(one[0], after[k])


def digest_of_kernels():
    """Return a digest of a rollout, its gradient and an update."""
    digest = hashlib.sha256()
    for name in ("categorical, tanh", "gaussian, squashed"):
        policy, w, batch = ppo_case(name)
        theta = thetas(policy, 3)
        episodes = play(policy, theta, noise_of(policy, 3, HORIZON, 20), torch.full((3,), 20))
        parts = [episodes.observations, episodes.actions, updates(policy, w, batch)[0]]
        parts.append(score_gradient(policy, w[:, : policy.dimension], batch, batch.rewards))
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("cpu, features", [("generic", ""), ("haswell", "+avx,+avx2,+fma")])
def test_kernels_are_equal_with_other_instructions(cpu, features, tmp_path):
    """SSE2 alone, and AVX2 with fused products, against those of this processor."""
    variables = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    code = "import test_kernels; print(test_kernels.digest_of_kernels())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | variables | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.stdout.strip() == digest_of_kernels(), done.stderr
