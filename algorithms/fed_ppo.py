"""FedPPO: local clipped updates, and a robust mean of where they led."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from byzbench.contracts import Algorithm, Range, State
from byzbench.learning.advantages import advantages
from byzbench.learning.optimizers import adam, adam_start
from byzbench.learning.policies import Network

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.rollouts import Trajectories


@dataclass(frozen=True)
class FedPPO(Algorithm):
    """What one would deploy: every agent improves a copy by PPO, and a server aggregates the differences robustly.

    Each round, from common parameters w = (theta, phi) of a policy and a critic:

        D_k     = N episodes at theta, with generalised advantage estimates A by V_phi, and R = A + V_phi
        w_k     = w after `epochs` passes over D_k in `minibatches` parts, each an Adam step on
                  mean[min(r A', clip(r, 1 - eps, 1 + eps) A')] - c_v mean[(V_phi - R)^2] / 2 + c_e mean[entropy],
                  r = pi_theta_k(a|s) / pi_theta(a|s), A' is A less its mean, over its standard deviation
        w       = w + Aggregate(w_1 - w, ..., w_K - w)

    Adam's moments stay with the agent. A pass takes every `minibatches`-th step for a part, so nothing is drawn.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, arXiv 1707.06347 (PPO); McMahan, Moore, Ramage, Hampson,
    Agueera y Arcas 2017, arXiv 1602.05629 (federated averaging), whose mean is replaced by a rule.
    """

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a round"), Range(2, 64, log=True)] = 8
    lr: Annotated[float, Field(gt=0, description="Adam's step size"), Range(1e-4, 1e-2, log=True)] = 1e-3
    epochs: Annotated[int, Field(ge=1, le=100, description="passes over a batch"), Range(1, 20)] = 10
    minibatches: Annotated[int, Field(ge=1, le=1000, description="parts of a batch"), Range(1, 32, log=True)] = 4
    clip: Annotated[float, Field(gt=0, lt=1, description="eps"), Range(0.1, 0.3)] = 0.2
    trace: Annotated[float, Field(ge=0, le=1, description="lambda"), Range(0.9, 1.0)] = 0.95
    critic_weight: Annotated[float, Field(ge=0, description="c_v")] = 0.5
    entropy_weight: Annotated[float, Field(ge=0, description="c_e"), Range(0.0, 0.02)] = 0.0
    longest: Annotated[float, Field(gt=0, description="gradients are cut to this length")] = 0.5

    source: ClassVar[str] = "Schulman et al. 2017, arXiv 1707.06347; McMahan et al. 2017, arXiv 1602.05629"
    needs: ClassVar[Literal["peers", "server", "solo", "nobody"]] = "server"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        task: {"N": 8, "lr": 1e-3} for task in ("cartpole", "lunarlander", "pendulum", "acrobot")
    }

    def start(self, fed: Federation) -> State:
        """Policies as they begin, and critics that expect nothing."""
        critic = fed.theta0.new_zeros(len(fed.agents), self._critic(fed).dimension)
        critic[:] = self._initial(fed).to(critic)
        moments = adam_start(torch.cat([fed.theta0, critic], 1))
        return {"theta": fed.theta0, "critic": critic, **{f"adam.{k}": v for k, v in moments.items()}}

    @staticmethod
    def _critic(fed: Federation) -> Network:
        return Network((fed.policy.observation_size, *fed.policy.hidden, 1))

    def _initial(self, fed: Federation) -> Tensor:
        """Hidden layers as wide as the policy's, drawn from its first parameters; the last layer is zero."""
        network = self._critic(fed)
        drawn = fed.theta0[0, torch.arange(network.dimension) % fed.theta0.shape[1]].clone()
        last = network.sizes[-2] + 1
        drawn[-last:] = 0
        return drawn

    async def round(self, fed: Federation, state: State) -> tuple[State, Mapping[str, float]]:
        """Sample, improve alone, gather, aggregate at the server, broadcast, move."""
        batch = fed.sample(state["theta"], self.N)
        here = torch.cat([state["theta"], state["critic"]], 1)
        there, moments = self._improve(fed, here, batch, {k: state[f"adam.{k}"] for k in ("m", "v", "t")})
        value, state = fed.aggregate(await fed.gather("gradient", there - here), state)
        well = there.isfinite().all(1, keepdim=True)  # what is not is screened out, and leaves no trace in the moments
        moments = {k: torch.where(well, m, state[f"adam.{k}"]) for k, m in moments.items()}
        moved = here + (await fed.broadcast("direction", value)).nan_to_num(0.0, 0.0, 0.0)
        size = state["theta"].shape[1]
        new = {"theta": moved[:, :size], "critic": moved[:, size:], **{f"adam.{k}": v for k, v in moments.items()}}
        return {**state, **new}, {}

    def _improve(
        self, fed: Federation, w: Tensor, batch: Trajectories, moments: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The agents' parameters after their own updates, [K, d + d_c], and Adam's moments."""
        rows = [
            # Copies, as sums may round differently where numbers lie differently in memory.
            self._improve_one(
                fed, w[k : k + 1].clone(), batch.of(k), {name: m[k : k + 1].clone() for name, m in moments.items()}
            )
            for k in range(len(w))
        ]
        return torch.cat([w for w, _ in rows]), {name: torch.cat([m[name] for _, m in rows]) for name in moments}

    def _improve_one(
        self, fed: Federation, w: Tensor, batch: Trajectories, moments: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        policy, critic, size = fed.policy, self._critic(fed), fed.policy.dimension
        inside = batch.mask[0].flatten().nonzero().squeeze(1)
        seen = batch.observations[0].flatten(0, 1)[inside].unsqueeze(0)
        done = batch.actions[0].flatten(0, 1)[inside].unsqueeze(0)
        with torch.no_grad():
            before = policy.log_probabilities(policy.layers(w[:, :size]), seen, done)
            values = torch.zeros_like(batch.rewards)
            judge = critic.layers(w[:, size:])
            values[0].view(-1)[inside] = critic.outputs(judge, seen).view(-1)
            beyond = critic.outputs(judge, batch.beyond.clone()).squeeze(-1)
            gain = advantages(batch, values, beyond, fed.discount, self.trace)[0].flatten()[inside].unsqueeze(0)
            target = gain + values[0].flatten()[inside]
            gain = (gain - gain.mean()) / (gain.std() + 1e-8) if gain.numel() > 1 else gain
        for step in range(self.epochs * self.minibatches):
            part = slice(step % self.minibatches, None, self.minibatches)
            if not len(inside[part]):
                continue
            at = w.detach().requires_grad_()
            layers, x = policy.layers(at[:, :size]), seen[:, part]
            ratio = (policy.log_probabilities(layers, x, done[:, part]) - before[:, part]).exp()
            kept = torch.min(ratio * gain[:, part], ratio.clamp(1 - self.clip, 1 + self.clip) * gain[:, part]).mean()
            error = (critic.outputs(critic.layers(at[:, size:]), x).squeeze(-1) - target[:, part]).square().mean()
            entropy = policy.entropy(layers, x).mean() if self.entropy_weight else 0.0
            objective = kept - self.critic_weight * error / 2 + self.entropy_weight * entropy
            (gradient,) = torch.autograd.grad(objective, at)
            gradient = gradient * (self.longest / gradient.norm().clamp(min=self.longest))
            w, moments = adam(w, gradient, moments, self.lr)
        return w.detach(), moments
