"""FedPPO: local clipped updates, and a robust mean of where they led."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from byzbench.contracts import Algorithm, Range, State
from byzbench.learning.advantages import advantages
from byzbench.learning.optimizers import Schedule, adam, adam_start, learning_rate
from byzbench.learning.policies import Network

if TYPE_CHECKING:
    from byzbench.federation.federation import Federation
    from byzbench.learning.rollouts import Trajectories


@dataclass(frozen=True)
class FedPPO(Algorithm):
    """What one would deploy: every agent improves a copy by PPO, and a server aggregates the differences robustly.

    Each round, from common parameters w = (theta, phi) of a policy and a critic:

        D_k     = N episodes at theta, with generalised advantage estimates A by V_phi, and R = A + V_phi
        w_k     = w after `epochs` passes over D_k, shuffled, in parts of `minibatch` steps, each an Adam step on
                  mean[min(r A', clip(r, 1 - eps, 1 + eps) A')] - c_v mean[((V_phi - R) / u)^2] / 2 + c_e mean[entropy],
                  r = pi_theta_k(a|s) / pi_theta(a|s), A' is A less its mean, over its standard deviation
        w       = w + Aggregate(w_1 - w, ..., w_K - w)

    V_phi is u times a network of phi. Adam's moments stay with the agent.

    Source: Schulman, Wolski, Dhariwal, Radford, Klimov 2017, arXiv 1707.06347 (PPO); McMahan, Moore, Ramage, Hampson,
    Agueera y Arcas 2017, arXiv 1602.05629 (federated averaging), whose mean is replaced by a rule.
    """

    N: Annotated[int, Field(ge=1, le=1_000_000, description="episodes of a round"), Range(2, 128, log=True)] = 8
    lr: Annotated[float, Field(gt=0, description="Adam's step size"), Range(1e-4, 3e-2, log=True)] = 1e-3
    lr_schedule: Annotated[Schedule, Field(description="the law of the step size")] = "linear"
    epochs: Annotated[int, Field(ge=1, le=100, description="passes over a batch"), Range(1, 20)] = 10
    minibatch: Annotated[int, Field(ge=1, le=100_000, description="steps of a part"), Range(32, 512, log=True)] = 128
    clip: Annotated[float, Field(gt=0, lt=1, description="eps"), Range(0.1, 0.3)] = 0.2
    trace: Annotated[float, Field(ge=0, le=1, description="lambda"), Range(0.9, 1.0)] = 0.95
    discount: Annotated[float | None, Field(gt=0, le=1, description="gamma; None: the task's")] = None
    unit: Annotated[float, Field(gt=0, description="u: returns as the critic's network sees them are in it")] = 1.0
    critic_weight: Annotated[float, Field(ge=0, description="c_v")] = 0.5
    entropy_weight: Annotated[float, Field(ge=0, description="c_e"), Range(0.0, 0.02)] = 0.0
    longest: Annotated[float, Field(gt=0, description="gradients are cut to this length")] = 0.5

    source: ClassVar[str] = "Schulman et al. 2017, arXiv 1707.06347; McMahan et al. 2017, arXiv 1602.05629"
    needs: ClassVar[Literal["peers", "server", "solo", "nobody"]] = "server"
    defaults: ClassVar[Mapping[str, str]] = {"topology": "star", "aggregator": "rfa", "agreement": "none"}
    suggested: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "acrobot": {"N": 8, "lr": 1e-3},
        "cartpole": {"N": 8, "lr": 3e-3, "unit": 100.0},
        "hopper": {"N": 4, "lr": 1e-3, "minibatch": 64, "discount": 0.995, "trace": 0.98, "unit": 100.0},
        "lunarlander": {
            "N": 3,
            "lr": 2e-3,
            "epochs": 8,
            "discount": 0.99,
            "unit": 100.0,
            "entropy_weight": 0.01,
        },
        "pendulum": {"N": 4, "lr": 3e-3, "discount": 0.9, "unit": 100.0},
        "pettingzoo": {"N": 8, "lr": 2e-3, "minibatch": 64, "unit": 10.0},
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
        shuffle = fed.draw("shuffle", lambda rng: float(rng.integers(1 << 31)))
        there, moments = self._improve(fed, here, batch, {k: state[f"adam.{k}"] for k in ("m", "v", "t")}, shuffle)
        value, state = fed.aggregate(await fed.gather("gradient", there - here), state)
        well = there.isfinite().all(1, keepdim=True)  # what is not is screened out, and leaves no trace in the moments
        moments = {k: torch.where(well, m, state[f"adam.{k}"]) for k, m in moments.items()}
        moved = here + (await fed.broadcast("direction", value)).nan_to_num(0.0, 0.0, 0.0)
        size = state["theta"].shape[1]
        new = {"theta": moved[:, :size], "critic": moved[:, size:], **{f"adam.{k}": v for k, v in moments.items()}}
        return {**state, **new}, {}

    def _improve(
        self, fed: Federation, w: Tensor, batch: Trajectories, moments: State, shuffle: Tensor
    ) -> tuple[Tensor, State]:
        """The agents' parameters after their own updates, [K, d + d_c], and Adam's moments.

        Agents step side by side, each through its own parts; one that has fewer waits for the others at the end of a
        pass. All parts are padded to the same size, so that an agent's sums do not depend on who is beside it.
        """
        lr = learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress)
        each = [self._judged(fed, w[k : k + 1].clone(), batch.of(k)) for k in range(len(w))]
        steps = [pad_sequence(list(x), batch_first=True) for x in zip(*each, strict=True)]
        rngs = [np.random.default_rng(int(seed)) for seed in shuffle]
        row = torch.arange(len(w), device=w.device).unsqueeze(1)
        for _ in range(self.epochs):
            orders = [torch.from_numpy(rng.permutation(len(x))) for rng, (x, *_) in zip(rngs, each, strict=True)]
            order = pad_sequence(orders, batch_first=True, padding_value=-1).to(w.device)
            for start in range(0, order.shape[1], self.minibatch):
                part = order[:, start : start + self.minibatch]
                part = pad(part, (0, self.minibatch - part.shape[1]), value=-1)
                at, here = (row, part.clamp(min=0)), part >= 0
                share = here / here.sum(1, keepdim=True).clamp(min=1)
                moved, after = adam(w, self._gradient(fed, w, [x[at] for x in steps], share), moments, lr)
                busy = here[:, :1]
                w = torch.where(busy, moved, w)
                moments = {name: torch.where(busy, m, moments[name]) for name, m in after.items()}
        return w, moments

    def _judged(self, fed: Federation, w: Tensor, batch: Trajectories) -> tuple[Tensor, ...]:
        """The n steps of one agent, whose parameters are w [1, d + d_c]: s, a, log pi_theta(a|s), A' and R / u."""
        policy, critic, size = fed.policy, self._critic(fed), fed.policy.dimension
        inside = batch.mask[0].flatten()
        seen, done = batch.observations.flatten(1, 2)[:, inside], batch.actions.flatten(1, 2)[:, inside]
        with torch.no_grad():
            before = policy.log_probabilities(policy.layers(w[:, :size]), seen, done)
            values, judge = torch.zeros_like(batch.rewards), critic.layers(w[:, size:])
            values[batch.mask] = self.unit * critic.outputs(judge, seen).flatten()
            beyond = self.unit * critic.outputs(judge, batch.beyond.clone()).squeeze(-1)
            gamma = fed.discount if self.discount is None else self.discount
            gain = advantages(batch, values, beyond, gamma, self.trace)[batch.mask]
            target = (gain + values[batch.mask]) / self.unit
            gain = (gain - gain.mean()) / (gain.std() + 1e-8) if len(gain) > 1 else gain
        return seen[0], done[0], before[0], gain, target

    def _gradient(self, fed: Federation, w: Tensor, steps: Sequence[Tensor], share: Tensor) -> Tensor:
        """Of the objective at w [K, d + d_c], on M steps an agent that count for their `share` [K, M]; cut off."""
        s, a, before, gain, target = steps
        policy, critic, size = fed.policy, self._critic(fed), fed.policy.dimension
        at = w.detach().requires_grad_()
        layers = policy.layers(at[:, :size])
        ratio = (policy.log_probabilities(layers, s, a) - before).exp()
        objective = torch.min(ratio * gain, ratio.clamp(1 - self.clip, 1 + self.clip) * gain)
        error = critic.outputs(critic.layers(at[:, size:]), s).squeeze(-1) - target
        objective = objective - self.critic_weight * error.square() / 2
        if self.entropy_weight:
            objective = objective + self.entropy_weight * policy.entropy(layers, s)
        (gradient,) = torch.autograd.grad((share * objective).sum(), at)
        return gradient * (self.longest / gradient.norm(dim=1, keepdim=True).clamp(min=self.longest))
