"""The attacker's seat: a federation as a Gymnasium environment, whose agent is the liars' mastermind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box

from byzbench.contracts import Attack, Speech, State, SteeredAttack, Threat
from byzbench.envs.session import Question, Session
from byzbench.errors import InvalidParameter, Undefined
from byzbench.experiments.experiment import Experiment
from byzbench.federation.view import View
from byzbench.registry import name_of

Vector = npt.NDArray[np.float32]
_SEEDS = 2**31
_UNHEARD = "nobody hears a liar in this experiment, so its seat is never asked"


@dataclass(frozen=True)
class _Seated(Attack):
    """A steered attack whose choices are made outside."""

    attack: SteeredAttack

    @property
    def threat(self) -> Threat:
        return self.attack.threat

    def speaks(self, topic: str) -> bool:
        return self.attack.speaks(topic)

    async def answer(self, view: View, memory: State, rng: np.random.Generator) -> tuple[Speech, State]:
        action = await Question(self.attack.observe(view, memory))
        return self.attack.say(view, action, memory, rng)


class AttackerSeat(gymnasium.Env[Vector, Vector]):
    """All liars of a federation, steered together, a decision in each exchange that they lie in: one a round.

        env = AttackerSeat(algo="decbyzpg", agents=7, byzantine=2, trajectories=300)
        env = gymnasium.make("byzbench.envs:byzbench/AttackerSeat-v0", algo="decbyzpg", agents=7)

    An episode is one training: `reset(seed=s)` is the experiment with the seed s, and without a seed a fresh one is
    drawn. It ends, truncated, with the budget. What is observed and what an action means are the attack's
    (`byzbench.attacks.learned`: eight numbers that depend on no scale; how far, and in which direction), so that a
    policy that was trained here is that attack's.

        observation  float32 in [-1, 1]^n,    action  float32 in [-1, 1]^m, clipped
        reward  r_t = -clip((J_{t+1} - J_random) / (J_solved - J_random), -1, 1)

    J_{t+1} is the honest agents' mean training return in the batch that follows the lie, and after the last lie the
    evaluation return of the policies that came of it; J_random and J_solved are the task's reference scores, and a J
    that is not finite is worth 1. The sum over an episode is minus the area under the learning curve. `info` has the
    metrics of the last whole round, and at the end the evaluation.

    Source: Li, Sun, Zheng 2022, "Learning to attack federated learning", NeurIPS.

    Differs from the source in: the reward is minus the return itself, not its loss from round to round, whose sum knows
    only the end; and the observation has no parameters in it.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's

    def __init__(self, experiment: Experiment | None = None, render_mode: None = None, **options: Any) -> None:
        """The experiment to sit in, or the options of `Experiment.create` (attack: `learned`). Its seed is not used.

        Raises:
            UserError: one line that says what is wrong with the request.
        """
        todo = experiment or Experiment.create(**{"attack": "learned", **options})
        attack = todo.attack
        if not isinstance(attack, SteeredAttack):
            raise InvalidParameter(f"attack {name_of(attack)!r} has no seat: it is not steered; `learned` is")
        if not todo.byzantine or not todo.rules:
            raise Undefined(_UNHEARD)
        self.render_mode = render_mode
        self.observation_space = Box(-1.0, 1.0, (attack.observation_size,), np.float32)
        self.action_space = Box(-1.0, 1.0, (attack.action_size,), np.float32)
        self._todo = replace(todo, attack=_Seated(attack))
        for name in ("random", "solved"):
            todo.task.worth(name)
        self._session: Session | None = None
        self._seen: Vector

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Vector, dict[str, Any]]:
        """A training from its beginning to the first question; `options` are ignored."""
        super().reset(seed=seed)
        self.close()
        chosen = int(self.np_random.integers(_SEEDS)) if seed is None else seed
        self._session = Session(replace(self._todo, seed=chosen))
        asked = self._session.advance()
        if asked is None:
            raise Undefined(_UNHEARD)
        self._seen = asked.numpy()
        return self._seen, {"seed": chosen}

    def step(self, action: Vector) -> tuple[Vector, float, bool, bool, dict[str, Any]]:
        """The lie, and on to the next question. At the end the last observation is repeated."""
        session, form = self._session, self.action_space.shape
        if session is None:
            raise ResetNeeded("an episode of the attacker's seat starts with reset()")
        chosen = np.array(action, np.float32)
        if chosen.shape != form or not np.isfinite(chosen).all():
            raise InvalidParameter(f"an action is {form} finite numbers, got {action!r}")
        asked = session.advance(torch.from_numpy(chosen))
        info = dict(session.line)
        if asked is None:
            self._session = None
            info |= session.evaluate()
            returned = info["evaluation"]
        else:
            self._seen = asked.numpy()
            returned = session.training.returned
        return self._seen, session.harm(returned), False, asked is None, info

    def close(self) -> None:
        """Leave the training where it is."""
        if self._session is not None:
            self._session.close()
            self._session = None
