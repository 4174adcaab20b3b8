"""Policy-gradient estimators over batches of episodes, one gradient an agent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from byzbench.rl.forms import Form, form_of, split_parameters
from byzbench.rl.policies import LOG_STD_RANGE, Policy
from byzbench.rl.rollouts import Trajectories

BLOCK = 4096
"""The number of steps that are processed together, so that intermediate results fit in the processor's cache."""

LARGEST_LOG_WEIGHT = 60.0
"""The bound of log importance weights; larger weights, times the rewards of a long episode, could overflow float32."""


def reward_to_go(rewards: Tensor, discount: float) -> Tensor:
    """Return the sum over j >= h of gamma^j r_j, with j counted from the start of the episode: [K, T, N] -> [K, T, N].

    The factor is gamma^j, not gamma^(j-h), as the latter would bias the gradient of the discounted return.

    Example:
        >>> reward_to_go(torch.ones(1, 3, 1), 0.5).flatten()
        tensor([1.7500, 0.7500, 0.2500])
    """
    from byzbench.rl import kernels  # a local import, as loading Numba takes time

    powers = discount ** np.arange(rewards.shape[1], dtype=np.float64)
    totals, results = np.empty(rewards.shape[2]), np.empty(rewards.shape, np.float32)
    kernels.add_returns_to_go(rewards.cpu().numpy(), powers.astype(np.float32), totals, results)
    return torch.from_numpy(results).to(rewards.device)


def score_gradient(
    policy: Policy, theta: Tensor, batch: Trajectories, coefficients: Tensor, log_probs: Tensor | None = None
) -> Tensor:
    """Return the weighted mean over episodes of the score function, one row an agent.

        (1 / count) sum over steps of c grad log pi(a|s) at theta, c the coefficient of the step

    Policies with a form (`byzbench.rl.forms`) have a compiled kernel; torch differentiates the others. A row is NaN
    where its parameters are not finite.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes.
        coefficients: The coefficients of the steps, [K, T, N], zero where the batch is masked.
        log_probs: Zeros, float32 [K, T, N], in which log pi(a|s) of every valid step is written; None: nothing is.

    Returns:
        The vectors, [K, d].

    Raises:
        IndexError: The policy has no such action or state.
    """
    form = form_of(policy) if theta.is_cpu else None
    if form is None:
        totals = differentiated_scores(policy, theta, batch, coefficients, log_probs)
    else:
        totals = _compiled_scores(form, theta, batch, coefficients, log_probs)
    return totals / batch.count.clamp(min=1).unsqueeze(1)


def differentiated_scores(
    policy: Policy, theta: Tensor, batch: Trajectories, coefficients: Tensor, log_probs: Tensor | None = None
) -> Tensor:
    """Return the sum over steps of c grad log pi(a|s) by torch's automatic differentiation, for any policy.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes.
        coefficients: The coefficients of the steps, [K, T, N].
        log_probs: Zeros, float32 [K, T, N], in which log pi(a|s) of every valid step is written; None: nothing is.

    Returns:
        The sums, [K, d].
    """
    rows = []
    for agent in range(len(theta)):
        parameters = theta[agent : agent + 1].detach().requires_grad_()
        agent_coefficients = coefficients[agent].flatten()
        total = torch.zeros_like(parameters)
        for index, observations, actions in _steps(batch, agent):
            values = policy.log_probabilities(policy.layers(parameters), observations, actions)
            total += torch.autograd.grad((values * agent_coefficients[index]).sum(), parameters)[0]
            if log_probs is not None:
                log_probs[agent].view(-1)[index] = values.detach().squeeze(0)
        rows.append(total)
    return torch.cat(rows)


def _compiled_scores(
    form: Form, theta: Tensor, batch: Trajectories, coefficients: Tensor, log_probs: Tensor | None
) -> Tensor:
    """Return what `differentiated_scores` does, by a kernel."""
    totals = np.zeros(theta.shape)
    _differentiate_scores(form, theta, batch, coefficients, totals, log_probs)
    if form.gaussian:  # a clamped log std has no gradient
        size = theta.shape[1] - int(form.sizes[-1])
        raw = theta[:, size:].numpy()
        totals[:, size:][(raw < LOG_STD_RANGE[0]) | (raw > LOG_STD_RANGE[1])] = 0
    totals[~np.isfinite(theta.numpy()).all(1)] = np.nan
    return torch.from_numpy(totals.astype(np.float32))


