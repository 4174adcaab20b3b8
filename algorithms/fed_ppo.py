"""FedPPO: local PPO updates, and robust aggregation of their parameter differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from byzbench.core import Algorithm, Communication, FloatRange, State
from byzbench.rl.advantages import advantages
from byzbench.rl.optimizers import Schedule, adam, adam_start, learning_rate

if TYPE_CHECKING:
    from byzbench.core import Federation
    from byzbench.rl.rollouts import Trajectories


@dataclass(frozen=True)
class FedPPO(Algorithm):
    """Federated PPO: every agent updates a copy of the parameters, and a server aggregates the differences robustly.

    Each round, from common parameters w = (theta, phi) of a policy and a critic:

        D_k     = N episodes at theta, with generalised advantage estimates A by V_phi, and R = A + V_phi
        w_k     = w after `epochs` passes over D_k, shuffled, in minibatches of `minibatch_size` steps, with Adam on
                  mean[min(r A', clip(r, 1 - eps, 1 + eps) A')] - c_v mean[((V_phi - R) / u)^2] / 2 + c_e mean[entropy],
                  r = pi_theta_k(a|s) / pi_theta(a|s), A' is A less its mean, over its standard deviation
        w       = w + Aggregate(w_1 - w, ..., w_K - w)

    V_phi is u times the output of a network with parameters phi. Adam's moments are local to each agent.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, arXiv 1707.06347 (PPO); McMahan, Moore, Ramage, Hampson,
    Agueera y Arcas 2017, arXiv 1602.05629 (federated averaging), whose mean is replaced by a rule.
    """

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a round"), FloatRange(2, 128, log=True)] = 8
    lr: Annotated[float, Field(gt=0, description="Adam's step size"), FloatRange(1e-4, 3e-2, log=True)] = 1e-3
    lr_schedule: Annotated[Schedule, Field(description="schedule of the step size")] = "linear"
    epochs: Annotated[int, Field(ge=1, le=100, description="passes over a batch"), FloatRange(1, 20)] = 10
    minibatch_size: Annotated[
        int, Field(ge=1, le=100_000, description="environment steps of a minibatch"), FloatRange(32, 512, log=True)
    ] = 128
    clip: Annotated[
        float, Field(gt=0, lt=1, description="clip range eps of the probability ratio"), FloatRange(0.1, 0.3)
    ] = 0.2
    gae_lambda: Annotated[
        float, Field(ge=0, le=1, description="lambda of generalised advantage estimation"), FloatRange(0.9, 1.0)
    ] = 0.95
    discount: Annotated[float | None, Field(gt=0, le=1, description="discount gamma; None: the task's")] = None
    return_scale: Annotated[
        float, Field(gt=0, description="scale u of returns: the critic's network predicts V / u")
    ] = 1.0
    vf_coef: Annotated[float, Field(ge=0, description="weight c_v of the critic's loss")] = 0.5
    ent_coef: Annotated[float, Field(ge=0, description="weight c_e of the entropy bonus"), FloatRange(0.0, 0.02)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0, description="gradients are clipped to this norm")] = 0.5

    source: ClassVar[str] = "Schulman et al. 2017, arXiv 1707.06347; McMahan et al. 2017, arXiv 1602.05629"
    communication: ClassVar[Communication] = Communication.SERVER
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "acrobot": {"N": 8, "lr": 1e-3},
        "cartpole": {"N": 8, "lr": 3e-3, "return_scale": 100.0},
        "hopper": {
            "N": 4,
            "lr": 1e-3,
            "minibatch_size": 64,
            "discount": 0.995,
            "gae_lambda": 0.98,
            "return_scale": 100.0,
        },
        "lunarlander": {
            "N": 3,
            "lr": 2e-3,
            "epochs": 8,
            "discount": 0.99,
            "return_scale": 100.0,
            "ent_coef": 0.01,
        },
        "pendulum": {"N": 4, "lr": 3e-3, "discount": 0.9, "return_scale": 100.0},
        "pettingzoo": {"N": 8, "lr": 2e-3, "minibatch_size": 64, "return_scale": 10.0},
    }

    def start(self, fed: Federation) -> State:
        """Return theta_0 for every agent, and critics that predict zero."""
        critic = fed.theta0.new_zeros(len(fed.agents), fed.policy.critic().dimension)
        critic[:] = self._initial(fed).to(critic)
        moments = adam_start(torch.cat([fed.theta0, critic], 1))
        return {"theta": fed.theta0, "critic": critic, **{f"adam.{k}": v for k, v in moments.items()}}

    def _initial(self, fed: Federation) -> Tensor:
        """Return the critic's first parameters: those of the first policy, repeated, and zeros in its last layer."""
        network = fed.policy.critic()
        parameters = fed.theta0[0, torch.arange(network.dimension) % fed.theta0.shape[1]].clone()
        parameters[network.dimension - network.last_layer_size :] = 0
        return parameters

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, update locally, gather the differences, aggregate at the server, broadcast, and step."""
        batch = fed.sample(state["theta"], self.N)
        old = torch.cat([state["theta"], state["critic"]], 1)
        seeds = fed.draw("shuffle", lambda rng: float(rng.integers(1 << 31)))
        local, moments = self._update_locally(fed, old, batch, {k: state[f"adam.{k}"] for k in ("m", "v", "t")}, seeds)
        aggregate, state = fed.aggregate(await fed.gather("gradient", local - old), state)
        # The federation rejects messages that are not finite; their moments of Adam must not be stored either.
        finite = local.isfinite().all(1, keepdim=True)
        moments = {k: torch.where(finite, m, state[f"adam.{k}"]) for k, m in moments.items()}
        new = old + (await fed.broadcast("direction", aggregate)).nan_to_num(0.0, 0.0, 0.0)
        size = state["theta"].shape[1]
        updates = {"theta": new[:, :size], "critic": new[:, size:], **{f"adam.{k}": v for k, v in moments.items()}}
        return {**state, **updates}, {}

    def _update_locally(
        self, fed: Federation, w: Tensor, batch: Trajectories, moments: State, seeds: Tensor
    ) -> tuple[Tensor, State]:
        """Run the local PPO updates of all agents.

        Agents step in parallel, each through its own minibatches. An agent with fewer minibatches waits for the others
        at the end of a pass. All minibatches are padded to the same size, so that the sums of an agent do not depend on
        the other agents.

        Args:
            fed: The federation.
            w: The parameters of policy and critic, [K, d + d_c].
            batch: The episodes of all agents.
            moments: The moments of Adam.
            seeds: The seeds of the agents' shuffles, [K].

        Returns:
            The new parameters [K, d + d_c], and the new moments.
        """
        lr = learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress)
        by_agent = [self._training_steps(fed, w[k : k + 1].clone(), batch.agent(k)) for k in range(len(w))]
        steps = [pad_sequence(list(x), batch_first=True) for x in zip(*by_agent, strict=True)]
        rngs = [np.random.default_rng(int(seed)) for seed in seeds]
        row = torch.arange(len(w), device=w.device).unsqueeze(1)
        for _ in range(self.epochs):
            orders = [torch.from_numpy(rng.permutation(len(x))) for rng, (x, *_) in zip(rngs, by_agent, strict=True)]
            order = pad_sequence(orders, batch_first=True, padding_value=-1).to(w.device)
            for start in range(0, order.shape[1], self.minibatch_size):
                minibatch = order[:, start : start + self.minibatch_size]
                minibatch = pad(minibatch, (0, self.minibatch_size - minibatch.shape[1]), value=-1)
                index, valid = (row, minibatch.clamp(min=0)), minibatch >= 0
                weights = valid / valid.sum(1, keepdim=True).clamp(min=1)
                new, new_moments = adam(w, self._gradient(fed, w, [x[index] for x in steps], weights), moments, lr)
                active = valid[:, :1]
                w = torch.where(active, new, w)
                moments = {name: torch.where(active, m, moments[name]) for name, m in new_moments.items()}
        return w, moments

    def _training_steps(self, fed: Federation, w: Tensor, batch: Trajectories) -> tuple[Tensor, ...]:
        """Return s, a, log pi_theta(a|s), A' and R / u of the n steps of one agent with parameters w [1, d + d_c]."""
        policy, critic, size = fed.policy, fed.policy.critic(), fed.policy.dimension
        inside = batch.mask[0].flatten()
        observations, actions = batch.observations.flatten(1, 2)[:, inside], batch.actions.flatten(1, 2)[:, inside]
        with torch.no_grad():
            old_log_probs = policy.log_probabilities(policy.layers(w[:, :size]), observations, actions)
            values, layers = torch.zeros_like(batch.rewards), critic.layers(w[:, size:])
            values[batch.mask] = self.return_scale * critic.outputs(layers, observations).flatten()
            final_values = self.return_scale * critic.outputs(layers, batch.final_observations.clone()).squeeze(-1)
            gamma = fed.discount if self.discount is None else self.discount
            advantage = advantages(batch, values, final_values, gamma, self.gae_lambda)[batch.mask]
            target = (advantage + values[batch.mask]) / self.return_scale
            if len(advantage) > 1:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return observations[0], actions[0], old_log_probs[0], advantage, target

    def _gradient(self, fed: Federation, w: Tensor, steps: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Return the clipped gradient of the objective.

        Args:
            fed: The federation, which has the policy.
            w: The parameters of policy and critic, [K, d + d_c].
            steps: The M steps of each agent's minibatch, as `_training_steps` returns them.
            weights: The weights of the steps in the mean, [K, M]; padding has weight 0.
        """
        s, a, old_log_probs, advantage, target = steps
        policy, critic, size = fed.policy, fed.policy.critic(), fed.policy.dimension
        w = w.detach().requires_grad_()
        layers = policy.layers(w[:, :size])
        ratio = (policy.log_probabilities(layers, s, a) - old_log_probs).exp()
        objective = torch.min(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)
        error = critic.outputs(critic.layers(w[:, size:]), s).squeeze(-1) - target
        objective = objective - self.vf_coef * error.square() / 2
        if self.ent_coef:
            objective = objective + self.ent_coef * policy.entropy(layers, s)
        (gradient,) = torch.autograd.grad((weights * objective).sum(), w)
        return gradient * (self.max_grad_norm / gradient.norm(dim=1, keepdim=True).clamp(min=self.max_grad_norm))
