"""Exact returns and gradients: their values, the tasks that have them, metrics, and unbiased algorithms."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from byzbench import registry, run
from byzbench.algorithms.gpomdp import Gpomdp
from byzbench.errors import Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.experiments.runner import Training, lockstep
from byzbench.rl.gradients import gpomdp, score_gradient, whitened
from byzbench.testing import tasks
from byzbench.testing.algorithms import AlgorithmCase, first_estimates_are_unbiased
from byzbench.testing.tasks import TaskCase

EXACT_CHECKS = (
    tasks.exact_gradients_are_finite_differences,
    tasks.exact_rows_do_not_depend_on_other_rows,
    tasks.exact_values_are_means_of_episodes,
)


def task_and_policy(env, family):
    task = registry.make("task", env)
    return task, registry.make("policy", family).build(task)


@pytest.mark.parametrize("check", EXACT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    "env",
    [
        "chain(states=6,steps=6)",
        "garnet(states=5,steps=7)",
        "lqr(n=5,m=2,steps=8)",
        "gymnasium(id='FrozenLake-v1',steps=12,options={'desc': ['SFH', 'FFG']})",
        pytest.param("riverswim(states=1000,steps=4)", marks=pytest.mark.slow),
        pytest.param("gymnasium:CliffWalking-v1,steps=20", marks=pytest.mark.slow),
        pytest.param("gymnasium:Taxi-v4,steps=20,options={'is_rainy': True}", marks=pytest.mark.slow),
    ],
)
def test_exact_values_agree_with_differences_and_with_episodes(env, check):
    task = registry.make("task", env)
    assert any(tasks.exact_policies(task, 1, 0))
    check(task, TaskCase())


def test_riverswim_has_the_values_of_an_independent_program():
    """The prototype of review.md (M3), at theta[s, a] = sin(2 s + a)."""
    task, policy = task_and_policy("riverswim", "tabular")
    returns, gradients = task.exact(policy, torch.sin(torch.arange(12.0, dtype=torch.float64)).unsqueeze(0))
    assert float(returns[0]) == pytest.approx(0.07783128490392023, abs=1e-14)
    assert float(gradients[0].norm()) == pytest.approx(0.0752904751843479, abs=1e-14)
    assert task.reference == pytest.approx({"random": 0.16471648767175, "solved": 3.2282072595})


@pytest.mark.parametrize("steps, cost", [(1, 1.0), (2, 1 + 0.81 * 0.5 / (0.5 + 1.7**2) + 0.09)])
def test_the_optimum_of_lqr_is_that_of_a_short_horizon_in_closed_form(steps, cost, monkeypatch):
    from byzbench.tasks import lqr

    monkeypatch.setattr(lqr, "_system", lambda n, m, radius, seed: (np.array([[0.9]]), np.array([[1.7]])))
    task = lqr.Lqr(n=1, m=1, noise=0.3, control_cost=0.5, steps=steps)
    assert task.reference["solved"] == pytest.approx(-cost)


def test_the_return_of_a_policy_that_diverges_is_not_finite():
    task, policy = task_and_policy("lqr", "linear")
    theta = torch.stack([torch.full((policy.dimension,), 1e30), torch.zeros(policy.dimension)])
    assert task.exact(policy, theta).returns.isfinite().tolist() == [False, True]


@pytest.mark.parametrize(
    "env, family",
    [
        ("cartpole", "linear"),
        ("lqr", "mlp(hidden=[4])"),
        ("pendulum", "linear"),
        ("gymnasium:Blackjack-v1,steps=5", "mlp(hidden=[4])"),
        ("gymnasium:FrozenLake-v1,wrappers=['TimeAwareObservation']", "linear"),
        ("gymnasium(id='Taxi-v4',options={'fickle_passenger': True})", "tabular"),
    ],
)
def test_other_tasks_and_policies_have_no_exact_return(env, family):
    task, policy = task_and_policy(env, family)
    with pytest.raises(Undefined, match="exact"):
        task.exact(policy, torch.zeros(1, policy.dimension))


def test_gradient_ascent_on_the_chain_takes_eps_to_the_minus_two_steps():
    """Steps until the mean gradient is eps long: eps^-2 on the chain, nearly eps^-1 on river swim."""
    slopes = {}
    for env, eps in (("chain(states=20,steps=20)", (0.1, 0.04)), ("riverswim", (0.1, 0.04))):
        task, policy = task_and_policy(env, "tabular")
        theta, total, norms = torch.zeros(1, policy.dimension, dtype=torch.float64), 0.0, []
        for t in range(150):
            gradient = task.exact(policy, theta).gradients
            total += float(gradient.norm())
            norms.append(total / (t + 1))
            theta = theta + 4 * gradient
        first, last = (int(np.nonzero(np.array(norms) > e)[0].max()) + 1 for e in eps)
        slopes[env] = np.log(last / first) / np.log(eps[1] / eps[0])
    chain, river = slopes.values()
    assert chain < -2 < -1.5 < river < -1


def trained(rounds=2, **options):
    """Return a training after some rounds, with the state before the last and the metrics of the last."""
    small = {"agents": 5, "byzantine": 1, "trajectories": 1000, "seed": 3, "env": "riverswim", **options}
    training = Training(Experiment.create(**small))
    for _ in range(rounds - 1):
        lockstep(training.advance())
    return training, training.state, lockstep(training.advance())


@pytest.mark.parametrize("scenario", ["none", "heterogeneous(spread=1)", "heterogeneous(spread=1, of=rewards)"])
@pytest.mark.parametrize("algo", ["decbyzpg(N=8,p=1,lr=0.3)", "clipped_gossip(N=8,lr=0.3)"])
def test_metrics_are_those_of_the_agents_own_returns(scenario, algo):
    training, before, line = trained(algo=algo, scenario=scenario, attack="sign_flip", topology="ring")
    task, federation = training.todo.task, training.federation
    honest = (~training.todo.members.byzantine).nonzero().squeeze(1).tolist()
    physics = federation.scenarios.physics(honest, 0.0)
    returns, gradients = task.exact(federation.policy, before["theta"][honest], physics)
    if "rewards" in scenario:
        gradients = gradients * torch.from_numpy(federation.scenarios.reward_factors(honest, 0.0)).unsqueeze(1)
    mean = gradients.mean(0)
    assert line["exact_return"] == pytest.approx(float(returns.mean()))
    assert line["exact_gradient_norm"] == pytest.approx(float(mean.norm()))
    zeta2 = float((gradients - mean).square().sum(1).mean())
    assert line["exact_gradient_dissimilarity"] == pytest.approx(zeta2, rel=1e-9)
    assert zeta2 > 1e-8 if scenario != "none" else True
    direction, _ = federation.finish().direction
    target = mean if algo.startswith("decbyzpg") else gradients
    error = float((direction[honest].double() - target).norm(dim=1).mean())
    assert line["estimator_error"] == pytest.approx(error)


def test_a_run_whose_returns_are_not_finite_has_diverged(tmp_path):
    result = run(algo="gpomdp(N=2,lr=1e20,optimizer=sgd)", env="lqr", agents=3, byzantine=0, trajectories=20,
                 out=tmp_path)  # fmt: skip
    assert result.verdict.name == "diverged"
    assert result.evaluation["evaluation"] is None
    assert result.evaluation["evaluation_auc"] is None


def test_metrics_count_present_honest_agents_only():
    training, before, line = trained(algo="solo(N=8,p=1,lr=0.3)", scenario="churn(crash=0.9)", rounds=1)
    assert line["exact_gradient_dissimilarity"] == 0
    everybody = torch.zeros(5, dtype=torch.bool)
    assert training._exact.measure(before["theta"], everybody, training.federation.finish(), 0.0) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"env": "cartpole"},
        {"scenario": "normalized(episodes=2)"},
        {"scenario": "heterogeneous(of=starts)"},
        {"algo": "ensemble_frl(N=8,groups=2)"},
        {"env": "lqr", "policy": "mlp(hidden=[4])"},
    ],
)
def test_there_are_no_exact_metrics_where_they_are_not_defined(options):
    _, _, line = trained(**{"algo": "gpomdp(N=4)", "rounds": 1, **options})
    assert not [name for name in line if "exact" in name or name == "estimator_error"]


@dataclass(frozen=True)
class Planted(Gpomdp):
    """A method that declares unbiased gradients, and has others."""

    fault: str = ""

    def gradient(self, fed, theta, batch, weights=None, log_probs=None):
        if self.fault == "whitened":
            return whitened(fed.policy, theta, batch, fed.discount)
        if self.fault == "discount":  # from the step of the action on, and not from the start of the episode
            powers = fed.discount ** torch.arange(batch.rewards.shape[1]).view(1, -1, 1)
            to_go = (batch.rewards * powers).flip(1).cumsum(1).flip(1) / powers
            return score_gradient(fed.policy, theta, batch, to_go)
        if self.fault == "undiscounted":
            return gpomdp(fed.policy, theta, batch, 1.0)
        if self.fault == "last":  # without the reward of the last step
            return gpomdp(fed.policy, theta, replace(batch, rewards=batch.rewards * (batch.rewards != 1)), fed.discount)
        return super().gradient(fed, theta, batch, weights, log_probs)


@pytest.mark.parametrize("fault", ["whitened", "discount", "undiscounted", "last"])
def test_an_algorithm_with_a_biased_gradient_is_rejected(fault):
    first_estimates_are_unbiased(Planted(), AlgorithmCase())
    with pytest.raises(AssertionError, match="standard errors off the gradient"):
        first_estimates_are_unbiased(Planted(fault=fault), AlgorithmCase())


def test_the_trait_of_every_algorithm():
    biased = {name for name in registry.origins("algorithm") if not registry.make("algorithm", name).unbiased}
    assert biased == {"fed_ppo", "fedpg_br", "fedsvrpg_m", "svrpg"}, "said in docs/tasks.md"
    assert registry.make("algorithm", "svrpg(estimator=gpomdp)").unbiased
    assert not registry.make("algorithm", "decbyzpg(streams=official)").unbiased