def _differentiate_scores(
    form: Form,
    theta: Tensor,
    batch: Trajectories,
    coefficients: Tensor,
    totals: np.ndarray,
    log_probs: Tensor | None,
) -> None:
    """Call the kernel of gradients and log-probabilities; either result is left out if it has no rows, or is None."""
    from byzbench.rl import kernels  # a local import, as loading Numba takes time

    network, log_std = split_parameters(form, theta)
    valid = kernels.differentiate_scores(
        form,
        kernels.workspace(form, kernels.GROUPS, batch.mask[0].numel() * form.players),
        network,
        np.exp(log_std),
        log_std,
        batch.observations.numpy(),
        flat_actions(batch),
        batch.mask.numpy(),
        coefficients.to(torch.float32).numpy(),
        totals,
        batch.rewards[:0].numpy() if log_probs is None else log_probs.numpy(),
    )
    if not valid:
        if not form.gaussian:
            _check_indices("action", batch.actions[batch.mask], int(form.sizes[-1]))
        _check_indices("state", batch.observations[batch.mask], int(form.sizes[0]))


def flat_actions(batch: Trajectories) -> np.ndarray:
    """Return the actions of all players one after another, as kernels take them: float32 [K, T, N, a]."""
    actions = batch.actions.unsqueeze(3) if batch.actions.dim() == 3 else batch.actions.flatten(3)
    return actions.to(torch.float32).numpy()


def _check_indices(name: str, indices: Tensor, size: int) -> None:
    if not (indices.min() >= 0 and indices.max() < size):
        raise IndexError(
            f"a trajectory has the {name}s {indices.min():g} to {indices.max():g}; expected 0 to {size - 1}"
        )


