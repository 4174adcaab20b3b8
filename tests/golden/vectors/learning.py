"""Learning: policies, gradients, advantages, optimizers, ensembles, teams and simulations on fixed inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from byzbench.rl import advantages, gradients, optimizers, scales
from byzbench.rl.ensembles import Ensemble, geometric_median
from byzbench.rl.networks import FeedForward
from byzbench.rl.policies import Actor, CategoricalPolicy, GaussianPolicy, NetworkPolicy, Policy
from byzbench.rl.rollouts import Trajectories, rollout
from byzbench.rl.simulations import Simulated, Simulation
from byzbench.rl.teams import Team
from tests.golden.parts import Cases, Inputs
from tests.golden.summaries import summary

INFINITE = float("inf")


def policies() -> dict[str, Policy]:
    """Return policies of all families."""
    return {
        "two actions": CategoricalPolicy(FeedForward((3, 4, 2))),
        "four actions": CategoricalPolicy(FeedForward((3, 18, 5, 4))),
        "linear": CategoricalPolicy(FeedForward((3, 3))),
        "squashed logits": CategoricalPolicy(FeedForward((3, 4, 2)), True),
        "one action": CategoricalPolicy(FeedForward((3, 4, 1))),
        "Gaussian": GaussianPolicy(FeedForward((3, 4, 2)), False, (-1.0, 0.0), (1.0, 3.0)),
        "squashed Gaussian": GaussianPolicy(FeedForward((3, 4, 2)), True, (-2.0, -2.0), (2.0, 2.0)),
        "half bounded": GaussianPolicy(FeedForward((3, 4, 2)), False, (-1.0, -INFINITE), (1.0, 0.5)),
        "one coordinate": GaussianPolicy(FeedForward((3, 1)), True, (-3.0,), (3.0,)),
        "team": Team(CategoricalPolicy(FeedForward((2, 3, 3))), 2),
        "Gaussian team": Team(GaussianPolicy(FeedForward((2, 3, 1)), False, (-1.0,), (1.0,)), 2),
    }


def hidden_sizes(policy: Policy) -> tuple[int, ...]:
    """Return the widths of the hidden layers of a policy's network."""
    player = policy.player if isinstance(policy, Team) else policy
    assert isinstance(player, NetworkPolicy)
    assert isinstance(player.network, FeedForward)
    return player.network.sizes[1:-1]


def parameters(policy: Actor, agents: int = 3) -> Tensor:
    """Return parameters [K, d] that differ between agents."""
    rng = np.random.default_rng(policy.dimension)
    return torch.from_numpy(rng.standard_normal((agents, policy.dimension))).float()


def batch(policy: Policy, agents: int = 3, steps: int = 9, rows: int = 4) -> Trajectories:
    """Return episodes of unequal length and number, some of them truncated."""
    rng = np.random.default_rng([policy.dimension, steps])
    shape = (agents, steps, rows)
    observations = torch.from_numpy(rng.standard_normal((*shape, policy.observation_size))).float()
    if policy.dtype.is_floating_point:
        actions = torch.from_numpy(rng.standard_normal((*shape, *policy.action_shape))).float()
    else:
        player = policy.player if isinstance(policy, Team) else policy
        assert isinstance(player, CategoricalPolicy)
        actions = torch.from_numpy(rng.integers(player.network.num_outputs, size=(*shape, *policy.action_shape)))
    count = torch.tensor([rows, rows - 1, 1])[:agents]
    length = torch.from_numpy(rng.integers(1, steps + 1, (agents, 1, rows)))
    mask = (torch.arange(steps).view(1, -1, 1) < length) & (torch.arange(rows) < count.view(-1, 1, 1))
    rewards = torch.from_numpy(rng.standard_normal(shape)).float() * mask
    ended = torch.from_numpy(rng.random((agents, rows)) < 0.5)
    final_observations = torch.from_numpy(rng.standard_normal((agents, rows, policy.observation_size))).float()
    return Trajectories(observations, actions, rewards, mask, ended, count, final_observations)


def families() -> dict[str, Any]:
    """Return initial parameters, probabilities, entropies and actions."""
    results: dict[str, Any] = {}
    for label, policy in policies().items():
        theta, episodes = parameters(policy), batch(policy)
        observations, actions = episodes.observations.flatten(1, 2), episodes.actions.flatten(1, 2)
        layers = policy.layers(theta)
        results[label] = summary(
            {
                "facts": [policy.dimension, policy.observation_size, *policy.action_shape, *hidden_sizes(policy)],
                "initial": policy.initial(np.random.default_rng(1)),
                "log": policy.log_probabilities(layers, observations, actions),
                "entropy": policy.entropy(layers, observations),
                "acts": _acts(policy, theta, observations),
            }
        )
    network = FeedForward((3, 5, 1))
    theta = parameters(policies()["two actions"])[:, :26].repeat(1, 2)[:, : network.dimension]
    results["network"] = summary(network.outputs(network.layers(theta), torch.linspace(-1, 1, 18).view(3, 2, 3)))
    return results


