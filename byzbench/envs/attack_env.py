"""Gymnasium environment in which one agent controls all Byzantine agents of a federation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box

from byzbench.core import Attack, ByzantineMessages, State, SteeredAttack, ThreatModel
from byzbench.core.context import AttackContext
from byzbench.envs.session import FederationSession, MessageRequest, check_decisions, no_decision
from byzbench.errors import InvalidParameter
from byzbench.experiments.experiment import Experiment
from byzbench.registry import name_of

Vector = npt.NDArray[np.float32]
_SEEDS = 2**31


@dataclass(frozen=True)
class _ExternalAttack(Attack):
    """Steered attack whose actions are chosen by an external agent."""

    attack: SteeredAttack

    @property
    def threat(self) -> ThreatModel:
        return self.attack.threat

    def targets(self, topic: str) -> bool:
        return self.attack.targets(topic)

    async def craft_messages_async(
        self, context: AttackContext, memory: State, rng: np.random.Generator
    ) -> tuple[ByzantineMessages, State]:
        action = await MessageRequest(self.attack.observe(context, memory))
        return self.attack.craft_action(context, action, memory, rng)


class AttackEnv(gymnasium.Env[Vector, Vector]):
    """Gymnasium environment whose agent controls all Byzantine agents of a federation, with one action a round.

        env = AttackEnv(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)
        env = gymnasium.make("byzbench.envs:byzbench/AttackEnv-v0", algo="decbyzpg", agents=7)

    An action is chosen in each exchange in which the attack crafts messages. An episode is one training, which is
    truncated at the end of the budget. `reset(seed=s)` starts the experiment with the seed s; without a seed, a seed is
    drawn. The attack defines observations and actions, so a policy that was trained here can be used in this attack.
    The attack `byzbench.attacks.learned` observes eight scale-free numbers and chooses a length and a direction.

        observation  float32 in [-1, 1]^n,    action  float32 in [-1, 1]^m, clipped
        reward  r_t = -clip((J_{t+1} - J_random) / (J_solved - J_random), -1, 1)

    J_{t+1} is the mean training return of the honest agents in the batch that follows the attack. After the last action
    it is the evaluation return of the final policies. J_random and J_solved are the reference scores of the task. If J
    is not finite, the reward is 1. The sum over an episode is minus the area under the learning curve. `info` holds the
    metrics of the last complete round, and at the end those of the evaluation.

    Source: Li, Sun, Zheng 2022, "Learning to attack federated learning", NeurIPS.

    Differs from the source in: the reward is minus the return and not its decrease in a round, because the sum of
    decreases depends only on the final return; and the observation does not contain parameters.

    Example:
        >>> env = AttackEnv(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)
        >>> env.observation_space.shape, env.action_space.shape
        ((8,), (5,))
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's

    def __init__(self, experiment: Experiment | None = None, render_mode: None = None, **options: Any) -> None:
        """Make the environment of an experiment, and run its first round once as a check.

        Args:
            experiment: the experiment, whose seed is not used; or give `options`.
            render_mode: only None is supported.
            options: the arguments of `Experiment.create`; the default attack is `learned`.

        Raises:
            UserError: the experiment is invalid, its attack is not steered, no agent receives its messages, or the
                first round spends the budget.
        """
        todo = experiment or Experiment.create(**{"attack": "learned", **options})
        attack = todo.attack
        if not isinstance(attack, SteeredAttack):
            raise InvalidParameter(
                f"attack {name_of(attack)!r} cannot be controlled: it is not a steered attack; use `learned`"
            )
        self.render_mode = render_mode
        self.observation_space = Box(-1.0, 1.0, (attack.observation_size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (attack.action_size,), np.float32)
        self._todo = replace(todo, attack=_ExternalAttack(attack))
        check_decisions(self._todo, lambda observation: torch.zeros(attack.action_size))
        self._session: FederationSession | None = None
        self._observation: Vector

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """Start a training and run it up to the first action; `options` are ignored."""
        super().reset(seed=seed)
        self.close()
        episode_seed = int(self.np_random.integers(_SEEDS)) if seed is None else seed
        self._session = FederationSession(replace(self._todo, seed=episode_seed))
        observation = self._session.advance()
        if observation is None:
            raise no_decision()
        self._observation = observation.numpy()
        return self._observation, {"seed": episode_seed}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """Send the messages that an action determines, and run the training up to the next action.

        At the end of an episode the last observation is repeated.

        Raises:
            ResetNeeded: no episode is running.
            InvalidParameter: the action has another shape than the action space, or is not finite.
        """
        session, shape = self._session, self.action_space.shape
        if session is None:
            raise ResetNeeded("no episode is running: call reset()")
        checked = np.array(action, np.float32)
        if checked.shape != shape or not np.isfinite(checked).all():
            raise InvalidParameter(f"an action must be an array of {shape} finite numbers, got {action!r}")
        observation = session.advance(torch.from_numpy(checked))
        info = dict(session.line)
        if observation is None:
            self._session = None
            info |= session.evaluate()
            returned = info["evaluation"]
        else:
            self._observation = observation.numpy()
            returned = session.training.returned
        return self._observation, session.attacker_reward(returned), False, observation is None, info

    def close(self) -> None:
        """Stop the training."""
        if self._session is not None:
            self._session.close()
            self._session = None
