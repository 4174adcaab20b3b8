"""Local updates of proximal policy optimisation, for K agents at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from byzbench.rl.advantages import advantages
from byzbench.rl.forms import form_of, network_form
from byzbench.rl.gradients import LARGEST_LOG_WEIGHT, flat_actions, step_log_probabilities
from byzbench.rl.networks import FunctionApproximator
from byzbench.rl.optimizers import adam
from byzbench.rl.policies import LOG_STD_RANGE, Policy
from byzbench.rl.rollouts import Trajectories


@dataclass(frozen=True)
class LocalPpo:
    """PPO updates of a policy and a critic on a batch of episodes.

    An update is `epochs` passes over the steps, shuffled, in minibatches of `minibatch_size` steps, each an ascent step
    of Adam on

        mean[min(r A', clip(r, 1 - eps, 1 + eps) A')] - c_v mean[(V_phi - R / u)^2] / 2 + c_e mean[entropy]

    with r = pi(a|s) / pi_old(a|s), generalised advantage estimates A by the critic u V_phi, A' = (A - mean) / std, and
    R = A + u V_phi. Policies and critics with a form (`byzbench.rl.forms`) have a compiled kernel; torch differentiates
    the others.

    Attributes:
        policy: The policy.
        epochs: The number of passes over a batch.
        minibatch_size: The number of environment steps of a minibatch.
        clip: The clip range eps.
        discount: The discount of the advantages.
        gae_lambda: Their lambda.
        return_scale: The scale u of returns.
        vf_coef: The weight c_v of the critic's loss.
        ent_coef: The weight c_e of the entropy bonus.
        max_grad_norm: The norm to which gradients are clipped.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, arXiv 1707.06347.
    """

    policy: Policy
    epochs: int
    minibatch_size: int
    clip: float
    discount: float
    gae_lambda: float
    return_scale: float
    vf_coef: float
    ent_coef: float
    max_grad_norm: float

    def update(
        self, w: Tensor, batch: Trajectories, moments: dict[str, Tensor], lr: float, seeds: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the updates of all agents.

        Args:
            w: The parameters of policy and critic, [K, d + d_c].
            batch: The episodes.
            moments: The moments of Adam: see `optimizers.adam_start`.
            lr: The step size.
            seeds: The seeds of the agents' shuffles.

        Returns:
            The new parameters and the new moments.
        """
        steps = batch.steps.tolist()
        orders = np.full((len(w), self.epochs, max(*steps, 1)), -1)
        for order, count, seed in zip(orders, steps, seeds, strict=True):
            rng = np.random.default_rng(seed)
            for epoch in range(self.epochs):
                order[epoch, :count] = rng.permutation(count)
        size = self.policy.dimension
        log_probs = step_log_probabilities(self.policy, w[:, :size], batch)
        advantage, target = self._advantages(w[:, size:], batch)
        form, critic = form_of(self.policy), network_form(self.policy.critic())
        if form is None or critic is None or not w.is_cpu:
            return self._differentiated(w, batch, moments, lr, orders, log_probs, advantage, target)
        from byzbench.rl import kernels

        outputs = int(form.sizes[-1])
        arrays = kernels.PpoArrays(
            observations=np.ascontiguousarray(batch.observations),
            actions=np.ascontiguousarray(flat_actions(batch)),
            mask=np.ascontiguousarray(batch.mask),
            log_probs=log_probs.numpy(),
            advantages=np.ascontiguousarray(advantage),
            targets=np.ascontiguousarray(target),
            orders=orders,
            steps=np.empty((batch.mask[0].numel(), 3), np.int64),
            std=np.zeros(outputs, np.float32),
            log_std=np.zeros(outputs, np.float32),
            gradient=np.zeros(w.shape[1]),
        )
        settings = kernels.PpoSettings(
            *(self.epochs, self.minibatch_size, lr, self.clip, self.vf_coef, self.ent_coef, self.max_grad_norm)
        )
        w, moments = w.detach().clone(), {name: moment.clone() for name, moment in moments.items()}
        lanes = kernels.GROUPS * kernels.LANES
        workspaces = [kernels.workspace(each, kernels.GROUPS, lanes) for each in (form, critic)]
        state = (w.numpy(), *(moments[name].numpy() for name in ("m", "v", "t")))
        kernels.ppo(form, workspaces[0], critic, workspaces[1], settings, arrays, *LOG_STD_RANGE, *state)
        return w, moments

    def _advantages(self, phi: Tensor, batch: Trajectories) -> tuple[Tensor, Tensor]:
        """Return A' and R / u of every step for critics phi [K, d_c], float32 [K, T, N], zero where masked."""
        critic = self.policy.critic()
        values = self.return_scale * critic_values(critic, phi, batch.observations, batch.mask)
        final = batch.final_observations.unsqueeze(1)
        final_values = self.return_scale * critic_values(critic, phi, final, torch.ones_like(final[..., 0]).bool())
        advantage = advantages(batch, values, final_values.squeeze(1), self.discount, self.gae_lambda)
        target = (advantage + values) / self.return_scale
        # cumsum, unlike sum, gives the same result for every amount of padding.
        count = batch.steps.double().clamp(min=1).view(-1, 1, 1)
        mean = _sum(advantage.double()) / count
        centered = (advantage - mean) * batch.mask
        std = (_sum(centered.square()) / (count - 1).clamp(min=1)).sqrt()
        scaled = torch.where(count > 1, centered / (std + 1e-8), advantage.double())
        return scaled.float(), target * batch.mask

    def _differentiated(
        self,
        w: Tensor,
        batch: Trajectories,
        moments: dict[str, Tensor],
        lr: float,
        orders: np.ndarray,
        *signals: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the updates by torch's automatic differentiation, for any policy.

        Agents step in parallel, each through its own minibatches. An agent with fewer minibatches waits for the others
        at the end of a pass. All minibatches are padded to the same size, so that the sums of an agent do not depend on
        the other agents.

        Args:
            w: The parameters of policy and critic, [K, d + d_c].
            batch: The episodes.
            moments: The moments of Adam.
            lr: The step size.
            orders: The orders of the steps of each agent in each pass, int64 [K, epochs, M]; -1: no step.
            signals: The old log-probabilities, A' and R / u of the steps, [K, T, N] each.
        """
        fields = (batch.observations, batch.actions, *signals)
        by_agent = [[x[k].flatten(0, 1)[inside.flatten()] for x in fields] for k, inside in enumerate(batch.mask)]
        steps = [pad_sequence(list(x), batch_first=True) for x in zip(*by_agent, strict=True)]
        row = torch.arange(len(w), device=w.device).unsqueeze(1)
        for epoch in range(self.epochs):
            order = torch.from_numpy(orders[:, epoch]).to(w.device)
            for start in range(0, order.shape[1], self.minibatch_size):
                minibatch = order[:, start : start + self.minibatch_size]
                minibatch = pad(minibatch, (0, self.minibatch_size - minibatch.shape[1]), value=-1)
                index, valid = (row, minibatch.clamp(min=0)), minibatch >= 0
                weights = valid / valid.sum(1, keepdim=True).clamp(min=1)
                new, new_moments = adam(w, self._gradient(w, [x[index] for x in steps], weights), moments, lr)
                active = valid[:, :1]
                w = torch.where(active, new, w)
                moments = {name: torch.where(active, m, moments[name]) for name, m in new_moments.items()}
        return w, moments

    def _gradient(self, w: Tensor, steps: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Return the clipped gradient of the objective.

        Args:
            w: The parameters of policy and critic, [K, d + d_c].
            steps: s, a, log pi_old(a|s), A' and R / u of the M steps of each agent's minibatch.
            weights: The weights of the steps in the mean, [K, M]; padding has weight 0.
        """
        s, a, old_log_probs, advantage, target = steps
        policy, critic, size = self.policy, self.policy.critic(), self.policy.dimension
        w = w.detach().requires_grad_()
        layers = policy.layers(w[:, :size])
        ratio = (policy.log_probabilities(layers, s, a) - old_log_probs).clamp(max=LARGEST_LOG_WEIGHT).exp()
        objective = torch.min(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        error = critic.outputs(critic.layers(w[:, size:]), s).squeeze(-1) - target
        objective = objective - self.vf_coef * error.square() / 2
        if self.ent_coef:
            objective = objective + self.ent_coef * policy.entropy(layers, s)
        (gradient,) = torch.autograd.grad((weights * objective).sum(), w)
        return gradient * (self.max_grad_norm / gradient.norm(dim=1, keepdim=True).clamp(min=self.max_grad_norm))


def critic_values(critic: FunctionApproximator, phi: Tensor, observations: Tensor, mask: Tensor) -> Tensor:
    """Return the outputs of critics at all valid steps, zero where masked.

    Args:
        critic: A network with one output.
        phi: Its parameters, [K, d_c].
        observations: The observations, float32 [K, T, N, o].
        mask: The valid steps, bool [K, T, N].

    Returns:
        The values, float32 [K, T, N].
    """
    values = torch.zeros(mask.shape, device=phi.device)
    form = network_form(critic) if phi.is_cpu else None
    if form is not None:
        from byzbench.rl import kernels

        work = kernels.workspace(form, 1, mask[0].numel())
        parameters = np.ascontiguousarray(phi.detach().numpy())
        kernels.values(form, work, parameters, observations.numpy(), mask.numpy(), values.numpy())
        return values
    with torch.no_grad():
        for agent, inside in enumerate(mask):
            layers = critic.layers(phi[agent : agent + 1])
            values[agent][inside] = critic.outputs(layers, observations[agent][inside].unsqueeze(0)).flatten()
    return values


def _sum(x: Tensor) -> Tensor:
    """Return the sums over steps and episodes of x [K, T, N], which do not depend on padding: [K, 1, 1]."""
    return x.cumsum(1)[:, -1:].cumsum(2)[:, :, -1:]
