"""FGSM: liars who see what puts them off most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field

from byzbench.contracts import Attack, Range, State, Taps, Threat
from byzbench.errors import Undefined
from byzbench.learning.policies import CategoricalMlp

if TYPE_CHECKING:
    from byzbench.federation.view import View


@dataclass(frozen=True)
class Fgsm(Attack):
    """Each liar's policy is shown the corner of a box around the truth that makes its likeliest action less likely.

        o'[k, t, n] = o - epsilon * sign(grad_o log pi_k(a* | o)),    o = o[k, t, n],    a* = argmax_a pi_k(a | o)

    k < f liars, t < T steps, n < N episodes, pi_k the liar's own policy. One step of the fast gradient sign method: the
    worst shift within epsilon in every coordinate, if log pi were linear. The liar acts upon what it was shown, and
    learns from it as if true; `observation_noise` is the same without a look at the policy.

    Source: Huang et al. 2017, arXiv 1702.02284; Zhang et al. 2020, arXiv 2003.08938, for the setting.

    Differs from the source in: it is the liar's training that is disturbed, and not a trained policy.

    Cost: a gradient at every step about doubles the time of a run on CartPole at K=13.
    """

    source: ClassVar[str] = "Huang et al. 2017, arXiv 1702.02284; Zhang et al. 2020, arXiv 2003.08938"
    epsilon: Annotated[
        float, Field(gt=0, description="size of the shift, in units of the observations"), Range(0.01, 10, log=True)
    ] = 0.1

    @property
    def threat(self) -> Threat:
        """Knows its own policy, and needs its own environment."""
        return Threat(sees=frozenset({"policy"}), surface=frozenset({"environment"}))

    def start(self, view: View) -> State:
        """Refuse continuous actions, of which the likeliest has no gradient where it is; and teams."""
        if not isinstance(view.task.policy(), CategoricalMlp):
            raise Undefined("fgsm makes one action less likely: it needs a task whose agents choose one each step")
        return {}

    def tap(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Taps, State]:
        """Shift what all liars see."""
        policy, theta = view.policy, view.theta
        assert isinstance(policy, CategoricalMlp)
        assert theta is not None
        layers = policy.layers(theta)

        def observation(t: int, observations: np.ndarray) -> np.ndarray:
            with torch.inference_mode(False), torch.enable_grad():
                seen = torch.from_numpy(observations).requires_grad_()
                likeliest = policy.logits(layers, seen).log_softmax(-1).amax(-1)
                (up,) = torch.autograd.grad(likeliest.sum(), seen)
            observations -= np.float32(self.epsilon) * np.sign(up.numpy())
            return observations

        return Taps(observation=observation), memory