def _steps(batch: Trajectories, agent: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the valid steps of an agent in blocks: flat indices [M], observations [1, M, o], actions [1, M, *a].

    The indices are those of the flattened [T, N]. Agents are processed one by one, so that the order of the terms of a
    sum does not depend on the other agents of the batch. Padding is left out: it is most of a batch whose longest
    episode is much longer than the others.
    """
    observations, actions = batch.observations[agent].flatten(0, 1), batch.actions[agent].flatten(0, 1)
    for index in batch.mask[agent].flatten().nonzero().squeeze(1).split(BLOCK):
        yield index, observations[index].unsqueeze(0), actions[index].unsqueeze(0)


def step_log_probabilities(policy: Policy, theta: Tensor, batch: Trajectories) -> Tensor:
    """Return log pi(a|s) of every step at theta, zero where masked: float32 [K, T, N].

    Raises:
        IndexError: The policy has no such action or state.
    """
    log_probs = torch.zeros_like(batch.rewards)
    form = form_of(policy) if theta.is_cpu else None
    if form is not None:
        _differentiate_scores(form, theta, batch, batch.rewards, np.zeros((0, theta.shape[1])), log_probs)
        return log_probs
    with torch.inference_mode():
        for agent in range(len(theta)):
            layers, flat = policy.layers(theta[agent : agent + 1]), log_probs[agent].view(-1)
            for index, observations, actions in _steps(batch, agent):
                flat[index] = policy.log_probabilities(layers, observations, actions).squeeze(0)
    return log_probs


def log_likelihood(policy: Policy, theta: Tensor, batch: Trajectories, log_probs: Tensor | None = None) -> Tensor:
    """Return the logarithm of the product over steps of pi(a|s) at theta, for every episode: float64 [K, N].

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes.
        log_probs: The logarithms of single steps at theta, if they are known: see `step_log_probabilities`.
    """
    steps = step_log_probabilities(policy, theta, batch) if log_probs is None else log_probs
    # NumPy adds up step by step here, so padding changes nothing.
    return torch.from_numpy(np.add.reduce(steps.cpu().numpy(), 1, np.float64)).to(steps.device)


def step_weights(policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories) -> Tensor:
    """Compute the importance weights pi_target(a|s) / pi_behaviour(a|s) of single steps.

    Args:
        policy: The policy.
        target: The parameters of the target policies, [K, d].
        behaviour: The parameters of the policies that sampled the episodes, [K, d].
        batch: The episodes.

    Returns:
        The weights, float32 [K, T, N], zero where masked.
    """
    ratio = step_log_probabilities(policy, target, batch) - step_log_probabilities(policy, behaviour, batch)
    return ratio.clamp(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT).exp() * batch.mask


def importance_weights(
    policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories, log_probs: Tensor | None = None
) -> Tensor:
    """Compute the importance weights omega = p(episode | target) / p(episode | behaviour) of whole episodes.

    They are formed from sums of logarithms, as a product of 500 probabilities would underflow.

    Args:
        policy: The policy.
        target: The parameters of the target policies, [K, d].
        behaviour: The parameters of the policies that sampled the episodes, [K, d].
        batch: The episodes.
        log_probs: The logarithms of single steps at `behaviour`, if they are known: see `step_log_probabilities`.

    Returns:
        The weights, float64 [K, N].
    """
    ratio = log_likelihood(policy, target, batch) - log_likelihood(policy, behaviour, batch, log_probs)
    return ratio.clamp(-LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT).exp()


def product_weights(
    policy: Policy, target: Tensor, behaviour: Tensor, batch: Trajectories, log_probs: Tensor | None = None
) -> Tensor:
    """Compute the importance weights of whole episodes as the released code of DecByzPG does.

        omega = prod_h pi_target(a_h|s_h) / (prod_h pi_behaviour(a_h|s_h) + 1e-9)

    They are wrong for long episodes, as both products underflow: at a probability of 0.6 a step, omega of two equal
    policies is 0.008 after 50 steps.

    Args:
        policy: The policy.
        target: The parameters of the target policies, [K, d].
        behaviour: The parameters of the policies that sampled the episodes, [K, d].
        batch: The episodes.
        log_probs: The logarithms of single steps at `behaviour`, if they are known: see `step_log_probabilities`.

    Returns:
        The weights, float32 [K, N].
    """
    known = step_log_probabilities(policy, behaviour, batch) if log_probs is None else log_probs
    products = [steps.exp().cumprod(1)[:, -1] for steps in (step_log_probabilities(policy, target, batch), known)]
    return products[0] / (products[1] + 1e-9)


def gpomdp(
    policy: Policy,
    theta: Tensor,
    batch: Trajectories,
    discount: float,
    weights: Tensor | None = None,
    baseline: bool = False,
    log_probs: Tensor | None = None,
) -> Tensor:
    """Estimate the gradient of the expected discounted return at theta from whole episodes.

        g(tau | theta) = sum_h grad log pi(a_h|s_h) (sum_{j>=h} gamma^j r_j - b_h)

    is averaged over each agent's episodes. The estimate is unbiased for episodes sampled at theta, or sampled elsewhere
    and importance-weighted. The baseline b_h is the mean reward-to-go at step h of the agent's other episodes. They are
    independent of the episode's actions, so the expectation does not change. The reward-to-go of an episode that has
    ended is zero, and a single episode has no baseline.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes.
        discount: The discount gamma.
        weights: The importance weights of the episodes, [K, N]; None: all are 1.
        baseline: Whether b_h is subtracted.
        log_probs: Zeros, float32 [K, T, N], in which log pi(a|s) of every valid step is written; None: nothing is.

    Returns:
        The gradients, [K, d].

    Source: Baxter and Bartlett, Infinite-horizon policy-gradient estimation, 2001; for the baseline Kool, van Hoof and
    Welling, Buy 4 REINFORCE samples, get a baseline for free, 2019, step by step.
    """
    to_go = reward_to_go(batch.rewards, discount)
    if baseline:
        # cumsum, unlike sum, gives the same result for every amount of padding.
        others = to_go.cumsum(2)[:, :, -1:] - to_go
        to_go = to_go - others / (batch.count - 1).clamp(min=1).view(-1, 1, 1).to(to_go)
    coefficients = to_go * batch.mask
    if weights is not None:
        coefficients = coefficients * weights.to(coefficients.dtype).unsqueeze(1)
    return score_gradient(policy, theta, batch, coefficients, log_probs)


def whitened(
    policy: Policy,
    theta: Tensor,
    batch: Trajectories,
    discount: float,
    weights: Tensor | None = None,
    pool: Literal["episodes", "steps"] = "episodes",
) -> Tensor:
    """Compute the gradient with whitened returns that released codes of federated policy gradients use.

        g = (1/sum_i T_i) sum_i G_i                with pool=steps, as in the code,
        g = (1/N) sum_i G_i / T_i                  with pool=episodes,
        G_i = sum_h grad log pi(a_ih|s_ih) (R_ih - mean(R_i)) / (std(R_i) + 1e-9),    R_ih = sum_j gamma^j r_i,h+j

    for an agent's N episodes of T_i steps. Mean and standard deviation are over the steps of the episode. With
    pool=steps a long episode counts more than a short one. The norm of g does not depend on the scale of rewards, and
    hardly on T_i. g is not the gradient of a return.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes.
        discount: The discount gamma.
        weights: The importance weights of episodes [K, N] or of steps [K, T, N]; None: all are 1.
        pool: Whether the mean is over all steps of the batch, or over episodes of means over their steps.

    Returns:
        The gradients, [K, d].

    Source: the code of Fan et al. 2021, arXiv 2110.14074.
    """
    to_go, total = torch.zeros_like(batch.rewards), torch.zeros_like(batch.rewards[:, 0])
    for step in reversed(range(to_go.shape[1])):
        total = batch.rewards[:, step] + discount * total
        to_go[:, step] = total
    # cumsum, unlike sum, gives the same result for every amount of padding.
    length = batch.mask.sum(1, keepdim=True).clamp(min=1)
    centered = (to_go - to_go.cumsum(1)[:, -1:] / length) * batch.mask
    std = (centered.square().cumsum(1)[:, -1:] / (length - 1).clamp(min=1)).sqrt()
    coefficients = centered / (std + 1e-9)
    if pool == "steps":
        coefficients *= (batch.count / batch.mask.sum((1, 2)).clamp(min=1)).view(-1, 1, 1)
    else:
        coefficients /= length
    if weights is not None:
        weights = weights.to(coefficients.dtype)
        coefficients = coefficients * (weights if weights.dim() == 3 else weights.unsqueeze(1))
    return score_gradient(policy, theta, batch, coefficients)


def gradient_change(policy: Policy, theta: Tensor, batch: Trajectories, discount: float, way: Tensor) -> Tensor:
    """Estimate the product of the Hessian of the expected discounted return at theta with a vector.

        w(tau | theta) = <grad log p(tau | theta), way> g(tau | theta) + grad <g(tau | theta), way>

    is averaged over each agent's episodes, with g as in `gpomdp`. With theta uniform on the line between two points and
    `way` the difference of the points, its expectation is the difference of the gradients at the points.

    Args:
        policy: The policy.
        theta: The parameters, [K, d].
        batch: The episodes, sampled at theta.
        discount: The discount gamma.
        way: The vectors with which the Hessian is multiplied, [K, d].

    Returns:
        The products, [K, d].

    Source: Salehkaleybar et al. 2022, "Momentum-based policy gradient with second-order information", arXiv 2205.08253.
    """
    to_go, rows = reward_to_go(batch.rewards, discount) * batch.mask, []
    for agent in range(len(theta)):
        # Copies, as the rounding of sums may depend on the memory layout.
        copy, vector, total = theta[agent].detach().clone(), way[agent].clone(), torch.zeros_like(theta[agent])
        for episode in range(int(batch.count[agent])):
            index = batch.mask[agent, :, episode].nonzero().squeeze(1)
            observations, actions = (x[agent, index, episode].unsqueeze(0) for x in (batch.observations, batch.actions))
            parameters = copy.requires_grad_()
            layers = policy.layers(parameters.unsqueeze(0))
            log_probs = policy.log_probabilities(layers, observations, actions).squeeze(0)
            (score,) = torch.autograd.grad(log_probs.sum(), parameters, retain_graph=True)
            objective = (log_probs * to_go[agent, index, episode]).sum()
            (gradient,) = torch.autograd.grad(objective, parameters, create_graph=True)
            (curvature,) = torch.autograd.grad(gradient @ vector, parameters)
            total += (score @ vector) * gradient.detach() + curvature
        rows.append(total)
    return torch.stack(rows) / batch.count.clamp(min=1).unsqueeze(1)
