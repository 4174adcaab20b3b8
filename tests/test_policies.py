"""Families of policies: their densities, what they draw, and what environments are given."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from byzbench.core import ModulePolicyFamily
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.policies.mlp import Mlp
from byzbench.rl.ensembles import Ensemble
from byzbench.rl.gradients import gpomdp, importance_weights
from byzbench.rl.networks import FeedForward, LookupTable, ModuleNetwork
from byzbench.rl.policies import LOG_STD, LOG_STD_RANGE, CategoricalPolicy, GaussianPolicy, StateGaussianPolicy
from byzbench.rl.rollouts import rollout
from byzbench.rl.teams import Team
from byzbench.testing.policies import CHECKS, PolicyCase

INF = math.inf


def layer_norm(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, outputs))


FAMILIES = {
    "categorical": CategoricalPolicy(FeedForward((4, 8, 3))),
    "linear": CategoricalPolicy(FeedForward((4, 3))),
    "relu": CategoricalPolicy(FeedForward((4, 8, 3), "relu")),
    "embedding": CategoricalPolicy(FeedForward((7, 8, 3), indexed=True)),
    "table": CategoricalPolicy(LookupTable(7, 3)),
    "indexed table": CategoricalPolicy(LookupTable(7, 2, indexed=True), True),
    "module": CategoricalPolicy(ModuleNetwork(layer_norm, 4, 3)),
    "module gaussian": GaussianPolicy(ModuleNetwork(layer_norm, 4, 2), low=(-1.0, -1.0), high=(1.0, 1.0), log_std=-1.0),
    "gaussian": GaussianPolicy(FeedForward((4, 8, 2)), low=(-2.0, 0.0), high=(2.0, 1.0)),
    "squashed": GaussianPolicy(FeedForward((4, 8, 2)), True, low=(-2.0, 0.0), high=(2.0, 1.0)),
    "unbounded": GaussianPolicy(FeedForward((4, 2)), low=(-INF, -INF), high=(INF, INF)),
    "std of the state": StateGaussianPolicy(FeedForward((4, 8, 4)), low=(-2.0, 0.0), high=(2.0, 1.0)),
    "team": Team(CategoricalPolicy(FeedForward((4, 8, 3))), 2),
    "team of gaussians": Team(GaussianPolicy(FeedForward((4, 8, 2)), low=(-1.0, -1.0), high=(1.0, 1.0)), 3),
}


@pytest.fixture(params=FAMILIES)
def policy(request):
    return FAMILIES[request.param]


def act(sampler, t, observations):
    return torch.from_numpy(sampler(t, observations.numpy()))


def thetas(policy, count, seed=0):
    if isinstance(getattr(policy, "network", None), LookupTable):  # which starts at zero
        return torch.randn(count, policy.dimension, generator=torch.Generator().manual_seed(seed))
    return torch.stack([policy.initial(np.random.default_rng([seed, k])) for k in range(count)])


def noise(policy, agents, horizon, rows, seed=1):
    drawn = np.empty((agents, rows, horizon, *policy.action_shape), np.float32)
    for k, out in enumerate(drawn):
        policy.sample_noise(np.random.default_rng([seed, k]), out)
    return torch.from_numpy(drawn).transpose(1, 2)


def observed(policy, *shape, seed=2):
    network = getattr(policy, "network", None)
    if isinstance(network, LookupTable) or getattr(network, "indexed", False):
        states = torch.randint(7, (*shape, 1), generator=torch.Generator().manual_seed(seed))
        return states.float() if network.indexed else torch.eye(7)[states.squeeze(-1)]
    return torch.randn(*shape, policy.observation_size, generator=torch.Generator().manual_seed(seed))


def test_what_is_drawn_has_the_density_that_is_stated(policy):
    """By importance sampling: the mean over draws at one parameter of the ratio of densities at two of them is one."""
    theta, draws = thetas(policy, 1), 100_000
    near = theta + 0.1 * thetas(policy, 1, seed=5)
    observations = observed(policy, 1, 1).expand(1, draws, -1)
    actions = act(policy.sampler(theta, noise(policy, 1, 1, draws)), 0, observations)
    there, here = (policy.log_probabilities(policy.layers(t), observations, actions).double() for t in (near, theta))
    ratio = (there - here).exp()
    assert abs(float(ratio.mean()) - 1) < 4.5 * float(ratio.std()) / draws**0.5
    assert float(ratio.std()) > 1e-3, "the two differ"


def test_actions_have_their_shape_and_type_and_no_row_knows_of_another(policy):
    theta, observations, drawn = thetas(policy, 3), observed(policy, 3, 5), noise(policy, 3, 2, 5)
    actions = act(policy.sampler(theta, drawn), 1, observations)
    assert actions.shape == (3, 5, *policy.action_shape)
    assert actions.dtype == policy.dtype
    assert policy.to_env_actions(actions.numpy()).shape[0] == 15
    for k in range(3):
        alone = act(policy.sampler(theta[k : k + 1], drawn[k : k + 1]), 1, observations[k : k + 1])
        assert torch.equal(alone[0], actions[k])


def test_the_likeliest_action_is_likelier_than_others(policy):
    theta, observations = thetas(policy, 2), observed(policy, 2, 6)
    best = act(policy.sampler(theta, None), 0, observations)
    drawn = act(policy.sampler(theta, noise(policy, 2, 1, 6)), 0, observations)
    layers = policy.layers(theta)
    chances = [policy.log_probabilities(layers, observations, actions) for actions in (best, drawn)]
    assert (chances[0] >= chances[1]).all()
    assert (chances[0] > chances[1]).any()


def test_a_gaussian_has_torchs_density():
    policy = FAMILIES["gaussian"]
    theta, observations = 2 * thetas(policy, 2), observed(policy, 2, 7)
    actions = act(policy.sampler(theta, noise(policy, 2, 1, 7)), 0, observations)
    mean, std = policy.network.outputs(policy.layers(theta)[0], observations), theta[:, -2:].exp().unsqueeze(1)
    expected = torch.distributions.Normal(mean, std).log_prob(actions).sum(-1)
    torch.testing.assert_close(policy.log_probabilities(policy.layers(theta), observations, actions), expected)
    assert torch.equal(thetas(policy, 1)[0, -2:], torch.full((2,), LOG_STD))


def test_a_gaussian_whose_deviation_depends_on_the_state_has_torchs_density():
    policy = FAMILIES["std of the state"]
    theta, observations = 12 * thetas(policy, 2), observed(policy, 2, 7)
    outputs = policy.network.outputs(policy.network.layers(theta), observations)
    std = outputs[..., 2:].clamp(-20, -2).exp().tanh()
    assert len(std.unique()) > 5
    assert std.max() == pytest.approx(0.1345, abs=1e-4)
    actions = act(policy.sampler(theta, noise(policy, 2, 1, 7)), 0, observations)
    normal = torch.distributions.Normal(outputs[..., :2].tanh(), std)
    found = policy.log_probabilities(policy.layers(theta), observations, actions)
    torch.testing.assert_close(found, normal.log_prob(actions).sum(-1), rtol=1e-3, atol=1e-2)
    beyond = policy.log_probabilities(policy.layers(theta), observations, actions + 1e6)
    assert torch.equal(beyond, torch.full((2, 7), -2e5))


def test_what_is_executed_stays_within_the_bounds():
    u = torch.tensor([[-9.0, -9.0], [-1.0, 1.0], [0.0, 0.5], [9.0, 9.0]]).unsqueeze(0)
    clipped = FAMILIES["gaussian"].to_env_actions(u.numpy())
    np.testing.assert_allclose(clipped, [[-2, 0], [-2, 1], [0, 0.75], [2, 1]])
    squashed = FAMILIES["squashed"].to_env_actions(u.numpy())
    np.testing.assert_allclose(squashed, np.tanh(u[0].numpy()) * [2, 0.5] + [0, 0.5], rtol=1e-6)
    assert np.array_equal(FAMILIES["unbounded"].to_env_actions(u.numpy()), u[0].numpy())
    half = GaussianPolicy(FeedForward((4, 2)), low=(0.0, -INF), high=(INF, INF)).to_env_actions(u.numpy())
    np.testing.assert_allclose(half, u[0].numpy().clip(min=[0, -INF]))
    assert clipped.dtype == squashed.dtype == half.dtype == np.float32


@pytest.mark.parametrize("extreme", [-1e30, 1e30])
def test_no_parameter_makes_a_density_infinite(extreme):
    policy = FAMILIES["gaussian"]
    theta = thetas(policy, 1)
    theta[:, -2:] = extreme
    observations = observed(policy, 1, 3)
    actions = act(policy.sampler(theta, noise(policy, 1, 1, 3)), 0, observations)
    assert policy.log_probabilities(policy.layers(theta), observations, actions).isfinite().all()
    low, high = LOG_STD_RANGE
    assert policy.layers(theta)[1].unique() in (torch.tensor([low]), torch.tensor([high]))


def test_a_team_acts_as_its_players_do_one_by_one():
    team = FAMILIES["team of gaussians"]
    theta, observations, drawn = thetas(team, 2), observed(team, 2, 5), noise(team, 2, 1, 5)
    actions = act(team.sampler(theta, drawn), 0, observations)
    total, layers = torch.zeros(2, 5), team.layers(theta)
    for player in range(3):
        part = observations[..., 4 * player : 4 * player + 4]
        own = act(team.player.sampler(theta, drawn[..., player, :]), 0, part)
        torch.testing.assert_close(actions[..., player, :], own)
        total += team.player.log_probabilities(layers, part, own)
    torch.testing.assert_close(team.log_probabilities(layers, observations, actions), total)
    assert team.to_env_actions(actions.numpy()).shape == (10, 3, 2)


class Bandit:
    """One step, paid -(a - 0.7)^2 for the coordinates of an action that lives in -1 .. 1."""

    def __init__(self, rows, size):
        self._shown = np.zeros((rows, size), np.float32)

    def reset(self, generators):
        return self._shown

    def step(self, actions):
        ended = np.ones(len(actions), bool)
        return self._shown, -np.square(actions - 0.7).sum(-1, dtype=np.float32), ended, ~ended


def test_gradients_of_a_gaussian_are_unbiased():
    """The value of N(mu, sigma^2) is -(mu - 0.7)^2 - sigma^2, while what lies beyond the ends is nearly nothing."""
    policy, agents, rows = GaussianPolicy(FeedForward((1, 1)), low=(-INF,), high=(INF,)), 400, 250
    theta = torch.tensor([0.3, -0.2, -1.0])  # of a weight that sees zeros, a bias and a logarithm
    stacked = theta.expand(agents, -1)
    batch = rollout(
        policy,
        stacked,
        Bandit(agents * rows, 1),
        [np.random.default_rng(0)] * agents,
        noise(policy, agents, 1, rows),
        torch.full((agents,), rows),
    )
    gradient = gpomdp(policy, stacked, batch, 0.99).double()
    truth = torch.tensor([0.0, -2 * (-0.2 - 0.7), -2 * math.exp(-2.0)]).double()
    error = gradient.mean(0) - truth
    assert (error.abs() <= 4.5 * gradient.std(0) / agents**0.5 + 1e-12).all()
    elsewhere = stacked + torch.tensor([0.0, 0.05, 0.05])
    weights = importance_weights(policy, elsewhere, stacked, batch)
    moved = gpomdp(policy, elsewhere, batch, 0.99, weights).double()
    truth = torch.tensor([0.0, -2 * (-0.15 - 0.7), -2 * math.exp(-1.9)]).double()
    assert ((moved.mean(0) - truth).abs() <= 4.5 * moved.std(0) / agents**0.5 + 1e-12).all()
    assert not ((moved.mean(0) - error).abs() <= 1e-3).all()


def test_entropy_is_the_mean_surprise(policy):
    theta, draws = thetas(policy, 1), 50_000
    observations = observed(policy, 1, 1).expand(1, draws, -1)
    actions = act(policy.sampler(theta, noise(policy, 1, 1, draws)), 0, observations)
    layers = policy.layers(theta)
    surprise = -policy.log_probabilities(layers, observations, actions).double()
    stated = float(policy.entropy(layers, observations[:, :1]))
    assert abs(float(surprise.mean()) - stated) < 4.5 * float(surprise.std()) / draws**0.5


def cast(*votes):
    """An ensemble of linear policies without weights, which cast these votes in every state."""
    policy = CategoricalPolicy(FeedForward((1, 3)))
    theta = torch.zeros(len(votes), policy.dimension)
    theta[range(len(votes)), [3 + vote for vote in votes]] = 1.0
    return Ensemble(policy, len(votes)), theta.flatten().unsqueeze(0)


def test_an_ensemble_of_copies_is_the_policy(policy):
    theta, observations, drawn = thetas(policy, 2), observed(policy, 2, 5), noise(policy, 2, 1, 5)
    ensemble = Ensemble(policy, 3)
    for noise_or_none in (drawn, None):
        own = act(policy.sampler(theta, noise_or_none), 0, observations)
        together = act(ensemble.sampler(theta.repeat(1, 3), noise_or_none), 0, observations)
        assert together.dtype == policy.dtype
        torch.testing.assert_close(together, own)


def elected(votes):
    counts = [list(votes).count(action) for action in range(3)]
    return counts.index(max(counts))


def test_the_certificate_of_a_vote_is_exact():
    """No so many votes can change the winner, and for one more there are some that do."""
    for votes in itertools.product(range(3), repeat=5):
        ensemble, theta = cast(*votes)
        winner = int(act(ensemble.sampler(theta, None), 0, torch.zeros(1, 1, 1)))
        assert winner == elected(votes)
        certified = int(ensemble.diagnostics(theta, torch.zeros(1, 4, 1))["certificate"])
        for changes, possible in ((certified, False), (certified + 1, True)):
            attacked_parameters = (
                [lie if k in who else vote for k, vote in enumerate(votes)]
                for who in itertools.combinations(range(5), changes)
                for lie in range(3)
            )
            assert any(elected(attacked) != winner for attacked in attacked_parameters) == possible, votes


def test_no_minority_moves_the_geometric_median_beyond_its_certificate():
    policy = GaussianPolicy(FeedForward((1, 2)), low=(-INF, -INF), high=(INF, INF))
    ensemble, draw = Ensemble(policy, 5), torch.Generator().manual_seed(3)
    theta = torch.zeros(1, 5, policy.dimension)
    theta[0, :, 2:4] = torch.randn(5, 2, generator=draw)
    observations = torch.zeros(1, 1, 1)
    stated = ensemble.diagnostics(theta.flatten(1), observations)["certified_distance"]
    before = act(ensemble.sampler(theta.flatten(1), None), 0, observations)
    points = theta[0, :, 2:4].double()
    nudges = 0.01 * torch.randn(200, 2, generator=draw).double()
    sums = (torch.cat([before[0].double(), before[0] + nudges]).unsqueeze(1) - points).norm(dim=2).sum(1)
    assert sums.argmin() == 0
    farthest = 0.0
    for scale in (1.0, 10.0, 1e4):
        attacked = theta.clone()
        attacked[0, :2, 2:4] = scale * torch.randn(1, 2, generator=draw)
        farthest = max(
            farthest, float((act(ensemble.sampler(attacked.flatten(1), None), 0, observations) - before).norm())
        )
    assert stated / 20 < farthest <= stated


def test_an_embedding_is_the_first_layer_on_unit_vectors():
    dense, embedding = FeedForward((7, 8, 3)), FeedForward((7, 8, 3), indexed=True)
    theta = thetas(CategoricalPolicy(dense), 2)
    states = torch.tensor([[[0.0], [6.0], [3.0]], [[1.0], [1.0], [5.0]]])
    units = torch.eye(7)[states.squeeze(-1).long()]
    torch.testing.assert_close(
        embedding.outputs(embedding.layers(theta), states), dense.outputs(dense.layers(theta), units)
    )
    assert embedding.dimension == dense.dimension
    huge = FeedForward((10**6, 2), indexed=True)
    layers = [(torch.ones(1, 10**6, 2), torch.zeros(1, 1, 2))]
    assert huge.outputs(layers, states[:1]).sum() == 6


def test_gradients_are_those_of_finite_differences(policy):
    theta, observations = thetas(policy, 1), observed(policy, 1, 6)
    actions = act(policy.sampler(theta, noise(policy, 1, 1, 6)), 0, observations)

    def total(parameters):
        return policy.log_probabilities(policy.layers(parameters), observations.to(parameters), actions).sum()

    start = theta.double().requires_grad_()
    (gradient,) = torch.autograd.grad(total(start), start)
    step = 1e-6
    for index in torch.randperm(policy.dimension, generator=torch.Generator().manual_seed(0))[:12]:
        shift = torch.zeros_like(start)
        shift[0, index] = step
        with torch.no_grad():
            slope = (total(start + shift) - total(start - shift)) / (2 * step)
        assert abs(float(slope - gradient[0, index])) < 1e-5 * (1 + abs(float(slope)))


def test_every_agents_outputs_are_the_same_alone_and_stacked(policy):
    theta, observations = thetas(policy, 4), observed(policy, 4, 5)
    actions = act(policy.sampler(theta, noise(policy, 4, 1, 5)), 0, observations)
    together = policy.log_probabilities(policy.layers(theta), observations, actions)
    for k in range(4):
        row = slice(k, k + 1)
        alone = policy.log_probabilities(policy.layers(theta[row]), observations[row], actions[row])
        assert torch.equal(alone[0], together[k])


def test_a_modules_parameters_are_in_the_order_of_the_module():
    network = ModuleNetwork(layer_norm, 4, 3)
    module = layer_norm(4, 3)
    assert network.dimension == sum(p.numel() for p in module.parameters())
    theta = thetas(CategoricalPolicy(network), 1)
    torch.nn.utils.vector_to_parameters(theta[0], module.parameters())
    observations = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(network.outputs(network.layers(theta), observations)[0], module(observations[0]))
    critic = network.resized(6, 1)
    assert critic.outputs(critic.layers(torch.zeros(1, 51)), torch.zeros(1, 2, 6)).shape == (1, 2, 1)


class Centred(nn.Linear):
    """A layer whose output for one observation depends on the others."""

    def forward(self, x):
        return super().forward(x - x.mean(0))


def test_a_module_leaves_torchs_generator_alone():
    state = torch.get_rng_state()
    assert ModuleNetwork(layer_norm, 4, 3).dimension
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (
            lambda i, o: nn.BatchNorm1d(i),
            r"module BatchNorm1d has buffers \(running_mean, running_var, num_batches_tracked\)",
        ),
        (lambda i, o: nn.ReLU(), "module ReLU has no parameters"),
        (lambda i, o: nn.Linear(i, o).double(), "module Linear has parameters that are not float32: weight, bias"),
        (lambda i, o: nn.Linear(i + 1, o), r"module Linear fails on observations \[3, 4\]: .*"),
        (lambda i, o: nn.Linear(i, o + 1), r"module Linear maps observations \[3, 4\] to \[3, 3\]; expected \[3, 2\]"),
        (lambda i, o: torch.tanh, "a builtin_function_or_method was returned in place of a torch module"),
        (
            lambda i, o: nn.Sequential(nn.Linear(i, 64), nn.Dropout(), nn.Linear(64, o)),
            "maps equal observations to different outputs",
        ),
        (lambda i, o: Centred(i, o), "module Centred mixes observations: its output for one depends on the others"),
    ],
)
def test_a_module_that_cannot_be_a_policy_is_one_line(factory, reason):
    with pytest.raises(InvalidParameter, match=reason) as error:
        ModuleNetwork(factory, 4, 2)
    assert "\n" not in str(error.value)


@dataclass(frozen=True)
class Custom(ModulePolicyFamily):
    """A family whose module a test passes."""

    make: str = "buffers"

    def module(self, inputs, outputs):
        return {
            "buffers": nn.Sequential(nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs)),
            "wide": nn.Linear(inputs, outputs + 1),
        }[self.make]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Custom(), r"module Sequential has buffers \(0.running_mean, 0.running_var, 0.num_batches_tracked\)"),
        (Custom("wide"), r"module Linear maps observations \[3, 4\] to \[3, 3\]; expected \[3, 2\]"),
        ("tabular", "policy 'tabular' needs a task with discrete observations; use mlp or linear"),
    ],
)
def test_an_experiment_with_a_policy_that_does_not_fit_is_one_line(policy, reason):
    with pytest.raises(InvalidParameter, match=reason) as error:
        Experiment.create(policy=policy)
    assert "\n" not in str(error.value)


def test_squashing_of_discrete_actions_is_said_to_change_nothing():
    notes = Experiment.create(policy="mlp(squash=True)").notes()
    assert "task 'cartpole' has discrete actions: policy.squash changes nothing" in notes
    assert not [
        line for line in Experiment.create(policy="mlp(squash=True)", env="pendulum").notes() if "squash" in line
    ]


def test_orthogonal_layers_have_their_gains():
    network = FeedForward((4, 8, 3), initialization="orthogonal")
    (first, first_bias), (last, last_bias) = network.layers(network.initial(np.random.default_rng(0)).unsqueeze(0))
    torch.testing.assert_close(first[0] @ first[0].T, 2 * torch.eye(4))
    torch.testing.assert_close(last[0].T @ last[0], 1e-4 * torch.eye(3))
    assert not first_bias.any()
    assert not last_bias.any()


@pytest.mark.parametrize("check", CHECKS)
def test_a_deviation_of_the_state_conforms(check):
    check(Mlp(hidden=(8,), std="state"), PolicyCase("pendulum"))
