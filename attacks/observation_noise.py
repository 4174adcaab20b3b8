"""Observation noise: perturbed observations of the Byzantine agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from byzbench.core import Attack, AttackContext, Categorical, EnvHooks, FloatRange, State, ThreatModel
from byzbench.core.env_hooks import StepNoise


@dataclass(frozen=True)
class ObservationNoise(Attack):
    """Environment attack that perturbs the observations of the Byzantine agents.

        o'[k, t, n] = o[k, t, n] + epsilon * z,    z ~ N(0, 1)^o (gaussian), U(-1, 1)^o (uniform)
        o'[k, t, n] = o[k, t, n] - epsilon * sign(o[k, t, n])                             (sign)

    k < f Byzantine agents, t < T steps, n < N episodes. The agents act on the perturbed observations, and learn from
    them as if they were true. Uniform noise and the sign shift stay within epsilon in every coordinate. The sign shift
    is the corner of that box that is nearest to the negated observation: the worst choice without knowledge of the
    policy.

    Source: Zhang et al. 2020, arXiv 2003.08938, on observations perturbed within a box. Theirs is the worst corner for
    the policy, as `fgsm` estimates it.
    """

    source: ClassVar[str] = "Zhang et al. 2020, arXiv 2003.08938"
    epsilon: Annotated[
        float,
        Field(gt=0, description="size of the perturbation, in units of the observations"),
        FloatRange(0.01, 10, log=True),
    ] = 0.1
    shape: Annotated[
        Literal["gaussian", "uniform", "sign"],
        Field(description="law of the perturbation; sign shifts every coordinate towards zero"),
        Categorical("gaussian", "uniform", "sign"),
    ] = "uniform"

    @property
    def threat(self) -> ThreatModel:
        """Return the threat model: only the Byzantine agents' own environments, without knowledge."""
        return ThreatModel(surface=frozenset({"environment"}))

    def hook_environment(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[EnvHooks, State]:
        """Return a hook that perturbs the observations of all Byzantine agents."""
        if self.shape == "sign":
            return EnvHooks(
                observation=lambda t, observations: observations - self.epsilon * np.sign(observations)
            ), memory
        shape = (context.num_byzantine, context.num_episodes, context.task.observation_size)

        def draw(shape: tuple[int, ...]) -> np.ndarray:
            if self.shape == "gaussian":
                return self.epsilon * rng.standard_normal(shape, dtype=np.float32)
            return 2 * self.epsilon * (rng.random(shape, dtype=np.float32) - np.float32(0.5))

        noise = StepNoise(draw, shape)
        return EnvHooks(observation=lambda t, observations: np.add(observations, noise(t), out=observations)), memory
