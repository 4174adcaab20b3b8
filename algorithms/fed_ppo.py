"""FedPPO: local PPO updates, and robust aggregation of their parameter differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from byzbench.core import Algorithm, Communication, FloatRange, State
from byzbench.rl.optimizers import StepSchedule, adam_start, learning_rate
from byzbench.rl.ppo import LocalPpo

if TYPE_CHECKING:
    from byzbench.core import Federation


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
    lr_schedule: Annotated[StepSchedule, Field(description="schedule of the step size")] = "linear"
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
        seeds = [int(seed) for seed in fed.draw("shuffle", lambda rng: float(rng.integers(1 << 31)))]
        lr = learning_rate(self.lr, self.lr_schedule, fed.round, fed.progress)
        moments = {k: state[f"adam.{k}"] for k in ("m", "v", "t")}
        local, moments = self._local(fed).update(old, batch, moments, lr, seeds)
        aggregate, state = fed.aggregate(await fed.gather("gradient", local - old), state)
        # The federation rejects messages that are not finite; their moments of Adam must not be stored either.
        finite = local.isfinite().all(1, keepdim=True)
        moments = {k: torch.where(finite, m, state[f"adam.{k}"]) for k, m in moments.items()}
        new = old + (await fed.broadcast("direction", aggregate)).nan_to_num(0.0, 0.0, 0.0)
        size = state["theta"].shape[1]
        updates = {"theta": new[:, :size], "critic": new[:, size:], **{f"adam.{k}": v for k, v in moments.items()}}
        return {**state, **updates}, {}

    def _local(self, fed: Federation) -> LocalPpo:
        """Return the local updates of the federation's policy."""
        return LocalPpo(
            policy=fed.policy,
            epochs=self.epochs,
            minibatch_size=self.minibatch_size,
            clip=self.clip,
            discount=fed.discount if self.discount is None else self.discount,
            gae_lambda=self.gae_lambda,
            return_scale=self.return_scale,
            vf_coef=self.vf_coef,
            ent_coef=self.ent_coef,
            max_grad_norm=self.max_grad_norm,
        )
