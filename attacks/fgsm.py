"""FGSM: observations of the Byzantine agents perturbed against their own policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.core import Attack, AttackContext, EnvHooks, FloatRange, State, ThreatModel
from byzbench.errors import Undefined
from byzbench.rl.policies import CategoricalPolicy


@dataclass(frozen=True)
class Fgsm(Attack):
    """Environment attack that perturbs each observation so that the policy's most likely action becomes less likely.

        o'[k, t, n] = o - epsilon * sign(grad_o log pi_k(a* | o)),    o = o[k, t, n],    a* = argmax_a pi_k(a | o)

    k < f Byzantine agents, t < T steps, n < N episodes, pi_k the agent's own policy. This is one step of the fast
    gradient sign method: the worst shift within epsilon in every coordinate, if log pi were linear. The agent acts on
    the perturbed observation, and learns from it as if it were true. `observation_noise` perturbs without knowledge of
    the policy.

    Source: Huang et al. 2017, arXiv 1702.02284; Zhang et al. 2020, arXiv 2003.08938, for the setting.

    Differs from the source in: the training of the Byzantine agents is disturbed, not a trained policy.

    Cost: a gradient at every step about doubles the time of a run on CartPole at K=13.
    """

    source: ClassVar[str] = "Huang et al. 2017, arXiv 1702.02284; Zhang et al. 2020, arXiv 2003.08938"
    epsilon: Annotated[
        float,
        Field(gt=0, description="size of the perturbation, in units of the observations"),
        FloatRange(0.01, 10, log=True),
    ] = 0.1

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: own policies, and own environments."""
        return ThreatModel(knowledge=frozenset({"policy"}), surface=frozenset({"environment"}))

    def start(self, context: AttackContext) -> State:
        """Reject tasks with continuous actions, and teams.

        At the most likely continuous action the gradient of the density is zero.
        """
        if not isinstance(context.policy, CategoricalPolicy):
            raise Undefined("fgsm needs a task with discrete actions, whose agents choose one each step")
        return {}

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that perturbs the observations of all Byzantine agents."""
        policy, theta = context.policy, context.theta
        assert isinstance(policy, CategoricalPolicy)
        assert theta is not None
        layers = policy.layers(theta)

        def observation(t: int, observations: np.ndarray) -> np.ndarray:
            with torch.inference_mode(False), torch.enable_grad():
                inputs = torch.from_numpy(observations).requires_grad_()
                likeliest = policy.logits(layers, inputs).log_softmax(-1).amax(-1)
                (gradient,) = torch.autograd.grad(likeliest.sum(), inputs)
            observations -= np.float32(self.epsilon) * np.sign(gradient.numpy())
            return observations

        return EnvHooks(observation=observation), memory