def _acts(actor: Actor, theta: Tensor, observations: Tensor) -> list[Any]:
    """Return drawn, likeliest and executed actions at more steps than noise is prepared for at a time."""
    noise = np.empty((len(theta), 5, 70, *actor.action_shape), np.float32)
    for agent, out in enumerate(noise):
        actor.sample_noise(np.random.default_rng(agent), out)
    drawn = torch.from_numpy(noise).transpose(1, 2)
    sample, likeliest = actor.sampler(theta, drawn), actor.sampler(theta, None)
    with torch.inference_mode():
        chosen = [sample(t, observations[:, t % 4 : t % 4 + 5].numpy().copy()) for t in (0, 1, 63, 64, 69, 2)]
        greedy = likeliest(0, observations[:, :5].numpy().copy())
    return [
        np.stack(chosen),
        greedy,
        actor.to_env_actions(3 * chosen[0] if actor.dtype.is_floating_point else chosen[0]),
    ]


def estimators() -> dict[str, Any]:
    """Return gradients, likelihoods and importance weights."""
    results: dict[str, Any] = {}
    for label in ("two actions", "squashed logits", "four actions", "Gaussian", "team"):
        policy = policies()[label]
        episodes, here = batch(policy), parameters(policy)
        there = here + 0.3 * here.flip(1)
        weights = torch.from_numpy(np.random.default_rng(4).uniform(0.5, 2, (3, 4)))
        by_step = torch.from_numpy(np.random.default_rng(5).uniform(0.5, 2, (3, 9, 4)))
        results[label] = summary(
            {
                "likelihood": gradients.log_likelihood(policy, here, episodes),
                "steps": gradients.step_weights(policy, there, here, episodes),
                "importance": gradients.importance_weights(policy, there, here, episodes),
                "product": gradients.product_weights(policy, there, here, episodes),
                "gpomdp": gradients.gpomdp(policy, here, episodes, 0.9),
                "weighted": gradients.gpomdp(policy, here, episodes, 0.9, weights, baseline=True),
                "whitened": gradients.whitened(policy, here, episodes, 0.9),
                "whitened, weighted": gradients.whitened(policy, here, episodes, 0.8, weights),
                "whitened by step": gradients.whitened(policy, here, episodes, 0.8, by_step),
                "change": gradients.gradient_change(policy, here, episodes, 0.95, there - here),
            }
        )
        pooled = gradients.whitened(policy, here, episodes, 0.8, weights, pool="steps")
        results[f"{label} pooled"] = summary(pooled)
        far = gradients.importance_weights(policy, 40 * here, -40 * here, episodes)
        results[f"{label} far"] = summary([far, gradients.step_weights(policy, 90 * here, -90 * here, episodes)])
    episodes = batch(policies()["two actions"])
    results["to go"] = summary([gradients.reward_to_go(episodes.rewards, discount) for discount in (1.0, 0.5)])
    rng = np.random.default_rng(6)
    values, final_observations = (torch.from_numpy(rng.standard_normal(shape)).float() for shape in ((3, 9, 4), (3, 4)))
    for discount, trace in ((0.9, 0.8), (1.0, 0.0), (0.5, 1.0)):
        advantage = advantages.advantages(episodes, values, final_observations, discount, trace)
        results[f"advantages {discount} {trace}"] = summary(advantage)
    long = batch(policies()["linear"], agents=1, steps=2100, rows=4)
    results["long"] = summary(gradients.gpomdp(policies()["linear"], parameters(policies()["linear"], 1), long, 0.999))
    parts = [episodes.part(slice(1, 3)), episodes.agent(1), episodes.select(torch.tensor([True, False, True]))]
    results["parts"] = summary([[part.returns, part.steps, part.count, part.observations] for part in parts])
    return results


def steps() -> dict[str, Any]:
    """Return steps of optimizers, and observations in units of their scales."""
    rng = np.random.default_rng(7)
    theta = torch.from_numpy(rng.standard_normal((2, 5))).float()
    state, results = optimizers.adam_start(theta), dict[str, Any]()
    for turn in range(3):
        theta, state = optimizers.adam(theta, torch.from_numpy(rng.standard_normal((2, 5))).float(), state, 0.1)
        results[f"adam {turn}"] = summary([theta, state])
    for schedule in ("constant", "linear", "inverse_sqrt"):
        rates = [
            optimizers.learning_rate(0.3, schedule, round, progress)
            for round, progress in ((0, 0.0), (3, 0.4), (8, 1.2))
        ]
        results[schedule] = rates
    episodes = batch(policies()["two actions"])
    measured = scales.scales_of(episodes)
    rows = episodes.observations.flatten(0, 2).numpy()
    results["scales"] = summary([measured, scales.in_units(rows, measured)])
    wild = measured.clone()
    wild[:, 3:] = torch.tensor([[-60.0, 0.0, 60.0]])
    results["wild scales"] = summary(scales.in_units(rows, wild))
    still = replace(episodes, observations=torch.ones_like(episodes.observations))
    results["still"] = summary(scales.scales_of(still))
    return results


