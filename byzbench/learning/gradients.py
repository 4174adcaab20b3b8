"""Policy-gradient estimators over batches of episodes, one gradient an agent."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from byzbench.learning.policies import Policy
from byzbench.learning.rollouts import Trajectories

BLOCK = 4096
"""Steps that are looked at together: what is computed on the way stays in the cache."""

LARGEST_LOG_WEIGHT = 60.0
"""Importance weights end at e^60: beyond it, their products with the rewards of a long episode could leave float32."""


def reward_to_go(rewards: Tensor, discount: float) -> Tensor:
    """Sum over j >= h of gamma^j r_j, with j counted from the start of the episode: [K, T, N] -> [K, T, N].

    Not gamma^(j-h): with that, the sum would not be an unbiased gradient of the discounted return.
    """
    powers = discount ** torch.arange(rewards.shape[1], dtype=torch.float64, device=rewards.device)
    paid = rewards * powers.to(rewards.dtype).view(1, -1, 1)
    return paid.flip(1).cumsum(1).flip(1)


def score_gradient(policy: Policy, theta: Tensor, batch: Trajectories, coefficients: Tensor) -> Tensor:
    """Sum over steps of coefficient times the gradient of log pi(a|s) at theta, over the agent's count: [K, d].

    Args:
        policy: the policy family.
        theta: [K, d].
        batch: the episodes.
        coefficients: [K, T, N], zero where the batch is masked.
    """
    rows = []
    for agent in range(len(theta)):
        one, mine = theta[agent : agent + 1].detach().requires_grad_(), coefficients[agent].flatten()
        total = torch.zeros_like(one)
        for where, observations, actions in _steps(batch, agent):
            scores = policy.log_probabilities(policy.layers(one), observations, actions)
            total += torch.autograd.grad((scores * mine[where]).sum(), one)[0]
        rows.append(total)
    return torch.cat(rows) / batch.count.clamp(min=1).unsqueeze(1)


def _steps(batch: Trajectories, agent: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """An agent's steps inside episodes, by blocks: places in [T, N] [M], observations [1, M, o], actions [1, M, *a].

    Agent by agent, so that sums have the same terms in the same order whoever shares the batch; and no padding, which
    is most of a batch whose longest episode is much longer than the others.
    """
    observations, actions = batch.observations[agent].flatten(0, 1), batch.actions[agent].flatten(0, 1)
    for where in batch.mask[agent].flatten().nonzero().squeeze(1).split(BLOCK):
        yield where, observations[where].unsqueeze(0), actions[where].unsqueeze(0)


def _log_probabilities(policy: Policy, theta: Tensor, batch: Trajectories) -> Tensor:
    """Log pi(a|s) of every step at theta, zero where masked: float32 [K, T, N]."""
    found = torch.zeros_like(batch.rewards)
    with torch.inference_mode():
        for agent in range(len(theta)):
            layers, flat = policy.layers(theta[agent : agent + 1]), found[agent].view(-1)
            for where, observations, actions in _steps(batch, agent):
                flat[where] = policy.log_probabilities(layers, observations, actions).squeeze(0)
    return found


def log_likelihood(policy: Policy, theta: Tensor, batch: Trajectories) -> Tensor:
    """The logarithm of the product over steps of pi(a|s) at theta, for every episode: float64 [K, N]."""
    # A running sum, unlike a sum, does not depend on how much padding follows.
    return _log_probabilities(policy, theta, batch).double().cumsum(1)[:, -1]


def step_weights(policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories) -> Tensor:
    """The ratio pi_target(a|s) / pi_behaviour(a|s) of every step on its own, zero where masked: float32 [K, T, N]."""
    ratio = _log_probabilities(policy, target, batch) - _log_probabilities(policy, behaviour, batch)
    return ratio.clamp(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT).exp() * batch.mask


def importance_weights(policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories) -> Tensor:
    """Omega = p(episode | target) / p(episode | behaviour) for episodes sampled at behaviour: float64 [K, N].

    Formed from sums of logarithms: a product of 500 probabilities would underflow.
    """
    ratio = log_likelihood(policy, target, batch) - log_likelihood(policy, behaviour, batch)
    return ratio.clamp(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT).exp()


def product_weights(policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories) -> Tensor:
    """The same as the released code of DecByzPG forms them: float32 [K, N], and wrong for long episodes.

        omega = prod_h pi_target(a_h|s_h) / (prod_h pi_behaviour(a_h|s_h) + 1e-9)

    Both products underflow: at a probability of 0.6 a step, omega of two equal policies is 0.008 after 50 steps.
    """
    products = [_log_probabilities(policy, t, batch).exp().cumprod(1)[:, -1] for t in (target, behaviour)]
    return products[0] / (products[1] + 1e-9)


def gpomdp(
    policy: Policy,
    theta: Tensor,
    batch: Trajectories,
    discount: float,
    weights: Tensor | None = None,
    baseline: bool = False,
) -> Tensor:
    """The gradient of the expected discounted return at theta, estimated from whole episodes: [K, d].

        g(tau | theta) = sum_h grad log pi(a_h|s_h) (sum_{j>=h} gamma^j r_j - b_h)

    averaged over each agent's episodes; with weights [K, N] each episode's term is multiplied by its own. Unbiased for
    episodes sampled at theta, or sampled elsewhere and importance-weighted. b is zero, or as a baseline what is left to
    come at step h of the agent's other episodes, on average: they know nothing of this one's actions, which leaves the
    expectation as it is. An episode that has ended has nothing left to come; one that is alone has no baseline.

    Source: Baxter and Bartlett, Infinite-horizon policy-gradient estimation, 2001; for the baseline Kool, van Hoof and
    Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019, step by step.
    """
    togo = reward_to_go(batch.rewards, discount)
    if baseline:
        # A running sum, unlike a sum, does not depend on how much padding follows.
        others = togo.cumsum(2)[:, :, -1:] - togo
        togo = togo - others / (batch.count - 1).clamp(min=1).view(-1, 1, 1).to(togo)
    coefficients = togo * batch.mask
    if weights is not None:
        coefficients = coefficients * weights.to(coefficients.dtype).unsqueeze(1)
    return score_gradient(policy, theta, batch, coefficients)


def whitened(
    policy: Policy, theta: Tensor, batch: Trajectories, discount: float, weights: Tensor | None = None
) -> Tensor:
    """The gradient that released codes of federated policy gradients take instead of `gpomdp`: [K, d].

        g(tau | theta) = (1/T) sum_h grad log pi(a_h|s_h) (R_h - mean(R)) / (std(R) + 1e-9),
        R_h = sum_j gamma^j r_{h+j}

    over the T steps of an episode, whose own mean and standard deviation these are; averaged over each agent's
    episodes, with weights [K, N] of episodes or [K, T, N] of steps. Its length does not depend on the scale of rewards,
    and hardly on T. It is not the gradient of a return.

    Source: the code of Fan et al. 2021, arXiv 2110.14074.
    """
    togo, total = torch.zeros_like(batch.rewards), torch.zeros_like(batch.rewards[:, 0])
    for step in reversed(range(togo.shape[1])):
        total = batch.rewards[:, step] + discount * total
        togo[:, step] = total
    # Running sums, unlike sums, do not depend on how much padding follows.
    length = batch.mask.sum(1, keepdim=True).clamp(min=1)
    away = (togo - togo.cumsum(1)[:, -1:] / length) * batch.mask
    spread = (away.square().cumsum(1)[:, -1:] / (length - 1).clamp(min=1)).sqrt()
    coefficients = away / (spread + 1e-9) / length
    if weights is not None:
        part = weights.to(coefficients.dtype)
        coefficients = coefficients * (part if part.dim() == 3 else part.unsqueeze(1))
    return score_gradient(policy, theta, batch, coefficients)


def gradient_change(policy: Policy, theta: Tensor, batch: Trajectories, discount: float, way: Tensor) -> Tensor:
    """What the Hessian of the expected discounted return at theta makes of a way [K, d], by whole episodes: [K, d].

        w(tau | theta) = <grad log p(tau | theta), way> g(tau | theta) + grad <g(tau | theta), way>

    averaged over each agent's episodes; g as in `gpomdp`. With theta uniform on the line between two points and `way`
    from one to the other, its expectation is the difference of the gradients there.

    Source: Salehkaleybar et al. 2022, "Momentum-based policy gradient with second-order information", arXiv 2205.08253.
    """
    gains, rows = reward_to_go(batch.rewards, discount) * batch.mask, []
    for agent in range(len(theta)):
        # Copies, as sums may round differently where numbers lie differently in memory.
        at, along, total = theta[agent].detach().clone(), way[agent].clone(), torch.zeros_like(theta[agent])
        for episode in range(int(batch.count[agent])):
            inside = batch.mask[agent, :, episode].nonzero().squeeze(1)
            seen, done = (part[agent, inside, episode].unsqueeze(0) for part in (batch.observations, batch.actions))
            here = at.requires_grad_()
            logs = policy.log_probabilities(policy.layers(here.unsqueeze(0)), seen, done).squeeze(0)
            (score,) = torch.autograd.grad(logs.sum(), here, retain_graph=True)
            (gradient,) = torch.autograd.grad((logs * gains[agent, inside, episode]).sum(), here, create_graph=True)
            (bent,) = torch.autograd.grad(gradient @ along, here)
            total += (score @ along) * gradient.detach() + bent
        rows.append(total)
    return torch.stack(rows) / batch.count.clamp(min=1).unsqueeze(1)