def ensembles() -> dict[str, Any]:
    """Return votes, medians and certificates of ensembles."""
    results: dict[str, Any] = {}
    for label, size in (("two actions", 4), ("four actions", 5), ("Gaussian", 5), ("one coordinate", 4)):
        ensemble = Ensemble(policies()[label], size)
        theta = parameters(ensemble, 2)
        observations = torch.from_numpy(np.random.default_rng(8).standard_normal((2, 12, 3))).float()
        remarks = {name: float(f"{value:.9g}") for name, value in ensemble.diagnostics(theta, observations).items()}
        results[label] = summary([_acts(ensemble, theta, observations), remarks, ensemble.dimension])
    cloud = torch.from_numpy(np.random.default_rng(9).standard_normal((5, 3, 2)))
    cloud[1] = cloud[0]
    results["median"] = summary(
        [geometric_median(cloud), geometric_median(cloud[..., :1]), geometric_median(cloud[:4])]
    )
    return results


def _start(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.uniform(-1, 1, (count, 2))


def _step(state: np.ndarray, action: np.ndarray, constants: np.ndarray) -> tuple[float, bool]:
    state[0] += 0.1 * state[1] + 0.05 * (action[0] - 1)
    state[1] -= constants[0] * state[0]
    return state[0] - constants[1], abs(state[0]) > 1.2


def _show(state: np.ndarray, out: np.ndarray) -> None:
    out[0], out[1], out[2] = state[0], state[1], state[0] * state[1]


SPRING = Simulation(_start, _step, _show, 3, {"stiffness": 0.2, "rest": 0.1})


class _Shift:
    """Shifts the observations of the first agent, and changes the actions of the second."""

    def observe(self, t: int, observations: np.ndarray) -> None:
        observations[0] += 0.1 * t

    def act(self, t: int, chosen: np.ndarray) -> None:
        chosen[1] = (chosen[1] + 1) % 3


def simulations() -> dict[str, Any]:
    """Return whole episodes by compiled kernels, step by step, and with scaled observations."""
    results: dict[str, Any] = {}
    horizon = 40
    for label, policy in {
        "policy": CategoricalPolicy(FeedForward((3, 18, 3))),
        "widths": CategoricalPolicy(FeedForward((3, 17, 1, 33, 16, 3))),
        "squashed": CategoricalPolicy(FeedForward((3, 4, 3)), True),
        "linear": CategoricalPolicy(FeedForward((3, 3))),
    }.items():
        theta, count = 2 * parameters(policy), torch.tensor([4, 2, 0])
        noise = torch.from_numpy(np.random.default_rng(10).random((3, horizon, 4), dtype=np.float32))
        for how, greedy, tap in (("drawn", False, None), ("greedy", True, None), ("shifted", False, _Shift())):
            environments = Simulated(SPRING, 3, 4, horizon)
            environments.scale_dynamics({"stiffness": np.array([1.0, 2.0, 0.5])})
            starts = [np.random.default_rng(k) for k in range(3)]
            played = rollout(policy, theta, environments, starts, noise, count, tap, greedy=greedy)
            results[f"{label} {how}"] = summary([*vars(played).values(), played.returns, played.steps])
        scaled = scales.Scaled(Simulated(SPRING, 3, 4, horizon), torch.linspace(-1, 1, 18).view(3, 6))
        starts = [np.random.default_rng(k) for k in range(3)]
        played = rollout(policy, theta, scaled, starts, noise, count)
        results[f"{label} scaled"] = summary([*vars(played).values(), played.returns])
    wide = CategoricalPolicy(FeedForward((600, 150, 2)))
    observations = np.random.default_rng(11).standard_normal((1, 4, 600)).astype(np.float32)
    sample = wide.sampler(parameters(wide, 1), torch.full((1, 2, 4), 0.4))
    results["wide"] = summary(sample(0, observations))
    hidden = GaussianPolicy(FeedForward((600, 150, 300)), False, (-1.0,) * 300, (1.0,) * 300)
    act = hidden.sampler(parameters(hidden, 1), None)
    results["wide Gaussian"] = summary([act(0, observations[:, :rows]) for rows in (1, 2, 4)])
    return results


FUNCTIONS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "ensembles": ensembles,
    "estimators": estimators,
    "families": families,
    "simulations": simulations,
    "steps": steps,
}


def generated() -> Cases:
    """Yield a case for every function."""
    yield from ((f"learning {name}", dict) for name in FUNCTIONS)


def outputs(name: str, inputs: Inputs) -> dict[str, Any]:
    """Return the outputs of one of the functions."""
    return FUNCTIONS[name]()
